//! Objects on their way from one bucket into another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::entry::Object;
use super::failures::NotMoved;
use super::judge::Verdict;
use super::object_judge::ObjectJudge;
use super::outbox::{Attempt, NO_VERSION, NOT_TRIED, Outbox, Tried, condition_of};
use super::places::ObjectPlace;
use super::proof::Proof;
use super::report::{Again, Done, Line};
use super::sent_bytes::{ObjectWay, SentBytes, SentObject};
use crate::store::{
    Affected, CopyRequest, ETag, GetRequest, HeadRequest, Key, ObjectHeaders, ObjectMeta,
    Placement, SkippedRequests, StoreError, StoreErrorKind, StoreOp, WriteCondition,
};

/// Longest object that is read at once, with its headers.
const READ_AT_ONCE_BYTES: u64 = 1 << 20;
const REPLACED: &str = "it was replaced or deleted in OLD meanwhile: run again";

/// Brings objects over, each on the condition that what it replaces is what the plan saw.
pub struct Mover {
    pub outbox: Arc<Outbox>,
    pub judge: Arc<ObjectJudge>,
    /// Longest object that the store copies in one request.
    copy_limit_bytes: u64,
    /// Whether the store copies between the buckets itself.
    copies: bool,
    refused_copies: SkippedRequests,
    copy_conditions: Tried,
    told_of_tags: AtomicBool,
}

/// Why an object is not there.
enum Failed {
    /// The store does not copy this one: some do not find what ends in a slash.
    NotCopied,
    /// The store refuses that, for this object or for all.
    RefusesCopy(StoreError),
    Words(NotMoved),
}

impl Mover {
    pub fn new(
        outbox: Arc<Outbox>,
        judge: Arc<ObjectJudge>,
        copy_limit_bytes: u64,
        copies: bool,
    ) -> Self {
        Self {
            outbox,
            judge,
            copy_limit_bytes,
            copies,
            refused_copies: SkippedRequests::default(),
            copy_conditions: Tried::default(),
            told_of_tags: AtomicBool::new(false),
        }
    }

    fn source(&self) -> &ObjectPlace {
        &self.judge.source
    }

    /// Brings one object in the place of this version, or where there is none, and
    /// compares.
    pub async fn bring(&self, object: &Object, replaces: Option<&str>) -> Line {
        if self.outbox.is_silent() {
            return Line::error(&object.path, NOT_TRIED);
        }
        let source = self.source().key_of(&object.path);
        let brought = match self.copies && !self.refused_copies.skips(&source) {
            true => match self.copied(object, replaces).await {
                Err(Failed::NotCopied) => self.sent(object, replaces).await,
                Err(Failed::RefusesCopy(error)) => {
                    self.tell_refused(&object.path, &error, &source);
                    self.sent(object, replaces).await
                }
                copied => copied.inspect(|_| self.refused_copies.answered()),
            },
            false => self.sent(object, replaces).await,
        };
        let line = match brought {
            Ok((etag, done)) => {
                let proved = self.proved(object, &etag).await;
                proved.map(|it| it.done(done)).map_err(NotMoved::now)
            }
            Err(Failed::Words(why)) => Err(why),
            Err(Failed::RefusesCopy(error)) => Err((&error).into()),
            Err(Failed::NotCopied) => Err(NotMoved::now("the store does not copy it")),
        };
        line.unwrap_or_else(|failed| failed.line(&object.path))
    }

    fn tell_refused(&self, path: &str, error: &StoreError, source: &Key) {
        let text = match self.refused_copies.failed_for(source) {
            Affected::Object { is_first: true } => {
                format!("the store does not copy {path}: its bytes go through here ({error})")
            }
            Affected::Store { is_first: true } => format!(
                "the store does not copy from one bucket to the other: bytes go through here ({error})"
            ),
            Affected::Object { .. } | Affected::Store { .. } => return,
        };
        self.outbox.operator.tell(&text);
    }

    /// The store copies it, with all that is stored with it.
    async fn copied(
        &self,
        object: &Object,
        replaces: Option<&str>,
    ) -> Result<(ETag, Done), Failed> {
        if object.size_bytes > self.copy_limit_bytes {
            let headers = self.headers(object).await?;
            let etag = self
                .uploaded(object, ObjectWay::Copied, headers, replaces)
                .await?;
            return Ok((etag, Done::Copied));
        }
        let trying = self.copy_conditions.first().await;
        let request = CopyRequest {
            source: self.source().key_of(&object.path),
            source_if_match: Some(ETag::new(&object.etag)),
            size_bytes: object.size_bytes,
            target: self.outbox.key_of(&object.path),
            condition: condition_of(replaces),
            replace_headers: None,
            // Class and encryption are those of the bucket that it comes to.
            placement: Placement::default(),
        };
        match self.outbox.bucket.store.copy(request.clone()).await {
            Ok(answer) => {
                if trying.is_some() {
                    self.try_conditions(request).await;
                }
                self.outbox.operator.moved(0, object.size_bytes);
                Ok((answer.etag, Done::Copied))
            }
            Err(error) => Err(self.not_copied(object, replaces, error).await),
        }
    }

