//! What a control socket answers to who asks for what is not there, and sockets of others.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::control::{curl, done, failed, listening, mediafs, run};
use crate::support::programs::{has_all, run_by, run_within, said};
use crate::support::{Mount, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn what_is_not_served_is_told_as_an_object_with_the_error() {
    let mount = Mount::fresh();
    let socket = listening(&mount);
    let told = |path: &str, body: Option<&str>| {
        let answer: Value = serde_json::from_str(&curl(&socket, path, body)).unwrap();
        answer["error"].as_str().unwrap().to_owned()
    };
    has_all(&told("/nosuch", None), &["mediafs help status"]);
    has_all(&told("/flush", None), &["another method"]);
    has_all(&told("/metrics", Some("{}")), &["another method"]);
}

#[test]
fn the_status_of_a_socket_on_which_nobody_listens_ends_with_1() {
    let plan = Mount::builder();
    let gone = plan.scratch().join("gone.sock");
    for json in [None, Some("--json")] {
        let mut command = mediafs(["status", "--socket"]);
        command.arg(&gone).args(json);
        let output = run_within(WITHIN, &mut command);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        has_all(&said(&output), &["gone.sock", "mount it again"]);
    }
}

#[test]
fn a_mount_whose_socket_is_elsewhere_is_told_as_mounted() {
    let mount = Mount::fresh();
    listening(&mount);
    let runtime = mount.scratch().join("run");
    for command in ["unmount", "status", "flush"] {
        let mut command = mediafs([command]);
        command.arg(&mount.root).env("XDG_RUNTIME_DIR", &runtime);
        let output = run_within(WITHIN, &mut command);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let root = mount.root.to_str().unwrap();
        has_all(&said(&output), &[root, "--socket"]);
    }
    // It is a mount all the same.
    assert!(
        Command::new("mountpoint")
            .arg(&mount.root)
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn a_mount_that_hangs_is_told_to_programs_by_every_command() {
    let mount = Mount::fresh();
    let root = mount.root.to_str().unwrap();
    listening(&mount);
    mount.signal(Signal::STOP);
    let one = run(&mount, &["status", root, "--json"]);
    let all = run(&mount, &["status", "--json"]);
    let others = ["unmount", "reload", "log-level", "flush", "refresh"];
    let others = others.map(|command| (command, run(&mount, &[command, root, "--json"])));
    mount.signal(Signal::CONT);
    for (command, output) in others {
        assert_eq!(output.status.code(), Some(1), "{command}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let told = told.get(0).unwrap_or(&told);
        assert_eq!(told["state"], "stuck", "{command}: {told:#}");
        has_all(&told["reasons"].to_string(), &[root]);
    }
    assert_eq!([one.status.code(), all.status.code()], [Some(1); 2]);
    let one: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(one["state"], "stuck", "{one:#}");
    has_all(&one["reasons"][0].to_string(), &[root, "does not answer"]);
    let all: Value = serde_json::from_slice(&all.stdout).unwrap();
    assert_eq!(all[0]["status"], Value::Null, "{all:#}");
    has_all(&all[0]["error"].to_string(), &["does not answer"]);
}

#[test]
fn a_mount_is_found_by_symlinks_to_it() {
    let mount = Mount::fresh();
    let (first, second) = (
        mount.scratch().join("first"),
        mount.scratch().join("second"),
    );
    symlink(&mount.root, &first).unwrap();
    symlink("first", &second).unwrap();
    fs::write(mount.path("f"), b"x").unwrap();
    for link in [&first, &second] {
        let path = link.to_str().unwrap();
        let file = link.join("f");
        let words: [&[&str]; 6] = [
            &["status", path],
            &["healthcheck", path],
            &["flush", path],
            &["flush", file.to_str().unwrap()],
            &["refresh", path],
            &["reload", path],
        ];
        for words in words {
            done(&mount, words);
        }
    }
    // Who does not answer is known by it too, and nobody waits for it.
    let path = second.to_str().unwrap();
    mount.signal(Signal::STOP);
    let stuck = run(&mount, &["healthcheck", path]);
    mount.signal(Signal::CONT);
    assert_eq!(stuck.status.code(), Some(1), "{}", said(&stuck));
    has_all(&said(&stuck), &["stuck", "does not answer"]);
    has_all(&done(&mount, &["unmount", path]), &["unmounted"]);
}

#[test]
fn what_to_do_about_a_dead_mount_is_told_alike_by_every_command() {
    let mut mount = Mount::fresh();
    let root = mount.root.to_str().unwrap().to_owned();
    listening(&mount);
    mount.signal(Signal::KILL);
    mount.wait_for_exit();
    let advice = format!("'umount -l {root}' or 'fusermount3 -uz {root}', then mount again");
    for words in [
        ["status", &root],
        ["healthcheck", &root],
        ["unmount", &root],
        ["flush", &root],
        ["refresh", &root],
        ["reload", &root],
    ] {
        has_all(&failed(&mount, &words), &[&advice]);
    }
    let refused = mount.run_again();
    has_all(&said(&refused), &[&advice]);
    // It is right.
    assert!(
        Command::new("umount")
            .args(["-l", &root])
            .status()
            .unwrap()
            .success()
    );
    mount.remount();
    done(&mount, &["status", &root]);
}

/// The entry of a mount in what a command prints as an array.
fn entry(output: &Output, root: &str) -> Value {
    let told: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut told = told.into_iter();
    let found = told.find(|it| it["mountpoint"] == root || it["status"]["mountpoint"] == root);
    found.unwrap_or_else(|| panic!("{root}: {}", said(output)))
}

#[test]
fn a_mount_without_a_socket_is_listed_and_ends_with_1() {
    let mount = Mount::builder().set("--control-socket", "none").start();
    let root = mount.root.to_str().unwrap();
    for command in ["status", "healthcheck", "flush", "refresh"] {
        for more in [&[][..], &["--json"], &[root], &[root, "--json"]] {
            if command == "refresh" && more.len() < 2 {
                continue;
            }
            let output = run_within(WITHIN, mediafs([command]).args(more));
            assert_eq!(
                output.status.code(),
                Some(1),
                "{command}: {}",
                said(&output)
            );
            has_all(&said(&output), &[root, "--socket"]);
            let json = more.contains(&"--json");
            if json && !(command == "status" && more.len() == 2) {
                assert_eq!(entry(&output, root)["state"], "unknown", "{command}");
            } else if json {
                let told: Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(
                    (&told["state"], &told["mountpoint"]),
                    (&"unknown".into(), &root.into())
                );
            }
        }
    }
    let listed = String::from_utf8(run_within(WITHIN, &mut mediafs(["status"])).stdout).unwrap();
    let row = listed.lines().find(|line| line.contains(root)).unwrap();
    has_all(row, &["unknown", mount.bucket()]);
    // A bind is no other mount.
    let elsewhere = mount.scratch().join("bind");
    fs::create_dir(&elsewhere).unwrap();
    let mut bind = Command::new("mount");
    assert!(
        bind.arg("--bind")
            .args([&mount.root, &elsewhere])
            .status()
            .unwrap()
            .success()
    );
    let listed = said(&run_within(WITHIN, &mut mediafs(["healthcheck"])));
    assert!(
        Command::new("umount")
            .arg(&elsewhere)
            .status()
            .unwrap()
            .success()
    );
    let named = listed
        .lines()
        .filter(|line| line.contains(mount.scratch().to_str().unwrap()));
    assert_eq!(named.count(), 1, "{listed}");
}

/// A mount with a socket where the commands look, and its name.
fn listed() -> (Mount, String) {
    let mount = Mount::builder().without("--control-socket").start();
    let root = mount.root.to_str().unwrap();
    let mut name = None;
    wait_until(WITHIN, "a mount that answers", || {
        let output = run_within(WITHIN, &mut mediafs(["status", root, "--json"]));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        name = told["name"].as_str().map(str::to_owned);
        name.is_some()
    });
    (mount, name.unwrap())
}

#[test]
fn a_mount_that_hangs_is_known_by_its_name_and_has_its_row() {
    let (mount, name) = listed();
    let root = mount.root.to_str().unwrap();
    mount.signal(Signal::STOP);
    let by_name = ["flush", "refresh"];
    let by_name = by_name.map(|it| run_within(WITHIN, &mut mediafs([it, &name, "--json"])));
    let status = run_within(WITHIN, &mut mediafs(["status"]));
    mount.signal(Signal::CONT);
    for output in by_name {
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert_eq!(entry(&output, root)["state"], "stuck", "{}", said(&output));
    }
    assert_eq!(status.status.code(), Some(1), "{}", said(&status));
    let listed = String::from_utf8_lossy(&status.stdout).into_owned();
    let row = listed.lines().find(|line| line.contains(root)).unwrap();
    has_all(row, &["stuck", &name]);
}

/// Runs a command where a folder of the test's is `/etc/mediafs`.
fn with_configurations(folder: &Path, command: &Command) -> Output {
    const SCRIPT: &str = r#"
        if ! [ -d /etc/mediafs ]; then
            mount -t tmpfs none /mnt
            mkdir /mnt/upper /mnt/work /mnt/upper/mediafs
            mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work none /etc
        fi
        mount --bind "$0" /etc/mediafs
        exec "$@""#;
    let mut runner = Command::new("unshare");
    runner.args(["-m", "--propagation", "private", "sh", "-ec", SCRIPT]);
    runner.arg(folder);
    run_within(WITHIN, &mut run_by(runner, command))
}

#[test]
fn a_name_of_two_mounts_is_told_and_neither_is_taken() {
    let (mount, name) = listed();
    let root = mount.root.to_str().unwrap();
    let folder = mount.scratch().join("etc");
    fs::create_dir(&folder).unwrap();
    let file = "bucket = \"b\"\nmountpoint = \"/srv/nosuch\"\n";
    fs::write(folder.join(format!("{name}.toml")), file).unwrap();
    for command in ["status", "unmount", "flush", "healthcheck"] {
        let output = with_configurations(&folder, &mediafs([command, &name]));
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        has_all(&said(&output), &["name of 2 mounts", root, "/srv/nosuch"]);
    }
    let output = with_configurations(&folder, &mediafs(["status", root]));
    assert!(output.status.success(), "{}", said(&output));
    let file = format!("bucket = \"b\"\nmountpoint = {root:?}\n");
    fs::write(folder.join(format!("{name}.toml")), file).unwrap();
    let output = with_configurations(&folder, &mediafs(["status", &name]));
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_mountpoint_stands_for_the_mount_that_a_file_configures_there() {
    let plan = Mount::builder();
    let (root, link) = (plan.root.to_str().unwrap(), plan.scratch().join("link"));
    symlink(&plan.root, &link).unwrap();
    let folder = plan.scratch().join("etc");
    fs::create_dir(&folder).unwrap();
    let file = format!("bucket = \"the-bucket\"\nmountpoint = {root:?}\n");
    fs::write(folder.join("media.toml"), file).unwrap();
    let by = |words: &[&str]| {
        let mut command = mediafs(words);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        with_configurations(&folder, command.env("AWS_REGION", "us-east-1"))
    };
    let slash = format!("{root}/");
    for directory in [root, &slash, link.to_str().unwrap()] {
        let output = by(&["config", "show", directory]);
        assert!(output.status.success(), "{}", said(&output));
        let words = ["bucket = the-bucket  # /etc/mediafs/media.toml:1", root];
        has_all(&said(&output), &words);
    }
    let doctor = by(&["doctor", root, "--proxy", "http://127.0.0.1:9"]);
    has_all(&said(&doctor), &["mountpoint", root, "can be mounted on"]);
    for words in [&["doctor"][..], &["mount"], &["config", "check"]] {
        let output = by(&[words, &["/srv/nosuch"]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let told = "no /etc/mediafs/*.toml has the mountpoint /srv/nosuch";
        has_all(&said(&output), &[told, "BUCKET[/PREFIX] /srv/nosuch"]);
    }
    let output = by(&["setup", root]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    has_all(&said(&output), &["no bucket given", root]);
    for words in [&["mount"][..], &["doctor"], &["setup"]] {
        let output = by(&[words, &[root, "the-bucket"]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        has_all(&said(&output), &[root, "are the arguments in their order"]);
    }
}

#[test]
fn a_path_with_parent_directories_is_the_kernels_or_refused() {
    let mount = Mount::fresh();
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("f"), b"x").unwrap();
    let path = |rest: &str| format!("{}/{rest}", mount.root.display());
    let outside = failed(&mount, &["flush", &path("../elsewhere")]);
    has_all(&outside, &["is not in a mount"]);
    let odd = failed(&mount, &["refresh", &path("d/../f")]);
    has_all(&odd, &["'..'", "name the path without it"]);
    // The folder of a process is as the kernel has it.
    let mut inside = mediafs(["flush", "../f", "--socket"]);
    inside.arg(listening(&mount)).current_dir(mount.path("d"));
    let output = run_within(WITHIN, &mut inside);
    assert!(output.status.success(), "{}", said(&output));
}
