//! Removing and renaming a file whose upload is under way: nobody waits for it, and
//! what it makes late is undone.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::control::status;
use crate::support::data::MIB;
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount, MountBuilder, SupervisedMount, pattern, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// Nothing waits for a request that is held for good.
const AT_ONCE: Duration = Duration::from_secs(60);
/// An attempt at a request has a third of it.
const REQUEST_TIMEOUT: &str = "300s";

fn behind_a_proxy(durability: &str) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.set("--ttl", "1h").durability(durability);
    (plan.args(["--request-timeout", REQUEST_TIMEOUT]), proxy)
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
            let looks = proxy.hold_looks("d/f");
            writer.join().unwrap().unwrap();
            let names = at_once("ls", || fs::read_dir(mount.path("d")).unwrap().count());
            assert_eq!(names, 1);
            at_once("create", || fs::write(mount.path("d/next"), "next")).unwrap();
            proxy.land("PutObject", &gate, &looks);
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
        let looks = proxy.hold_looks("f");
        writer.join().unwrap().unwrap();
        mount.wait_until_uploaded("g", b"the bytes");
        proxy.land("PutObject", &gate, &looks);
        mount.wait_for_keys("one name", |keys| keys == ["g"]);
        assert_eq!(fs::read(mount.path("g")).unwrap(), b"the bytes");
        assert!(mount.lost_and_found().is_empty());
    }
}

const THEIRS: &[u8] = b"theirs";
/// One removal more than those that somebody waits for.
const MANY: usize = 17;

/// Removes so many files, so that nobody waits for the next removal.
fn remove_many(mount: &Mount) {
    for number in 0..MANY {
        fs::remove_file(mount.path(format!("x{number}"))).unwrap();
    }
}

#[test]
fn what_another_client_puts_after_the_rm_of_a_file_that_is_being_uploaded_stays() {
    for (durability, many) in [("s3", false), ("s3", true), ("disk", false), ("disk", true)] {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        for number in (0..MANY).filter(|_| many) {
            fs::write(mount.path(format!("x{number}")), "x").unwrap();
        }
        mount.wait_for_keys("them", |keys| keys.len() == if many { MANY } else { 0 });
        let upload = held_put(&proxy, "f");
        let writer = writing(&mount.path("f"), b"ours".to_vec());
        upload.wait_for(1);
        let looks = Rule::on("HeadObject", Fault::Pass).key("f").always();
        let looks = proxy.hold(Side::BeforeServer, looks);
        if many {
            remove_many(&mount);
        }
        let path = mount.path("f");
        let removed = thread::spawn(move || fs::remove_file(path));
        looks.wait_for(1);
        mount.put_object("f", THEIRS);
        looks.open();
        removed.join().unwrap().unwrap();
        writer.join().unwrap().unwrap();
        mount.wait_for("f", "the object of the other client", |path| {
            fs::read(path).is_ok_and(|bytes| bytes == THEIRS)
        });
        upload.open();
        proxy.wait_until_idle();
        assert_eq!(mount.object("f").unwrap(), THEIRS, "{durability} {many}");
        wait_until(WITHIN, "word of it", || {
            mount.log().contains("another client has put a new object")
        });
        mount.wait_for_keys("f alone", |keys| keys == ["f"]);
    }
}

#[test]
fn what_another_client_puts_before_the_mv_of_a_file_that_is_being_uploaded_stays() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        let upload = held_put(&proxy, "f");
        let writer = writing(&mount.path("f"), b"ours".to_vec());
        upload.wait_for(1);
        mount.put_object("f", THEIRS);
        fs::rename(mount.path("f"), mount.path("g")).unwrap();
        writer.join().unwrap().unwrap();
        mount.wait_until_uploaded("g", b"ours");
        mount.wait_for("f", "the object of the other client", |path| {
            fs::read(path).is_ok_and(|bytes| bytes == THEIRS)
        });
        upload.open();
        proxy.wait_until_idle();
        assert_eq!(mount.object("f").unwrap(), THEIRS, "{durability}");
    }
}

#[test]
fn what_an_upload_without_an_answer_has_made_goes_with_its_name() {
    for durability in DURABILITIES {
        for new_name in [None, Some("g")] {
            let (plan, proxy) = behind_a_proxy(durability);
            let mount = plan.start();
            let rule = Rule::on("PutObject", Fault::Pass).key("f");
            let upload = proxy.hold(Side::AfterServer, rule);
            let writer = writing(&mount.path("f"), b"ours".to_vec());
            upload.wait_for(1);
            wait_until(WITHIN, "the object", || mount.object("f").is_some());
            match new_name {
                None => fs::remove_file(mount.path("f")).unwrap(),
                Some(new) => fs::rename(mount.path("f"), mount.path(new)).unwrap(),
            }
            writer.join().unwrap().unwrap();
            let wanted = Vec::from_iter(new_name);
            mount.wait_for_keys("what is wanted", |keys| keys == wanted);
            upload.open();
            proxy.wait_until_idle();
            assert_eq!(mount.keys(), wanted, "{durability}");
        }
    }
}

#[test]
fn what_a_file_that_is_not_uploaded_has_taken_the_place_of_goes_with_the_name() {
    for new_name in [None, Some("g")] {
        let (plan, proxy) = behind_a_proxy("disk");
        let mount = plan.start();
        fs::write(mount.path("f"), "old").unwrap();
        mount.wait_until_uploaded("f", b"old");
        let _gates = ["f", "tmp"].map(|key| held_put(&proxy, key));
        fs::write(mount.path("tmp"), "new").unwrap();
        fs::rename(mount.path("tmp"), mount.path("f")).unwrap();
        match new_name {
            None => fs::remove_file(mount.path("f")).unwrap(),
            Some(new) => fs::rename(mount.path("f"), mount.path(new)).unwrap(),
        }
        let wanted = Vec::from_iter(new_name);
        mount.wait_for_keys("what is wanted", |keys| keys == wanted);
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
            let looks = proxy.hold_looks("f");
            writer.join().unwrap().unwrap();
            proxy.land(op, &gate, &looks);
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
    let looks = proxy.hold_looks("f");
    mount.kill_daemon();
    proxy.land("PutObject", &gate, &looks);
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

/// The upload of the second file under a name waits for the delete of the first one's object.
#[test]
fn a_name_that_goes_again_before_its_object_is_deleted_leaves_no_object() {
    for new_name in [None, Some("g")] {
        let (plan, proxy) = behind_a_proxy("disk");
        let mount = SupervisedMount::start(plan);
        fs::write(mount.path("f"), "old").unwrap();
        mount.wait_until_uploaded("f", b"old");
        for op in ["DeleteObject", "DeleteObjects"] {
            proxy.rule(Rule::on(op, Fault::Answer(503, "SlowDown")).always());
        }
        fs::remove_file(mount.path("f")).unwrap();
        fs::write(mount.path("f"), "new").unwrap();
        wait_until(WITHIN, "an upload that waits", || {
            status(&mount)["uploads"]["uploading"]["files"] == 1
        });
        match new_name {
            None => fs::remove_file(mount.path("f")).unwrap(),
            Some(new) => fs::rename(mount.path("f"), mount.path(new)).unwrap(),
        }
        mount.kill_daemon();
        proxy.heal();
        let wanted = Vec::from_iter(new_name);
        mount.wait_for_keys("what is wanted", |keys| keys == wanted);
        assert!(!mount.path("f").exists());
    }
}