    /// Why a copy failed: by its source, by its target, or since the store makes none.
    async fn not_copied(
        &self,
        object: &Object,
        replaces: Option<&str>,
        error: StoreError,
    ) -> Failed {
        if error.kind.is_no_answer() {
            self.outbox.falls_silent();
            return Failed::Words((&error).into());
        }
        let is_refused = matches!(
            error.kind,
            StoreErrorKind::PreconditionFailed | StoreErrorKind::Conflict
        );
        if error.kind == StoreErrorKind::Archived {
            // Nor can it be read.
            return Failed::Words((&error).into());
        }
        if !is_refused && error.kind != StoreErrorKind::NotFound {
            return Failed::RefusesCopy(error);
        }
        let key = self.source().key_of(&object.path);
        match self.source().store.head(HeadRequest { key }).await {
            Ok(meta) if meta.etag.as_str() == object.etag => {}
            Ok(_) => return Failed::Words(NotMoved::now(REPLACED)),
            Err(gone) if gone.kind == StoreErrorKind::NotFound => {
                return Failed::Words(NotMoved::now(REPLACED));
            }
            Err(error) => return Failed::Words((&error).into()),
        }
        match (is_refused, replaces) {
            (true, _) | (false, Some(_)) => {
                let why = "another client changed it in NEW meanwhile: its version is kept";
                Failed::Words(NotMoved {
                    why: why.to_owned(),
                    again: Again::Replaces,
                })
            }
            // The source is there, and the store says that it is not.
            (false, None) => Failed::NotCopied,
        }
    }

    /// Asks for the same copy on a condition that does not hold.
    async fn try_conditions(&self, request: CopyRequest) {
        let request = CopyRequest {
            condition: WriteCondition::IfMatch(ETag::new(NO_VERSION)),
            ..request
        };
        let bucket = &self.outbox.bucket;
        let answer = bucket.plain.copy(request).await;
        let answer = answer.map(drop).map_err(|error| error.kind);
        self.copy_conditions.told(bucket, StoreOp::Copy, answer);
    }

    /// Its bytes go through here.
    async fn sent(&self, object: &Object, replaces: Option<&str>) -> Result<(ETag, Done), Failed> {
        let (way, headers) = match object.size_bytes {
            1..=READ_AT_ONCE_BYTES => {
                let request = GetRequest {
                    key: self.source().key_of(&object.path),
                    range: None,
                    if_match: Some(ETag::new(&object.etag)),
                    sink: None,
                };
                let answer = self.source().store.get(request).await;
                let answer = answer.map_err(|error| self.unreadable(&error))?;
                let headers = self.carried(object, answer.meta).await?;
                (ObjectWay::Read(answer.body), headers)
            }
            _ => (ObjectWay::ByRange, self.headers(object).await?),
        };
        let etag = self.uploaded(object, way, headers, replaces).await?;
        Ok((etag, Done::Sent))
    }

    async fn uploaded(
        &self,
        object: &Object,
        way: ObjectWay,
        headers: ObjectHeaders,
        replaces: Option<&str>,
    ) -> Result<ETag, Failed> {
        let bytes = SentBytes::Object(SentObject {
            store: self.source().store.clone(),
            key: self.source().key_of(&object.path),
            object: object.clone(),
            way,
        });
        let upload = self.outbox.upload(&object.path, &bytes, headers, replaces);
        match upload.await {
            Attempt::Sent(etag) => Ok(etag),
            Attempt::Changed => Err(Failed::Words(NotMoved::now(REPLACED))),
            Attempt::Failed(failed) => Err(Failed::Words(failed)),
        }
    }

    async fn headers(&self, object: &Object) -> Result<ObjectHeaders, Failed> {
        let key = self.source().key_of(&object.path);
        let meta = self.source().store.head(HeadRequest { key }).await;
        let meta = meta.map_err(|error| self.unreadable(&error))?;
        self.carried(object, meta).await
    }

    /// What goes along with this version.
    async fn carried(&self, object: &Object, meta: ObjectMeta) -> Result<ObjectHeaders, Failed> {
        if meta.etag.as_str() != object.etag {
            return Err(Failed::Words(NotMoved::now(REPLACED)));
        }
        let mut headers = ObjectHeaders {
            placement: Placement::default(),
            ..meta.headers
        };
        if meta.tag_count > 0 {
            let key = self.source().key_of(&object.path);
            headers.tags = match self.source().store.tags(key).await {
                Ok(tags) => tags,
                Err(error) if error.kind.is_no_answer() => return Err(self.unreadable(&error)),
                Err(error) => {
                    self.tell_of_tags(&error);
                    None
                }
            };
        }
        Ok(headers)
    }

    fn tell_of_tags(&self, error: &StoreError) {
        if !self.told_of_tags.swap(true, Ordering::AcqRel) {
            let text = format!("tags are not copied: they cannot be read ({error})");
            self.outbox.operator.tell(&text);
        }
    }

    fn unreadable(&self, error: &StoreError) -> Failed {
        match error.kind {
            StoreErrorKind::NotFound | StoreErrorKind::PreconditionFailed => {
                Failed::Words(NotMoved::now(REPLACED))
            }
            kind => {
                if kind.is_no_answer() {
                    self.outbox.falls_silent();
                }
                Failed::Words(error.into())
            }
        }
    }

    /// Compares what is there now. Errors: it has not the bytes of the source, in words.
    async fn proved(&self, object: &Object, etag: &ETag) -> Result<Line, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let there = Object {
            etag: etag.as_str().to_owned(),
            modified: now.unwrap_or_default().as_secs(),
            ..object.clone()
        };
        let mut verdict = self.judge.bytes(object, &there).await;
        if verdict == Verdict::Unproved {
            verdict = self.judge.read(object, &there).await;
        }
        let proof: Proof = match verdict {
            Verdict::Equal(proof) => proof,
            Verdict::Unproved => return Err("it cannot be compared".to_owned()),
            Verdict::Failed(why) => return Err(format!("copied, but not compared: {why}")),
            Verdict::Different(why) => {
                return Err(format!("what arrived is not what is stored in OLD: {why}"));
            }
        };
        // Its headers are those that came with it.
        self.judge.note(object, &there);
        Ok(Line::proved(&object.path, object.size_bytes, proof))
    }
}
