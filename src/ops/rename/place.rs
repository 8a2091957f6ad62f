//! The ends of a rename, and what it may take the place of.

use crate::error::FsError;
use crate::namespace::{Name, Namespace, Pin};
use crate::store::Key;

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
