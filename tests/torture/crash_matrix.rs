//! The daemon dies at every boundary between two steps, in both modes of
//! durability, and its successor makes good what was acknowledged.
//!
//! Each case: a fixed workload runs into a failpoint, which kills the daemon; the
//! successor is killed too, by the same failpoint or right after its start; the
//! one after it must show each file as it was acknowledged, and what was under way
//! as it was before or after, in the mount and in the bucket.
//!
//! One test a point: `crash_matrix::put_answered` kills after the answer to a PUT.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::support::data::MIB;
use crate::support::mount::{Mount, detach};
use crate::support::{Server, wait_until};
use crate::workload::{Tree, Workload, read_tree};
use mediafs::failpoint::Point;
use rustix::process::Signal;

/// What no mount comes to that has no old directory: `overlay::crashes` of the mount tests.
const OF_OVERLAYS: [Point; 4] = [
    Point::WhiteoutWritten,
    Point::ImportNoted,
    Point::ImportSent,
    Point::ImportStored,
];
/// What no daemon comes to: `materialize` of the host tests.
const OF_COMMANDS: [Point; 2] = [Point::PlacePutBelow, Point::PlaceTaken];
/// So many times the daemon comes to the point before it dies there.
const PASSES: [usize; 2] = [0, 4];
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    point: Point,
    durability: &'static str,
    passes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Died {
    Yes,
    /// The workload does not come to the point so often.
    No,
}

fn armed(point: Point, passes: usize) -> String {
    match passes {
        0 => format!("{}=return", point.name()),
        _ => format!("{}={passes}*off->return", point.name()),
    }
}

/// Puts a copy in the place of the journal, as a restored backup is one.
fn copy_journal(mount: &Mount) {
    let journal = mount.scratch().join("spool/journal");
    let copy = journal.with_extension("copy");
    fs::copy(&journal, &copy).unwrap();
    fs::rename(&copy, &journal).unwrap();
}

/// Every file that another client sees.
fn objects(mount: &Mount) -> Tree {
    let keys = mount.keys().into_iter().filter(|key| !key.ends_with('/'));
    let found = keys.filter_map(|key| mount.object(&key).map(|body| (key, body)));
    found.collect()
}

impl Case {
    fn run(self) -> Died {
        let mut mount = Mount::on(Server::shared())
            .args(["--durability", self.durability])
            .args(self.spool_size())
            .args(["--part-size", "5MiB", "--negative-ttl", "1h"])
            .set("--ttl", "1h")
            .env("FAILPOINTS", self.first_arming())
            .start();
        let mut work = Workload::at(&mount.root);
        if self.die(&mut mount, &mut work) == Died::No {
            return Died::No;
        }
        detach(&mount.root);
        work.check_objects(&objects(&mount)).unwrap();
        if self.is_at_start() {
            copy_journal(&mount);
        }
        // The next one dies of the same, or of another kill right after its start.
        mount.change_env("FAILPOINTS", Some(&armed(self.point, 0)));
        let serves = mount.try_start();
        assert!(!(serves && self.is_at_start()), "alive");
        if serves {
            mount.signal(Signal::KILL);
        }
        mount.wait_for_exit();
        detach(&mount.root);
        work.check_objects(&objects(&mount)).unwrap();
        mount.change_env("FAILPOINTS", None);
        mount.remount();
        let seen = read_tree(&mount.root).unwrap();
        work.check(&seen).unwrap();
        self.check_what_is_left(&mut mount, &seen);
        Died::Yes
    }

    /// Whether a daemon comes to the point that starts with a copy of a journal, which
    /// it rewrites.
    fn is_at_start(self) -> bool {
        matches!(
            self.point,
            Point::CompactWritten | Point::CompactSynced | Point::CompactRenamed
        )
    }

    /// Whether parts leave the spool before a daemon comes to the point.
    fn is_of_a_file_longer_than_the_spool(self) -> bool {
        matches!(
            self.point,
            Point::OffloadMarked | Point::OffloadJournaled | Point::OffloadPunched
        )
    }

