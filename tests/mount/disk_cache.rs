//! `--cache DIR`: file contents on a local disk, found again and never another version's.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::control::{run, status};
use crate::support::data::{KIB, MIB, assert_same_bytes};
use crate::support::disk::{DiskKind, SmallDisk};
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{Mount, MountBuilder, SupervisedMount, pattern, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// Of several blocks, of one, and of none.
const FILES: [(&str, usize); 4] = [
    ("film", 3 * MIB + 777),
    ("photo", 300 * KIB),
    ("d/icon", 8 * KIB),
    ("empty", 0),
];

fn cached(plan: MountBuilder, dir: &Path) -> MountBuilder {
    plan.arg("--cache").arg(dir)
}

fn behind_a_proxy() -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let dir = plan.scratch().join("cache");
    (cached(plan, &dir), proxy)
}

fn body(name: &str, len: usize, version: u64) -> Vec<u8> {
    pattern(len, version * 1000 + name.len() as u64)
}

fn put(mount: &Mount, version: u64) {
    for (name, len) in FILES {
        mount.put_object(name, &body(name, len, version));
    }
}

#[track_caller]
fn check(mount: &Mount, version: u64) {
    for (name, len) in FILES {
        let read = fs::read(mount.path(name)).unwrap();
        assert_same_bytes(&read, &body(name, len, version), name);
    }
}

fn disk(mount: &Mount) -> Value {
    status(mount)["cache"]["disk"].clone()
}

