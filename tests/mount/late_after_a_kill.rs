//! Requests of a daemon that is gone, which the server carries out later: what they
//! make and nobody wants.

use std::fs;
use std::io::Write;
use std::ops::Deref;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::data::MIB;
use crate::support::late::{LANDS_WITHIN, in_rounds, lands_in_time};
use crate::support::programs::happens_within;
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount, MountBuilder, SupervisedMount, wait_until};

mod opposites;

const WITHIN: Duration = Duration::from_secs(60);

/// How a daemon ends, and who comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Takeover,
    KillAndMount,
    UmountAndMount,
}

#[derive(Debug)]
enum Running {
    Supervised(SupervisedMount),
    Foreground(Mount),
}

impl Deref for Running {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        match self {
            Self::Supervised(mount) => mount,
            Self::Foreground(mount) => mount,
        }
    }
}

impl Running {
    fn start(plan: MountBuilder, end: End) -> Self {
        match end {
            End::Takeover => Self::Supervised(SupervisedMount::start(plan)),
            End::KillAndMount | End::UmountAndMount => Self::Foreground(plan.start()),
        }
    }

    /// Ends the daemon; another one serves when this returns. Tells when it began at the
    /// earliest.
    fn succeed(&mut self, end: End) -> Instant {
        let mut ended = Instant::now();
        match self {
            Self::Supervised(mount) => mount.kill_daemon(),
            Self::Foreground(mount) => {
                match end {
                    End::UmountAndMount => mount.unmount(),
                    End::Takeover | End::KillAndMount => mount.kill9(),
                }
                ended = Instant::now();
                mount.remount();
            }
        }
        ended
    }
}

fn plan(durability: &str, attributes: &str) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan
        .durability(durability)
        .args(["--attributes", attributes])
        .args(["--part-size", "5MiB"]);
    (plan, proxy)
}

