//! copy_file_range: a whole object becomes another file without its bytes moving.

use std::sync::Arc;

use super::Ops;
use crate::error::FsError;
use crate::files::{Caller, KernelRequest, LowerLayer, OpenFile, check_awaited};
use crate::session_state::Basis;
use crate::store::CopyHeaders;
use crate::store::WriteCondition;
use crate::vocabulary::{HandleId, ObjectId};
use crate::write_path::{CopyOver, CopyTask};

/// One end of a copy.
#[derive(Debug, Clone, Copy)]
pub struct CopyEnd {
    pub handle: HandleId,
    pub offset: u64,
}

impl Ops {
    /// Copies a file that S3 has whole into an empty one. Returns the bytes copied.
    ///
    /// Errors: `Unsupported` for any other copy: the kernel then reads and writes;
    /// `BadHandle`; `Stale` when the source changed; `Exists`; the store's.
    pub async fn copy_file_range(
        &self,
        from: CopyEnd,
        to: CopyEnd,
        len: u64,
        caller: Caller,
    ) -> Result<u64, FsError> {
        let source = self.handles.file(from.handle)?;
        let target = self.handles.file(to.handle)?;
        if !source.mode.reads() || !target.mode.writes() {
            return Err(FsError::BadHandle);
        }
        let whole = || {
            let object = source.file.whole_object();
            let whole = |object: &Arc<ObjectId>| {
                from.offset == 0 && len >= object.size_bytes && object.size_bytes > 0
            };
            object.filter(whole).ok_or(FsError::Unsupported)
        };
        whole()?;
        if to.offset != 0 || target.file.len() != 0 || target.file.shadows_object() {
            return Err(FsError::Unsupported);
        }
        if target.file.is_exclusive() {
            // A copy takes no condition on its target: an empty object claims the name.
            self.uploads.upload(&target.file).await?;
        }
        let inodes = [source.file.inode.ino, target.file.inode.ino];
        let _subtrees = self.subtrees.share_inodes(inodes).await?;
        let _turn = target.file.upload_lock.lock().await;
        let object = whole()?;
        check_awaited()?;
        self.attributes.drop_privileges(&target.file.inode, caller);
        self.copy_object(&object, &target.file, caller.request)
            .await?;
        Ok(object.size_bytes)
    }

    async fn copy_object(
        &self,
        object: &ObjectId,
        target: &Arc<OpenFile>,
        request: KernelRequest,
    ) -> Result<(), FsError> {
        let place = self.namespace.table().place(target.inode.ino);
        let (parent, name) = place.ok_or(FsError::Unsupported)?;
        let key = self.namespace.child_key(parent, &name)?;
        let headers =
            self.attributes
                .upload_headers(&target.inode, &name, &LowerLayer::Empty, None)?;
        let begun = self.carried_out.begun(request);
        let was_begun = begun.is_some();
        let etag = match begun {
            Some(begun) => begun.etag,
            None => {
                let version = target.inode.state().remote.clone();
                let etag = version.map(|version| version.etag);
                let basis = || Basis::new(etag.clone(), None);
                self.carried_out.begin(request, basis);
                etag
            }
        };
        let known = etag.map_or(WriteCondition::IfAbsent, WriteCondition::IfMatch);
        let task = CopyTask {
            source: object.key.clone(),
            version: object.etag.clone(),
            size_bytes: object.size_bytes,
            target: key.clone(),
            over: match was_begun {
                true => CopyOver::Only(known.clone()),
                false => CopyOver::Any(known.clone()),
            },
            headers: CopyHeaders::Replace(Box::new(headers.clone())),
        };
        let (etag, size_bytes, headers) = match self.copier.copy(&task).await {
            Ok(etag) => (etag, object.size_bytes, headers),
            // The copy that a predecessor made, or what another client has put over it.
            Err(FsError::Exists(_) | FsError::Stale(_)) if was_begun => {
                let there = self.deletes.object_at(&key).await?.ok_or(FsError::STALE)?;
                if known == WriteCondition::IfMatch(there.etag.clone()) {
                    return Err(FsError::STALE);
                }
                (there.etag, there.size_bytes, there.headers)
            }
            Err(error) => return Err(error),
        };
        let copy = ObjectId {
            key,
            etag,
            size_bytes,
        };
        self.uploads.record_object(target, &copy, headers);
        target.replaced(Arc::new(copy));
        self.uploads.update_parent(target).await;
        Ok(())
    }
}
