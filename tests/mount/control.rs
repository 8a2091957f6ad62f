//! The control socket: what is told of a mount, to whom, and through what it lasts.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::support::control::{
    curl, done, failed, listening, mediafs, run, socket, status, wait_for_health,
};
use crate::support::programs::{has_all, run_within, said};
use crate::support::proxy::{Fault, Rule, Side};
use crate::support::spool::lose_a_race;
use crate::support::{DURABILITIES, Mount, Server, SupervisedMount, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const ALWAYS: usize = 1_000_000;
/// In which a health check answers, whatever S3 does.
const QUICK: Duration = Duration::from_millis(100);
/// A user of no mount.
const STRANGER: u32 = 4321;

#[test]
fn bytes_that_are_read_from_s3_are_counted() {
    const LEN: usize = 5 << 20;
    let mount = Mount::fresh();
    mount.put_object("f", &vec![7; LEN]);
    mount.wait_for("f", "the file", Path::exists);
    assert_eq!(fs::read(mount.path("f")).unwrap().len(), LEN);
    let received = status(&mount)["requests"]["received_bytes"].clone();
    let received = received.as_u64().unwrap() as usize;
    assert!((LEN..LEN + LEN / 2).contains(&received), "{received}");
}

#[test]
fn the_status_tells_what_the_mount_is_and_what_it_did() {
    let mount = Mount::builder().prefix("media").start();
    fs::write(mount.path("f"), vec![7; 100_000]).unwrap();
    mount.put_object("g", &[8; 50_000]);
    mount.wait_for("g", "another client's file", |path| path.exists());
    assert_eq!(fs::read(mount.path("g")).unwrap().len(), 50_000);
    let told = status(&mount);
    assert_eq!(told["bucket"], mount.bucket());
    assert_eq!(told["prefix"], "media/");
    assert_eq!(told["mountpoint"], mount.root.to_str().unwrap());
    assert_eq!(told["pid"], mount.pid());
    assert_eq!(told["state"], "alive");
    assert_eq!(told["s3"]["serves"], true);
    assert!(told["requests"]["sent_bytes"].as_u64().unwrap() >= 100_000);
    // What was sent in the last seconds counts.
    wait_until(WITHIN, "a rate", || {
        fs::write(mount.path("f"), vec![7; 100_000]).unwrap();
        let told = status(&mount);
        let [rate, all] = ["sent_bytes_per_second", "sent_bytes"]
            .map(|name| told["requests"][name].as_u64().unwrap());
        (1..=all).contains(&rate)
    });
    assert!(told["requests"]["received_bytes"].as_u64().unwrap() >= 50_000);
    assert!(told["requests"]["by_kind"]["PutObject"].as_u64().unwrap() >= 1);
    assert!(told["cache"]["used_bytes"].as_u64().unwrap() >= 50_000);
    assert!(told["cost"]["requests_usd_per_day"].as_f64().unwrap() > 0.0);
    assert_eq!(told["uploads"]["files"], json!([]));
    let by_curl: Value = serde_json::from_str(&curl(&listening(&mount), "/status", None)).unwrap();
    assert_eq!(by_curl["pid"], told["pid"]);
    let text = done(&mount, &["status", mount.root.to_str().unwrap()]);
    for part in ["alive", "media/", "all is in S3", "PutObject", "USD"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour off a terminal: {text}");
}

#[test]
fn files_that_are_written_and_that_wait_for_s3_are_told_with_their_age() {
    for durability in DURABILITIES {
        let (plan, proxy) = Mount::behind_a_proxy();
        let plan = plan.args(["--request-timeout", "300s"]);
        let mount = plan.durability(durability).start();
        let gate = proxy.hold(
            Side::BeforeServer,
            Rule::on("PutObject", Fault::Pass).key("held"),
        );
        fs::create_dir(mount.path("d")).unwrap();
        let mut open = fs::File::create(mount.path("d/open")).unwrap();
        open.write_all(b"half").unwrap();
        let held = mount.path("held");
        let writing = std::thread::spawn(move || fs::write(held, b"whole"));
        gate.wait_for(1);
        let told = status(&mount);
        let uploads = &told["uploads"];
        assert_eq!(uploads["dirty"], json!({"files": 1, "bytes": 4}), "{told}");
        assert_eq!(
            uploads["uploading"],
            json!({"files": 1, "bytes": 5}),
            "{told}"
        );
        let files = uploads["files"].as_array().unwrap();
        let of = |path: &str| files.iter().find(|file| file["path"] == path).unwrap();
        assert_eq!(of("d/open")["state"], "dirty");
        assert_eq!(of("held")["state"], "uploading");
        assert!(of("held")["age_seconds"].as_u64().unwrap() < 300);
        assert!(uploads["oldest_age_seconds"].is_u64());
        has_all(&done(&mount, &["status"]), &["2 files, 9 B"]);
        let shown = done(&mount, &["status", mount.root.to_str().unwrap()]);
        has_all(&shown, &["1 file (5 B) uploading", "    uploading held"]);
        gate.open();
        writing.join().unwrap().unwrap();
        sys::close(open).unwrap();
        wait_until(WITHIN, "an empty queue", || {
            status(&mount)["uploads"]["files"] == json!([])
        });
    }
}

#[test]
fn an_outage_is_told_with_its_begin_and_the_last_error() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan
        .durability("disk")
        .set("--ttl", "1h")
        .args(["--request-timeout", "6s"])
        .start();
    fs::write(mount.path("before"), b"x").unwrap();
    mount.wait_until_uploaded("before", b"x");
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 1);
    proxy.all_down();
    fs::write(mount.path("waits"), b"bytes").unwrap();
    wait_until(WITHIN, "an outage", || {
        status(&mount)["s3"]["serves"] == false
    });
    let told = status(&mount);
    assert_eq!(told["state"], "degraded");
    assert_eq!(told["s3"]["cause"], "unreachable");
    assert!(told["s3"]["since_unix_seconds"].as_u64().unwrap() > 0);
    let error = told["s3"]["last_failure"]["error"].as_str().unwrap();
    assert!(!error.is_empty());
    let (queued, uploading) = (&told["uploads"]["queued"], &told["uploads"]["uploading"]);
    let waiting = queued["files"].as_u64().unwrap() + uploading["files"].as_u64().unwrap();
    assert_eq!(waiting, 1, "{told}");
    let recent = told["recent"].as_array().unwrap();
    let said = |line: &Value| {
        line["text"]
            .as_str()
            .unwrap()
            .contains("S3 unreachable since")
    };
    assert!(recent.iter().any(said), "{told}");
    let text = done(&mount, &["status", mount.root.to_str().unwrap()]);
    assert!(
        text.contains("does not serve (unreachable) since"),
        "{text}"
    );
    proxy.heal();
    wait_until(WITHIN, "S3 again", || status(&mount)["state"] == "alive");
}

