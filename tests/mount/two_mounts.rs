//! Two daemons that mount one bucket.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::{Mount, MountBuilder, pattern, sys, wait_until};
use libc::{O_CREAT, O_EXCL, O_RDWR, O_WRONLY};

/// Two mounts of a fresh bucket, each with these options.
fn pair(options: impl Fn(MountBuilder) -> MountBuilder) -> (Mount, Mount) {
    let a = options(Mount::builder()).start();
    let b = options(Mount::builder().bucket(a.bucket())).start();
    (a, b)
}

fn at_once(plan: MountBuilder) -> MountBuilder {
    plan.set("--ttl", "0s").args(["--negative-ttl", "0s"])
}

#[test]
fn what_one_closed_the_other_opens_at_once_with_a_ttl_of_0() {
    let (a, b) = pair(at_once);
    for round in 0..20_u64 {
        let (from, to) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let body = pattern(10_000 + round as usize, round);
        fs::write(from.path("f"), &body).unwrap();
        assert_same_bytes(&fs::read(to.path("f")).unwrap(), &body, "the other mount");
        assert_eq!(fs::metadata(to.path("f")).unwrap().len(), body.len() as u64);
    }
    fs::remove_file(a.path("f")).unwrap();
    assert_eq!(sys::errno(File::open(b.path("f"))), libc::ENOENT);
    fs::create_dir(b.path("d")).unwrap();
    assert!(fs::metadata(a.path("d")).unwrap().is_dir());
    fs::rename(b.path("d"), b.path("e")).unwrap();
    assert_eq!(sys::errno(fs::metadata(a.path("d"))), libc::ENOENT);
    assert!(fs::metadata(a.path("e")).unwrap().is_dir());
}

#[test]
fn what_one_closed_the_other_sees_within_the_ttl_and_keeps_to_itself_before() {
    let (a, b) = pair(|plan| plan.set("--ttl", "3s").args(["--negative-ttl", "1s"]));
    fs::write(a.path("f"), b"old").unwrap();
    let asked = Instant::now();
    assert_eq!(fs::read(b.path("f")).unwrap(), b"old");
    fs::write(a.path("f"), b"new!").unwrap();
    let early = fs::read(b.path("f")).unwrap();
    if asked.elapsed() < Duration::from_secs(3) {
        assert_eq!(early, b"old", "asked again before the ttl was over");
    }
    b.wait_for("f", "the new bytes", |path| {
        // ESTALE, where the kernel has let go of a page of the old one.
        let Ok(seen) = fs::read(path) else {
            return false;
        };
        assert!(seen == b"old" || seen == b"new!", "{seen:?}");
        seen == b"new!"
    });
    // A name that was absent.
    assert!(!b.path("later").exists());
    fs::write(a.path("later"), b"here").unwrap();
    b.wait_for("later", "the new name", |path| path.exists());
    assert_eq!(fs::read(b.path("later")).unwrap(), b"here");
}

#[test]
fn an_exclusive_create_that_two_race_for_has_one_winner_at_close() {
    let (a, b) = pair(at_once);
    let mut losses: Vec<Vec<u8>> = Vec::new();
    for round in 0..10 {
        let name = format!("lock-{round}");
        let open = |mount: &Mount| {
            let mut file = sys::open(mount.path(&name), O_WRONLY | O_CREAT | O_EXCL).unwrap();
            file.write_all(mount.root.to_str().unwrap().as_bytes())
                .unwrap();
            file
        };
        // Both are open before either is closed: nobody has seen the other.
        let (of_a, of_b) = (open(&a), open(&b));
        let (first, second) = thread::scope(|scope| {
            let close_a = scope.spawn(|| sys::close(of_a));
            let close_b = scope.spawn(|| sys::close(of_b));
            (close_a.join().unwrap(), close_b.join().unwrap())
        });
        let (winner, loser, lost) = match (&first, &second) {
            (Ok(()), Err(_)) => (&a, &b, second),
            (Err(_), Ok(())) => (&b, &a, first),
            both => panic!("not one winner: {both:?}"),
        };
        assert_eq!(sys::errno(lost), libc::EEXIST);
        let bytes = winner.object(&name).unwrap();
        assert_eq!(bytes, winner.root.to_str().unwrap().as_bytes());
        // RELEASE comes after close(2) has returned.
        let own = loser.root.to_str().unwrap().as_bytes();
        losses.push(own.to_vec());
        wait_until(Duration::from_secs(60), "the bytes in lost+found", || {
            let kept = loser.lost_and_found();
            let count = |of: &[Vec<u8>]| of.iter().filter(|bytes| *bytes == own).count();
            count(&kept) == count(&losses)
        });
        wait_until(Duration::from_secs(60), "the winner's file", || {
            fs::read(loser.path(&name)).is_ok_and(|seen| seen == bytes)
        });
    }
}

