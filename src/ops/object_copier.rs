//! The object of a file, copied to be that of another.

use std::sync::Arc;

use super::resent::ExecutedRequests;
use crate::error::FsError;
use crate::files::{AttributeView, KernelRequest, LowerLayer, OpenFile};
use crate::namespace::Namespace;
use crate::session_state::Basis;
use crate::store::{CopyHeaders, WriteCondition};
use crate::vocabulary::ObjectId;
use crate::write_path::{Copier, CopyOver, CopyTask};
use crate::writeback::{Deletes, Uploads};

/// Makes the object of a file a copy of another.
#[derive(Debug)]
pub struct ObjectCopier {
    pub namespace: Arc<Namespace>,
    pub attributes: Arc<AttributeView>,
    pub executed: Arc<ExecutedRequests>,
    pub copier: Arc<Copier>,
    pub uploads: Arc<Uploads>,
    pub deletes: Arc<Deletes>,
}

impl ObjectCopier {
    /// Errors: `Stale`, `Exists`, `Unsupported` for a target without a name; the store's.
    pub async fn copy(
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
        let begun = self.executed.begun(request);
        let was_begun = begun.is_some();
        let etag = match begun.filter(|begun| begun.etag_is_known) {
            Some(begun) => begun.etag,
            None => {
                let version = target.inode.state().remote.clone();
                version.map(|version| version.etag)
            }
        };
        if !was_begun {
            let basis = || Basis::new(etag.clone(), None);
            self.executed.begin(request, basis);
        }
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
        self.uploads.kept.record_object(target, &copy, headers);
        target.replaced(Arc::new(copy));
        self.uploads.update_parent(target).await;
        Ok(())
    }
}
