//! What can be asked of a mount: flush, refresh, unmount, reload; and its configuration.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::support::control::{curl, done, failed, listening, mediafs, run, status};
use crate::support::mount::is_mounted;
use crate::support::processes::daemons_of;
use crate::support::programs::{run_within, said};
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{Mount, MountBuilder, SupervisedMount, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// A request that is held is not given up in the time of a test.
const PATIENT: &str = "300s";
const WAITS: &str = "waits until S3 has what was written";

/// With `--durability=disk`, behind a proxy.
fn on_disk(request_timeout: &str) -> (Mount, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = on_disk_plan(plan, request_timeout).start();
    get_known(&mount);
    (mount, proxy)
}

pub fn on_disk_plan(plan: MountBuilder, request_timeout: &str) -> MountBuilder {
    let plan = plan.durability("disk").set("--ttl", "1h");
    plan.args(["--request-timeout", request_timeout])
        .args(["--log", "info,mediafs=debug"])
}

/// Files can be made in its directory from now on, whatever S3 does.
pub fn get_known(mount: &Mount) {
    fs::write(mount.path("first"), b"x").unwrap();
    mount.wait_until_uploaded("first", b"x");
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 1);
}

fn held_put(proxy: &Proxy, key: &str) -> Gate {
    let rule = Rule::on("PutObject", Fault::Pass).key(key);
    proxy.hold(Side::BeforeServer, rule)
}

fn path(mount: &Mount, name: &str) -> String {
    mount.path(name).to_str().unwrap().to_owned()
}

