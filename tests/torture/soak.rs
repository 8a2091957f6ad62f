//! Writers, readers, renames, removals, changes of attributes, faults of the store
//! and kills of the daemon, for a while; after each kill and at the end every byte
//! is compared. So on one mount, and on two that change the same names.
//!
//! A plain run does a few rounds from fixed seeds. `MEDIAFS_TEST_SOAK_MINUTES=N` or
//! `MEDIAFS_TEST_SOAK_ROUNDS=N`, as `scripts/soak` sets them, goes on for so long or
//! so many kills from random seeds, which it prints; `MEDIAFS_TEST_SOAK_SEED=S`
//! begins with that one.

mod pair;
mod program;
mod register;
mod worker;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::mount::Mount;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Server, wait_until};
use fastrand::Rng;
use worker::{Attributes, Worker};

const WORKERS: u64 = 4;
const ROUNDS: u64 = 3;
const PAIR_ROUNDS: u64 = 2;
/// One mount serves so many rounds before its bucket is compared and another begins.
const ROUNDS_A_MOUNT: u64 = 10;
/// The cache, the parts that are uploaded at once, and a debug binary.
const RSS_LIMIT_KIB: u64 = 700 << 10;
const DESCRIPTORS_LIMIT: usize = 200;
/// Some versions of the longest file for each worker.
const SPOOL_LIMIT_BYTES: u64 = 200 << 20;

/// Rounds from a seed, in one mode of durability.
#[derive(Debug)]
struct Soak {
    mount: Mount,
    proxy: Proxy,
    workers: Vec<Worker>,
    random: Rng,
    kills: u64,
}

impl Soak {
    fn new(durability: &'static str, seed: u64) -> Self {
        let server = Server::shared();
        let (attributes, name) = match seed % 4 {
            0 | 3 => (Attributes::Stored, "stored"),
            _ => (Attributes::Fixed, "fixed"),
        };
        let proxy = Proxy::before(server);
        let mount = Mount::on(server)
            .set("--endpoint-url", &proxy.endpoint)
            .set("--ttl", "1h")
            .args(["--negative-ttl", "1h", "--durability", durability])
            .args(["--spool-size", "200MiB", "--attributes", name])
            .start();
        let soak = Self {
            mount,
            proxy,
            workers: (0..WORKERS)
                .map(|number| Worker::new(number, seed, attributes))
                .collect(),
            random: Rng::with_seed(seed),
            kills: 0,
        };
        for worker in &soak.workers {
            worker.begin(&soak.mount.root);
        }
        soak
    }

    /// Lets all work, kills the daemon at any time, starts it again and compares.
    fn round(&mut self) {
        self.plan_faults();
        let lasts = Duration::from_millis(self.random.u64(50..1500));
        let killed = AtomicBool::new(false);
        let root = File::open(&self.mount.root).unwrap();
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .workers
                .iter_mut()
                .map(|worker| scope.spawn(|| worker.run(&root, || killed.load(Ordering::SeqCst))))
                .collect();
            std::thread::sleep(lasts);
            self.mount.check_bounds(RSS_LIMIT_KIB, DESCRIPTORS_LIMIT);
            let staged = staged_bytes(&self.mount);
            assert!(staged <= SPOOL_LIMIT_BYTES, "{staged} bytes in the spool");
            let failed = threads.iter().any(|thread| thread.is_finished());
            killed.store(true, Ordering::SeqCst);
            self.mount.kill9();
            let outcomes = threads.into_iter().map(|thread| thread.join().unwrap());
            let outcomes: Vec<_> = outcomes.collect();
            assert!(
                !failed,
                "a system call failed under a living daemon: {outcomes:?}"
            );
        });
        drop(root);
        self.kills += 1;
        self.proxy.heal();
        self.start_again();
        // What a start leaves to do, a second one finds.
        if self.random.bool() {
            self.mount.kill9();
            self.start_again();
        }
        for worker in &mut self.workers {
            worker.verify(&self.mount.root);
        }
    }

    /// A PUT that a predecessor had sent could be applied after its successor's: no
    /// client of S3 can take it back.
    fn start_again(&mut self) {
        self.proxy.wait_until_idle();
        self.mount.remount();
    }

    /// Faults that the daemon gets over by itself.
    fn plan_faults(&mut self) {
        const OPS: [&str; 8] = [
            "PutObject",
            "GetObject",
            "HeadObject",
            "CopyObject",
            "DeleteObjects",
            "ListObjectsV2",
            "UploadPart",
            "CompleteMultipartUpload",
        ];
        for _ in 0..self.random.u8(..6) {
            let op = OPS[self.random.usize(..OPS.len())];
            let delay = Duration::from_millis(self.random.u64(50..2000));
            let fault = match self.random.u8(..6) {
                4 => Fault::ApplyLate(delay),
                5 => Fault::AnswerLate(delay),
                0 => Fault::Reset,
                1 => Fault::LoseAnswer,
                2 => Fault::Answer(503, "SlowDown"),
                _ => Fault::Answer(500, "InternalError"),
            };
            let skip = self.random.usize(..10);
            self.proxy.fail_after(op, skip, fault, 1);
        }
    }

    /// The bucket has what was acknowledged and nothing else, the spool nothing
    /// but what was open at a kill, or was an edit of a file that another was being
    /// renamed over then.
    fn finish(mut self) -> u64 {
        self.mount.unmount();
        let stages = fs::read_dir(self.mount.scratch().join("spool/stage")).unwrap();
        assert_eq!(stages.count(), 0, "stages after a drain");
        let kept = self.mount.sidecars();
        assert!(kept.len() as u64 <= self.kills * WORKERS, "{kept:?}");
        let replaced: Vec<_> = self.workers.iter().flat_map(Worker::replaced).collect();
        for sidecar in &kept {
            let is_replaced = replaced.iter().any(|key| sidecar.contains(&**key));
            assert!(
                is_replaced || sidecar.contains("ended before the file was closed"),
                "{sidecar}"
            );
        }
        let wanted = self.workers.iter().flat_map(Worker::objects);
        let mut wanted: Vec<_> = wanted.map(|(key, body)| (key, body.len() as u64)).collect();
        wanted.sort();
        let listed = self.mount.client().list(self.mount.bucket(), "");
        let files: Vec<_> = listed
            .into_iter()
            .filter(|(key, _)| !key.ends_with('/'))
            .collect();
        assert_eq!(files, wanted);
        for (key, body) in self.workers.iter().flat_map(Worker::objects) {
            assert!(self.mount.object(&key).as_ref() == Some(body), "{key}");
        }
        self.workers.iter().map(|worker| worker.operations).sum()
    }
}