#[test]
fn an_exclusive_create_that_two_race_for_has_one_winner_at_open_where_strict() {
    let strict = |plan| at_once(plan).args(["--exclusive-create", "strict"]);
    let (a, b) = pair(strict);
    for round in 0..10 {
        let name = format!("lock-{round}");
        let open = |mount: &Mount| sys::open(mount.path(&name), O_WRONLY | O_CREAT | O_EXCL);
        let (first, second) = thread::scope(|scope| {
            let of_a = scope.spawn(|| open(&a));
            let of_b = scope.spawn(|| open(&b));
            (of_a.join().unwrap(), of_b.join().unwrap())
        });
        let (mut winner, lost) = match (first, second) {
            (Ok(file), Err(error)) | (Err(error), Ok(file)) => (file, error),
            both => panic!("not one winner: {both:?}"),
        };
        assert_eq!(lost.raw_os_error(), Some(libc::EEXIST));
        winner.write_all(b"the winner's").unwrap();
        sys::close(winner).unwrap();
        assert_eq!(a.object(&name).unwrap(), b"the winner's");
        assert_eq!(fs::read(b.path(&name)).unwrap(), b"the winner's");
    }
    assert!(a.lost_and_found().is_empty());
    assert!(b.lost_and_found().is_empty());
}

#[test]
fn a_lost_update_is_estale_at_close_and_its_bytes_are_kept() {
    let (a, b) = pair(at_once);
    fs::write(a.path("f"), b"the first version").unwrap();
    let of_a = sys::open(a.path("f"), O_RDWR).unwrap();
    let of_b = sys::open(b.path("f"), O_RDWR).unwrap();
    of_a.write_all_at(b"AAA", 4).unwrap();
    of_b.write_all_at(b"BBB", 4).unwrap();
    sys::close(of_a).unwrap();
    assert_eq!(sys::errno(sys::close(of_b)), libc::ESTALE);
    assert_eq!(a.object("f").unwrap(), b"the AAAst version");
    // The version that it was to be a change of is gone: what was written is kept.
    // RELEASE comes after close(2) has returned.
    wait_until(Duration::from_secs(60), "bytes and sidecar", || {
        !b.lost_and_found().is_empty() && !b.sidecars().is_empty()
    });
    // As long as the file was, with holes where nothing was written.
    assert_eq!(b.lost_and_found(), [b"\0\0\0\0BBB\0\0\0\0\0\0\0\0\0\0"]);
    let sidecar = b.sidecars().remove(0);
    assert!(sidecar.contains("\"key\": \"f\""), "{sidecar}");
    let written: String = sidecar.split_whitespace().collect();
    assert!(written.contains("\"written\":[[4,7]]"), "{sidecar}");
    assert_eq!(fs::read(b.path("f")).unwrap(), b"the AAAst version");
    // A whole replacement asks nobody: the last close wins.
    fs::write(b.path("f"), b"whole").unwrap();
    assert_eq!(fs::read(a.path("f")).unwrap(), b"whole");
}

#[test]
fn no_read_mixes_two_versions() {
    let (a, b) = pair(at_once);
    let len = 6 * MIB;
    fs::write(a.path("f"), vec![0; len]).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..=12_u8 {
                fs::write(a.path("f"), vec![version; len]).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut whole = 0;
        while !done.load(Ordering::Relaxed) || whole == 0 {
            // ESTALE says that the version went; what is read is of one version.
            let Ok(bytes) = fs::read(b.path("f")) else {
                continue;
            };
            let first = bytes[0];
            assert_eq!(bytes.len(), len);
            assert!(bytes.iter().all(|byte| *byte == first), "mixed");
            whole += 1;
        }
    });
    assert_eq!(fs::read(b.path("f")).unwrap(), vec![12; len]);
}

#[test]
fn pages_stay_while_the_etag_stands_and_go_when_a_change_is_noticed() {
    let a = at_once(Mount::builder()).start();
    let (plan, proxy) = Mount::behind_a_proxy();
    let b = at_once(plan.bucket(a.bucket())).start();
    let body = pattern(3 * MIB, 1);
    fs::write(a.path("f"), &body).unwrap();
    assert_same_bytes(&fs::read(b.path("f")).unwrap(), &body, "first");
    let gets = proxy.seen("GetObject");
    assert!(gets > 0);
    for _ in 0..5 {
        assert_same_bytes(&fs::read(b.path("f")).unwrap(), &body, "again");
    }
    assert_eq!(
        proxy.seen("GetObject"),
        gets,
        "read from the kernel's pages"
    );
    let body = pattern(3 * MIB, 2);
    fs::write(a.path("f"), &body).unwrap();
    assert_same_bytes(&fs::read(b.path("f")).unwrap(), &body, "changed");
    assert!(proxy.seen("GetObject") > gets);
}

/// The kernel holds locks while it waits for an answer, and a notification may
/// want the same locks.
#[test]
fn notifications_under_load_neither_deadlock_nor_lose_a_change() {
    let (a, b) = pair(at_once);
    const FILES: usize = 20;
    for number in 0..FILES {
        fs::write(a.path(number.to_string()), b"0").unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..4 {
            let (b, done) = (&b, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    for number in 0..FILES {
                        let path = b.path(number.to_string());
                        // A file may be between its removal and its return.
                        fs::read(&path).ok();
                        fs::metadata(&path).ok();
                    }
                    if reader == 0 {
                        fs::read_dir(&b.root).unwrap().count();
                    }
                }
            });
        }
        for round in 0..30 {
            for number in 0..FILES {
                let path = a.path(number.to_string());
                match (round + number) % 3 {
                    0 => fs::remove_file(&path).unwrap(),
                    1 => fs::write(&path, format!("{round} anew")).unwrap(),
                    _ => fs::write(&path, format!("{round}")).unwrap(),
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    for number in 0..FILES {
        let name = number.to_string();
        wait_until(Duration::from_secs(60), "the last version", || {
            fs::read(b.path(&name)).ok() == a.object(&name)
        });
    }
}