#[test]
fn a_flush_returns_when_another_client_can_get_the_file() {
    let (mount, proxy) = on_disk(PATIENT);
    let gate = held_put(&proxy, "d/held");
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/held"), b"bytes").unwrap();
    fs::write(mount.path("other"), b"more").unwrap();
    done(&mount, &["flush", &path(&mount, "other")]);
    assert_eq!(mount.object("other").unwrap(), b"more");
    assert_eq!(mount.object("d/held"), None);
    let told = failed(&mount, &["flush", &path(&mount, "d"), "--timeout", "300ms"]);
    assert!(
        told.contains("d/held") && told.contains("not done"),
        "{told}"
    );
    gate.open();
    let told = done(&mount, &["flush", &path(&mount, "d"), "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told[0]["done"], true, "{told}");
    assert_eq!(told[0]["mountpoint"], mount.root.to_str().unwrap());
    assert_eq!(mount.object("d/held").unwrap(), b"bytes");
    for number in 0..20 {
        fs::write(mount.path(format!("f{number}")), b"x").unwrap();
    }
    fs::remove_file(mount.path("other")).unwrap();
    done(&mount, &["flush"]);
    assert_eq!(mount.keys().len(), 22);
    let told = failed(&mount, &["flush", &path(&mount, "no-such-file")]);
    assert!(told.contains("no-such-file"), "{told}");
}

#[test]
fn a_flush_waits_for_who_writes_and_sends_no_half_file() {
    let (mount, _proxy) = on_disk(PATIENT);
    let mut file = fs::File::create(mount.path("f")).unwrap();
    file.write_all(b"half").unwrap();
    let told = failed(&mount, &["flush", &path(&mount, "f"), "--timeout", "300ms"]);
    assert!(told.contains("being written"), "{told}");
    assert_eq!(mount.object("f"), None);
    std::thread::scope(|scope| {
        let flushing = scope.spawn(|| done(&mount, &["flush", &path(&mount, "f")]));
        file.write_all(b" and half").unwrap();
        drop(file);
        flushing.join().unwrap();
    });
    assert_eq!(mount.object("f").unwrap(), b"half and half");
}

#[test]
fn a_flush_with_s3_down_says_so_in_time_and_one_after_it_does_not_wait_for_a_pause() {
    let (mount, proxy) = on_disk("6s");
    proxy.all_down();
    fs::write(mount.path("f"), b"bytes").unwrap();
    wait_until(WITHIN, "an outage", || {
        status(&mount)["s3"]["serves"] == false
    });
    let began = Instant::now();
    let told = failed(&mount, &["flush", "--timeout", "1s"]);
    // It would be half a minute without.
    assert!(began.elapsed() < Duration::from_secs(25));
    assert!(told.contains("S3 unreachable since"), "{told}");
    assert!(told.contains("spool"), "where the bytes are: {told}");
    proxy.heal();
    done(&mount, &["flush"]);
    assert_eq!(mount.object("f").unwrap(), b"bytes");
}

#[test]
fn a_flush_tells_of_an_upload_that_failed_for_good() {
    let (mount, proxy) = on_disk(PATIENT);
    let gate = held_put(&proxy, "f");
    let mut file = fs::File::create_new(mount.path("f")).unwrap();
    file.write_all(b"ours").unwrap();
    drop(file);
    gate.wait_for(1);
    mount.put_object("f", b"theirs");
    std::thread::scope(|scope| {
        let flushing = scope.spawn(|| failed(&mount, &["flush", &path(&mount, "f")]));
        // What failed before it came would be none of its failures.
        wait_until(WITHIN, "a flush that waits", || mount.log().contains(WAITS));
        gate.open();
        let told = flushing.join().unwrap();
        assert!(told.contains("mediafs spool list"), "{told}");
    });
    assert_eq!(mount.object("f").unwrap(), b"theirs");
}

#[test]
fn a_refresh_shows_at_once_what_another_client_did() {
    let (plan, _proxy) = Mount::behind_a_proxy();
    let plan = plan
        .set("--ttl", "600s")
        .args(["--negative-ttl", "600s"])
        .env("_MEDIAFS_NOTIFY_IN_CONTAINER", "1");
    let mount = plan.start();
    mount.put_object("d/f", b"old");
    mount.put_object("e/f", b"old");
    for name in ["d/f", "e/f"] {
        assert_eq!(fs::read(mount.path(name)).unwrap(), b"old");
    }
    assert!(!mount.path("d/new").exists());
    mount.put_object("d/f", b"newer");
    mount.put_object("e/f", b"newer");
    mount.put_object("d/new", b"new");
    assert_eq!(
        fs::read(mount.path("d/f")).unwrap(),
        b"old",
        "for ten minutes"
    );
    let told = done(&mount, &["refresh", &path(&mount, "d")]);
    assert!(told.contains("forgotten"), "{told}");
    // The kernel hears of it a moment later.
    wait_until(WITHIN, "the new file", || {
        fs::read(mount.path("d/f")).unwrap() == b"newer"
    });
    wait_until(WITHIN, "the name", || mount.path("d/new").exists());
    assert_eq!(
        fs::read(mount.path("e/f")).unwrap(),
        b"old",
        "another directory"
    );
    let open = fs::File::create(mount.path("local")).unwrap();
    (&open).write_all(b"not in S3").unwrap();
    curl(&listening(&mount), "/refresh", Some("{}"));
    wait_until(WITHIN, "the rest", || {
        fs::read(mount.path("e/f")).unwrap() == b"newer"
    });
    assert_eq!(fs::read(mount.path("local")).unwrap(), b"not in S3");
}

#[test]
fn an_unmount_brings_everything_to_s3_first() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = SupervisedMount::start(on_disk_plan(plan, PATIENT));
    let gate = held_put(&proxy, "f");
    fs::write(mount.path("f"), b"bytes").unwrap();
    gate.wait_for(1);
    let root = mount.root.to_str().unwrap();
    std::thread::scope(|scope| {
        let unmounting = scope.spawn(|| done(&mount, &["unmount", root]));
        wait_until(WITHIN, "a wait", || mount.log().contains(WAITS));
        assert!(is_mounted(&mount.root));
        gate.open();
        let told = unmounting.join().unwrap();
        assert!(told.contains("S3 has everything"), "{told}");
    });
    assert!(!is_mounted(&mount.root));
    assert_eq!(mount.object("f").unwrap(), b"bytes");
    wait_until(WITHIN, "the supervisor's end", || {
        daemons_of(&mount.root).is_empty()
    });
}

#[test]
fn a_mount_that_is_asked_for_by_name_and_hangs_is_stuck_for_programs_too() {
    let mount = Mount::fresh();
    let root = mount.root.to_str().unwrap().to_owned();
    listening(&mount);
    mount.signal(Signal::STOP);
    let output = run(&mount, &["healthcheck", &root, "--json"]);
    mount.signal(Signal::CONT);
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told[0]["state"], "stuck", "{told:#}");
}

