//! The daemon dies at every boundary between two steps, in both modes of
//! durability, and the next one makes good what was acknowledged.
//!
//! Each case: a fixed workload runs into a failpoint, which kills the daemon; the
//! next daemon is killed too, by the same failpoint or right after its start; the
//! one after it must show each file as it was acknowledged, and what was under way
//! as it was before or after, in the mount and in the bucket.
//!
//! `MEDIAFS_TEST_CRASH_POINT=put_answered` runs the cases of one point alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

#[path = "crash/workload.rs"]
mod workload;

use std::collections::VecDeque;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use mediafs::failpoint::Point;
use rustix::process::Signal;
use support::mount::{Mount, detach};
use support::{Server, wait_until};
use workload::{Tree, Workload, read_tree};

/// So many times the daemon comes to the point before it dies there.
const PASSES: [usize; 2] = [0, 4];
const CASES_AT_ONCE: usize = 4;
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

    /// Whether only a daemon that starts comes to the point.
    fn is_at_start(self) -> bool {
        matches!(
            self.point,
            Point::CompactWritten | Point::CompactSynced | Point::CompactRenamed
        )
    }

    fn first_arming(self) -> String {
        if self.is_at_start() {
            return String::new();
        }
        armed(self.point, self.passes)
    }

    /// Works until the daemon dies, at the latest of its drain.
    fn die(self, mount: &mut Mount, work: &mut Workload) -> Died {
        let mut outcome = work.run();
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

/// What the cases came to.
#[derive(Debug, Default)]
struct Outcomes {
    died: Vec<Case>,
    failed: Vec<(Case, String)>,
}

/// Runs the cases of one point and mode, until the daemon comes to it no more.
fn run_point(point: Point, durability: &'static str, outcomes: &Mutex<Outcomes>) {
    for passes in PASSES {
        let case = Case {
            point,
            durability,
            passes,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| case.run()));
        let mut outcomes = outcomes.lock().unwrap();
        match outcome {
            Ok(Died::Yes) => outcomes.died.push(case),
            Ok(Died::No) => return,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
                outcomes.failed.push((case, text.unwrap_or_default()));
            }
        }
        if case.is_at_start() {
            return;
        }
    }
}

#[test]
fn whatever_step_a_kill_follows_what_was_acknowledged_is_there_and_nothing_is_half() {
    let only = std::env::var("MEDIAFS_TEST_CRASH_POINT").ok();
    let points = Point::ALL.iter().copied();
    let points: Vec<Point> = points
        .filter(|point| only.as_ref().is_none_or(|only| point.name() == only))
        .collect();
    let both = |point: &Point| [(*point, "disk"), (*point, "s3")];
    let queue: VecDeque<_> = points.iter().flat_map(both).collect();
    let queue = Mutex::new(queue);
    let outcomes = Mutex::new(Outcomes::default());
    std::thread::scope(|scope| {
        for _ in 0..CASES_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop_front();
                    let Some((point, durability)) = next else {
                        return;
                    };
                    run_point(point, durability, &outcomes);
                }
            });
        }
    });
    // Whether the workload overtakes an upload is a matter of time.
    for point in missed(&points, &outcomes) {
        wait_until(SETTLED_WITHIN, point.name(), || {
            run_point(point, "disk", &outcomes);
            !missed(&[point], &outcomes).contains(&point)
        });
    }
    let outcomes = outcomes.into_inner().unwrap();
    println!(
        "crash matrix: the daemon died in {} cases",
        outcomes.died.len()
    );
    for (case, why) in &outcomes.failed {
        println!("FAILED {case:?}: {why}");
    }
    assert!(
        outcomes.failed.is_empty(),
        "{} cases",
        outcomes.failed.len()
    );
}

/// Points that no daemon has come to.
fn missed(points: &[Point], outcomes: &Mutex<Outcomes>) -> Vec<Point> {
    let outcomes = outcomes.lock().unwrap();
    let died = outcomes.died.iter().map(|case| case.point);
    let failed = outcomes.failed.iter().map(|(case, _)| case.point);
    let hit: Vec<_> = died.chain(failed).collect();
    points
        .iter()
        .copied()
        .filter(|point| !hit.contains(point))
        .collect()
}