fn held(proxy: &Proxy, op: &'static str, key: &str, fault: Fault) -> Gate {
    proxy.hold(Side::BeforeServer, Rule::on(op, fault).key(key))
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// Keys below a directory of the bucket, or all, but for markers.
fn files(mount: &Mount, dir: &str) -> Vec<String> {
    let mut keys = mount.keys();
    keys.retain(|key| key.starts_with(dir) && !key.ends_with('/'));
    keys.sort();
    keys
}

#[track_caller]
fn wait_for_files(what: &str, mount: &Mount, dir: &str, want: &[String], seen: impl Fn()) {
    let deadline = Instant::now() + WITHIN;
    while files(mount, dir) != want && Instant::now() < deadline {
        seen();
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(files(mount, dir), want, "{what}");
}

/// A file whose upload is under way, and what is done with it.
#[derive(Debug)]
struct Cancelled {
    dir: &'static str,
    old: Option<&'static str>,
    write: fn(&Path),
    /// The name that it gets; none is left where absent.
    moved_to: Option<&'static str>,
}

static CANCELLED: [Cancelled; 5] = [
    Cancelled {
        dir: "rm",
        old: None,
        write: |path| fs::write(path, "new").unwrap(),
        moved_to: None,
    },
    Cancelled {
        dir: "mv",
        old: None,
        write: |path| fs::write(path, "new").unwrap(),
        moved_to: Some("g"),
    },
    Cancelled {
        dir: "over",
        old: Some("old"),
        write: |path| fs::write(path, "new").unwrap(),
        moved_to: None,
    },
    Cancelled {
        dir: "edited",
        old: Some("old"),
        write: |path| append(path, b"new"),
        moved_to: None,
    },
    Cancelled {
        dir: "long",
        old: None,
        write: |path| fs::write(path, vec![7; 6 * MIB]).unwrap(),
        moved_to: None,
    },
];

impl Cancelled {
    fn key(&self) -> String {
        format!("{}/f", self.dir)
    }

    fn prepare(&self, mount: &Mount) {
        fs::create_dir(mount.path(self.dir)).unwrap();
        fs::write(mount.path(self.dir).join("other"), "other").unwrap();
        mount.wait_until_uploaded(&format!("{}/other", self.dir), b"other");
        if let Some(old) = self.old {
            fs::write(mount.path(self.key()), old).unwrap();
            mount.wait_until_uploaded(&self.key(), old.as_bytes());
        }
    }

    fn upload_and_cancel(&self, mount: &Mount, proxy: &Proxy) -> Gate {
        let op = match self.dir {
            "long" => "CompleteMultipartUpload",
            _ => "PutObject",
        };
        let gate = held(proxy, op, &self.key(), Fault::Pass);
        let (write, path) = (self.write, mount.path(self.key()));
        let writer = thread::spawn(move || write(&path));
        gate.wait_for(1);
        let path = mount.path(self.key());
        match self.moved_to {
            Some(name) => fs::rename(&path, path.with_file_name(name)).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        writer.join().unwrap();
        gate
    }

    fn names(&self) -> Vec<String> {
        let moved = self.moved_to.into_iter();
        moved.chain(["other"]).map(str::to_owned).collect()
    }

    fn seen(&self, mount: &Mount) -> Vec<String> {
        let names = fs::read_dir(mount.path(self.dir)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

fn cancelled_uploads_stay_away(durability: &str, attributes: &str, end: End) {
    in_rounds("cancelled uploads", || {
        cancelled_uploads_land_late(durability, attributes, end)
    });
}

/// Whether they landed early enough to be looked for.
fn cancelled_uploads_land_late(durability: &str, attributes: &str, end: End) -> bool {
    let (plan, proxy) = plan(durability, attributes);
    let mut mount = Running::start(plan, end);
    CANCELLED.iter().for_each(|case| case.prepare(&mount));
    // What is cancelled first is watched for from now on, and again by the successor.
    let began = Instant::now();
    let gates: Vec<Gate> = thread::scope(|scope| {
        let upload = |case: &'static Cancelled| {
            let (mount, proxy) = (&*mount, &proxy);
            scope.spawn(move || case.upload_and_cancel(mount, proxy))
        };
        let uploads: Vec<_> = CANCELLED.iter().map(upload).collect();
        uploads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let looks = |proxy: &Proxy| {
        let ops = ["HeadObject", "DeleteObject", "DeleteObjects"];
        ops.iter().map(|op| proxy.seen(op)).sum::<usize>()
    };
    let succeeded = mount.succeed(end);
    let was_watched = succeeded - began < LANDS_WITHIN;
    let before = looks(&proxy);
    // It has looked for each, and found nothing.
    let has_looked = || looks(&proxy) >= before + CANCELLED.len();
    let has_looked = happens_within(LANDS_WITHIN, has_looked);
    if !has_looked || !lands_in_time(&gates, succeeded) || !was_watched {
        return false;
    }
    let mut want: Vec<String> = Vec::new();
    for case in &CANCELLED {
        want.extend(
            case.names()
                .iter()
                .map(|name| format!("{}/{name}", case.dir)),
        );
    }
    want.sort();
    proxy.wait_until_idle();
    let what = format!("{durability} {attributes} {end:?}");
    wait_for_files(&what, &mount, "", &want, || {
        for case in &CANCELLED {
            assert_eq!(case.seen(&mount), case.names(), "{} {what}", case.dir);
            assert!(!mount.path(case.key()).exists(), "{} {what}", case.dir);
        }
    });
    assert!(mount.lost_and_found().is_empty());
    true
}

#[test]
fn a_cancelled_upload_that_lands_after_a_takeover_does_not_come_back() {
    cancelled_uploads_stay_away("s3", "fixed", End::Takeover);
    cancelled_uploads_stay_away("disk", "stored", End::Takeover);
}

#[test]
fn a_cancelled_upload_that_lands_after_a_kill_and_a_mount_does_not_come_back() {
    cancelled_uploads_stay_away("s3", "stored", End::KillAndMount);
    cancelled_uploads_stay_away("disk", "fixed", End::KillAndMount);
}

#[test]
fn a_cancelled_upload_that_lands_after_a_stop_and_a_mount_does_not_come_back() {
    cancelled_uploads_stay_away("s3", "fixed", End::UmountAndMount);
    cancelled_uploads_stay_away("disk", "stored", End::UmountAndMount);
}

/// What is written under a name that is watched for is not taken for what comes late.
#[test]
fn the_same_bytes_written_again_after_a_takeover_stay() {
    for durability in DURABILITIES {
        let (plan, proxy) = plan(durability, "fixed");
        let mount = SupervisedMount::start(plan);
        let case = &CANCELLED[0];
        case.prepare(&mount);
        let gate = case.upload_and_cancel(&mount, &proxy);
        mount.kill_daemon();
        fs::write(mount.path(case.key()), "new").unwrap();
        mount.wait_until_uploaded(&case.key(), b"new");
        gate.open();
        proxy.wait_until_idle();
        mount.kill_daemon();
        fs::write(mount.path("rm/next"), "next").unwrap();
        mount.wait_until_uploaded("rm/next", b"next");
        assert_eq!(fs::read(mount.path(case.key())).unwrap(), b"new");
        assert_eq!(mount.object(&case.key()).unwrap(), b"new", "{durability}");
    }
}

fn file_with_holes(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(path)?;
    file.set_len(200 * MIB as u64)?;
    file.write_all_at(&[1; 1000], 77 * MIB as u64)
}

fn zeros_are_gone(mount: &Mount, want: &[&str]) {
    mount.wait_for_keys("no scratch object", |keys| keys == want);
}

#[test]
fn a_scratch_object_that_lands_after_a_kill_is_deleted() {
    for (durability, end) in [("s3", End::Takeover), ("disk", End::KillAndMount)] {
        let (plan, proxy) = plan(durability, "fixed");
        let mut mount = Running::start(plan, end);
        let gate = held(&proxy, "PutObject", ".mediafs-zeros-*", Fault::Pass);
        let path = mount.path("f");
        let writer = thread::spawn(move || file_with_holes(&path));
        gate.wait_for(1);
        mount.succeed(end);
        // After a kill without a successor the close fails.
        drop(writer.join());
        mount.wait_for_keys("the file", |keys| keys.contains(&"f".to_owned()));
        gate.open();
        proxy.wait_until_idle();
        zeros_are_gone(&mount, &["f"]);
        let seen = fs::read_dir(mount.path("")).unwrap().count();
        assert_eq!(seen, 1, "{durability}");
    }
}

#[test]
fn a_scratch_object_that_lands_after_its_upload_was_cancelled_is_deleted() {
    for durability in DURABILITIES {
        let (plan, proxy) = plan(durability, "fixed");
        let mount = plan.start();
        fs::write(mount.path("other"), "other").unwrap();
        mount.wait_until_uploaded("other", b"other");
        let gate = held(&proxy, "PutObject", ".mediafs-zeros-*", Fault::Pass);
        let path = mount.path("f");
        let writer = thread::spawn(move || file_with_holes(&path));
        gate.wait_for(1);
        let before = proxy.seen("HeadObject");
        fs::remove_file(mount.path("f")).unwrap();
        writer.join().unwrap().unwrap();
        wait_until(WITHIN, "a look for it", || {
            proxy.seen("HeadObject") > before
        });
        gate.open();
        proxy.wait_until_idle();
        zeros_are_gone(&mount, &["other"]);
    }
}

#[test]
fn scratch_objects_of_the_probe_that_land_late_are_deleted() {
    for is_killed in [false, true] {
        let (plan, proxy) = plan("s3", "fixed");
        let late = Rule::on("PutObject", Fault::Pass).key(".mediafs-probe-*");
        let gate = proxy.hold(Side::BeforeServer, late.of_store());
        let mut mount = plan.args(["--request-timeout", "3s"]).start();
        // Each of the four was given up.
        gate.wait_for(4);
        if is_killed {
            mount.kill9();
            proxy.heal();
            mount.remount();
        }
        gate.open();
        proxy.wait_until_idle();
        zeros_are_gone(&mount, &[]);
        assert_eq!(fs::read_dir(mount.path("")).unwrap().count(), 0);
    }
}
