//! Open directories.

use super::listed::Listed;
use crate::namespace::{DirStream, Pin};
use crate::vocabulary::HandleId;

/// An open directory: what has been listed so far, and where the listing stands.
///
/// An entry keeps its offset for as long as the handle lives, whatever happens
/// to the directory; reading from the start lists again.
#[derive(Debug)]
pub struct DirHandle {
    pub id: HandleId,
    pub dir: Pin,
    /// The kernel's request that it answers.
    pub request: u64,
    pub snapshot: tokio::sync::Mutex<Snapshot>,
}

#[derive(Debug)]
pub struct Snapshot {
    pub listed: Listed,
    pub stream: DirStream,
    pub end: bool,
    /// How many of `listed` the successor was told of.
    pub recorded: usize,
}
