//! Each request that a mount sends, tried on a scratch object under its own prefix.

use std::time::SystemTime;

use bytes::Bytes;

use super::{Findings, NO_ANSWER};
use crate::session::abilities;
use crate::store::permissions;
use crate::store::{
    BulkDeletes, CopyRequest, CreateMultipartRequest, DeleteRequest, ETag, GetRequest, HeadRequest,
    Key, ListPartsRequest, MarkerKeys, ObjectHeaders, ObjectStore, PART_MIN_BYTES, PartNumber,
    Placement, PutRequest, StoreError, StoreErrorKind, StoreOp, UploadId, UploadPartCopyRequest,
    UploadPartRequest, WriteCondition,
};

/// Scratch objects are called so, and a number.
pub(super) const SCRATCH_NAME: &str = ".mediafs-doctor-";
pub(super) const BODY: Bytes = Bytes::from_static(b"mediafs doctor");
/// A tag of the scratch object, as a header has it.
const TAG: &str = "mediafs=doctor";

/// A key that only this doctor has.
pub(super) fn scratch_key(prefix: &str, name: &str) -> Key {
    let number = fastrand::u64(..);
    Key::new(format!("{prefix}{SCRATCH_NAME}{number:016x}{name}"))
}

/// When the server has answered, by its own clock.
pub(super) async fn examine(
    store: &dyn ObjectStore,
    prefix: &str,
    report: &mut Findings,
) -> Option<SystemTime> {
    let tried = Tried {
        store,
        key: scratch_key(prefix, ""),
        copy: scratch_key(prefix, "-copy"),
        tagged: scratch_key(prefix, "-tagged"),
        report,
    };
    let answered_at = tried.all().await;
    if answered_at.is_some() {
        conditions(store, prefix, report).await;
    }
    answered_at
}

/// What to do where there are no tags.
const NO_TAGS: &str = "nothing to do, unless another program gives objects tags";

/// What a copy takes.
fn copies() -> String {
    format!("{} and {}", permissions::READ, permissions::WRITE)
}

struct Tried<'a> {
    store: &'a dyn ObjectStore,
    key: Key,
    copy: Key,
    tagged: Key,
    report: &'a mut Findings,
}

