//! rmdir: a directory without entries goes.

use super::Ops;
use crate::error::FsError;
use crate::files::{Delivery, KernelRequest, check_awaited};
use crate::namespace::{
    EntryChange, Name, before_entry_removed, check_emptied, remove_marker_last,
};
use crate::session_state::Basis;
use crate::vocabulary::{Ino, Kind};

/// Errors: `NotFound`, `NotADirectory`, `NotEmpty` whoever filled it, `ReadOnly`, the store's.
///
/// Asked again, a name that is gone is what a predecessor removed.
pub async fn rmdir(
    ops: &Ops,
    parent: Ino,
    name: &Name,
    request: KernelRequest,
) -> Result<(), FsError> {
    let attempt = request.attempt;
    let (parent, _subtrees) = ops.name_changes.begin(parent, name, attempt).await?;
    let dir = match ops.namespace.lookup(&parent, name).await {
        Err(FsError::NotFound(_)) if attempt == Delivery::Resent => return Ok(()),
        found => found?,
    };
    if dir.kind != Kind::Directory {
        return Err(FsError::NotADirectory);
    }
    let begun_at = ops.executed.begun(request).and_then(|it| it.at());
    if let Some(begun_at) = begun_at
        && ops.deletes.was_made_since(&dir, begun_at).await?
    {
        ops.namespace.directories().forget(&dir);
        ops.namespace.table().detach(dir.ino);
        ops.deletes.shows_again(&parent).await;
        return Ok(());
    }
    let at = ops.store.time();
    ops.executed.begin(request, || Basis::new(None, at));
    check_emptied(&ops.namespace, &ops.store, &dir).await?;
    check_awaited()?;
    before_entry_removed(&ops.namespace, &parent, name).await?;
    remove_marker_last(&ops.namespace, &ops.store, &dir).await?;
    ops.namespace.record(parent.ino, name, None);
    let went = EntryChange::Went(name);
    ops.namespace.directories().entries_changed(&parent, went);
    ops.namespace.directories().forget(&dir);
    ops.namespace.table().detach(dir.ino);
    Ok(())
}
