//! Deletes that a store does not have, or refuses.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::{WITHIN, plan, said_once};
use crate::support::control::status;
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::requests::header;
use crate::support::{DURABILITIES, Mount, sys, wait_until};

const FILES: usize = 60;
const REFUSED: &str = "refuses bulk deletes";
const UNANSWERED: &str = "single deletes are answered, and bulk deletes are not";

fn make_files(mount: &Mount, body: &str) {
    fs::create_dir_all(mount.path("d")).unwrap();
    for number in 0..FILES {
        fs::write(mount.path(format!("d/{number:02}")), body).unwrap();
    }
    mount.wait_for_keys("the files", |keys| keys.len() == FILES);
}

fn rm(path: &Path) -> Output {
    Command::new("rm").arg("-r").arg(path).output().unwrap()
}

fn problems(output: &Output) -> usize {
    String::from_utf8_lossy(&output.stderr).lines().count()
}

#[track_caller]
fn stops_without_a_delete(mut mount: Mount, proxy: &Proxy) {
    // That of a marker may be on its way when no key shows it any more.
    let waiting = || status(&mount)["deletes"]["waiting"].clone();
    wait_until(WITHIN, "the last delete", || waiting() == 0);
    let before = proxy.seen_in_all();
    mount.unmount();
    let left = proxy.seen_after(before);
    let deletes = left.iter().filter(|op| op.starts_with("Delete"));
    assert_eq!(deletes.count(), 0, "{left:?}");
}

#[test]
fn without_bulk_deletes_files_go_one_by_one_and_their_names_can_be_written_again() {
    let refusals = [
        (501, "NotImplemented"),
        (405, "MethodNotAllowed"),
        (400, "MissingContentMD5"),
        (400, "InvalidArgument"),
        (403, "AccessDenied"),
    ];
    let durabilities = DURABILITIES.into_iter().cycle();
    for (nth, ((status, code), durability)) in refusals.into_iter().zip(durabilities).enumerate() {
        let (plan, proxy) = plan();
        let refusal = Rule::on("DeleteObjects", Fault::Answer(status, code));
        // Found out at the mount, or at the first refusal.
        let is_of_store = nth % 3 == 0;
        proxy.rule(match is_of_store {
            true => refusal.of_store(),
            false => refusal.always(),
        });
        let mount = plan.durability(durability).start();
        make_files(&mount, "first");
        let gone = rm(&mount.path("d"));
        assert!(gone.status.success(), "{code}: {gone:?}");
        mount.wait_for_keys(code, <[String]>::is_empty);
        make_files(&mount, "second");
        assert_eq!(fs::read(mount.path("d/42")).unwrap(), b"second");
        assert_eq!(mount.object("d/42").unwrap(), b"second");
        assert!(rm(&mount.path("d")).status.success());
        said_once(&mount, REFUSED);
        let asked = proxy.seen("DeleteObjects");
        assert!(asked <= 3, "{code}: {asked} bulk deletes");
        stops_without_a_delete(mount, &proxy);
    }
}

#[test]
fn without_bulk_deletes_a_directory_moves_whole_and_a_file_written_again_has_its_new_bytes() {
    for durability in DURABILITIES {
        let (plan, proxy) = plan();
        proxy.rule(Rule::on("DeleteObjects", Fault::Answer(501, "NotImplemented")).always());
        let mount = plan.durability(durability).start();
        make_files(&mount, "bytes");
        fs::rename(mount.path("d"), mount.path("e")).unwrap();
        mount.wait_for_keys("the new names alone", |keys| {
            keys.len() == FILES && keys.iter().all(|key| key.starts_with("e/"))
        });
        fs::remove_file(mount.path("e/07")).unwrap();
        fs::write(mount.path("e/07"), "again").unwrap();
        wait_until(WITHIN, "the new bytes", || {
            mount.object("e/07").as_deref() == Some(b"again")
        });
        stops_without_a_delete(mount, &proxy);
    }
}

