//! Requests that the server carries out after their client has given them up.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::data::MIB;
use crate::support::late::{in_rounds, lands_in_time};
use crate::support::programs::happens_within;
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{Mount, MountBuilder, SupervisedMount, WAITS_FOR_LATE, pattern, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// How a mount is run.
#[derive(Debug, Clone, Copy)]
struct Mode {
    durability: &'static str,
    attributes: &'static str,
}

const MODES: [Mode; 4] = [
    mode("s3", "fixed"),
    mode("s3", "stored"),
    mode("disk", "fixed"),
    mode("disk", "stored"),
];

const fn mode(durability: &'static str, attributes: &'static str) -> Mode {
    Mode {
        durability,
        attributes,
    }
}

fn plan(mode: Mode) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan
        .args(["--durability", mode.durability])
        .args(["--attributes", mode.attributes])
        .args(["--part-size", "5MiB"]);
    (plan, proxy)
}

/// A change whose first request for `key` comes late, and the next change, which must stand.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// A directory of its own.
    name: &'static str,
    op: &'static str,
    key: &'static str,
    prepare: fn(&Path),
    first: fn(&Path),
    second: fn(&Path),
}

const TWO: &[u8] = b"the second version";

fn put(path: PathBuf, body: &[u8]) {
    fs::write(path, body).unwrap();
}

fn nothing(_: &Path) {}

fn f_is_there(dir: &Path) {
    put(dir.join("f"), b"zero");
}

fn write_f(dir: &Path) {
    put(dir.join("f"), b"one");
}

fn write_f_again(dir: &Path) {
    put(dir.join("f"), TWO);
}

/// Each leaves `TWO` under `key`.
const CASES: [Case; 8] = [
    Case {
        name: "new",
        op: "PutObject",
        key: "f",
        prepare: nothing,
        first: write_f,
        second: write_f_again,
    },
    Case {
        name: "over",
        op: "PutObject",
        key: "f",
        prepare: f_is_there,
        first: write_f,
        second: write_f_again,
    },
    Case {
        name: "edited",
        op: "PutObject",
        key: "f",
        prepare: f_is_there,
        first: |dir| append(&dir.join("f"), b"one"),
        second: write_f_again,
    },
    Case {
        name: "long",
        op: "CompleteMultipartUpload",
        key: "f",
        prepare: nothing,
        first: |dir| put(dir.join("f"), &pattern(6 * MIB, 1)),
        second: write_f_again,
    },
    Case {
        name: "published",
        op: "CopyObject",
        key: "f",
        prepare: |dir| {
            f_is_there(dir);
            put(dir.join("t1"), b"one");
            put(dir.join("t2"), TWO);
        },
        first: |dir| fs::rename(dir.join("t1"), dir.join("f")).unwrap(),
        second: |dir| fs::rename(dir.join("t2"), dir.join("f")).unwrap(),
    },
    Case {
        name: "removed",
        op: "DELETE",
        key: "f",
        prepare: f_is_there,
        first: |dir| fs::remove_file(dir.join("f")).unwrap(),
        second: write_f_again,
    },
    Case {
        name: "moved",
        op: "DELETE",
        key: "f",
        prepare: f_is_there,
        first: |dir| fs::rename(dir.join("f"), dir.join("g")).unwrap(),
        second: write_f_again,
    },
    MOVED_DIRECTORY,
];

const MOVED_DIRECTORY: Case = Case {
    name: "moved-directory",
    op: "DeleteObjects",
    key: "d/f",
    prepare: |dir| {
        fs::create_dir(dir.join("d")).unwrap();
        f_is_there(&dir.join("d"));
    },
    first: |dir| fs::rename(dir.join("d"), dir.join("e")).unwrap(),
    second: |dir| {
        fs::create_dir(dir.join("d")).unwrap();
        write_f_again(&dir.join("d"));
    },
};

fn append(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

impl Case {
    fn rule(&self, mode: Mode, fault: Fault) -> Rule {
        let op = match (self.op, mode.durability) {
            // While one in bulk is held, others go one by one.
            ("DELETE", "disk") => "Delete*",
            ("DELETE", _) => "DeleteObject",
            (op, _) => op,
        };
        Rule::on(op, fault).key(&self.path())
    }

    /// In the mount, and in the bucket.
    fn path(&self) -> String {
        format!("{}/{}", self.name, self.key)
    }

    fn make(&self, mount: &Mount) {
        fs::create_dir(mount.path(self.name)).unwrap();
        (self.prepare)(&mount.path(self.name));
    }

    fn first(&self, mount: &Mount) -> impl FnOnce() + Send + 'static + use<> {
        let (first, dir) = (self.first, mount.path(self.name));
        move || first(&dir)
    }

    fn second(&self, mount: &Mount) {
        (self.second)(&mount.path(self.name));
    }

    fn wait_until_there(&self, mount: &Mount) {
        wait_until(WITHIN, self.name, || {
            mount.object(&self.path()).as_deref() == Some(TWO)
        });
    }

    fn stands(&self, mount: &Mount, mode: Mode) {
        let found = mount.object(&self.path());
        assert_eq!(found.as_deref(), Some(TWO), "{} {mode:?}", self.name);
        let seen = fs::read(mount.path(self.path())).unwrap();
        assert_eq!(seen, TWO, "{} {mode:?}", self.name);
    }
}