    fn spool_size(self) -> &'static [&'static str] {
        match self.is_of_a_file_longer_than_the_spool() {
            true => &["--spool-size", "18MiB"],
            false => &[],
        }
    }

    fn first_arming(self) -> String {
        if self.is_at_start() {
            return String::new();
        }
        armed(self.point, self.passes_at_start() + self.passes)
    }

    /// A journal begins with a record of the start of the machine, before there is a mount.
    fn passes_at_start(self) -> usize {
        match self.point {
            Point::JournalAppendBegins | Point::JournalWritten => 1,
            _ => 0,
        }
    }

    /// Works until the daemon dies, at the latest of its drain.
    fn die(self, mount: &mut Mount, work: &mut Workload) -> Died {
        let mut outcome = match self.is_of_a_file_longer_than_the_spool() {
            true => work.run_longer_than(18 * MIB),
            false => work.run(),
        };
        if self.is_at_start() {
            outcome.unwrap();
            mount.signal(Signal::KILL);
        } else {
            if outcome.is_ok() {
                outcome = work.finish();
            }
            if outcome.is_ok() {
                mount.signal(Signal::TERM);
            }
        }
        let status = mount.wait_for_exit();
        if status.success() {
            return Died::No;
        }
        assert_eq!(status.signal(), Some(9), "{}", mount.log());
        Died::Yes
    }

    /// The spool and the bucket have nothing but what they should.
    fn check_what_is_left(self, mount: &mut Mount, seen: &Tree) {
        // The journal cannot know of an upload whose creation the kill hid; it has no parts.
        wait_until(SETTLED_WITHIN, "the end of unfinished parts", || {
            mount.client().unfinished_parts(mount.bucket()).is_empty()
        });
        mount.unmount();
        let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
        assert_eq!(stages.count(), 0, "stages after a drain");
        let kept = mount.sidecars();
        assert!(kept.len() <= 2, "{kept:?}");
        for sidecar in kept {
            assert!(sidecar.contains("before the file was closed"), "{sidecar}");
        }
        let objects = objects(mount);
        let keys: Vec<_> = objects.keys().collect();
        assert_eq!(keys, seen.keys().collect::<Vec<_>>(), "keys");
        assert!(objects == *seen, "other bytes");
    }
}

/// Runs the cases of one point and mode, until the daemon comes to it no more;
/// how many daemons died.
fn run_mode(point: Point, durability: &'static str) -> usize {
    let mut died = 0;
    for passes in PASSES {
        let case = Case {
            point,
            durability,
            passes,
        };
        if case.run() == Died::No {
            break;
        }
        died += 1;
        if case.is_at_start() {
            break;
        }
    }
    died
}

/// All cases of one point.
fn run_point(point: Point) {
    let died: usize = ["disk", "s3"]
        .map(|mode| run_mode(point, mode))
        .iter()
        .sum();
    if died == 0 {
        // Whether the workload overtakes an upload is a matter of time.
        wait_until(SETTLED_WITHIN, point.name(), || run_mode(point, "disk") > 0);
    }
}

/// A test for each point, and one that says that none is missing.
macro_rules! each_point {
    ($($test:ident: $point:ident,)*) => {
        $(#[test]
        fn $test() {
            run_point(Point::$point);
        })*

        #[test]
        fn every_failpoint_has_its_test() {
            let others = [&OF_OVERLAYS[..], &OF_COMMANDS].concat();
            let all: Vec<_> = Point::ALL.iter().filter(|it| !others.contains(it)).collect();
            assert_eq!(all, [$(&Point::$point),*]);
        }
    };
}

each_point! {
    write_begins: WriteBegins,
    write_staged: WriteStaged,
    fsync_begins: FsyncBegins,
    fsync_done: FsyncDone,
    flush_done: FlushDone,
    seal_stage_synced: SealStageSynced,
    seal_directory_synced: SealDirectorySynced,
    seal_journaled: SealJournaled,
    seal_superseded_left: SealSupersededLeft,
    absorb_journaled: AbsorbJournaled,
    absorb_copied: AbsorbCopied,
    absorb_synced: AbsorbSynced,
    upload_completed: UploadCompleted,
    put_begins: PutBegins,
    put_answered: PutAnswered,
    parts_begin: PartsBegin,
    part_begins: PartBegins,
    part_answered: PartAnswered,
    offload_marked: OffloadMarked,
    offload_journaled: OffloadJournaled,
    offload_punched: OffloadPunched,
    complete_begins: CompleteBegins,
    complete_answered: CompleteAnswered,
    publish_recorded: PublishRecorded,
    publish_uploaded: PublishUploaded,
    publish_stage_removed: PublishStageRemoved,
    publish_discarded: PublishDiscarded,
    rename_file_begins: RenameFileBegins,
    rename_file_noted: RenameFileNoted,
    rename_file_copied: RenameFileCopied,
    rename_stage_moved: RenameStageMoved,
    rename_file_deleted: RenameFileDeleted,
    rename_file_ended: RenameFileEnded,
    rename_file_done: RenameFileDone,
    rename_directory_noted: RenameDirectoryNoted,
    rename_directory_copies: RenameDirectoryCopies,
    rename_directory_copied: RenameDirectoryCopied,
    rename_directory_stages_moved: RenameDirectoryStagesMoved,
    rename_directory_enqueues: RenameDirectoryEnqueues,
    rename_directory_enqueued: RenameDirectoryEnqueued,
    rename_directory_deleted: RenameDirectoryDeleted,
    unlink_begins: UnlinkBegins,
    unlink_deleted: UnlinkDeleted,
    request_done: RequestDone,
    journal_append_begins: JournalAppendBegins,
    journal_written: JournalWritten,
    journal_synced: JournalSynced,
    compact_written: CompactWritten,
    compact_synced: CompactSynced,
    compact_renamed: CompactRenamed,
}
