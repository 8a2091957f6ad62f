//! Removing and renaming a file whose upload is under way: nobody waits for it, and
//! what it makes late is undone.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::data::MIB;
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount, MountBuilder, SupervisedMount, pattern, wait_until};

const WITHIN: Duration = Duration::from_secs(20);
/// Nothing waits for a request that is held for good.
const AT_ONCE: Duration = Duration::from_secs(5);

fn behind_a_proxy(durability: &str) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.set("--ttl", "1h").durability(durability);
    (plan, proxy)
}

fn held_put(proxy: &Proxy, key: &str) -> Gate {
    let rule = Rule::on("PutObject", Fault::Pass).key(key);
    proxy.hold(Side::BeforeServer, rule)
}

/// Writes a file whose upload does not come to an end.
fn writing(path: &Path, body: Vec<u8>) -> thread::JoinHandle<std::io::Result<()>> {
    let path = path.to_owned();
    thread::spawn(move || fs::write(path, body))
}

#[track_caller]
fn at_once<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = call();
    assert!(began.elapsed() < AT_ONCE, "{what}: {:?}", began.elapsed());
    result
}

#[test]
fn rm_of_a_file_that_is_being_uploaded_does_not_wait_and_it_does_not_come_back() {
    for durability in DURABILITIES {
        for old in [false, true] {
            let (plan, proxy) = behind_a_proxy(durability);
            let mount = plan.start();
            fs::create_dir(mount.path("d")).unwrap();
            fs::write(mount.path("d/other"), "other").unwrap();
            mount.wait_until_uploaded("d/other", b"other");
            if old {
                fs::write(mount.path("d/f"), "old").unwrap();
                mount.wait_until_uploaded("d/f", b"old");
            }
            let gate = held_put(&proxy, "d/f");
            let writer = writing(&mount.path("d/f"), b"new".to_vec());
            gate.wait_for(1);
            at_once("rm", || fs::remove_file(mount.path("d/f"))).unwrap();
            writer.join().unwrap().unwrap();
            let names = at_once("ls", || fs::read_dir(mount.path("d")).unwrap().count());
            assert_eq!(names, 1);
            at_once("create", || fs::write(mount.path("d/next"), "next")).unwrap();
            // The server carries it out now.
            gate.open();
            proxy.wait_until_idle();
            mount.wait_for_keys("f is gone", |keys| keys == ["d/next", "d/other"]);
            assert!(!mount.path("d/f").exists());
            assert!(mount.lost_and_found().is_empty());
        }
    }
}

#[test]
fn mv_of_a_file_that_is_being_uploaded_does_not_wait_and_has_one_name() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        let gate = held_put(&proxy, "f");
        let writer = writing(&mount.path("f"), b"the bytes".to_vec());
        gate.wait_for(1);
        at_once("mv", || fs::rename(mount.path("f"), mount.path("g"))).unwrap();
        writer.join().unwrap().unwrap();
        mount.wait_until_uploaded("g", b"the bytes");
        gate.open();
        proxy.wait_until_idle();
        mount.wait_for_keys("one name", |keys| keys == ["g"]);
        assert_eq!(fs::read(mount.path("g")).unwrap(), b"the bytes");
        assert!(mount.lost_and_found().is_empty());
    }
}

#[test]
fn a_long_upload_is_aborted_when_its_file_is_removed() {
    for durability in DURABILITIES {
        for op in ["UploadPart", "CompleteMultipartUpload"] {
            let (plan, proxy) = behind_a_proxy(durability);
            let mount = plan.arg("--part-size=5MiB").start();
            let gate = proxy.hold(Side::BeforeServer, Rule::on(op, Fault::Pass).always());
            let writer = writing(&mount.path("f"), pattern(11 * MIB, 1));
            gate.wait_for(1);
            at_once("rm", || fs::remove_file(mount.path("f"))).unwrap();
            writer.join().unwrap().unwrap();
            gate.open();
            proxy.wait_until_idle();
            mount.wait_for_keys("nothing", <[String]>::is_empty);
            wait_until(WITHIN, "no unfinished upload", || {
                mount.client().unfinished_uploads(mount.bucket()).is_empty()
            });
        }
    }
}

#[test]
fn a_cancelled_upload_does_not_come_back_after_a_takeover() {
    let (plan, proxy) = behind_a_proxy("disk");
    let mount = SupervisedMount::start(plan);
    let gate = held_put(&proxy, "f");
    fs::write(mount.path("f"), "new").unwrap();
    gate.wait_for(1);
    at_once("rm", || fs::remove_file(mount.path("f"))).unwrap();
    mount.kill_daemon();
    gate.open();
    proxy.wait_until_idle();
    mount.wait_for_keys("nothing", <[String]>::is_empty);
    assert!(!mount.path("f").exists());
}

#[test]
fn a_name_whose_upload_was_cancelled_is_written_again_at_once() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        let gate = held_put(&proxy, "f");
        let writer = writing(&mount.path("f"), b"moot".to_vec());
        gate.wait_for(1);
        fs::remove_file(mount.path("f")).unwrap();
        writer.join().unwrap().unwrap();
        at_once("write", || fs::write(mount.path("f"), "again")).unwrap();
        mount.wait_until_uploaded("f", b"again");
        assert_eq!(fs::read(mount.path("f")).unwrap(), b"again");
        gate.open();
        proxy.wait_until_idle();
    }
}