/// Some stores take no bulk delete without it, whatever other checksum it carries.
#[test]
fn a_bulk_delete_carries_its_md5() {
    let (plan, proxy) = plan();
    let mount = plan.start();
    make_files(&mount, "bytes");
    proxy.keep_heads();
    assert!(rm(&mount.path("d")).status.success());
    mount.wait_for_keys("nothing", <[String]>::is_empty);
    let heads = proxy.heads("DeleteObjects");
    assert!(!heads.is_empty());
    for head in heads {
        assert!(header(&head, "content-md5").is_some(), "{head}");
    }
}

fn protect(proxy: &Proxy) {
    proxy.rule(Rule::on("DeleteObject", Fault::Answer(403, "AccessDenied")).always());
    proxy.rule(Rule::on("DeleteObjects", Fault::RefuseKeys("AccessDenied")).always());
}

#[test]
fn each_file_that_a_policy_protects_is_an_error_of_its_unlink() {
    let (plan, proxy) = plan();
    let mount = plan.start();
    make_files(&mount, "kept");
    protect(&proxy);
    let refused = rm(&mount.path("d"));
    assert_eq!(problems(&refused), FILES, "{refused:?}");
    assert_eq!(fs::read_dir(mount.path("d")).unwrap().count(), FILES);
    assert_eq!(mount.keys().len(), FILES);
    stops_without_a_delete(mount, &proxy);
}

#[test]
fn what_a_policy_protects_is_seen_again_and_the_next_unlink_of_it_reports_it() {
    for (durability, tied) in [("disk", true), ("s3", false)] {
        let (plan, proxy) = plan();
        let mount = plan.set("--ttl", "1h").durability(durability).start();
        make_files(&mount, "kept");
        if tied {
            protect(&proxy);
        } else {
            // The first ones go, and those that nobody waits for any more are refused.
            proxy.rule(Rule::on("DeleteObjects", Fault::RefuseKeys("AccessDenied")).always());
        }
        rm(&mount.path("d"));
        wait_until(WITHIN, "the files that are left", || {
            let shown = fs::read_dir(mount.path("d")).map_or(0, Iterator::count);
            let keys = mount.keys();
            shown > 0 && shown == keys.iter().filter(|key| !key.ends_with('/')).count()
        });
        // unlink(2) said of each of them that it went.
        let log = mount.log();
        for key in mount.keys().iter().filter(|key| !key.ends_with('/')) {
            let words = format!("DeleteObjects {key}: AccessDenied: planned");
            let told = log
                .lines()
                .any(|line| line.contains("the file shows again") && line.contains(&words));
            assert!(told, "{key} is not told of\n{log}");
        }
        if tied {
            let file = mount.path("d/42");
            assert_eq!(sys::errno(fs::remove_file(&file)), libc::EACCES);
            assert_eq!(fs::read(&file).unwrap(), b"kept");
        } else {
            assert!(rm(&mount.path("d")).status.success());
            mount.wait_for_keys("nothing", <[String]>::is_empty);
        }
        stops_without_a_delete(mount, &proxy);
    }
}

#[test]
fn keys_that_a_bulk_delete_refuses_for_an_unknown_reason_are_asked_for_one_by_one() {
    for durability in DURABILITIES {
        let (plan, proxy) = plan();
        proxy.rule(Rule::on("DeleteObjects", Fault::RefuseKeys("Whatever")).always());
        let mount = plan.durability(durability).start();
        make_files(&mount, "bytes");
        assert!(rm(&mount.path("d")).status.success());
        mount.wait_for_keys("nothing", <[String]>::is_empty);
        let asked = proxy.seen("DeleteObjects");
        // Each file once, however slowly they go.
        assert!(asked <= FILES, "{asked} bulk deletes");
        stops_without_a_delete(mount, &proxy);
    }
}

