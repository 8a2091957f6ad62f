//! Places where a crash test has the daemon killed, one at each boundary between
//! two steps that a crash may come between.
//!
//! Only with the feature `failpoints`, which builds for operators do not have:
//! there they are nothing. `FAILPOINTS=put_answered=2*off->return`, as the crate
//! `fail` reads it, kills the daemon the third time that it comes to this place.

/// Makes the enum, the list of all and their names from one list.
macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place between two steps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// As `FAILPOINTS` has it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// write(2) came, its bytes are not in the stage.
    WriteBegins = "write_begins",
    /// The bytes are in the stage; write(2) is not answered.
    WriteStaged = "write_staged",
    FsyncBegins = "fsync_begins",
    /// fsync(2) is done and not answered.
    FsyncDone = "fsync_done",
    /// close(2) is done and not answered.
    FlushDone = "flush_done",
    /// With durability on the disk: the stage's bytes are.
    SealStageSynced = "seal_stage_synced",
    /// Its directory entry too.
    SealDirectorySynced = "seal_directory_synced",
    /// And the journal's record.
    SealJournaled = "seal_journaled",
    /// A stage that the sealed one absorbs is not discarded yet.
    SealSupersededLeft = "seal_superseded_left",
    /// The journal knows that a sealed stage takes another's bytes over.
    AbsorbJournaled = "absorb_journaled",
    /// It has them.
    AbsorbCopied = "absorb_copied",
    /// They are on disk; the other stage is not discarded yet.
    AbsorbSynced = "absorb_synced",
    /// An edit is whole in the spool: what it was an edit of is not needed any more.
    UploadCompleted = "upload_completed",
    PutBegins = "put_begins",
    PutAnswered = "put_answered",
    /// A multipart upload was created and has no part.
    PartsBegin = "parts_begin",
    PartBegins = "part_begins",
    PartAnswered = "part_answered",
    /// A part is to leave the spool and is not served any more; the journal does not know.
    OffloadMarked = "offload_marked",
    /// The journal knows, the part is in the stage's file.
    OffloadJournaled = "offload_journaled",
    /// The part is in its upload alone.
    OffloadPunched = "offload_punched",
    CompleteBegins = "complete_begins",
    CompleteAnswered = "complete_answered",
    /// The namespace has the new object, the open file has not.
    PublishRecorded = "publish_recorded",
    /// The open file has it too; the stage is there.
    PublishUploaded = "publish_uploaded",
    /// The stage's file is gone, the journal does not know.
    PublishStageRemoved = "publish_stage_removed",
    /// The journal knows; the directory has its marker.
    PublishDiscarded = "publish_discarded",
    RenameFileBegins = "rename_file_begins",
    /// The journal knows what is to be renamed.
    RenameFileNoted = "rename_file_noted",
    RenameFileCopied = "rename_file_copied",
    /// What only the spool has stands under its new name in the journal.
    RenameStageMoved = "rename_stage_moved",
    RenameFileDeleted = "rename_file_deleted",
    /// The journal knows no rename any more; the inode has its old name.
    RenameFileEnded = "rename_file_ended",
    /// The inode has its new name; rename(2) is not answered.
    RenameFileDone = "rename_file_done",
    /// The journal knows what is to be renamed.
    RenameDirectoryNoted = "rename_directory_noted",
    /// One more object is copied.
    RenameDirectoryCopies = "rename_directory_copies",
    RenameDirectoryCopied = "rename_directory_copied",
    /// Stages that lie below have their new places.
    RenameDirectoryStagesMoved = "rename_directory_stages_moved",
    /// One more object is in the journal as to be deleted.
    RenameDirectoryEnqueues = "rename_directory_enqueues",
    /// The journal has all of them and knows no rename any more.
    RenameDirectoryEnqueued = "rename_directory_enqueued",
    RenameDirectoryDeleted = "rename_directory_deleted",
    UnlinkBegins = "unlink_begins",
    UnlinkDeleted = "unlink_deleted",
    /// Of an old directory below the bucket: what is removed does not count any more.
    WhiteoutWritten = "whiteout_written",
    /// The log has which object is about to be made of an old file.
    ImportNoted = "import_noted",
    ImportSent = "import_sent",
    ImportStored = "import_stored",
    /// Of `unmount --materialize`: the directory lies below the mount.
    PlacePutBelow = "place_put_below",
    /// It is in the mount's place.
    PlaceTaken = "place_taken",
    /// The session log has a request as carried out; it is not answered.
    RequestDone = "request_done",
    JournalAppendBegins = "journal_append_begins",
    JournalWritten = "journal_written",
    JournalSynced = "journal_synced",
    /// The journal is rewritten, beside the old one.
    CompactWritten = "compact_written",
    CompactSynced = "compact_synced",
    CompactRenamed = "compact_renamed",
}

/// Reads `FAILPOINTS`. To be called once, before threads begin.
#[cfg(feature = "failpoints")]
pub fn arm() {
    // They stay as they are until the process ends.
    std::mem::forget(fail::FailScenario::setup());
}

/// Without the feature nothing can be armed.
#[cfg(not(feature = "failpoints"))]
pub fn arm() {}

/// Dies here as by `kill -9`, where the point is armed and its time has come.
#[cfg(feature = "failpoints")]
pub fn at(point: Point) {
    fail::fail_point!(point.name(), |_| die());
}

/// Without the feature this is nothing.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn at(_: Point) {}

#[cfg(feature = "failpoints")]
fn die() {
    use rustix::process::{Signal, getpid, kill_process};
    let killed = kill_process(getpid(), Signal::KILL);
    // The signal ends every thread, this one too.
    while killed.is_ok() {
        std::thread::park();
    }
}