#[test]
fn what_could_not_be_uploaded_is_told_with_the_reason_and_the_hidden_keys_are_counted() {
    let mount = Mount::on(Server::moto()).start();
    for key in ["d//x", "d/a", "d/a/b"] {
        mount.put_object(key, b"bytes");
    }
    lose_a_race(&mount, "f", b"ours", b"theirs");
    fs::read_dir(mount.path("d")).unwrap().count();
    // They come there after the close has returned.
    wait_until(WITHIN, "the bytes in lost+found", || {
        status(&mount)["lost_found"]["files"] == 1
    });
    let told = status(&mount);
    let lost = &told["lost_found"]["last"][0];
    assert_eq!(lost["key"], "f");
    assert!(
        lost["reason"].as_str().unwrap().contains("upload failed"),
        "{told}"
    );
    assert_eq!(told["hidden_keys"], 2, "{told}");
    let text = done(&mount, &["status", mount.root.to_str().unwrap()]);
    assert!(text.contains("mediafs spool list"), "{text}");
}

#[test]
fn a_successor_answers_at_the_same_socket() {
    let mount = SupervisedMount::start(Mount::builder());
    let first = status(&mount);
    mount.kill_daemon();
    let mut second = Value::Null;
    wait_until(WITHIN, "the successor's answer", || {
        let output = run(&mount, &["status", mount.root.to_str().unwrap(), "--json"]);
        second = serde_json::from_slice(&output.stdout).unwrap_or_default();
        output.status.success() && second["pid"] != first["pid"]
    });
    assert_eq!(second["mountpoint"], first["mountpoint"]);
    assert_eq!(
        second["mounted_unix_seconds"],
        first["mounted_unix_seconds"]
    );
    mount.unmount();
    assert!(!socket(&mount).exists(), "an end leaves none");
}

