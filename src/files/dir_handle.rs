//! Open directories.

use super::listed::Listed;
use crate::error::FsError;
use crate::namespace::{DirStream, Name, Namespace, Pin};
use crate::session_state::SavedDir;
use crate::vocabulary::{HandleId, Ino};

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

impl DirHandle {
    /// One whose first entries were given out by a predecessor.
    ///
    /// Errors: `NotADirectory`, `Stale`; `BadHandle` for a record that cannot be read.
    pub fn restored(
        id: HandleId,
        saved: &SavedDir,
        namespace: &Namespace,
    ) -> Result<Self, FsError> {
        let ino = Ino(saved.ino);
        let mut snapshot = Snapshot::of(ino, namespace)?;
        let names = saved.names().ok_or(FsError::BadHandle)?;
        let names = names.iter().filter_map(|name| Name::from_segment(name));
        snapshot.listed = Listed::given_before(names);
        snapshot.recorded = snapshot.listed.len();
        Ok(Self {
            id,
            dir: namespace.directory(ino)?,
            request: saved.request,
            snapshot: tokio::sync::Mutex::new(snapshot),
        })
    }
}

impl Snapshot {
    /// Nothing of the directory is listed yet. Errors: `NotADirectory`, `Stale`.
    pub fn of(dir: Ino, namespace: &Namespace) -> Result<Self, FsError> {
        Ok(Self {
            listed: Listed::default(),
            stream: DirStream::new(namespace.directory(dir)?),
            end: false,
            recorded: 0,
        })
    }
}