/// Files of which none is deleted by the time that their directory's removal waits for it.
#[test]
fn a_directory_whose_files_are_refused_while_its_removal_waits_is_not_empty() {
    let kinds = [
        Fault::RefuseKeys("AccessDenied"),
        Fault::Answer(403, "AccessDenied"),
        Fault::Answer(409, "OperationAborted"),
    ];
    for fault in kinds {
        let (plan, proxy) = plan();
        let mount = plan.start();
        make_files(&mount, "kept");
        let is_of_keys = matches!(fault, Fault::RefuseKeys(_));
        let gate = proxy.hold(
            Side::BeforeServer,
            Rule::on("DeleteObjects", fault).always(),
        );
        for number in 0..FILES {
            fs::remove_file(mount.path(format!("d/{number:02}"))).unwrap();
        }
        gate.wait_for(1);
        if !is_of_keys {
            let refused = Fault::Answer(403, "AccessDenied");
            proxy.rule(Rule::on("DeleteObject", refused).always());
        }
        let listed = proxy.passed("ListObjectsV2");
        let dir = mount.path("d");
        let removed = std::thread::spawn(move || fs::remove_dir(dir));
        wait_until(WITHIN, "the listing of the removal", || {
            proxy.passed("ListObjectsV2") > listed
        });
        gate.open();
        let outcome = removed.join().unwrap();
        assert_eq!(sys::errno(outcome), libc::ENOTEMPTY, "{fault:?}");
        let left = mount.keys();
        let left = left.iter().filter(|key| !key.ends_with('/')).count();
        assert!(left > 0);
        wait_until(WITHIN, "the files that are left", || {
            fs::read_dir(mount.path("d")).map_or(0, Iterator::count) == left
        });
        stops_without_a_delete(mount, &proxy);
    }
}

#[test]
fn bulk_deletes_that_nothing_answers_in_s3s_words_go_one_by_one() {
    const HTML: &str = "Content-Type: text/html\r\n";
    let answers = [
        Fault::Page(502, HTML, "<html><body>Bad Gateway</body></html>"),
        Fault::Page(200, "", ""),
        Fault::Page(200, HTML, "<html><body>Welcome</body></html>"),
        Fault::Reset,
    ];
    let durabilities = DURABILITIES.into_iter().cycle();
    for (fault, durability) in answers.into_iter().zip(durabilities) {
        let (plan, proxy) = plan();
        let mount = plan.durability(durability).start();
        make_files(&mount, "first");
        proxy.rule(Rule::on("DeleteObjects", fault).always());
        let gone = rm(&mount.path("d"));
        assert!(gone.status.success(), "{fault:?}: {gone:?}");
        mount.wait_for_keys("nothing", <[String]>::is_empty);
        make_files(&mount, "second");
        assert_eq!(mount.object("d/42").unwrap(), b"second");
        assert!(rm(&mount.path("d")).status.success());
        said_once(&mount, UNANSWERED);
        stops_without_a_delete(mount, &proxy);
    }
}

#[test]
fn bulk_deletes_that_hang_go_one_by_one_within_the_request_timeout() {
    const TIMEOUT: Duration = Duration::from_secs(15);
    for durability in DURABILITIES {
        let (plan, proxy) = plan();
        let plan = plan.set("--request-timeout", "15s");
        let mount = plan.durability(durability).start();
        make_files(&mount, "first");
        proxy.rule(Rule::on("DeleteObjects", Fault::Stall).always());
        let began = Instant::now();
        let gone = rm(&mount.path("d"));
        assert!(gone.status.success(), "{gone:?}");
        mount.wait_for_keys("nothing", <[String]>::is_empty);
        let took = began.elapsed();
        assert!(took < TIMEOUT, "{took:?}");
        // A second one that hangs says that none is answered.
        make_files(&mount, "second");
        assert!(rm(&mount.path("d")).status.success());
        make_files(&mount, "third");
        let asked = proxy.seen("DeleteObjects");
        assert!(rm(&mount.path("d")).status.success());
        mount.wait_for_keys("nothing", <[String]>::is_empty);
        assert_eq!(proxy.seen("DeleteObjects"), asked);
        said_once(&mount, UNANSWERED);
        stops_without_a_delete(mount, &proxy);
    }
}

