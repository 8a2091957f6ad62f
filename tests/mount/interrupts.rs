//! Programs that are killed while they wait for S3.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::data::assert_same_bytes;
use crate::support::programs::{python, succeeds};
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{Mount, MountBuilder, SupervisedMount, Worker, pattern, wait_until};

/// A program that is killed is gone long before S3 has been waited for long enough.
const GONE_WITHIN: Duration = Duration::from_secs(30);
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// Nothing that these tests do ends because S3 was waited for long enough.
fn behind_a_proxy(durability: &str) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.args(["--request-timeout", "100s", "--durability", durability]);
    (plan, proxy)
}

fn hold(proxy: &Proxy, op: &'static str, key: &str) -> Gate {
    let rule = Rule::on(op, Fault::Pass).key(key).always();
    proxy.hold(Side::BeforeServer, rule)
}

/// Has a program call, and kills it while the call waits at a gate.
#[track_caller]
fn kill_in(mut worker: Worker, call: &str, gate: &Gate) {
    worker.begin(call);
    gate.wait_for(1);
    worker.end_by(Signal::KILL, GONE_WITHIN);
}

#[track_caller]
fn wait_for_object(mount: &Mount, path: &str, bytes: &[u8]) {
    wait_until(DONE_WITHIN, path, || {
        mount.object(path).as_deref() == Some(bytes)
    });
    assert_same_bytes(&fs::read(mount.path(path)).unwrap(), bytes, path);
    assert!(mount.lost_and_found().is_empty());
}

#[test]
fn a_kill_in_close_or_fsync_ends_the_program_and_the_upload_goes_on() {
    let (plan, proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    for call in ["close", "fsync"] {
        let mut worker = Worker::at(&mount.root);
        worker.write_new(call, "all of it");
        let gate = hold(&proxy, "PutObject", call);
        kill_in(worker, &format!("os.{call}(fd)"), &gate);
        assert_eq!(mount.object(call), None);
        fs::metadata(mount.path("")).unwrap();
        gate.open();
        wait_for_object(&mount, call, b"all of it");
    }
}

#[test]
fn a_program_that_is_killed_with_files_open_is_gone_and_they_are_uploaded() {
    const FILES: usize = 20;
    let (plan, proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    let mut worker = Worker::at(&mount.root);
    for number in 0..FILES {
        worker.write_new(&format!("f{number}"), "as far as it came");
    }
    let gate = hold(&proxy, "PutObject", "f*");
    worker.end_by(Signal::KILL, GONE_WITHIN);
    gate.wait_for(1);
    gate.open();
    for number in 0..FILES {
        wait_for_object(&mount, &format!("f{number}"), b"as far as it came");
    }
}

#[test]
fn an_upload_that_fails_after_its_program_was_killed_leaves_the_bytes_in_lost_and_found() {
    let (plan, proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    let mut worker = Worker::at(&mount.root);
    worker.write_new("f", "not lost");
    let rule = Rule::on("PutObject", Fault::Answer(403, "AccessDenied"));
    let gate = proxy.hold(Side::BeforeServer, rule.key("f").always());
    kill_in(worker, "os.close(fd)", &gate);
    gate.open();
    wait_until(DONE_WITHIN, "the bytes in lost+found", || {
        mount.lost_and_found() == [b"not lost"]
    });
    assert!(mount.sidecars()[0].contains("\"f\""));
}

#[test]
fn a_kill_in_a_change_of_names_ends_the_program_and_the_change_is_done_whole() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        for name in ["old", "gone", "d/1", "d/2"] {
            mount.put_object(name, b"bytes");
        }
        let cases = [
            ("CopyObject", "new", "os.rename('old', 'new')"),
            ("CopyObject", "e/*", "os.rename('d', 'e')"),
            ("PutObject", "made/", "os.mkdir('made')"),
        ];
        for (op, key, call) in cases {
            let gate = hold(&proxy, op, key);
            kill_in(Worker::at(&mount.root), call, &gate);
            gate.open();
        }
        if durability == "s3" {
            let gate = hold(&proxy, "DeleteObject", "gone");
            kill_in(Worker::at(&mount.root), "os.unlink('gone')", &gate);
            gate.open();
        } else {
            fs::remove_file(mount.path("gone")).unwrap();
        }
        mount.wait_for_keys("all of each change", |keys| {
            keys == ["e/1", "e/2", "made/", "new"]
        });
        assert_eq!(fs::read(mount.path("new")).unwrap(), b"bytes");
        assert!(!mount.path("old").exists() && !mount.path("gone").exists());
        assert!(mount.path("made").is_dir() && !mount.path("d").exists());
    }
}

#[test]
fn a_kill_in_lookup_open_or_read_ends_the_program() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.set("--ttl", "0s").start();
        let body = pattern(3 << 20, 1);
        mount.put_object("d/f", &body);
        let mut reader = Worker::at(&mount.root);
        reader.run("fd = os.open('d/f', os.O_RDONLY)").unwrap();
        let gate = hold(&proxy, "GetObject", "d/f");
        kill_in(reader, "os.pread(fd, 1 << 20, 1 << 20)", &gate);
        gate.open();
        let calls = [
            "os.open('d/f', os.O_RDONLY)",
            "os.stat('x')",
            "os.listdir('d')",
        ];
        for call in calls {
            let rule = Rule::on("*", Fault::Pass).always();
            let gate = proxy.hold(Side::BeforeServer, rule);
            kill_in(Worker::at(&mount.root), call, &gate);
            gate.open();
            proxy.heal();
        }
        assert_same_bytes(&fs::read(mount.path("d/f")).unwrap(), &body, "d/f");
    }
}

