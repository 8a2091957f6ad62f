//! A store that stops for longer than late requests are waited for, and goes on then:
//! what it had received before is carried out after its first answers.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount, MountBuilder, SupervisedMount, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// Longer than a store that answers takes to carry out what it has.
const LATE: Duration = Duration::from_secs(6);
/// Requests that get no answer in a silence, each attempt in seconds.
const LOOKS: usize = 6;

fn plan(durability: &str) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan
        .durability(durability)
        .args(["--request-timeout", "9s"])
        .set("--ttl", "1h");
    (plan, proxy)
}

/// An upload that the store has, and nothing else yet.
fn upload_held(mount: &Mount, proxy: &Proxy) -> (Gate, thread::JoinHandle<()>) {
    let upload = Rule::on("PutObject", Fault::Pass).key("f").always();
    let upload = proxy.hold(Side::BeforeServer, upload);
    let path = mount.path("f");
    let writer = thread::spawn(move || fs::write(path, "the bytes").unwrap());
    upload.wait_for(1);
    (upload, writer)
}

fn stop(proxy: &Proxy) -> Gate {
    proxy.hold(Side::BeforeServer, Rule::on("*", Fault::Pass).always())
}

/// Lets it go on, with the upload after the first answer to a look for its object.
fn go_on(proxy: &Proxy, stopped: &Gate, upload: &Gate) {
    let looks = proxy.passed("HeadObject");
    stopped.open();
    wait_until(WITHIN, "an answer", || proxy.passed("HeadObject") > looks);
    upload.open();
    proxy.wait_until_idle();
}

/// Looks for the object went unanswered, one after the other, for longer than a store
/// that answers takes to carry out what it has.
fn wait_for_silence(stopped: &Gate) {
    let began = Instant::now();
    stopped.wait_for(stopped.held() + LOOKS);
    wait_until(WITHIN, "a long silence", || began.elapsed() > 3 * LATE);
}

/// What cancels an upload of `f`, and the keys that there are in the end.
#[derive(Debug, Clone, Copy)]
struct Cancel {
    run: fn(&Path),
    left: &'static [&'static str],
}

const CANCELS: [Cancel; 2] = [
    Cancel {
        run: |dir| fs::rename(dir.join("f"), dir.join("g")).unwrap(),
        left: &["g"],
    },
    Cancel {
        run: |dir| fs::remove_file(dir.join("f")).unwrap(),
        left: &[],
    },
];

fn in_each_mode(test: impl Fn(&str, Cancel) + Sync) {
    thread::scope(|scope| {
        for durability in DURABILITIES {
            for cancel in CANCELS {
                let test = &test;
                scope.spawn(move || test(durability, cancel));
            }
        }
    });
}

#[test]
fn a_cancelled_upload_that_a_stopped_store_has_does_not_come_back_when_it_goes_on() {
    in_each_mode(|durability, cancel| {
        let (plan, proxy) = plan(durability);
        let mount = plan.start();
        let (upload, writer) = upload_held(&mount, &proxy);
        (cancel.run)(&mount.path(""));
        writer.join().unwrap();
        let stopped = stop(&proxy);
        wait_for_silence(&stopped);
        go_on(&proxy, &stopped, &upload);
        mount.wait_for_keys(durability, |keys| keys == cancel.left);
        assert!(!mount.path("f").exists());
    });
}

#[test]
fn nor_does_it_with_another_daemon_that_began_while_the_store_had_stopped() {
    in_each_mode(|durability, cancel| {
        let (plan, proxy) = plan(durability);
        let mount = SupervisedMount::start(plan);
        let (upload, writer) = upload_held(&mount, &proxy);
        (cancel.run)(&mount.path(""));
        writer.join().unwrap();
        let stopped = stop(&proxy);
        mount.kill_daemon();
        wait_for_silence(&stopped);
        go_on(&proxy, &stopped, &upload);
        mount.wait_for_keys(durability, |keys| keys == cancel.left);
        assert!(!mount.path("f").exists());
    });
}

/// One server of many has stopped, with all that it has of one key; the others answer.
#[test]
fn what_a_server_has_of_one_key_does_not_come_back_however_long_the_others_answer() {
    in_each_mode(|durability, cancel| {
        thread::scope(|scope| {
            for is_killed in [false, true] {
                scope.spawn(move || frozen_by_its_key(durability, cancel, is_killed));
            }
        });
    });
}

fn frozen_by_its_key(durability: &str, cancel: Cancel, is_killed: bool) {
    let (plan, proxy) = plan(durability);
    let mount = SupervisedMount::start(plan);
    let (upload, writer) = upload_held(&mount, &proxy);
    (cancel.run)(&mount.path(""));
    writer.join().unwrap();
    // Whoever looks for the key now gets no answer.
    let frozen = proxy.freeze("f");
    if is_killed {
        mount.kill_daemon();
    }
    // A write that fails, as on a busy machine, is followed by another.
    let write = || fs::write(mount.path("other"), "of another key").is_ok();
    let answered = proxy.passed("PutObject");
    wait_until(WITHIN, "an answer for another key", || {
        write() && proxy.passed("PutObject") > answered
    });
    let began = Instant::now();
    while began.elapsed() < LATE {
        write();
        thread::sleep(Duration::from_millis(100));
    }
    go_on(&proxy, &frozen, &upload);
    let mut left = [cancel.left, &["other"]].concat();
    left.sort_unstable();
    let what = format!("{durability} {cancel:?} {is_killed}");
    mount.wait_for_keys(&what, |keys| keys == left);
    assert!(!mount.path("f").exists(), "{what}");
    mount.unmount();
}
