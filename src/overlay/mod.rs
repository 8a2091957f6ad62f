//! An old directory shown below a bucket, until all of it is in the bucket.
//!
//! Owns: the old directory, what of it still counts, the listing of both, the
//! background import.
//! Must not know: inodes, handles, stages, FUSE.
//!
//! `Overlay` is a store over a store: each file of the old directory is an object of
//! it, under the key that the import gives it, with an ETag made of what the kernel says
//! of the file (`OldStat::etag`). All that is above — names, reads, edits,
//! renames, deletes, recovery after a crash, takeover — has to do with objects alone
//! and needs no case of its own:
//!
//! | asked | done |
//! |---|---|
//! | HEAD, LIST | the bucket's object, else the old file, unless that does not count |
//! | GET of an old version | read from the old file, whatever the bucket has by now |
//! | PUT `If-Match` an old version | PUT `If-None-Match: *` |
//! | COPY of an old version | PUT of its bytes under the new key |
//! | DELETE | a whiteout on disk, then the delete of what the bucket has |
//!
//! **What counts** (`marks`). A record log in the spool has of old files: `Hidden`, it
//! was removed, renamed or replaced (synced before a removal is answered); `Sending`, an
//! object of these bytes is about to be made; `Stored`, it was made.
//!
//! **An import is not seen.** An object that was made of an old file is shown with that
//! file's ETag and time as long as the mount lasts: no page, handle, edit or rename
//! that knows the old version finds another one. `Sending` is written before the
//! request, with the version that it makes, so this holds after a crash too.
//!
//! **An import overwrites nothing.** It is sent with `If-None-Match: *`, by one who has
//! the key's turn (`turns`), as a removal or a change of the same key has. A request of it
//! that got no answer is waited for before a removal is answered.
//!
//! **Two are asked one after the other**: the bucket, then the old directory, while an
//! import, a removal or a write has a name change from one to the other. Records have
//! numbers (`Moment`): a listing shows of the old directory what counted before the bucket
//! was asked, and one name is asked for again where it stopped to count in between
//! (`Core::either`). Who needs to know where a version is has the key's turn meanwhile.
//!
//! **The end.** Once a walk finds each file in a listing of the bucket, as the version
//! that was made of its bytes, and nothing else to do, `Ended` is written. Nothing is
//! looked up below any more. What a program, a stage or a rename knows by an old version it
//! knows so until its own end: the overlay goes on to translate. The first mount after it
//! that finds nothing of that kind writes `Over`, and serves the bucket alone. What waits
//! in the spool from then on began without an overlay, and no daemon needs one for it.
//!
//! **What is changed below after it was sent** keeps the overlay from ending, unless it has
//! the bytes that were sent: a new owner, mode, time or link is told of, and no more.
//!
//! Memory: 16 to 32 bytes for each old file that was imported or hidden, and the names of
//! the directories that were listed last. Names are kept as hashes of 64 bits.
//!
//! Lock order: a key's turn, which is held across requests, then one mutex at a time.

mod core;
mod count;
mod foreground;
mod import;
mod interrupted_uploads;
mod listing;
mod marks;
mod old_directory;
mod progress;
mod reading;
mod removal;
mod same_bytes;
mod send;
mod store;
mod versions;
mod walk;
mod watch;

use std::path::Path;
use std::sync::Arc;

pub use self::core::{Describe, Markers, Parts};
pub use interrupted_uploads::ResumeUploads;
pub use marks::{MarksError, Phase};
pub use old_directory::{Marked, OldDirectory, OldStat};
pub use progress::{ImportState, Progress};
pub use watch::Watch;

use self::core::Core;
use crate::store::{Key, ObjectStore, StoreLog, UploadId};
use import::Import;
use marks::hash_of;
use removal::OverlayLog;
use store::OverlayStore;

/// A bucket over an old directory.
#[derive(Debug)]
pub struct Overlay {
    core: Arc<Core>,
    store: Arc<OverlayStore>,
}

impl Overlay {
    /// Errors: the log of what counts; it is of another directory.
    pub fn open(parts: Parts, old: OldDirectory, marks: &Path) -> Result<Self, MarksError> {
        let core = Arc::new(Core::open(parts, old, marks)?);
        let store = Arc::new(OverlayStore::new(core.clone()));
        Ok(Self { core, store })
    }

    /// How far the overlay has come that has this log.
    pub fn phase(marks: &Path) -> Result<Phase, MarksError> {
        marks::phase(marks)
    }

    /// Notes that nothing knows a version of the old directory any more: from now on the
    /// bucket alone counts, whatever waits in the spool. Errors: the log's.
    pub fn set_over(marks: &Path) -> Result<(), MarksError> {
        marks::set_over(marks)
    }

    pub fn progress(&self) -> &Progress {
        &self.core.progress
    }

    pub fn old_directory(&self) -> &OldDirectory {
        &self.core.old
    }

    /// Shows both as one.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    /// Writes whiteouts beside the journal of deletes that wait.
    pub fn log(&self, journal: Arc<dyn StoreLog>) -> Arc<dyn StoreLog> {
        Arc::new(OverlayLog::new(journal, self.core.clone()))
    }

    /// Takes an upload in parts over that a predecessor has begun: the import resumes or
    /// aborts it. Returns whether it is one of an old file.
    pub fn takes_over(&self, key: &Key, upload: &UploadId) -> bool {
        let core = &self.core;
        let Some(path) = core.path(key) else {
            return false;
        };
        let counts = core.marks.with(|marks| marks.counts(hash_of(path)));
        let is_long = |stat: OldStat| stat.size_bytes > core.parts.part_bytes;
        core.parts.cut_off_uploads == ResumeUploads::Yes
            && counts
            && matches!(core.old.stat(path), Ok(Some(stat)) if is_long(stat))
            && core.interrupted_uploads.add(key.clone(), upload.clone())
    }

    /// Sends what is left, until nothing is. Returns once the overlay has ended what tells
    /// of changes of the old directory until it is dropped.
    pub async fn run(self: Arc<Self>) -> Watch {
        Import::new(&self.store).run().await
    }
}

#[cfg(test)]
mod tests;
