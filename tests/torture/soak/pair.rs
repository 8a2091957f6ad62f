//! Two mounts of one bucket whose programs change the same names, while requests
//! are delayed and one of the daemons is killed and followed by another.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::program::{NAMES, Program, read};
use super::register::{Histories, Register, Version, note};
use crate::support::control::done;
use crate::support::proxy::{Fault, Proxy, Rule};
use crate::support::{Mount, Server, SupervisedMount, wait_until};

const PROGRAMS: u64 = 2;
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Longer than this no attempt of a request is waited for: what is held longer is
/// sent twice.
const DELAY_LIMIT_MS: u64 = 2500;

/// Rounds on one bucket. Returns how many calls there were.
pub fn pair(durability: &'static str, seed: u64, rounds: u64) -> u64 {
    println!("soak of two mounts: durability={durability} seed={seed} rounds={rounds}");
    let mut pair = Pair::new(durability, seed);
    for _ in 0..rounds {
        pair.round();
    }
    pair.finish()
}

#[derive(Debug)]
struct Pair {
    mounts: [SupervisedMount; 2],
    proxies: [Proxy; 2],
    durability: &'static str,
    random: Rng,
    calls: u64,
    /// What each name has at the beginning of a round.
    held: BTreeMap<String, Option<Version>>,
    /// The permissions of versions that were published by rename.
    published: Vec<Version>,
}

impl Pair {
    fn new(durability: &'static str, seed: u64) -> Self {
        let server = Server::shared();
        let proxies = [Proxy::before(server), Proxy::before(server)];
        let plan = |proxy: &Proxy| {
            Mount::on(server)
                .set("--endpoint-url", &proxy.endpoint)
                .set("--ttl", "0s")
                .args(["--negative-ttl", "0s", "--attributes", "stored"])
                .args(["--request-timeout", "20s", "--durability", durability])
        };
        let first = SupervisedMount::start(plan(&proxies[0]));
        let second = SupervisedMount::start(plan(&proxies[1]).bucket(first.bucket()));
        for dir in ["shared", "p0", "p1"] {
            fs::create_dir(first.path(dir)).unwrap();
        }
        let names = (0..NAMES).map(|number| (format!("r{number}"), None));
        Self {
            mounts: [first, second],
            proxies,
            durability,
            random: Rng::with_seed(seed),
            calls: 0,
            held: names.collect(),
            published: Vec::new(),
        }
    }

    fn round(&mut self) {
        for number in 0..2 {
            self.plan_faults(number);
        }
        let began = Instant::now();
        let lasts = Duration::from_millis(self.random.u64(500..2500));
        let killed = self.random.u8(..3);
        let over = AtomicBool::new(false);
        let seeds: Vec<_> = (0..2 * PROGRAMS).map(|_| self.random.u64(..)).collect();
        let mut programs: Vec<Program> = Vec::new();
        std::thread::scope(|scope| {
            let over = &over;
            let threads: Vec<_> = seeds
                .into_iter()
                .enumerate()
                .map(|(number, seed)| {
                    let root = self.mounts[number % 2].root.clone();
                    scope.spawn(move || {
                        let mut program = Program::new(number, &root, seed);
                        program.run(over);
                        program
                    })
                })
                .collect();
            std::thread::sleep(lasts / 2);
            if let Some(mount) = self.mounts.get(usize::from(killed)) {
                mount.kill_daemon();
            }
            std::thread::sleep(lasts / 2);
            over.store(true, Ordering::SeqCst);
            programs.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        });
        self.compare(began, programs);
    }

    /// Late requests, and others that the daemon gets over by itself.
    fn plan_faults(&mut self, number: usize) {
        const OPS: [&str; 6] = [
            "PutObject",
            "CopyObject",
            "DeleteObject",
            "DeleteObjects",
            "CompleteMultipartUpload",
            "ListObjectsV2",
        ];
        let proxy = &self.proxies[number];
        proxy.heal();
        for _ in 0..self.random.u8(2..10) {
            let delay = Duration::from_millis(self.random.u64(50..DELAY_LIMIT_MS));
            let fault = match self.random.u8(..6) {
                0 | 1 => Fault::ApplyLate(delay),
                2 | 3 => Fault::AnswerLate(delay),
                4 => Fault::LoseAnswer,
                _ => Fault::Answer(503, "SlowDown"),
            };
            let op = OPS[self.random.usize(..OPS.len())];
            proxy.rule(Rule::on(op, fault).after(self.random.usize(..12)));
        }
    }

