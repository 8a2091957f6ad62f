//! The ends of a rename, and what it may take the place of.

use crate::error::FsError;
use crate::files::OpenFile;
use crate::namespace::{Name, Namespace, Pin};
use crate::store::{Key, WriteCondition};
use crate::write_path::CopyOver;

/// A name in a directory, which something has or is to have.
#[derive(Debug)]
pub struct Place<'a> {
    pub dir: Pin,
    pub name: &'a Name,
}

/// The keys that a file has in these places; below them lies what a directory has.
///
/// Errors: `NameTooLong`; `Stale` for a directory that is gone.
pub fn keys_of(
    namespace: &Namespace,
    from: &Place<'_>,
    to: &Place<'_>,
) -> Result<[Key; 2], FsError> {
    let key = |place: &Place<'_>| namespace.child_key(place.dir.ino, place.name);
    Ok([key(from)?, key(to)?])
}

/// What happens to a file that has the new name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    Replace,
    /// RENAME_NOREPLACE.
    NoReplace,
    /// RENAME_EXCHANGE: the two names change places.
    Exchange,
}

/// What the copy of a file may take the place of, where this is known to be there.
pub fn copy_over(mode: RenameMode, known: WriteCondition) -> CopyOver {
    match (mode, known) {
        (RenameMode::NoReplace, WriteCondition::IfAbsent) => CopyOver::Free,
        (RenameMode::NoReplace | RenameMode::Exchange, known) => CopyOver::Only(known),
        (RenameMode::Replace, known) => CopyOver::Any(known),
    }
}

/// What the store has under the new name, where that is known.
pub fn known_of(target: Option<&Pin>, file: Option<&OpenFile>) -> WriteCondition {
    if file.is_some_and(OpenFile::shadows_object) {
        return WriteCondition::Always;
    }
    match target.and_then(|target| target.state().remote.clone()) {
        Some(version) => WriteCondition::IfMatch(version.etag),
        None => WriteCondition::IfAbsent,
    }
}