/// As for a key that XML cannot hold: the whole request is one that nobody can read.
#[test]
fn a_bulk_delete_that_is_refused_once_says_nothing_of_the_next() {
    let (plan, proxy) = plan();
    let mount = plan.start();
    make_files(&mount, "first");
    let odd = Rule::on("DeleteObjects", Fault::Answer(400, "MalformedXML"));
    proxy.rule(odd.times(1));
    assert!(rm(&mount.path("d")).status.success());
    mount.wait_for_keys("nothing", <[String]>::is_empty);
    make_files(&mount, "second");
    let passed = proxy.passed("DeleteObjects");
    assert!(rm(&mount.path("d")).status.success());
    mount.wait_for_keys("nothing", <[String]>::is_empty);
    assert!(proxy.passed("DeleteObjects") > passed);
    said_once(&mount, "the store refused a bulk delete");
    assert!(!mount.log().contains(REFUSED), "{}", mount.log());
    stops_without_a_delete(mount, &proxy);
}

#[test]
fn bulk_deletes_that_are_refused_by_a_code_about_objects_go_one_by_one() {
    let answers = [
        Fault::Page(404, "", ""),
        Fault::Answer(404, "NoSuchKey"),
        Fault::Answer(409, "OperationAborted"),
        Fault::Answer(412, "PreconditionFailed"),
    ];
    let durabilities = DURABILITIES.into_iter().cycle();
    for (fault, durability) in answers.into_iter().zip(durabilities) {
        let (plan, proxy) = plan();
        let mount = plan.durability(durability).start();
        make_files(&mount, "bytes");
        proxy.rule(Rule::on("DeleteObjects", fault).always());
        for _ in 0..2 {
            let gone = rm(&mount.path("d"));
            assert!(gone.status.success(), "{fault:?}: {gone:?}");
            mount.wait_for_keys("nothing", <[String]>::is_empty);
            make_files(&mount, "again");
        }
        said_once(&mount, REFUSED);
        assert!(rm(&mount.path("d")).status.success());
        assert!(!mount.log().contains("another client"), "{fault:?}");
        stops_without_a_delete(mount, &proxy);
    }
}

#[test]
fn an_error_of_a_bulk_delete_for_a_key_that_it_does_not_name_is_no_success() {
    for name in ["", "%64%2F", "elsewhere"] {
        let (plan, proxy) = plan();
        let mount = plan.start();
        make_files(&mount, "kept");
        proxy.rule(Rule::on("DeleteObjects", Fault::RefuseKeysAs(name)).always());
        assert!(rm(&mount.path("d")).status.success(), "{name}");
        mount.wait_for_keys(name, <[String]>::is_empty);
        stops_without_a_delete(mount, &proxy);
    }
}

/// As `rclone serve s3` answers for a directory that is not there, again and again.
#[test]
fn what_bulk_deletes_fail_for_goes_one_by_one_and_what_is_not_there_is_gone() {
    for durability in DURABILITIES {
        let (plan, proxy) = plan();
        let mount = plan.durability(durability).start();
        make_files(&mount, "first");
        proxy.rule(Rule::on("DeleteObjects", Fault::RefuseKeys("InternalError")).always());
        assert!(rm(&mount.path("d")).status.success(), "{durability}");
        mount.wait_for_keys("nothing", <[String]>::is_empty);
        fs::create_dir(mount.path("e")).unwrap();
        fs::write(mount.path("e/f"), "second").unwrap();
        fs::rename(mount.path("e"), mount.path("d")).unwrap();
        mount.wait_for_keys("the new name alone", |keys| keys == ["d/f"]);
        stops_without_a_delete(mount, &proxy);
    }
}

#[test]
fn a_marker_that_cannot_be_deleted_is_told_of_once_for_its_directory() {
    const STAYS: &str = "marker stays beside what is in it";
    let (plan, proxy) = plan();
    let mount = plan.start();
    let refused = Fault::Answer(403, "AccessDenied");
    proxy.rule(Rule::on("DeleteObject", refused).key("*/").always());
    for dir in ["d", "e"] {
        fs::create_dir(mount.path(dir)).unwrap();
        for number in 0..7 {
            fs::write(mount.path(format!("{dir}/{number}")), "x").unwrap();
        }
    }
    let log = mount.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains(STAYS)).collect();
    for times in ["times=1 ", "times=2 ", "times=4 "] {
        let count = told.iter().filter(|line| line.contains(times)).count();
        assert_eq!(count, 2, "{times}: {told:?}");
    }
    assert_eq!(told.len(), 6, "{told:?}");
}