impl Tried<'_> {
    async fn all(mut self) -> Option<SystemTime> {
        let put = self.put(&self.key, BODY, ObjectHeaders::default()).await;
        if !self.told("write", permissions::WRITE, &put) {
            return None;
        }
        let head = self
            .store
            .head(HeadRequest {
                key: self.key.clone(),
            })
            .await;
        self.told("attributes", permissions::READ, &head);
        let get = self.read().await;
        self.told("read", permissions::READ, &get);
        let copy = self.store.copy(self.copy_request()).await;
        self.told("copy", &copies(), &copy);
        self.multipart(copy.ok().map(|copy| copy.etag)).await;
        self.tags().await;
        let delete = self.delete().await;
        self.told("delete", permissions::DELETE, &delete);
        head.ok().map(|head| head.answered_at)
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        headers: ObjectHeaders,
    ) -> Result<ETag, StoreError> {
        let request = PutRequest {
            key: key.clone(),
            body,
            headers,
            condition: WriteCondition::Always,
        };
        self.store.put(request).await.map(|answer| answer.etag)
    }

    /// A rename in parts reads the tags of an object and gives them to the new one.
    async fn tags(&mut self) {
        let headers = ObjectHeaders {
            tags: Some(TAG.to_owned()),
            ..ObjectHeaders::default()
        };
        let found = match self.put(&self.tagged, BODY, headers).await {
            Ok(_) => self.store.tags(self.tagged.clone()).await,
            Err(error) => Err(error),
        };
        let advice = match found {
            Ok(Some(tags)) if tags == TAG => {
                self.report.ok("tags", "work");
                return;
            }
            Ok(_) => {
                let found = "the store takes the tags of an upload and does not keep them";
                self.report.warn("tags", found, NO_TAGS);
                return;
            }
            Err(ref error) if error.kind.is_no_answer() => NO_ANSWER.to_owned(),
            Err(ref error) if error.kind == StoreErrorKind::AccessDenied => format!(
                "allow {} and {}, if objects have tags that a rename is to keep",
                permissions::READ_TAGS,
                permissions::WRITE_TAGS
            ),
            Err(_) => NO_TAGS.to_owned(),
        };
        let error = found.err().map(|error| error.to_string());
        self.report.warn("tags", error.unwrap_or_default(), advice);
    }

    async fn read(&self) -> Result<(), StoreError> {
        let request = GetRequest {
            key: self.key.clone(),
            range: None,
            if_match: None,
            sink: None,
        };
        if self.store.get(request).await?.body == BODY {
            return Ok(());
        }
        Err(StoreError::new(
            StoreErrorKind::Corrupt,
            StoreOp::Get,
            self.key.clone(),
            "other bytes come back than were written",
        ))
    }

    fn copy_request(&self) -> CopyRequest {
        CopyRequest {
            source: self.key.clone(),
            source_if_match: None,
            size_bytes: BODY.len() as u64,
            target: self.copy.clone(),
            condition: WriteCondition::Always,
            replace_headers: None,
            placement: Placement::default(),
        }
    }

    /// Files longer than a part, and edits of long files.
    async fn multipart(&mut self, copy: Option<ETag>) {
        let begin = CreateMultipartRequest {
            key: self.key.clone(),
            headers: ObjectHeaders::default(),
        };
        let upload = match self.store.create_multipart(begin).await {
            Ok(upload) => upload,
            Err(error) => {
                self.told::<()>("multipart upload", permissions::WRITE, &Err(error));
                return;
            }
        };
        let mut outcome = Ok(());
        if let (Some(first), Some(second)) = (PartNumber::new(1), PartNumber::new(2)) {
            let part = UploadPartRequest {
                key: self.key.clone(),
                upload: upload.clone(),
                number: first,
                body: BODY.into(),
            };
            outcome = self.store.upload_part(part).await.map(drop);
            if let Some(source_if_match) = copy {
                let copied = self.copy_part(&upload, second, source_if_match).await;
                self.told("part copy", &copies(), &copied);
            }
        }
        let parts = ListPartsRequest {
            key: self.key.clone(),
            upload: upload.clone(),
            after: None,
        };
        match self.store.list_parts(parts).await {
            Ok(_) => self.report.ok("list of parts", "works"),
            Err(error) => self.report.warn(
                "list of parts",
                error.to_string(),
                match error.kind {
                    kind if kind.is_no_answer() => NO_ANSWER.to_owned(),
                    StoreErrorKind::AccessDenied => format!(
                        "allow {}: without it an upload that was cut off starts again",
                        permissions::LIST_PARTS
                    ),
                    _ => "nothing to do: an upload that was cut off starts again".to_owned(),
                },
            ),
        }
        let aborted = self.store.abort_multipart(self.key.clone(), upload).await;
        self.told("abort of an upload", permissions::ABORT, &aborted);
        self.told("multipart upload", permissions::WRITE, &outcome);
    }

    /// Of the copy; of a longer one where the store takes no part as short as that.
    async fn copy_part(
        &self,
        upload: &UploadId,
        number: PartNumber,
        copy: ETag,
    ) -> Result<(), StoreError> {
        let request = |source_if_match, len| UploadPartCopyRequest {
            source: self.copy.clone(),
            source_if_match,
            range: 0..len,
            target: self.key.clone(),
            upload: upload.clone(),
            number,
        };
        let short = request(copy, BODY.len() as u64);
        match self.store.upload_part_copy(short).await {
            Err(error) if error.kind == StoreErrorKind::Rejected => {}
            answer => return answer.map(drop),
        }
        let long = vec![0; usize::try_from(PART_MIN_BYTES).unwrap_or_default()];
        let long = self.put(&self.copy, long.into(), ObjectHeaders::default());
        let long = request(long.await?, PART_MIN_BYTES);
        self.store.upload_part_copy(long).await.map(drop)
    }

    async fn delete(&self) -> Result<(), StoreError> {
        for key in [&self.copy, &self.tagged, &self.key] {
            self.store.delete(DeleteRequest::any(key.clone())).await?;
        }
        Ok(())
    }

    /// Whether it went well.
    fn told<T>(
        &mut self,
        check: &'static str,
        permission: &str,
        outcome: &Result<T, StoreError>,
    ) -> bool {
        match outcome {
            Ok(_) => self.report.ok(check, "works"),
            Err(error) => {
                let advice = match error.kind {
                    StoreErrorKind::AccessDenied => {
                        format!("allow {permission} on the objects below the prefix")
                    }
                    StoreErrorKind::Quota | StoreErrorKind::Full => {
                        "raise the quota, or delete something".to_owned()
                    }
                    kind if kind.is_no_answer() => NO_ANSWER.to_owned(),
                    _ => "a mount needs this request: see 'mediafs help limits'".to_owned(),
                };
                self.report.fail(check, error.to_string(), advice);
            }
        }
        outcome.is_ok()
    }
}

async fn conditions(store: &dyn ObjectStore, prefix: &str, report: &mut Findings) {
    let probed = abilities(store, prefix).await;
    for key in probed.unanswered {
        // One that lands later is deleted by the next doctor.
        let _left = store.delete(DeleteRequest::any(key)).await;
    }
    let abilities = probed.abilities;
    let names = |ops: Vec<StoreOp>| ops.iter().map(|op| op.name()).collect::<Vec<_>>();
    let (missing, unknown) = (names(abilities.missing()), names(abilities.unknown()));
    if !unknown.is_empty() {
        report.warn(
            "conditional requests",
            format!("could not be tried in {}", unknown.join(", ")),
            "fix what the lines above say, and run this again",
        );
    }
    if missing.is_empty() && unknown.is_empty() {
        report.ok("conditional requests", "the store heeds them");
    } else if !missing.is_empty() {
        report.warn(
            "conditional requests",
            format!("the store ignores them in {}", missing.join(", ")),
            "let nobody else write below this prefix: 'mediafs help coherence'",
        );
    }
    match abilities.bulk_deletes {
        BulkDeletes::Taken => report.ok("bulk delete", "works"),
        BulkDeletes::Refused => report.warn(
            "bulk delete",
            "the store refuses it: objects are deleted one by one",
            "nothing to do; rm -r takes longer",
        ),
    }
    match abilities.marker_keys {
        MarkerKeys::Kept => report.ok("empty directories", "the store keeps their markers"),
        MarkerKeys::Refused => report.warn(
            "empty directories",
            "the store keeps no keys that end in '/': they are of one mount, and go when it ends",
            "nothing to do where the application makes its directories itself",
        ),
        MarkerKeys::Unknown => report.warn(
            "empty directories",
            "could not be tried",
            "mend what the lines above say, and run this again",
        ),
    }
}
