//! Objects that are replaced while they are read.
//!
//! Their readers go on with a copy that the store makes under a key of this mount
//! alone: no byte of it comes here, and the spool needs no room. It goes once nobody
//! reads it any more, or its bytes are in the spool.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::{Duration, timeout};

use super::deletes::{COPIED_AT_ONCE_BYTES, Deletes, is_read};
use crate::error::FsError;
use crate::files::{MovedObject, OpenFile};
use crate::store::{CopyHeaders, ETag, Kept, ObjectHeaders, Placement, WriteCondition};
use crate::vocabulary::{ObjectId, ObjectVersion};
use crate::write_path::{CopyOver, CopyTask};

/// Longest time for which a rename has bytes copied that readers show of the file that
/// it replaces.
const COPIED_BEFORE_REPLACED: Duration = Duration::from_secs(30);

/// A file whose readers have a copy of its object.
#[derive(Debug)]
pub struct Replaced {
    file: Arc<OpenFile>,
    original: Arc<ObjectId>,
    copy: ETag,
    kept: Kept,
}

impl Deletes {
    /// Before something takes the place of a file's object: what handles show of it is
    /// somewhere else when this returns, or they get ESTALE for what is not cached.
    pub async fn keep_for_readers(&self, file: &Arc<OpenFile>) -> Option<Replaced> {
        if !is_read(file).await {
            return None;
        }
        if file.len() > COPIED_AT_ONCE_BYTES {
            let ino = file.inode.ino.0;
            match timeout(COPIED_BEFORE_REPLACED, self.copy_aside(file)).await {
                Ok(Ok(replaced)) => return Some(replaced),
                Ok(Err(error)) => {
                    tracing::warn!(ino, %error, "cannot copy a file inside the store before it is replaced: fetching its bytes for its readers");
                }
                Err(_) => {
                    tracing::warn!(
                        ino,
                        "cannot copy a file inside the store in time before it is replaced"
                    );
                    return None;
                }
            }
        }
        self.copy_what_fits(file, COPIED_BEFORE_REPLACED).await;
        None
    }

    async fn copy_aside(&self, file: &Arc<OpenFile>) -> Result<Replaced, FsError> {
        let original = file.object_at_bottom().ok_or(FsError::STALE)?;
        let headers = self.copier.headers_of(&original.key, &original.etag);
        let placement = Placement {
            // What is archived cannot be read, and some classes have a least time.
            storage_class: None,
            encryption: headers.await?.placement.encryption,
        };
        let headers = ObjectHeaders {
            placement,
            ..ObjectHeaders::default()
        };
        let target = self.scratch.key_of_replaced();
        let kept = self.store.scratch(target.clone())?;
        let task = CopyTask {
            source: original.key.clone(),
            version: original.etag.clone(),
            size_bytes: original.size_bytes,
            target: target.clone(),
            over: CopyOver::Any(WriteCondition::IfAbsent),
            headers: CopyHeaders::Replace(Box::new(headers)),
        };
        let copy = self.copier.copy(&task).await?;
        kept.made(&copy)?;
        let version = version_of(&original, copy.clone());
        file.edit()
            .rebase(&MovedObject::of(original.etag.clone(), version), target);
        Ok(Replaced {
            file: file.clone(),
            original,
            copy,
            kept,
        })
    }

    /// The file has no name any more.
    pub fn keep_replaced(self: &Arc<Self>, replaced: Replaced) {
        self.keep_object(&replaced.file, replaced.kept);
    }

    /// What was about to take its place failed: the file is as it was, unless it has
    /// lost its name all the same.
    pub fn not_replaced(self: &Arc<Self>, replaced: Replaced) {
        if replaced.file.content.lock().is_nameless() {
            return self.keep_replaced(replaced);
        }
        let Replaced {
            file,
            original,
            copy,
            kept,
        } = replaced;
        let version = version_of(&original, original.etag.clone());
        file.edit()
            .rebase(&MovedObject::of(copy, version), original.key.clone());
        drop(kept);
    }
}

fn version_of(object: &ObjectId, etag: ETag) -> ObjectVersion {
    ObjectVersion {
        etag,
        size_bytes: object.size_bytes,
        last_modified: SystemTime::now(),
    }
}