    /// Compares what was seen meanwhile, and what both mounts and another client see now.
    fn compare(&mut self, began: Instant, programs: Vec<Program>) {
        let mut all: Histories = self
            .held
            .iter()
            .map(|(name, held)| (name.clone(), Register::holding(*held, began)))
            .collect();
        for program in programs {
            self.calls += program.calls;
            self.published.extend(program.published);
            note(&mut all, program.histories);
        }
        for proxy in &self.proxies {
            proxy.heal();
            proxy.wait_until_idle();
        }
        if self.durability == "disk" {
            return self.compare_once_uploaded(all);
        }
        for (name, register) in all {
            register.check_mixed(&name);
            register.check_reads(&name);
            let path = format!("shared/{name}");
            let object = || {
                let bytes = self.mounts[0].object(&path);
                bytes.map(|bytes| Version::of(&bytes).expect(&path))
            };
            let mut seen = object();
            // Removals in a row are on their way for a while.
            let asked = Instant::now();
            while !register.may_end(seen) && asked.elapsed() < SETTLED_WITHIN {
                std::thread::sleep(Duration::from_millis(50));
                seen = object();
            }
            register.check_end(&name, seen);
            for mount in &self.mounts {
                self.check_shown(mount, &path, seen);
            }
            self.held.insert(name, seen);
        }
        self.published
            .retain(|version| self.held.values().any(|held| *held == Some(*version)));
    }

    /// The same where close does not wait for S3: what was read, and what is there once all
    /// is uploaded, is what some call left, and both mounts show the same.
    fn compare_once_uploaded(&mut self, all: Histories) {
        for mount in &self.mounts {
            done(mount, &["flush", &mount.root.display().to_string()]);
        }
        for (name, register) in all {
            register.check_mixed(&name);
            for read in &register.reads {
                let was_so = register.was_left_so(read.what, read.ended);
                assert!(was_so, "{name} showed {:?}", read.what);
            }
            let path = format!("shared/{name}");
            let bytes = self.mounts[0].object(&path);
            let seen = bytes.map(|bytes| Version::of(&bytes).expect(&path));
            let was_so = register.was_left_so(seen, Instant::now());
            assert!(was_so, "{name} is {seen:?} in the end");
            for mount in &self.mounts {
                self.check_shown(mount, &path, seen);
            }
            self.held.insert(name, seen);
        }
        self.published
            .retain(|version| self.held.values().any(|held| *held == Some(*version)));
    }

    /// Both mounts show what the bucket has, with the attributes that it was given.
    #[track_caller]
    fn check_shown(&self, mount: &Mount, path: &str, wanted: Option<Version>) {
        let path = mount.path(path);
        wait_until(SETTLED_WITHIN, &path.display().to_string(), || {
            read(&path).is_ok_and(|seen| seen == wanted)
        });
        let Some(version) = wanted.filter(|version| self.published.contains(version)) else {
            return;
        };
        let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
        assert_eq!(mode, version.mode(), "{}: {version:?}", path.display());
    }

    fn finish(self) -> u64 {
        for mount in &self.mounts {
            mount.unmount();
            let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
            assert_eq!(stages.count(), 0, "stages after a drain");
        }
        let keys = self.mounts[0].keys();
        let shared = keys.iter().filter_map(|key| key.strip_prefix("shared/"));
        let shared: Vec<_> = shared.filter(|name| !name.is_empty()).collect();
        let held = self.held.iter().filter(|(_, held)| held.is_some());
        let held: Vec<_> = held.map(|(name, _)| name.as_str()).collect();
        assert_eq!(shared, held);
        self.calls
    }
}
