//! Mounts and users: who may look in, and who may mount.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::processes::daemons_of;
use crate::support::programs::{run_within, said};
use crate::support::{Mount, MountBuilder, wait_until};

const NOBODY: u32 = 65534;
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// Runs a shell script as a user without rights, `$1` being the mountpoint.
fn as_nobody(script: &str, root: &Path) -> Output {
    Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["sh", "-ec", script, "sh"])
        .arg(root)
        .output()
        .unwrap()
}

#[test]
fn without_allow_other_other_users_are_kept_out() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), b"bytes").unwrap();
    let output = as_nobody("cat \"$1/f\"", &mount.root);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("Permission denied"),
        "{}",
        said(&output)
    );
}

#[test]
fn with_allow_other_other_users_see_what_the_modes_let_them() {
    let mount = Mount::builder().arg("--allow-other").start();
    fs::write(mount.path("f"), b"bytes").unwrap();
    let output = as_nobody("cat \"$1/f\"; ls \"$1\"", &mount.root);
    assert_eq!(said(&output), "bytesf\n");
    let output = as_nobody("echo x > \"$1/g\"", &mount.root);
    assert!(
        said(&output).contains("ermission denied"),
        "{}",
        said(&output)
    );
    assert_eq!(mount.keys(), ["f"]);
}

#[test]
fn with_allow_other_the_owner_of_the_options_may_write() {
    let owner = ["--allow-other", "--uid", "65534", "--gid", "65534"];
    let mount = Mount::builder()
        .args(owner)
        .args(["--dir-mode", "0700"])
        .start();
    let output = as_nobody(
        "mkdir \"$1/d\"; echo x > \"$1/d/g\"; cat \"$1/d/g\"; id -u",
        &mount.root,
    );
    assert_eq!(said(&output), "x\n65534\n");
    assert_eq!(mount.object("d/g").unwrap(), b"x\n");
    let stranger = Command::new("setpriv")
        .args(["--reuid", "1234", "--regid", "1234", "--clear-groups", "ls"])
        .arg(&mount.root)
        .output()
        .unwrap();
    assert!(
        said(&stranger).contains("Permission denied"),
        "{}",
        said(&stranger)
    );
}

/// A mount by a user without rights, all in one shell: `$0` is an empty folder
/// for a device that everybody may open, as udev makes it, and for a fuse.conf that
/// lets users mount for others; `$1` the mountpoint;
/// `$2` what the user does when it is mounted; the rest the mount command.
const MOUNT_AS_USER: &str = r#"
    mount -t tmpfs -o dev,mode=755 none "$0"
    mknod -m 666 "$0/fuse" c 10 229
    mount --bind "$0/fuse" /dev/fuse
    echo user_allow_other > "$0/fuse.conf"
    mount --bind "$0/fuse.conf" /etc/fuse.conf
    root=$1 then=$2; shift 2
    exec setpriv --reuid 65534 --regid 65534 --clear-groups \
        sh -ec 'root=$0; then=$1; shift; "$@"; eval "$then"' "$root" "$then" "$@"
"#;

#[track_caller]
fn mounted_as_user(args: &[&str], then: &str) -> (MountBuilder, Output) {
    run_as_user(Mount::builder().args(args.iter().copied()), then)
}

#[track_caller]
fn run_as_user(plan: MountBuilder, then: &str) -> (MountBuilder, Output) {
    let plan = plan.user(NOBODY).env("HOME", "/nonexistent");
    let device = plan.scratch().join("device");
    fs::create_dir(&device).unwrap();
    let mut unshared = Command::new("unshare");
    unshared
        .args(["-m", "--propagation", "private", "sh", "-ec", MOUNT_AS_USER])
        .args([&device, &plan.root])
        .arg(then)
        .arg(plan.program());
    let output = run_within(ENDED_WITHIN, &mut plan.command_after(unshared));
    (plan, output)
}

#[test]
fn a_user_without_rights_mounts_and_unmounts_with_fusermount3() {
    let then = "mkdir $root/d; echo hello > $root/d/f; cat $root/d/f; grep -c \" $root fuse\" /proc/mounts; \
                fusermount3 -u $root; ! mountpoint -q $root";
    let (plan, output) = mounted_as_user(&[], then);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "hello\n1\n");
    wait_until(ENDED_WITHIN, "the daemon's end", || {
        daemons_of(&plan.root).is_empty()
    });
    let stored = plan.client.get(&plan.bucket, "d/f");
    assert_eq!(stored.as_deref(), Some(&b"hello\n"[..]));
}

