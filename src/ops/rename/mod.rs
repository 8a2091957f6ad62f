//! rename(2). `renamer` is asked; the files below it know nothing of it.

mod copies;
mod directory;
mod exchange;
mod file;
mod log;
mod not_moved;
mod paths;
mod place;
mod rebase;
mod recovery;
mod renamer;
mod target_state;
mod undo;

pub use copies::ObjectCopies;
pub use directory::DirectoryRenamer;
pub use file::FileRenamer;
pub use log::RenameLog;
pub use paths::KeyPaths;
pub use place::RenameMode;
pub use rebase::Rebase;
pub use recovery::RenameRecovery;
pub use renamer::Renamer;

use crate::error::FsError;
use crate::files::KernelRequest;
use crate::namespace::Name;
use crate::ops::Ops;
use crate::vocabulary::Ino;

/// Errors: `NotFound`, `Exists`, `NotEmpty`, `IsADirectory`, `NotADirectory`,
/// `InvalidArgument` for a directory into itself, `CrossDevice` where the
/// application must copy by itself, `ReadOnly`, the store's.
///
/// Asked again, a source that is gone is what a predecessor moved.
pub async fn rename(
    ops: &Ops,
    from: (Ino, &Name),
    to: (Ino, &Name),
    mode: RenameMode,
    request: KernelRequest,
) -> Result<(), FsError> {
    ops.settings.access.check_writable()?;
    ops.renamer.rename(from, to, mode, request).await
}

/// What a predecessor left of a rename that counts as carried out.
///
/// Errors: the store's.
pub async fn rest_of_rename(
    ops: &Ops,
    from: (Ino, &Name),
    to: (Ino, &Name),
    mode: RenameMode,
    request: KernelRequest,
) -> Result<(), FsError> {
    match mode {
        RenameMode::Exchange => ops.renamer.rest_of_exchange(from, to, request).await,
        // Its journal may not have the end: until then the names are neither shown nor changed.
        RenameMode::Replace | RenameMode::NoReplace => {
            ops.subtrees.entry_settled(from.0, from.1).await?;
            ops.subtrees.entry_settled(to.0, to.1).await
        }
    }
}
