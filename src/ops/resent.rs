//! What is asked again after a daemon died: it may be done already, or still under way.

use tokio::time::sleep_until;

use super::Ops;
use super::moved_object::MovedObject;
use super::rename::Place;
use crate::error::FsError;
use crate::namespace::Pin;
use crate::store::{ETag, Key, LATE_LIMIT, StoreOp, WriteCondition};
use crate::vocabulary::{Kind, ObjectVersion};
use crate::write_path::SealedStage;

impl Ops {
    /// Returns once nothing that a predecessor sent can undo what this daemon does.
    ///
    /// S3 may do what it has received after the end of who sent it. Where it heeds
    /// conditions, a late change finds another version, and nothing waits here.
    pub(super) async fn wait_for_predecessor_requests(&self) {
        if !self.store.late().abilities().heeds_all() {
            sleep_until(self.began_at + LATE_LIMIT).await;
        }
    }

    /// A predecessor may have sent a delete of this object, and more than once.
    pub(super) fn note_predecessors_delete(&self, key: &Key, etag: Option<ETag>) {
        let condition = etag.map(WriteCondition::IfMatch);
        let late = self.store.late();
        late.note(StoreOp::Delete, key, condition.unwrap_or_default());
    }

    /// A predecessor may have been uploading this stage.
    pub(super) fn note_predecessors_upload(&self, sealed: &SealedStage) {
        let condition = match (&sealed.condition, &sealed.known) {
            (WriteCondition::Always, WriteCondition::Always) => &WriteCondition::IfAbsent,
            (WriteCondition::Always, known) => known,
            (condition, _) => condition,
        };
        let late = self.store.late();
        late.note(StoreOp::Put, &sealed.key, condition.clone());
    }

    /// The rest of a rename whose object a predecessor moved: the kernel has the
    /// inode under its new name once this is answered.
    ///
    /// Errors: `NotFound` when nothing has the new name; the store's.
    pub(super) async fn finish_resent_rename(
        &self,
        source: Option<Pin>,
        to: &Place<'_>,
    ) -> Result<(), FsError> {
        let target = self.namespace.lookup(&to.dir, to.name).await?;
        let Some(source) = source.filter(|source| source.ino != target.ino) else {
            return Ok(());
        };
        if let Some(file) = self.files.get(target.ino) {
            file.orphan();
        }
        let version = target.state().remote.clone();
        self.namespace
            .table()
            .rename(source.ino, to.dir.ino, to.name)?;
        if source.kind == Kind::Directory {
            return self.rebase_moved_files(&source).await;
        }
        if let Some(version) = version {
            self.rebase_moved(&source, version)?;
        }
        Ok(())
    }

    fn rebase_moved(&self, inode: &Pin, version: ObjectVersion) -> Result<(), FsError> {
        let key = self.namespace.file_key(inode.ino)?;
        let moved = MovedObject::by_predecessor(version.clone());
        {
            let mut state = inode.state();
            state.remote = Some(version);
            state.checked_at = None;
        }
        if let Some(file) = self.files.get(inode.ino) {
            file.rebase(&moved, key);
        }
        Ok(())
    }

    /// Open files below a directory show the objects under their new keys.
    async fn rebase_moved_files(&self, dir: &Pin) -> Result<(), FsError> {
        for file in self.files.all() {
            let inode = &file.inode;
            let Some((parent, name)) = self.namespace.table().place(inode.ino) else {
                continue;
            };
            if inode.state().remote.is_none() || !self.namespace.table().is_within(parent, dir.ino)
            {
                continue;
            }
            let parent = self.namespace.directory(parent)?;
            if let Some(version) = self.namespace.stored_version(&parent, &name).await? {
                self.rebase_moved(inode, version)?;
            }
        }
        Ok(())
    }
}
