//! The ends of a rename, and what it may take the place of.

use crate::namespace::{Name, Pin};

/// A name in a directory, which something has or is to have.
#[derive(Debug)]
pub struct Place<'a> {
    pub dir: Pin,
    pub name: &'a Name,
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
