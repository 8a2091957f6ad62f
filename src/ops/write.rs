//! write: bytes into the spool.

use tokio::time::{Instant, timeout_at};

use super::Ops;
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::files::{Caller, Shared};
use crate::vocabulary::HandleId;

/// Whether a file that runs as its owner goes on to, now that it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    Keep,
    Drop,
    /// The kernel does not know who wrote.
    Unknown,
}

/// Where the bytes of a write come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOrigin {
    /// write(2) through the handle.
    Call,
    /// A page that a shared mapping changed: the kernel sends it through any handle
    /// of the file that may write.
    Mapping,
}

/// Errors: `BadHandle`, `NoSpace`, `TooLarge`, and that of an upload that failed before.
pub fn write(
    ops: &Ops,
    id: HandleId,
    caller: Caller,
    (privileges, origin): (Privileges, WriteOrigin),
    offset: u64,
    data: &[u8],
) -> Result<(), FsError> {
    let handle = ops.handles.file(id)?;
    let inode = &handle.file.inode;
    match privileges {
        Privileges::Drop => drop(ops.attributes.take_privileges(inode)),
        // Out of a mapping: who wrote it is not told.
        Privileges::Unknown if inode.state().unprivileged_writers => {
            ops.attributes.take_privileges(inode);
        }
        Privileges::Keep | Privileges::Unknown => {}
    }
    failpoint::at(Point::WriteBegins);
    let change = handle.file.write(offset, data)?;
    match origin {
        WriteOrigin::Call => ops.handles.note_change(id, &handle, caller.thread, change),
        WriteOrigin::Mapping => handle.file.share_change(Shared::Mapped, change),
    }
    failpoint::at(Point::WriteStaged);
    ops.early_parts.queue_full_parts(&handle.file);
    Ok(())
}

/// As `write`, once the spool has room.
///
/// Errors: as `write`; `NoSpace` where no room could be made in time.
pub async fn write_with_room(
    ops: &Ops,
    id: HandleId,
    caller: Caller,
    how: (Privileges, WriteOrigin),
    offset: u64,
    data: &[u8],
) -> Result<(), FsError> {
    let file = ops.handles.file(id)?.file.clone();
    let deadline = Instant::now() + ops.settings.max_wait;
    loop {
        match timeout_at(deadline, ops.room_maker.make_room(&file)).await {
            Ok(made) => made?,
            Err(_) => return Err(FsError::NoSpace),
        }
        match write(ops, id, caller, how, offset, data) {
            Err(FsError::NoSpace) => {}
            outcome => return outcome,
        }
    }
}