#[test]
fn a_dead_daemons_socket_is_told_and_the_next_mount_takes_its_place() {
    let mut mount = Mount::fresh();
    let root = mount.root.to_str().unwrap().to_owned();
    let socket_path = listening(&mount);
    mount.kill9();
    assert!(socket_path.exists());
    let listed = failed(&mount, &["status"]);
    assert!(listed.contains("no daemon listens"), "{listed}");
    let stuck = run(&mount, &["healthcheck"]);
    assert_eq!(stuck.status.code(), Some(1), "{}", said(&stuck));
    failed(&mount, &["status", &root]);
    mount.remount();
    assert_eq!(status(&mount)["pid"], mount.pid());
    mount.unmount();
    assert!(!socket(&mount).exists());
}

#[test]
fn each_of_two_mounts_is_found_by_its_name_and_by_its_path() {
    let start = || Mount::builder().without("--control-socket").start();
    let (mut first, mut second) = (start(), start());
    let command = |words: &[&str]| {
        let output = run_within(WITHIN, &mut mediafs(words));
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        said(&output)
    };
    let directory = Path::new("/run/mediafs");
    // Mounts of other tests have sockets elsewhere.
    let list = |more: Option<&str>| {
        let output = run_within(WITHIN, mediafs(["status"]).args(more));
        String::from_utf8(output.stdout).unwrap()
    };
    for mount in [&first, &second] {
        let root = mount.root.to_str().unwrap();
        let is_alive = |line: &str| line.contains(root) && line.contains(" alive ");
        wait_until(WITHIN, "both mounts", || list(None).lines().any(is_alive));
    }
    // systemd makes it so that its names can be read.
    assert_eq!(fs::metadata(directory).unwrap().mode() & 0o022, 0);
    let all = list(None);
    let listed: Value = serde_json::from_str(&list(Some("--json"))).unwrap();
    let mut sockets = Vec::new();
    for mount in [&first, &second] {
        let root = mount.root.to_str().unwrap();
        assert!(all.contains(root), "{all}");
        let one: Value = serde_json::from_str(&command(&["status", root, "--json"])).unwrap();
        assert_eq!(one["bucket"], mount.bucket());
        let name = one["name"].as_str().unwrap();
        let named: Value = serde_json::from_str(&command(&["status", name, "--json"])).unwrap();
        assert_eq!(named["pid"], mount.pid());
        let mut listed = listed.as_array().unwrap().iter();
        assert!(listed.any(|it| it["status"]["mountpoint"] == root));
        wait_until(WITHIN, "an answer", || {
            let health = run_within(WITHIN, &mut mediafs(["healthcheck", root]));
            health.status.success() && said(&health).contains("alive")
        });
        fs::write(mount.path("f"), b"x").unwrap();
        command(&["flush", mount.path("f").to_str().unwrap()]);
        let socket = directory.join(format!("{name}.sock"));
        assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o7777, 0o600);
        sockets.push(socket);
    }
    first.unmount();
    second.unmount();
    assert!(sockets.iter().all(|socket| !socket.exists()));
}

#[test]
fn another_mount_does_not_take_the_socket_of_one_that_answers() {
    let first = Mount::fresh();
    let second = Mount::builder()
        .set("--control-socket", listening(&first))
        .start();
    assert_eq!(status(&first)["pid"], first.pid());
    wait_until(WITHIN, "a warning", || {
        second.log().contains("no control socket")
    });
    fs::write(second.path("f"), b"it serves all the same").unwrap();
}