/// The same where a daemon answers: a successor takes a moment.
fn disk_if_told(mount: &Mount) -> Option<Value> {
    let root = mount.root.to_str()?;
    let output = run(mount, &["status", root, "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(told["cache"]["disk"].clone())
}

/// Waits for the state of the disk tier.
#[track_caller]
fn wait_for_disk(mount: &Mount, what: &str, holds: impl Fn(&Value) -> bool) {
    wait_until(WITHIN, what, || {
        disk_if_told(mount).is_some_and(|disk| holds(&disk))
    });
}

#[track_caller]
fn wait_until_on(mount: &Mount) {
    wait_for_disk(mount, "a cache in use", |disk| disk["off"].is_null());
}

/// Every byte of the files is on the disk, which an end of the mount waits for a moment only.
#[track_caller]
fn wait_until_stored(mount: &Mount) {
    let bytes: usize = FILES.iter().map(|(_, len)| len).sum();
    wait_for_disk(mount, "all of it on the disk", |disk| {
        disk["used_bytes"].as_u64() >= Some(bytes as u64)
    });
}

fn block_files(dir: &Path) -> Vec<PathBuf> {
    let folders = |dir: &Path| {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let of_places = folders(dir).flat_map(|place| folders(&place).collect::<Vec<_>>());
    let below = of_places.filter(|path| path.is_dir());
    below
        .flat_map(|path| folders(&path).collect::<Vec<_>>())
        .collect()
}

#[test]
fn after_a_restart_files_are_read_without_requests_and_a_new_version_is_seen() {
    let (plan, proxy) = behind_a_proxy();
    let mut mount = plan.start();
    wait_until_on(&mount);
    put(&mount, 1);
    mount.wait_for("empty", "the files", Path::exists);
    check(&mount, 1);
    wait_until_stored(&mount);
    mount.remount();
    wait_until_on(&mount);
    let asked = proxy.seen("GetObject");
    check(&mount, 1);
    assert_eq!(proxy.seen("GetObject"), asked, "{}", disk(&mount));
    assert!(
        disk(&mount)["hits"].as_u64().unwrap() > 5,
        "{}",
        disk(&mount)
    );

    // Another client's version, of the same length.
    mount.unmount();
    put(&mount, 2);
    mount.remount();
    wait_until_on(&mount);
    check(&mount, 2);
    put(&mount, 3);
    mount.wait_for("empty", "the third version", |_| {
        FILES.iter().all(|(name, len)| {
            let read = fs::read(mount.path(name));
            read.is_ok_and(|read| read == body(name, *len, 3))
        })
    });

    // A bit of each file flips, in turn in the head and in the bytes.
    mount.unmount();
    let files = block_files(&mount.scratch().join("cache"));
    assert!(files.len() > 20, "{}", files.len());
    for (at, path) in files.iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        let bit = if at % 2 == 0 {
            30 + at
        } else {
            bytes.len() - 1 - at
        };
        bytes[bit] ^= 1 << (at % 8);
        fs::write(path, bytes).unwrap();
    }
    mount.remount();
    wait_until_on(&mount);
    check(&mount, 3);
    let seen = disk(&mount);
    assert!(seen["damaged"].as_u64() >= Some(3), "{seen}");
    assert_eq!(seen["hits"], 0, "{seen}");
}

#[test]
fn a_file_that_is_replaced_while_it_is_fetched_leaves_no_block_of_a_wrong_version() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy();
        let mut mount = plan.durability(durability).start();
        wait_until_on(&mount);
        put(&mount, 1);
        mount.wait_for("empty", "the files", Path::exists);
        let hold =
            |side| -> Gate { proxy.hold(side, Rule::on("GetObject", Fault::Pass).key("photo")) };
        // By this mount, while the answer of the first version is on its way.
        let gate = hold(Side::AfterServer);
        let len = 300 * KIB;
        thread::scope(|scope| {
            let reader = scope.spawn(|| fs::read(mount.path("photo")));
            gate.wait_for(1);
            fs::write(mount.path("photo"), body("photo", len, 2)).unwrap();
            gate.open();
            drop(reader.join().unwrap());
        });
        let read = fs::read(mount.path("photo")).unwrap();
        assert_same_bytes(&read, &body("photo", len, 2), durability);
        mount.wait_until_uploaded("photo", &body("photo", len, 2));
        // By another client, before the server sees the request; and an answer cut off.
        let gate = hold(Side::BeforeServer);
        mount.remount();
        wait_until_on(&mount);
        thread::scope(|scope| {
            let reader = scope.spawn(|| fs::read(mount.path("photo")));
            gate.wait_for(1);
            mount.put_object("photo", &body("photo", len, 3));
            gate.open();
            if let Ok(read) = reader.join().unwrap() {
                assert_same_bytes(&read, &body("photo", len, 3), durability);
            }
        });
        proxy.rule(Rule::on("GetObject", Fault::CutAnswer).key("photo"));
        mount.wait_for("photo", "the third version", |path| {
            fs::read(path).is_ok_and(|read| read == body("photo", len, 3))
        });
        mount.remount();
        wait_until_on(&mount);
        let read = fs::read(mount.path("photo")).unwrap();
        assert_same_bytes(&read, &body("photo", len, 3), durability);
    }
}

#[test]
fn a_disk_that_is_full_read_only_or_gone_is_told_once_and_read_past() {
    let plan = Mount::builder();
    let small = SmallDisk::new(plan.scratch(), DiskKind::Tmpfs, 16 << 20);
    let mount = cached(plan, &small.path("cache")).start();
    wait_until_on(&mount);
    put(&mount, 1);
    mount.wait_for("empty", "the files", Path::exists);
    small.fill();
    check(&mount, 1);
    wait_for_disk(&mount, "a full disk", |disk| !disk["full"].is_null());
    // Each comes with a change of the state, and not before it shows.
    let warnings = || mount.log().matches("disk cache").count();
    let told = |count: usize| wait_until(WITHIN, "word of it", || warnings() >= count);
    told(1);
    assert_eq!(warnings(), 1, "{}", mount.log());
    small.free();
    put(&mount, 2);
    mount.wait_for("film", "the second version", |path| {
        fs::read(path).is_ok_and(|read| read == body("film", FILES[0].1, 2))
    });
    wait_for_disk(&mount, "a disk with room", |disk| {
        disk["full"].is_null() && disk["blocks"].as_u64() > Some(0)
    });
    told(2);
    let before = warnings();

    // Not even root may write to a tmpfs that is read-only.
    let remount = |how: &str| {
        let mut command = std::process::Command::new("mount");
        let options = format!("remount,{how}");
        command.args(["-o", &options]).arg(&small.folder);
        crate::support::programs::succeeds(&mut command);
    };
    remount("ro");
    put(&mount, 3);
    mount.wait_for("film", "the third version", |path| {
        fs::read(path).is_ok_and(|read| read == body("film", FILES[0].1, 3))
    });
    wait_for_disk(&mount, "a cache that is off", |disk| !disk["off"].is_null());
    told(before + 1);
    assert_eq!(warnings(), before + 1, "{}", mount.log());
    remount("rw");
    fs::remove_dir_all(small.path("cache")).unwrap();
    put(&mount, 4);
    mount.wait_for("film", "the fourth version", |path| {
        fs::read(path).is_ok_and(|read| read == body("film", FILES[0].1, 4))
    });
    wait_until_on(&mount);
}

