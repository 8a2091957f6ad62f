//! Which place a spool belongs to: what waits in it is for that place alone.
//!
//! The place is on disk before the first byte of journal and stages, and compared
//! before the journal is opened, under the spool's lock. Another place is refused
//! while anything waits.

use std::path::Path;

use super::inspect::SpoolView;
use super::lost_found::{self, Restamp};
use super::mount_note::{MountNote, Recorded};
use super::pending_work::PendingWork;
use super::place::Place;
use super::spool_error::{OtherPlace, SpoolError};
use super::spool_lock::SpoolLock;
use crate::store::Endpoint;

/// Which place a mount wants a spool for.
#[derive(Debug, Clone)]
pub struct Claim {
    pub place: Place,
    /// Where an operator says that the bucket was before it moved.
    pub moved_from: Option<Endpoint>,
}

/// What a spool belonged to before.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RecordedPlace {
    Same,
    /// The same bucket was at another endpoint.
    Moved(Place),
    /// Another, for which nothing waits; None if its record is damaged.
    Other(Option<Place>),
    /// Nothing is recorded.
    Unrecorded,
}

/// A locked spool that a mount may have, and that is as it was.
#[derive(Debug)]
pub struct ClaimedSpool {
    lock: SpoolLock,
    place: Place,
    former: RecordedPlace,
}

/// A locked spool whose place is recorded.
#[derive(Debug)]
pub struct PlacedSpool {
    pub(super) lock: SpoolLock,
    /// None where nobody knows, in a spool that is looked at from outside.
    pub(super) place: Option<Place>,
    former: RecordedPlace,
}

impl SpoolLock {
    /// Compares, and changes nothing.
    ///
    /// Errors: `OtherPlace`, `PlaceUnknown` while something waits; `Io`, the journal's.
    pub fn claim(self, claim: Claim) -> Result<ClaimedSpool, SpoolError> {
        let dir = self.dir();
        let pending = || SpoolView::unchecked(dir).pending();
        let Claim { place, moved_from } = claim;
        let former = match MountNote::read(dir) {
            Recorded::Note(note) if note.place == place => RecordedPlace::Same,
            Recorded::Nothing => {
                tell_adopted(dir, &place, &pending()?);
                RecordedPlace::Unrecorded
            }
            Recorded::Note(note) if note.place.may_be(&place) => {
                tell_adopted(dir, &place, &pending()?);
                RecordedPlace::Unrecorded
            }
            Recorded::Note(note)
                if note.place.has_keys_of(&place) && note.place.endpoint == moved_from =>
            {
                RecordedPlace::Moved(note.place)
            }
            Recorded::Note(note) => {
                let pending = pending()?;
                if !pending.is_nothing() {
                    return Err(SpoolError::OtherPlace(Box::new(OtherPlace {
                        spool: dir.to_owned(),
                        recorded: note.place,
                        asked: place,
                        pending,
                    })));
                }
                RecordedPlace::Other(Some(note.place))
            }
            Recorded::Damaged => {
                let pending = pending()?;
                if !pending.is_nothing() {
                    return Err(SpoolError::PlaceUnknown {
                        record: MountNote::path_in(dir),
                        pending,
                    });
                }
                RecordedPlace::Other(None)
            }
        };
        Ok(ClaimedSpool {
            lock: self,
            place,
            former,
        })
    }

    /// For whoever sends nothing: it belongs to what it belonged to.
    pub fn as_recorded(self) -> PlacedSpool {
        let place = match MountNote::read(self.dir()) {
            Recorded::Note(note) => Some(note.place),
            Recorded::Nothing | Recorded::Damaged => None,
        };
        PlacedSpool {
            lock: self,
            place,
            former: RecordedPlace::Same,
        }
    }
}

impl ClaimedSpool {
    /// Records the place, where a mount of it is about to be. It outlives a power loss
    /// once this returns. Errors: the disk's.
    pub fn record(self, mountpoint: &Path) -> Result<PlacedSpool, SpoolError> {
        let Self {
            lock,
            place,
            former,
        } = self;
        let dir = lock.dir();
        let spool = dir.display();
        let restamp = match &former {
            RecordedPlace::Same | RecordedPlace::Unrecorded => None,
            RecordedPlace::Moved(from) => {
                tracing::warn!(%spool, %from, to = %place, "the spool's bucket has moved, as --spool-moved-from says");
                Some(Restamp::Moved { from, to: &place })
            }
            RecordedPlace::Other(known) => {
                let from = known.as_ref().map(ToString::to_string);
                tracing::info!(%spool, from, to = %place, "the spool belongs to another place from now on: nothing waited in it");
                known.as_ref().map(Restamp::Left)
            }
        };
        let io_error = |source| SpoolError::Io {
            path: dir.to_owned(),
            source,
        };
        // What is kept of the former place says so before nothing else does.
        if let Some(restamp) = restamp {
            lost_found::restamp(&dir.join(lost_found::DIR_NAME), &restamp).map_err(io_error)?;
        }
        let note = MountNote::new(place.clone(), mountpoint);
        note.write(dir).map_err(io_error)?;
        Ok(PlacedSpool {
            lock,
            place: Some(place),
            former,
        })
    }

    /// Whether the store may be another than the one that a predecessor asked.
    pub fn has_moved(&self) -> bool {
        matches!(self.former, RecordedPlace::Moved(_))
    }
}

impl PlacedSpool {
    pub fn dir(&self) -> &Path {
        self.lock.dir()
    }

    /// What the place is called, and what it was called before it moved.
    pub fn names(&self) -> (String, Option<String>) {
        let now = self.place.as_ref().map(ToString::to_string);
        let before = match &self.former {
            RecordedPlace::Moved(from) => Some(from.to_string()),
            _ => None,
        };
        (now.unwrap_or_default(), before)
    }

    /// Whether it belonged to another place until now.
    pub fn is_new_to_place(&self) -> bool {
        matches!(self.former, RecordedPlace::Other(_))
    }
}

fn tell_adopted(dir: &Path, place: &Place, pending: &PendingWork) {
    if !pending.is_nothing() {
        tracing::warn!(
            spool = %dir.display(), %place, %pending,
            "a predecessor did not record the endpoint, or the bucket, that this spool belongs to: what waits in it counts as belonging to this mount"
        );
    }
}