#[test]
fn another_user_is_not_answered() {
    let mount = Mount::fresh();
    let socket = listening(&mount);
    // What its mode keeps out is not what is tried here.
    fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    let id = STRANGER.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .args(["curl", "-sS", "--max-time", "10", "--unix-socket"])
        .arg(&socket)
        .arg("http://localhost/status");
    let output = run_within(WITHIN, &mut command);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(output.stdout.is_empty(), "{}", said(&output));
    wait_until(WITHIN, "a warning", || {
        mount.log().contains("another user is not answered")
    });
    assert_eq!(status(&mount)["pid"], mount.pid());
}

#[test]
fn a_mount_that_cannot_have_its_socket_is_a_mount_all_the_same() {
    let plan = Mount::builder();
    let place = plan.scratch().join("no-such-dir/file");
    fs::create_dir(plan.scratch().join("no-such-dir")).unwrap();
    fs::write(&place, b"precious").unwrap();
    let mount = plan.set("--control-socket", &place).start();
    fs::write(mount.path("f"), b"bytes").unwrap();
    wait_until(WITHIN, "a warning", || {
        mount.log().contains("no control socket")
    });
    assert_eq!(fs::read(&place).unwrap(), b"precious");
    let without = Mount::builder().set("--control-socket", "none").start();
    assert!(
        !without.log().contains("control socket"),
        "{}",
        without.log()
    );
}

#[test]
fn a_health_check_is_quick_while_s3_does_not_answer_and_tells_a_daemon_that_hangs() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan.args(["--request-timeout", "9s"]).start();
    wait_for_health(&mount, "alive");
    proxy.fail("*", Fault::Stall, ALWAYS);
    wait_until(WITHIN, "an outage", || {
        drop(fs::metadata(mount.path("unknown")));
        status(&mount)["s3"]["serves"] == false
    });
    // Of several, since a busy machine is slow now and then.
    wait_until(WITHIN, "a quick answer", || {
        let began = Instant::now();
        let output = run(&mount, &["healthcheck"]);
        let is_quick = began.elapsed() < QUICK;
        is_quick && output.status.success() && said(&output).contains("degraded")
    });
    mount.signal(Signal::STOP);
    let began = Instant::now();
    let stuck = run(&mount, &["healthcheck"]);
    mount.signal(Signal::CONT);
    assert_eq!(stuck.status.code(), Some(1), "{}", said(&stuck));
    assert!(said(&stuck).contains("stuck"), "{}", said(&stuck));
    assert!(began.elapsed() < Duration::from_secs(50));
    wait_for_health(&mount, "degraded");
}

#[test]
fn who_has_no_mount_is_told_what_to_type() {
    // Other tests mount as the stranger.
    const LONER: u32 = 4322;
    let plan = Mount::builder().user(LONER);
    let (id, program) = (LONER.to_string(), plan.program());
    let said_with = |runtime: Option<&Path>| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
            .arg(&program)
            .arg("healthcheck")
            .env_remove("XDG_RUNTIME_DIR")
            .envs(runtime.map(|dir| ("XDG_RUNTIME_DIR", dir)));
        let output = run_within(WITHIN, &mut command);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };
    let unset = said_with(None);
    has_all(&unset, &["set it to /run/user/4322", "--socket"]);
    let runtime = plan.scratch().join("run");
    let empty = said_with(Some(&runtime));
    let dir = runtime.join("mediafs");
    let words = [dir.to_str().unwrap(), "'mediafs mount'", "--socket"];
    has_all(&empty, &words);
}

#[test]
fn who_opens_connections_and_says_nothing_keeps_nobody_out() {
    let mount = Mount::fresh();
    let place = listening(&mount);
    let connect = |_| std::os::unix::net::UnixStream::connect(&place).unwrap();
    let silent: Vec<_> = (0..200).map(connect).collect();
    wait_until(WITHIN, "an answer", || {
        run(&mount, &["healthcheck"]).status.success()
    });
    drop(silent);
    let odd = curl(&listening(&mount), "/flush", Some("{\"paths\": 1}"));
    assert!(odd.contains("error"), "{odd}");
    let usage = run_within(WITHIN, &mut mediafs(["status", "--no-such-flag"]));
    assert_eq!(usage.status.code(), Some(2));
    let daemon = rustix::process::Pid::from_raw(mount.pid() as i32).unwrap();
    kill_process(daemon, Signal::HUP).unwrap();
    wait_for_health(&mount, "alive");
}
