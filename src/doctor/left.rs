//! What a doctor that was killed has left: scratch objects, and uploads of them.

use std::time::{Duration, SystemTime};

use super::permissions::SCRATCH_NAME;
use super::{Findings, NO_ANSWER};
use crate::session::PROBE_SCRATCH_NAME;
use crate::store::permissions;
use crate::store::s3::{S3Store, inspect};
use crate::store::{DeleteRequest, FoldDirectories, Key, ListRequest, ObjectStore, StoreErrorKind};

/// Also those of the probe, which each mount sends.
const SCRATCH_NAMES: [&str; 2] = [SCRATCH_NAME, PROBE_SCRATCH_NAME];
/// What another doctor has left that was killed is as old as that.
const LEFT_AFTER: Duration = Duration::from_secs(600);

/// Whether a key is called as these programs call their scratch objects: a number of 16
/// hexadecimal digits, and perhaps a word behind it; a marker ends in `/`.
fn is_scratch(prefix: &str, key: &Key) -> bool {
    let names = SCRATCH_NAMES.iter();
    let mut rests = names.filter_map(|name| key.as_str().strip_prefix(prefix)?.strip_prefix(name));
    rests.any(|rest| {
        let (number, word) = rest.split_at_checked(16).unwrap_or_default();
        let is_number = !number.is_empty() && number.bytes().all(|it| it.is_ascii_hexdigit());
        let word = word.strip_suffix('/').unwrap_or(word);
        is_number && (word.is_empty() || word.starts_with('-')) && !word.contains('/')
    })
}

/// Only what is called as a doctor's scratch objects are, and is old by the store's clock.
pub(super) async fn remove_left(
    store: &dyn ObjectStore,
    prefix: &str,
    now: SystemTime,
    report: &mut Findings,
) {
    let mut found = Vec::new();
    for name in SCRATCH_NAMES {
        let listing = ListRequest {
            prefix: format!("{prefix}{name}"),
            fold_directories: FoldDirectories::No,
            token: None,
            max_keys: 100,
        };
        match store.list(listing).await {
            Ok(page) => found.extend(page.objects),
            Err(error) => {
                let told = format!("not known whether some are left: {error}");
                report.warn("scratch objects", told, NO_ANSWER);
                return;
            }
        }
    }
    let old = found.into_iter().filter(|object| {
        let age = now.duration_since(object.last_modified);
        is_scratch(prefix, &object.key) && age.is_ok_and(|age| age >= LEFT_AFTER)
    });
    let mut removed = 0;
    for object in old {
        let deleted = store.delete(DeleteRequest::any(object.key)).await;
        removed += usize::from(deleted.is_ok());
    }
    if removed > 0 {
        report.ok(
            "scratch objects",
            format!("{removed} of a doctor or a mount that was killed are deleted"),
        );
    }
}

/// Uploads that a doctor which was killed has begun: those of its scratch objects alone,
/// and none where the store has not told its time.
pub(super) async fn abort_left(
    s3: &S3Store,
    prefix: &str,
    now: Option<SystemTime>,
    report: &mut Findings,
) {
    let scratch = SCRATCH_NAMES.map(|name| format!("{prefix}{name}"));
    let mut uploads = Vec::new();
    for name in &scratch {
        match inspect::unfinished_uploads(s3, name).await {
            Ok(found) => uploads.extend(found),
            Err(error) if error.kind.is_no_answer() => {
                report.warn("list uploads", error.to_string(), NO_ANSWER);
                return;
            }
            // The store has no such request.
            Err(error) if error.kind != StoreErrorKind::AccessDenied => return,
            Err(error) => {
                report.warn(
                    "list uploads",
                    error.to_string(),
                    format!(
                        "allow {} on the bucket: a mount aborts what a crash left",
                        permissions::LIST_UPLOADS
                    ),
                );
                return;
            }
        }
    }
    let Some(now) = now else { return };
    let left = uploads.into_iter().filter(|upload| {
        let age = now.duration_since(upload.begun_at);
        is_scratch(prefix, &upload.key) && age.is_ok_and(|age| age >= LEFT_AFTER)
    });
    let mut aborted = 0;
    for upload in left {
        let ended = s3.abort_multipart(upload.key, upload.id).await;
        aborted += usize::from(ended.is_ok());
    }
    if aborted > 0 {
        report.ok(
            "scratch uploads",
            format!("{aborted} of a doctor that was killed are aborted"),
        );
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::memory::Memory;
    use crate::store::{ObjectHeaders, PutRequest, WriteCondition};

    #[tokio::test]
    async fn only_old_scratch_objects_of_a_doctor_are_deleted() {
        let store = Memory::default();
        let left = format!("p/{SCRATCH_NAME}{:016x}-copy", 1);
        let marker = format!("p/{PROBE_SCRATCH_NAME}{:016x}-marker/", 1);
        let of_others = format!("p/{SCRATCH_NAME}1");
        for key in [
            left.as_str(),
            &marker,
            &of_others,
            "p/file",
            "p/.mediafs-doctors",
        ] {
            let request = PutRequest {
                key: Key::new(key),
                body: Bytes::from_static(b"x"),
                headers: ObjectHeaders::default(),
                condition: WriteCondition::Always,
            };
            store.put(request).await.unwrap();
        }
        let mut report = Findings::default();
        // The store counts its objects' times in seconds from there.
        remove_left(&store, "p/", SystemTime::UNIX_EPOCH, &mut report).await;
        assert!(report.0.is_empty(), "it may be of a doctor that runs");
        let later = SystemTime::UNIX_EPOCH + LEFT_AFTER * 2;
        remove_left(&store, "p/", later, &mut report).await;
        assert_eq!(report.0.len(), 1);
        let all = ListRequest {
            prefix: String::new(),
            fold_directories: FoldDirectories::No,
            token: None,
            max_keys: 10,
        };
        assert_eq!(store.list(all).await.unwrap().objects.len(), 3);
    }
}