#[test]
fn a_users_mount_answers_in_the_users_own_directory() {
    let then = r#"
        stat -c %a $XDG_RUNTIME_DIR/mediafs $XDG_RUNTIME_DIR/mediafs/*.sock
        echo hello > $root/f
        "$1" status | tail -n +2
        "$1" flush
        "$1" unmount $root
        ls -A $XDG_RUNTIME_DIR/mediafs
    "#;
    let plan = Mount::builder().without("--control-socket");
    let runtime = plan.scratch().join("runtime");
    fs::create_dir(&runtime).unwrap();
    std::os::unix::fs::chown(&runtime, Some(NOBODY), Some(NOBODY)).unwrap();
    let (plan, output) = run_as_user(plan.env("XDG_RUNTIME_DIR", &runtime), then);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["700", "600"], "{text}");
    assert!(lines[2].contains(plan.root.to_str().unwrap()), "{text}");
    assert!(lines[3].contains("S3 has everything"), "{text}");
    assert_eq!(lines.len(), 4, "nothing is left: {text}");
    let stored = plan.client.get(&plan.bucket, "f");
    assert_eq!(stored.as_deref(), Some(&b"hello\n"[..]));
}

#[test]
fn a_mount_of_a_user_without_rights_ends_by_sigterm() {
    let then = r#"
        echo hello > $root/f
        for process in /proc/[0-9]*; do
            case $(tr '\0' ' ' < $process/cmdline) in "$1 mount "*) kill ${process#/proc/} ;; esac
        done 2>/dev/null
        tries=0
        while mountpoint -q $root; do
            tries=$((tries+1))
            [ $tries -lt 500 ]
            sleep 0.1
        done"#;
    let (plan, output) = mounted_as_user(&[], then);
    assert!(output.status.success(), "{}", said(&output));
    wait_until(ENDED_WITHIN, "the daemon's end", || {
        daemons_of(&plan.root).is_empty()
    });
    let stored = plan.client.get(&plan.bucket, "f");
    assert_eq!(stored.as_deref(), Some(&b"hello\n"[..]));
}

/// Sets `pid` to the daemon's process.
const FIND_DAEMON: &str = r#"
    for process in /proc/[0-9]*; do
        case $(tr '\0' ' ' < $process/cmdline) in "$1 mount "*) pid=${process#/proc/} ;; esac
    done 2>/dev/null"#;

#[test]
fn a_user_without_rights_has_all_of_it_and_keeps_it_from_others() {
    let then = r#"
        ln -s target $root/link; echo hello > $root/f; chmod 600 $root/f
        [ "$(readlink $root/link)" = target ]; stat -c %a $root/f
        fusermount3 -u $root"#;
    let args = ["--attributes", "stored", "--durability", "disk"];
    let (plan, output) = mounted_as_user(&args, then);
    assert_eq!(said(&output), "600\n");
    wait_until(ENDED_WITHIN, "the daemon's end", || {
        daemons_of(&plan.root).is_empty()
    });
    let stored = plan.client.get(&plan.bucket, "f");
    assert_eq!(stored.as_deref(), Some(&b"hello\n"[..]));
    let mut folders = vec![plan.scratch().join("spool")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let own = if found.is_dir() { 0o700 } else { 0o600 };
            let seen = (found.uid(), found.mode() & 0o777);
            assert_eq!(seen, (NOBODY, own), "{}", path.display());
            folders.extend(found.is_dir().then_some(path));
        }
    }
}

#[test]
fn a_users_other_programs_do_not_look_into_its_daemon() {
    let then = format!(
        r#"{FIND_DAEMON}
        stat -c %u /proc/$pid/environ
        cat /proc/$pid/environ && echo readable
        grep NoNewPrivs /proc/$pid/status
        fusermount3 -u $root"#
    );
    let (_plan, output) = mounted_as_user(&[], &then);
    let text = said(&output);
    assert!(text.starts_with("0\n"), "it is root's to look at: {text}");
    assert!(!text.contains("readable"), "{text}");
    // fusermount3 is setuid, and unmounts for it.
    assert!(text.contains("NoNewPrivs:\t0"), "{text}");
}

#[test]
fn the_kernel_checks_permissions_on_every_mount_whoever_may_use_it() {
    let options = |mounts: &str, root: &Path| {
        let line = mounts
            .lines()
            .find(|line| line.contains(root.to_str().unwrap()));
        let options = line.unwrap().split(' ').nth(3).unwrap().to_owned();
        let has = |option: &str| options.split(',').any(|it| it == option);
        let safe = ["default_permissions", "nosuid", "nodev"]
            .iter()
            .all(|it| has(it));
        (safe, has("allow_other"))
    };
    for args in [&[][..], &["--allow-other"]] {
        let shared = !args.is_empty();
        let mount = Mount::builder().args(args.iter().copied()).start();
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        assert_eq!(options(&mounts, &mount.root), (true, shared), "{mounts}");

        let then = "cat /proc/mounts; fusermount3 -u $root";
        let (plan, output) = mounted_as_user(args, then);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(options(&said(&output), &plan.root), (true, shared));
    }
}
