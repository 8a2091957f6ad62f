//! One end of a rename.

use crate::namespace::{Name, Pin};

/// A name in a directory, which something has or is to have.
#[derive(Debug)]
pub struct Place<'a> {
    pub dir: Pin,
    pub name: &'a Name,
}