fn soak(durability: &'static str, seed: u64, rounds: u64) -> u64 {
    println!("soak durability={durability} seed={seed} rounds={rounds}");
    let mut soak = Soak::new(durability, seed);
    for _ in 0..rounds {
        soak.round();
    }
    soak.finish()
}

/// What the spool's stages take of the disk.
fn staged_bytes(mount: &Mount) -> u64 {
    let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
    // One that is uploaded meanwhile takes nothing.
    let sizes = stages.filter_map(|entry| entry.unwrap().metadata().ok());
    sizes.map(|metadata| metadata.blocks() * 512).sum()
}

/// When the soak that was asked for is over.
#[derive(Debug, Clone, Copy)]
enum End {
    At(Instant),
    AfterRounds(u64),
}

impl End {
    /// None where no long soak was asked for.
    fn wanted() -> Option<Self> {
        let number = |name| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<u64>().expect("a number"))
        };
        let minutes = number("MEDIAFS_TEST_SOAK_MINUTES")
            .map(|minutes| Self::At(Instant::now() + Duration::from_secs(60 * minutes)));
        minutes.or_else(|| number("MEDIAFS_TEST_SOAK_ROUNDS").map(Self::AfterRounds))
    }

    fn is_reached(self, rounds: u64) -> bool {
        match self {
            Self::At(end) => Instant::now() >= end,
            Self::AfterRounds(limit) => rounds >= limit,
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_and_faults_where_close_waits_for_s3() {
    if End::wanted().is_none() {
        soak("s3", 3, ROUNDS);
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_and_faults_where_close_waits_for_the_disk() {
    if End::wanted().is_none() {
        soak("disk", 5, ROUNDS);
    }
}

#[test]
fn nothing_acknowledged_is_lost_where_two_mounts_change_the_same_names() {
    if End::wanted().is_none() {
        pair::pair("s3", 7, PAIR_ROUNDS);
    }
}

#[test]
fn nothing_is_lost_where_two_mounts_change_the_same_names_and_close_waits_for_the_disk() {
    if End::wanted().is_none() {
        pair::pair("disk", 8, PAIR_ROUNDS);
    }
}

#[test]
fn nothing_acknowledged_is_lost_for_as_long_as_it_is_told_to_go_on() {
    let Some(end) = End::wanted() else { return };
    let first = std::env::var("MEDIAFS_TEST_SOAK_SEED").ok();
    let mut seed = first.map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("a seed"));
    let (mut operations, mut rounds) = (0, 0);
    while !end.is_reached(rounds) {
        let durability = if seed.is_multiple_of(2) { "s3" } else { "disk" };
        operations += soak(durability, seed, ROUNDS_A_MOUNT);
        operations += pair::pair(durability, seed, ROUNDS_A_MOUNT);
        rounds += ROUNDS_A_MOUNT;
        seed = seed.wrapping_add(1);
    }
    println!("soak result: {rounds} kills, {operations} operations, 0 bytes lost");
    wait_until(Duration::ZERO, "some work", || operations > 0);
}