/// Whether a process is in a call that no signal but a fatal one ends.
fn waits(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.contains("State:\tD")
}

/// Whether a process waits for an answer of the daemon.
fn asks(pid: u32) -> bool {
    let place = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap();
    place.contains("request_wait_answer")
}

#[test]
fn a_program_that_handles_the_signal_goes_on_waiting_and_its_close_succeeds() {
    let (plan, proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    for restart in ["True", "False"] {
        let name = &format!("f-{restart}");
        let mut worker = Worker::at(&mount.root);
        worker.run("import signal").unwrap();
        for line in [
            "signal.signal(signal.SIGALRM, lambda *_: None)",
            &format!("signal.siginterrupt(signal.SIGALRM, not {restart})"),
        ] {
            worker.run(line).unwrap();
        }
        worker.write_new(name, restart);
        let gate = hold(&proxy, "PutObject", name);
        worker.begin("os.close(fd)");
        gate.wait_for(1);
        worker.signal(Signal::ALARM);
        worker.signal(Signal::CHILD);
        // Longer than it takes to find one that is killed.
        std::thread::sleep(Duration::from_millis(1200));
        assert!(waits(worker.pid()));
        gate.open();
        assert_eq!(worker.answer("os.close(fd)"), Ok(()));
        wait_for_object(&mount, name, restart.as_bytes());
    }
}

#[test]
fn any_signal_that_ends_a_program_ends_it_while_it_waits() {
    let (plan, proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    for (number, signal) in [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP]
        .into_iter()
        .enumerate()
    {
        let name = format!("f{number}");
        let mut worker = Worker::at(&mount.root);
        worker.run("import signal").unwrap();
        worker
            .run("[signal.signal(s, signal.SIG_DFL) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)]")
            .unwrap();
        worker.write_new(&name, "text");
        let gate = hold(&proxy, "PutObject", &name);
        worker.begin("os.close(fd)");
        gate.wait_for(1);
        // One that is handled comes first: the kernel tells of no second one.
        worker.signal(Signal::CHILD);
        worker.end_by(signal, GONE_WITHIN);
        gate.open();
        wait_for_object(&mount, &name, b"text");
    }
}

#[test]
fn after_a_takeover_a_kill_still_ends_a_program_whose_call_was_sent_again() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = SupervisedMount::start(plan);
        // In another directory: the kernel locks the one that a name changes in.
        mount.put_object("d/there", b"bytes");
        let mut maker = Worker::at(&mount.root);
        let mut closer = Worker::at(&mount.path("d"));
        let gate = hold(&proxy, "PutObject", "made/");
        maker.begin("os.mkdir('made')");
        gate.wait_for(1);
        closer.write_new("f", "all of it");
        let puts = hold(&proxy, "PutObject", "d/f");
        if durability == "s3" {
            closer.begin("os.close(fd)");
            puts.wait_for(1);
        }
        mount.kill_daemon();
        gate.wait_for(2);
        maker.end_by(Signal::KILL, GONE_WITHIN);
        if durability == "s3" {
            puts.wait_for(2);
        }
        closer.end_by(Signal::KILL, GONE_WITHIN);
        gate.open();
        puts.open();
        wait_for_object(&mount, "d/f", b"all of it");
        mount.wait_for_keys("the directory", |keys| keys == ["d/f", "d/there", "made/"]);
        mount.unmount();
    }
}

