//! unlink: a name and its object go; open handles keep the bytes.

use std::sync::Arc;
use std::time::SystemTime;

use super::Ops;
use super::resent::{CarriedOut, Removal};
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::files::{Delivery, KernelRequest, NamedOpens, OpenFiles, check_awaited};
use crate::namespace::{EntryChange, Name, Namespace, Pin};
use crate::store::DeleteQueue;
use crate::vocabulary::{Ino, Kind};
use crate::writeback::{Deletes, Predecessor, Removed, Uploads};

/// Removes files.
#[derive(Debug)]
pub struct FileRemover {
    pub namespace: Arc<Namespace>,
    pub store: Arc<DeleteQueue>,
    pub files: Arc<OpenFiles>,
    pub named_opens: Arc<NamedOpens>,
    pub predecessor: Arc<Predecessor>,
    pub carried_out: Arc<CarriedOut>,
    pub uploads: Arc<Uploads>,
    pub deletes: Arc<Deletes>,
}

impl Ops {
    /// What another client has put meanwhile stays, as if it had come later.
    /// Errors: `NotFound`, `IsADirectory`, `ReadOnly`, the store's; nothing is removed then.
    ///
    /// Asked again, a name that is gone is what a predecessor removed.
    pub async fn unlink(
        &self,
        parent: Ino,
        name: &Name,
        request: KernelRequest,
    ) -> Result<(), FsError> {
        let attempt = request.attempt;
        let (parent, _subtrees) = self.name_changes.begin(parent, name, attempt).await?;
        let inode = match self.namespace.lookup(&parent, name).await {
            Err(FsError::NotFound(_)) if attempt == Delivery::Resent => {
                let key = self.namespace.child_key(parent.ino, name)?;
                self.predecessor.note_delete(&key, None);
                return Ok(());
            }
            found => found?,
        };
        if inode.kind == Kind::Directory {
            return Err(FsError::IsADirectory);
        }
        if attempt == Delivery::Resent {
            let key = self.namespace.child_key(parent.ino, name)?;
            let version = inode.state().remote.clone();
            self.file_remover
                .remove(&parent, name, &inode, request)
                .await?;
            self.predecessor
                .note_delete(&key, version.map(|version| version.etag));
            return Ok(());
        }
        self.file_remover
            .remove(&parent, name, &inode, request)
            .await
    }

    /// The rest of a removal that a predecessor carried out: it may have sent more than
    /// one delete.
    pub async fn rest_of_unlink(&self, parent: Ino, name: &Name) -> Result<(), FsError> {
        let key = self.namespace.child_key(parent, name)?;
        self.predecessor.note_delete(&key, None);
        Ok(())
    }
}

impl FileRemover {
    /// Deletes the object, if there is one, and takes the name away.
    async fn remove(
        &self,
        parent: &Pin,
        name: &Name,
        inode: &Pin,
        request: KernelRequest,
    ) -> Result<(), FsError> {
        let file = self.files.hold(inode.ino)?;
        let _removal = self.named_opens.begin_removal(&file).await;
        let _turn = file.upload_lock.lock_over_uploads().await;
        failpoint::at(Point::UnlinkBegins);
        let maybe_stored = file.shadows_object();
        if maybe_stored {
            self.predecessor.wait_before_change().await?;
        }
        check_awaited()?;
        let stored = inode.state().remote.clone();
        if stored.is_some() || maybe_stored {
            self.namespace.before_entry_removed(parent, name).await?;
            let key = self.namespace.child_key(parent.ino, name)?;
            let etag = stored.map(|version| version.etag);
            // What may be there of an attempt has an ETag that nobody was told.
            let late = self.uploads.late_object(&file).await;
            let now = self.store.time();
            let pending = match self.carried_out.removal(request, key.clone(), (etag, now)) {
                Removal::Begins(pending) => pending,
                Removal::Again(pending) => self.deletes.rest_of(pending).await?,
            };
            let mut removed = Removed::Gone;
            if pending.etag.is_some() && self.deletes.is_kept_for_readers(&file).await {
                self.deletes.delete_once_unused(&file, pending)?;
                if let Some(late) = late {
                    self.store.watch_for_late(key, late);
                }
            } else {
                removed = self.deletes.delete_object(pending, late).await?;
            }
            self.namespace.record(parent.ino, name, None);
            if removed == Removed::NewerStays {
                self.deletes.shows_again(parent).await;
            }
        }
        failpoint::at(Point::UnlinkDeleted);
        file.orphan();
        self.named_opens.lose_name(&file);
        let went = EntryChange::Went(name);
        self.namespace.entries_changed(parent, went);
        inode.state().overrides.ctime = Some(SystemTime::now());
        self.namespace.table().detach(inode.ino);
        Ok(())
    }
}
