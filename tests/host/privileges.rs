//! What the daemon may do, and who may look at what it keeps.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::Duration;

use crate::support::mount::is_mounted;
use crate::support::processes::daemons_of;
use crate::support::programs::{run_within, said};
use crate::support::{Mount, MountBuilder, Worker, wait_until};

const NOBODY: u32 = 65534;
const REFUSED_WITHIN: Duration = Duration::from_secs(60);
/// Source: capabilities(7), linux/capability.h.
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// The value of one line of a thread's status. Source: proc_pid_status(5).
fn status_of(thread: &Path, name: &str) -> String {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let mut values = status.lines().filter_map(|line| line.strip_prefix(name));
    values.next().unwrap().trim_matches([':', '\t']).to_owned()
}

fn threads_of(mount: &Mount) -> Vec<std::path::PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{}/task", mount.pid())).unwrap();
    tasks.map(|task| task.unwrap().path()).collect()
}

#[test]
fn as_root_every_thread_keeps_two_capabilities_and_gets_no_new_ones() {
    let mut mount = Mount::fresh();
    let threads = threads_of(&mount);
    assert!(threads.len() > 2, "{threads:?}");
    for thread in threads {
        for set in ["CapPrm", "CapEff"] {
            let held = u64::from_str_radix(&status_of(&thread, set), 16).unwrap();
            assert_eq!(held, CAP_DAC_READ_SEARCH | CAP_SYS_ADMIN, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(status_of(&thread, set), "0000000000000000", "{set}");
        }
        let bound = u64::from_str_radix(&status_of(&thread, "CapBnd"), 16).unwrap();
        assert_eq!(bound & !(CAP_DAC_READ_SEARCH | CAP_SYS_ADMIN), 0);
        assert_eq!(status_of(&thread, "NoNewPrivs"), "1");
    }
    // It does its work, and it unmounts.
    fs::write(mount.path("f"), b"x").unwrap();
    assert_eq!(mount.object("f").unwrap(), b"x");
    mount.unmount();
}

/// The process that tells the kernel what to forget.
#[test]
fn the_notifier_holds_the_device_its_sockets_and_the_log_and_no_secret() {
    let mount = Mount::fresh();
    let mut processes = daemons_of(&mount.root).into_iter();
    let notifier = processes.find(|pid| pid.as_raw_nonzero().get() as u32 != mount.pid());
    let folder = format!("/proc/{}", notifier.unwrap().as_raw_nonzero());
    let folder = Path::new(&folder);
    // It is there before it has given up what it was started with.
    wait_until(REFUSED_WITHIN, "one capability", || {
        status_of(folder, "CapEff") == format!("{CAP_DAC_READ_SEARCH:016x}")
    });
    for thread in fs::read_dir(folder.join("task")).unwrap() {
        let thread = thread.unwrap().path();
        assert_eq!(
            status_of(&thread, "CapPrm"),
            format!("{CAP_DAC_READ_SEARCH:016x}")
        );
        assert_eq!(status_of(&thread, "CapInh"), "0000000000000000");
        assert_eq!(status_of(&thread, "NoNewPrivs"), "1");
    }
    let links = fs::read_dir(folder.join("fd")).unwrap();
    for link in links.map(|link| fs::read_link(link.unwrap().path()).unwrap()) {
        let link = link.to_str().unwrap();
        let known = ["socket:", "/dev/fuse"]
            .iter()
            .any(|name| link.starts_with(name));
        assert!(
            known || link.ends_with("/abort") || link.ends_with("/log"),
            "{link}"
        );
    }
    assert_eq!(fs::read(folder.join("environ")).unwrap(), b"");
}

#[test]
fn with_hardening_off_root_keeps_what_it_has() {
    let mount = Mount::builder().args(["--hardening", "off"]).start();
    let thread = format!("/proc/{}", mount.pid());
    let own = status_of(Path::new("/proc/self"), "CapEff");
    assert_eq!(status_of(Path::new(&thread), "CapEff"), own);
    assert_eq!(status_of(Path::new(&thread), "NoNewPrivs"), "0");
}

#[test]
fn it_leaves_no_core_dump() {
    let mount = Mount::fresh();
    let limits = fs::read_to_string(format!("/proc/{}/limits", mount.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let values: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(values[4..6], ["0", "0"], "{limits}");
}

#[test]
fn root_mounts_and_unmounts_below_another_users_closed_directory() {
    let plan = Mount::builder();
    let home = plan.scratch().join("home");
    fs::create_dir_all(home.join("media")).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).unwrap();
    let mut mount = plan
        .mountpoint(home.join("media").canonicalize().unwrap())
        .start();
    fs::write(mount.path("f"), b"x").unwrap();
    mount.unmount();
    assert_eq!(mount.object("f").unwrap(), b"x");
}

#[test]
fn nobody_else_may_read_what_it_keeps_on_disk() {
    let mut mount = Mount::builder()
        .args(["--attributes", "stored", "--drain-timeout", "1s"])
        .start();
    fs::write(mount.path("f"), b"x").unwrap();
    let mut worker = Worker::at(&mount.root);
    worker.write_new("half", "written, not closed");
    mount.kill9();
    drop(worker);
    mount.remount();
    let mut seen = 0;
    let mut folders = vec![mount.scratch().join("spool")];
    while let Some(folder) = folders.pop() {
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            if found.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(found.mode() & 0o777, 0o600, "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(
        seen >= 6,
        "lock, journal, note, attributes, kept bytes, sidecar"
    );
}

/// Runs a mount that must be refused in both ways of starting, with a message that
/// has all of these words.
#[track_caller]
fn refused(plan: &MountBuilder, words: &[&str]) {
    for stay in [&["--foreground"][..], &[]] {
        let output = run_within(REFUSED_WITHIN, plan.command().args(stay));
        let text = said(&output);
        assert!(!output.status.success(), "{text}");
        assert!(!is_mounted(&plan.root), "{text}");
        for word in words {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
    }
}

#[test]
fn a_spool_that_is_not_the_daemons_own_is_refused() {
    let plan = Mount::builder();
    let spool = plan.scratch().join("spool");
    let elsewhere = plan.scratch().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &spool).unwrap();
    refused(&plan, &["spool", "symlink"]);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::remove_file(&spool).unwrap();

    fs::create_dir(&spool).unwrap();
    chown(&spool, Some(NOBODY), None).unwrap();
    refused(&plan, &["spool", "65534", "chown"]);
    chown(&spool, Some(0), None).unwrap();
    fs::set_permissions(&spool, PermissionsExt::from_mode(0o777)).unwrap();
    refused(&plan, &["spool", "0777", "chmod go-w"]);
    // One below it counts as much.
    fs::set_permissions(&spool, PermissionsExt::from_mode(0o755)).unwrap();
    symlink(&elsewhere, spool.join("stage")).unwrap();
    refused(&plan, &["spool/stage", "symlink"]);
    fs::remove_file(spool.join("stage")).unwrap();
    symlink(&elsewhere, spool.join("lost+found")).unwrap();
    refused(&plan, &["lost+found", "symlink"]);
    fs::remove_file(spool.join("lost+found")).unwrap();
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    drop(plan.start());
}

#[test]
fn no_symlink_in_the_spool_leads_to_another_file() {
    let plan = Mount::builder().args(["--attributes", "stored"]);
    let spool = plan.scratch().join("spool");
    let precious = plan.scratch().join("precious");
    fs::write(&precious, b"precious").unwrap();
    fs::create_dir(&spool).unwrap();
    for name in ["lock", "journal", "journal.spare", "mount.new"] {
        // The record of the spool's place is written where it is not there as it is to be.
        fs::remove_file(spool.join("mount.json")).ok();
        symlink(&precious, spool.join(name)).unwrap();
        refused(&plan, &["symlink", name]);
        assert_eq!(fs::read(&precious).unwrap(), b"precious", "{name}");
        fs::remove_file(spool.join(name)).unwrap();
    }
    let log = plan.scratch().join("mediafs.log");
    // Of the refused mounts above.
    fs::remove_file(&log).unwrap();
    symlink(&precious, &log).unwrap();
    let output = run_within(REFUSED_WITHIN, &mut plan.command());
    assert!(said(&output).contains("symlink"), "{}", said(&output));
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    fs::remove_file(log).unwrap();
    // A stage that nobody knows is set aside as it is.
    fs::create_dir_all(spool.join("stage")).unwrap();
    symlink(&precious, spool.join("stage/0000000000000001")).unwrap();
    // The cache of attributes is started again.
    symlink(&precious, spool.join("attributes")).unwrap();
    let mut mount = plan.start();
    let kept = mount.scratch().join("spool/lost+found/0000000000000001");
    assert!(fs::symlink_metadata(kept).unwrap().is_symlink());
    assert_eq!(mount.keys(), Vec::<String>::new());
    mount.unmount();
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
}
