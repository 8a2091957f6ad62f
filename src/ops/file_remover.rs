//! What goes with the name of a file.

use std::sync::Arc;
use std::time::SystemTime;

use super::resent::{ExecutedRequests, Removal};
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::files::{KernelRequest, NamedOpens, OpenFiles, check_awaited};
use crate::namespace::{EntryChange, Name, Namespace, Pin, before_entry_removed};
use crate::store::DeleteQueue;
use crate::writeback::{Deletes, Predecessor, Removed, Uploads};

/// Removes files.
#[derive(Debug)]
pub struct FileRemover {
    pub namespace: Arc<Namespace>,
    pub store: Arc<DeleteQueue>,
    pub files: Arc<OpenFiles>,
    pub named_opens: Arc<NamedOpens>,
    pub predecessor: Arc<Predecessor>,
    pub executed: Arc<ExecutedRequests>,
    pub uploads: Arc<Uploads>,
    pub deletes: Arc<Deletes>,
}

impl FileRemover {
    /// Deletes the object, if there is one, and takes the name away.
    pub async fn remove(
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
            let key = self.namespace.child_key(parent.ino, name)?;
            self.predecessor.wait_before_change(&[key]).await?;
        }
        check_awaited()?;
        let stored = inode.state().remote.clone();
        if stored.is_some() || maybe_stored {
            before_entry_removed(&self.namespace, parent, name).await?;
            let key = self.namespace.child_key(parent.ino, name)?;
            let etag = stored.map(|version| version.etag);
            let etag = etag.or_else(|| file.replaced_version().etag().cloned());
            // What may be there of an attempt has an ETag that nobody was told.
            let late = self.uploads.late_object(&file).await;
            let now = self.store.time();
            let pending = match self.executed.removal(request, key.clone(), (etag, now)) {
                Removal::Begins(pending) => pending,
                Removal::Again(pending) => self.deletes.rest_of(pending).await?,
            };
            let mut removed = Removed::Gone;
            if pending.etag.is_some() && self.deletes.is_kept_for_readers(&file).await {
                self.deletes.delete_once_unused(&file, pending)?;
                if let Some(late) = late {
                    self.store.late().watch_for(key, late);
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
        self.namespace.directories().entries_changed(parent, went);
        inode.state().overrides.ctime = Some(SystemTime::now());
        self.namespace.table().detach(inode.ino);
        Ok(())
    }
}