/// All that was written before is in S3.
fn settle(mount: &Mount, cases: &[Case]) {
    for case in cases {
        let dir = mount.path(case.name);
        let names = fs::read_dir(dir).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        let wanted = |keys: &[String], name: &std::ffi::OsString| {
            let path = format!("{}/{}", case.name, name.to_str().unwrap());
            keys.iter().any(|key| key.starts_with(&path))
        };
        mount.wait_for_keys("what was prepared", |keys| {
            names.iter().all(|name| wanted(keys, name))
        });
    }
}

/// The modes at once: each waits for what may come late.
fn in_each(modes: &[Mode], test: impl Fn(Mode) + Sync) {
    thread::scope(|scope| {
        for mode in modes {
            scope.spawn(|| test(*mode));
        }
    });
}

#[test]
fn a_request_that_lands_late_does_not_undo_the_next_change() {
    in_each(&MODES, |mode| {
        let (plan, proxy) = plan(mode);
        let mount = plan.start();
        CASES.iter().for_each(|case| case.make(&mount));
        settle(&mount, &CASES);
        for case in CASES {
            let gate = proxy.hold(Side::BeforeServer, case.rule(mode, Fault::HangUp));
            case.first(&mount)();
            gate.wait_for(1);
            case.second(&mount);
            case.wait_until_there(&mount);
            gate.open();
            proxy.wait_until_idle();
            case.stands(&mount, mode);
        }
        assert!(mount.lost_and_found().is_empty(), "{mode:?}");
    });
}

/// Holds each case's first request, kills the daemon, and lets them land after the second change.
fn over_a_kill(mode: Mode, cases: &[Case], mount: &Mount, proxy: &Proxy, kill: impl FnOnce()) {
    cases.iter().for_each(|case| case.make(mount));
    settle(mount, cases);
    let gates: Vec<Gate> = cases
        .iter()
        .map(|case| proxy.hold(Side::BeforeServer, case.rule(mode, Fault::Pass)))
        .collect();
    let firsts: Vec<_> = cases
        .iter()
        .map(|case| thread::spawn(case.first(mount)))
        .collect();
    gates.iter().for_each(|gate| gate.wait_for(1));
    kill();
    // After a kill without a successor these calls fail.
    firsts.into_iter().for_each(|first| drop(first.join()));
}

fn stand_after_landing(mode: Mode, cases: &[Case], mount: &Mount, proxy: &Proxy) {
    for case in cases {
        case.second(mount);
        case.wait_until_there(mount);
    }
    proxy.open_gates();
    proxy.wait_until_idle();
    cases.iter().for_each(|case| case.stands(mount, mode));
}

#[test]
fn what_a_killed_daemon_sent_does_not_undo_what_its_successor_does() {
    in_each(&MODES, |mode| {
        for cases in [&CASES[..7], &[MOVED_DIRECTORY]] {
            let (plan, proxy) = plan(mode);
            let mount = SupervisedMount::start(plan);
            over_a_kill(mode, cases, &mount, &proxy, || mount.kill_daemon());
            stand_after_landing(mode, cases, &mount, &proxy);
        }
    });
}

#[test]
fn what_a_killed_daemon_sent_does_not_undo_what_the_next_mount_does() {
    in_each(&[MODES[1], MODES[2]], |mode| {
        for cases in [&CASES[..7], &[MOVED_DIRECTORY]] {
            let (plan, proxy) = plan(mode);
            let mut mount = plan.start();
            let pid = mount.pid();
            over_a_kill(mode, cases, &mount, &proxy, || {
                let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            });
            mount.kill9();
            mount.remount();
            stand_after_landing(mode, cases, &mount, &proxy);
        }
    });
}

/// Versions are named by their bytes: a name that comes back, or the same bytes,
/// would let a late change pass its condition.
#[test]
fn a_change_that_brings_a_version_back_waits_for_late_requests_of_that_version() {
    in_rounds("a version that comes back", a_version_comes_back);
}

/// Whether the late requests landed early enough to be waited for.
fn a_version_comes_back() -> bool {
    let (plan, proxy) = plan(mode("s3", "stored"));
    let mount = plan.start();
    let path = |name: &str| mount.path(name);
    put(path("lock"), b"");
    put(path("mode"), b"bytes");
    let late = |op, key| proxy.hold(Side::BeforeServer, Rule::on(op, Fault::HangUp).key(key));
    let gates = [
        late("DeleteObject", "lock"),
        late("PutObject", "gone"),
        late("CopyObject", "mode"),
    ];
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| fs::remove_file(path("lock")).unwrap());
        scope.spawn(|| put(path("gone"), b"bytes"));
        scope.spawn(|| chmod(&path("mode"), 0o600));
    });
    gates.iter().for_each(|gate| gate.wait_for(1));
    let in_time = thread::scope(|scope| {
        scope.spawn(|| put(path("lock"), b""));
        scope.spawn(|| fs::remove_file(path("gone")).unwrap());
        scope.spawn(|| chmod(&path("mode"), 0o644));
        // Each of the three.
        happens_within(Duration::from_secs(1), || {
            mount.log().matches(WAITS_FOR_LATE).count() == 3
        });
        lands_in_time(&gates, began)
    });
    if !in_time {
        return false;
    }
    proxy.wait_until_idle();
    assert_eq!(mount.object("lock").unwrap(), b"");
    assert_eq!(mount.object("gone"), None);
    let head = mount.client().head(mount.bucket(), "mode").unwrap();
    assert_eq!(head.metadata["mode"], 0o100_644.to_string());
    true
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