#[test]
fn a_status_that_is_watched_is_told_again_and_again() {
    let mount = Mount::fresh();
    let root = mount.root.to_str().unwrap();
    let mut watching = mediafs(["status", root, "--json", "--watch", "--socket"]);
    let watching = watching.arg(listening(&mount)).stdout(Stdio::piped());
    let mut watching = watching.spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut uptime = || {
        let line = lines.next().unwrap().unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        told["uptime_seconds"].as_u64().unwrap()
    };
    let first = uptime();
    assert!(uptime() > first);
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn a_reload_tells_what_holds_from_now_on_and_what_needs_a_new_mount() {
    let plan = Mount::builder();
    let file = plan.scratch().join("m.toml");
    fs::write(&file, "negative-ttl = \"60s\"\n").unwrap();
    let mount = plan.arg("--config").arg(&file).start();
    fs::write(&file, "negative-ttl = 0\npart-size = \"6MiB\"\n").unwrap();
    let root = mount.root.to_str().unwrap();
    let told = done(&mount, &["reload", root]);
    assert!(told.contains("live: negative-ttl"), "{told}");
    assert!(told.contains("new mount: part-size"), "{told}");
    let told = done(&mount, &["reload", root, "--json"]);
    assert!(told.contains("\"waiting\": [\n"), "{told}");
    fs::write(&file, "no-such-setting = 1\n").unwrap();
    let told = failed(&mount, &["reload", root]);
    assert!(told.contains("no-such-setting"), "{told}");
}

#[test]
fn a_configuration_is_shown_and_checked_without_a_mount() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.toml");
    let text = "bucket = \"b\"\nmountpoint = \"/no/such/dir\"\n\nttl = \"5s\"\nproxy = \"http://me:doNotShowThis@proxy\"\n";
    fs::write(&file, text).unwrap();
    let config = |words: &[&str]| {
        let mut command = mediafs(["config"]);
        command.args(words).arg("--config").arg(&file);
        command.env("MEDIAFS_LOG", "warn");
        run_within(WITHIN, &mut command)
    };
    let shown = config(&["show", "--uid", "7"]);
    let text = said(&shown);
    assert!(shown.status.success(), "{text}");
    let file_name = file.display();
    for line in [
        format!("ttl = 5s  # {file_name}:4"),
        "log = warn  # MEDIAFS_LOG".to_owned(),
        "uid = 7  # --uid".to_owned(),
        "negative-ttl = 1s  # default".to_owned(),
        format!("proxy = http://***@proxy  # {file_name}:5"),
        "# profile is not set".to_owned(),
    ] {
        let starts = |shown: &str| shown.starts_with(&line);
        assert!(text.lines().any(starts), "{line}: {text}");
    }
    assert!(!text.contains("doNotShowThis"), "{text}");
    let json = config(&["show", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let settings = json.as_array().unwrap();
    assert!(settings.len() > 40);
    let of_file = json!({"file": {"path": file, "line": 4}});
    for (name, value, origin) in [
        ("ttl", json!("5s"), of_file),
        ("log", json!("warn"), json!({"variable": "MEDIAFS_LOG"})),
        ("profile", Value::Null, json!("default")),
    ] {
        let expected = json!({"name": name, "value": value, "origin": origin});
        assert!(settings.contains(&expected), "{expected}: {json:#}");
    }
    assert!(!json.to_string().contains("doNotShowThis"));
    let checked = config(&["check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    assert!(
        said(&checked).contains("/no/such/dir"),
        "{}",
        said(&checked)
    );
    fs::write(
        &file,
        "bucket = \"b\"\nmountpoint = \"/tmp\"\nttl = \"soon\"\n",
    )
    .unwrap();
    let wrong = config(&["check"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
    // It counts from the folder of the file.
    fs::create_dir(dir.path().join("mnt")).unwrap();
    fs::write(&file, "bucket = \"b\"\nmountpoint = \"mnt\"\n").unwrap();
    assert!(config(&["check"]).status.success());
}

#[test]
fn commands_that_come_during_a_takeover_wait_for_the_successor() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = SupervisedMount::start(plan.durability("disk"));
    let root = mount.root.to_str().unwrap().to_owned();
    let supervisor = mount.supervisor();
    for words in [
        &["flush", &root][..],
        &["flush"],
        &["refresh", &root],
        &["unmount", &root],
    ] {
        let name = words.join("-").replace('/', "");
        proxy.rule(Rule::on(
            "PutObject",
            Fault::AnswerLate(Duration::from_millis(300)),
        ));
        fs::write(mount.path(&name), b"x").unwrap();
        kill_process(supervisor, Signal::STOP).unwrap();
        kill_process(mount.daemon(), Signal::KILL).unwrap();
        let output = std::thread::scope(|scope| {
            let asking = scope.spawn(|| run(&mount, words));
            // Nobody listens for a while, as in the takeover of a big mount.
            std::thread::sleep(Duration::from_millis(500));
            kill_process(supervisor, Signal::CONT).unwrap();
            asking.join().unwrap()
        });
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        if words[0] != "refresh" {
            assert_eq!(mount.object(&name).unwrap(), b"x");
        }
    }
    assert!(!is_mounted(&mount.root));
    wait_until(WITHIN, "the supervisor's end", || {
        daemons_of(&mount.root).is_empty()
    });
}

#[test]
fn a_reader_that_has_gone_is_no_error_of_a_command() {
    for words in [
        &["completions", "bash"][..],
        &["config", "show", "b", "/tmp"],
        &["config", "show", "b", "/tmp", "--json"],
        &["setup", "b", "/tmp", "--print-policy"],
        &["help", "doctor"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = mediafs(words)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {text}");
        assert!(text.is_empty(), "{words:?}: {text}");
    }
}