#[test]
fn kills_while_blocks_are_written_leave_right_bytes_and_a_successor_reads_them() {
    let (plan, proxy) = behind_a_proxy();
    let mount = SupervisedMount::start(plan);
    wait_until_on(&mount);
    let names: Vec<String> = (0..40).map(|at| format!("f{at}")).collect();
    let body = |at: usize| pattern(400 * KIB + at, at as u64);
    let objects = names.iter().enumerate();
    let objects = objects.map(|(at, name)| (name.clone(), body(at)));
    mount.client().put_many(mount.bucket(), objects);
    mount.wait_for("f39", "the files", Path::exists);
    for kill_after in [5, 20] {
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for (at, name) in names.iter().enumerate() {
                    let read = fs::read(mount.path(name)).unwrap();
                    assert_same_bytes(&read, &body(at), name);
                }
            });
            let begun = proxy.seen("GetObject");
            wait_until(WITHIN, "blocks that come", || {
                reader.is_finished() || proxy.seen("GetObject") >= begun + kill_after
            });
            mount.kill_daemon();
            reader.join().unwrap();
        });
        // Forgotten by the kernel, not by the disk.
        crate::support::sys::drop_names(&mount.root);
    }
    wait_until_on(&mount);
    for (at, name) in names.iter().enumerate() {
        let read = fs::read(mount.path(name)).unwrap();
        assert_same_bytes(&read, &body(at), name);
    }
    let seen = disk(&mount);
    assert_eq!(seen["damaged"], 0, "{seen}");
    mount.unmount();
}

#[test]
fn two_mounts_with_one_folder_have_each_its_own_part_of_it_or_none() {
    let first = Mount::builder();
    let dir = first.scratch().join("cache");
    let same = Mount::builder().bucket(&first.bucket);
    let same = cached(same, &dir);
    let other = cached(Mount::builder(), &dir);
    let mut first = cached(first, &dir).start();
    wait_until_on(&first);
    put(&first, 1);
    let (same, other) = (same.start(), other.start());
    let refused = |disk: &Value| {
        disk["off"]
            .as_str()
            .is_some_and(|it| it.contains("another"))
    };
    wait_for_disk(&same, "a refusal", refused);
    wait_until_on(&other);
    put(&other, 2);
    for (mount, version) in [(&first, 1), (&same, 1), (&other, 2)] {
        mount.wait_for("empty", "the files", Path::exists);
        check(mount, version);
    }
    wait_until_stored(&first);
    first.unmount();
    wait_until_on(&same);
    assert!(disk(&same)["blocks"].as_u64() > Some(5), "{}", disk(&same));
    check(&same, 1);
}

#[test]
fn settings_that_make_no_cache_are_refused() {
    let plan = Mount::builder();
    let below = plan.root.join("cache");
    let output = cached(plan, &below).run();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("--cache"),
        "{said}"
    );
    let output = Mount::builder().args(["--cache-size", "1MiB"]).run();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("at least 16MiB"),
        "{said}"
    );
}
