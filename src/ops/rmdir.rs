//! rmdir: a directory without entries goes.

use super::Ops;
use crate::error::FsError;
use crate::files::{Delivery, KernelRequest, check_awaited};
use crate::namespace::{EntryChange, Name};
use crate::session_state::Basis;
use crate::vocabulary::{Ino, Kind};

impl Ops {
    /// Errors: `NotFound`, `NotADirectory`, `NotEmpty` whoever filled it, `ReadOnly`, the store's.
    ///
    /// Asked again, a name that is gone is what a predecessor removed.
    pub async fn rmdir(
        &self,
        parent: Ino,
        name: &Name,
        request: KernelRequest,
    ) -> Result<(), FsError> {
        let attempt = request.attempt;
        let (parent, _subtrees) = self.name_changes.begin(parent, name, attempt).await?;
        let dir = match self.namespace.lookup(&parent, name).await {
            Err(FsError::NotFound(_)) if attempt == Delivery::Resent => return Ok(()),
            found => found?,
        };
        if dir.kind != Kind::Directory {
            return Err(FsError::NotADirectory);
        }
        let begun_at = self.carried_out.begun(request).and_then(|it| it.at());
        if let Some(begun_at) = begun_at
            && self.deletes.was_made_since(&dir, begun_at).await?
        {
            self.namespace.directories().forget(&dir);
            self.namespace.table().detach(dir.ino);
            self.deletes.shows_again(&parent).await;
            return Ok(());
        }
        let at = self.store.time();
        self.carried_out.begin(request, || Basis::new(None, at));
        self.namespace.check_empty(&dir).await?;
        let path = self.namespace.table().dir_path(dir.ino)?;
        let prefix = self.namespace.keys().dir_prefix(&path);
        self.store.deleted_below(&prefix).await?;
        check_awaited()?;
        self.namespace.before_entry_removed(&parent, name).await?;
        self.namespace.remove_marker(&dir).await?;
        self.namespace.record(parent.ino, name, None);
        let went = EntryChange::Went(name);
        self.namespace.directories().entries_changed(&parent, went);
        self.namespace.directories().forget(&dir);
        self.namespace.table().detach(dir.ino);
        Ok(())
    }
}