#[test]
fn what_a_killed_program_has_begun_comes_before_what_others_do_in_the_directory() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        let mut others = Worker::at(&mount.root);
        let mut late = Worker::at(&mount.root);
        fs::write(mount.path("kept"), b"kept").unwrap();
        mount.wait_for_keys("a file", |keys| keys == ["kept"]);
        fs::write(mount.path("f"), b"old").unwrap();
        mount.wait_for_keys("two files", |keys| keys.len() == 2);
        let gate = hold(&proxy, "CopyObject", "moved");
        kill_in(Worker::at(&mount.root), "os.rename('f', 'moved')", &gate);
        // One that was killed before its turn came has changed nothing.
        late.begin("os.unlink('kept')");
        wait_until(DONE_WITHIN, "a call", || asks(late.pid()));
        late.end_by(Signal::KILL, GONE_WITHIN);
        others.begin("os.mkdir('made')");
        wait_until(DONE_WITHIN, "a call", || asks(others.pid()));
        assert_eq!(mount.object("made/"), None);
        gate.open();
        assert_eq!(others.answer("os.mkdir('made')"), Ok(()));
        wait_for_object(&mount, "moved", b"old");
        wait_for_object(&mount, "kept", b"kept");
    }
}

/// Children write versions of a file each, and read; they are killed at any time.
/// Prints of each version that it was begun, and that its close has returned.
const KILLED_AT_RANDOM: &str = r#"
import os, random, signal, sys, time
random.seed(int(sys.argv[2]))
def child(slot, version):
    while True:
        version += 1
        os.write(1, b"begun %d %d\n" % (slot, version))
        line = b"%d:%08d\n" % (slot, version)
        fd = os.open(f"f{slot}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for _ in range(random.randrange(1, 4)):
            os.write(fd, line * 500)
        os.fsync(fd) if version % 3 == 0 else None
        os.close(fd)
        os.write(1, b"acked %d %d\n" % (slot, version))
        for name in os.listdir("."):
            try:
                open(name, "rb").read()
                os.mkdir(f"d{slot}")
                os.rename(f"d{slot}", f"e{slot}")
                os.rmdir(f"e{slot}")
            except OSError:
                pass
os.chdir(sys.argv[1])
children, count, end = {}, [0] * 8, time.monotonic() + 10
while time.monotonic() < end:
    for slot in range(8):
        if slot not in children:
            count[slot] += 1
            pid = os.fork()
            if pid == 0:
                try:
                    child(slot, count[slot] * 1000)
                finally:
                    os._exit(1)
            children[slot] = pid
    time.sleep(random.random() / 50)
    slot = random.choice(list(children))
    os.kill(children[slot], signal.SIGKILL)
    asked = time.monotonic()
    os.waitpid(children.pop(slot), 0)
    took = time.monotonic() - asked
    assert took < 30, took
for pid in children.values():
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"#;

#[test]
fn programs_that_are_killed_at_random_leave_what_was_acknowledged_and_nothing_else() {
    let (plan, proxy) = behind_a_proxy("s3");
    let mut mount = plan.set("--ttl", "1h").start();
    let descriptors = || {
        let open = fs::read_dir(format!("/proc/{}/fd", mount.pid()));
        open.unwrap().count()
    };
    let before = descriptors();
    for (op, delay_ms, one_of) in [
        ("PutObject", 300, 4),
        ("DeleteObject", 500, 3),
        ("CopyObject", 400, 3),
        ("GetObject", 400, 5),
    ] {
        for number in 0..400 {
            let fault = Fault::AnswerLate(Duration::from_millis(delay_ms));
            proxy.rule(Rule::on(op, fault).after(number * one_of % 3));
            proxy.rule(Rule::on(op, Fault::Pass).times(one_of - 1));
        }
    }
    let mut command = Command::new(python());
    command
        .args(["-c", KILLED_AT_RANDOM])
        .arg(&mount.root)
        .arg("7");
    let said = succeeds(&mut command);
    proxy.heal();
    wait_until(DONE_WITHIN, "no more descriptors than at first", || {
        descriptors() <= before + 20
    });
    mount.unmount();
    assert!(!mount.log().contains("given up"), "{}", mount.log());
    assert!(mount.lost_and_found().is_empty());
    for slot in 0..8 {
        let last = |what: &str| {
            let start = format!("{what} {slot} ");
            let versions = said.lines().filter_map(|line| line.strip_prefix(&start));
            versions
                .map(|version| version.parse::<u64>().unwrap())
                .max()
        };
        let (acked, begun) = (last("acked").unwrap_or(0), last("begun").unwrap());
        let body = mount.object(&format!("f{slot}")).unwrap_or_default();
        // What was begun may have emptied the file, and come no further.
        if body.is_empty() {
            assert!(begun > acked, "f{slot} is empty after version {acked}");
            continue;
        }
        let text = String::from_utf8(body).unwrap();
        let line = text.lines().next().unwrap();
        assert!(text.lines().all(|other| other == line), "f{slot} is mixed");
        assert_eq!(text.len() % (500 * (line.len() + 1)), 0);
        let version: u64 = line.split_once(':').unwrap().1.parse().unwrap();
        assert!(version >= acked, "f{slot}: {version} after {acked}");
    }
}
