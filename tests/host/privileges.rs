//! What the daemon may do, and who may look at what it keeps.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
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

/// What the kernel tells of a thread. Source: proc_pid_status(5).
struct Status(String);

impl Status {
    #[track_caller]
    fn of(thread: &Path) -> Self {
        Self(fs::read_to_string(thread.join("status")).unwrap())
    }

    /// Of each thread of a process that does not end meanwhile.
    fn of_threads(process: &Path) -> Vec<Self> {
        let tasks = fs::read_dir(process.join("task")).unwrap();
        let read = |task: std::io::Result<fs::DirEntry>| {
            fs::read_to_string(task.ok()?.path().join("status")).ok()
        };
        tasks.filter_map(read).map(Self).collect()
    }

    /// The value of one line.
    #[track_caller]
    fn get(&self, name: &str) -> &str {
        let mut values = self.0.lines().filter_map(|line| line.strip_prefix(name));
        values.next().unwrap().trim_matches([':', '\t'])
    }
}

fn process_of(mount: &Mount) -> PathBuf {
    PathBuf::from(format!("/proc/{}", mount.pid()))
}

#[test]
fn as_root_every_thread_keeps_two_capabilities_and_gets_no_new_ones() {
    let mut mount = Mount::fresh();
    let threads = Status::of_threads(&process_of(&mount));
    assert!(threads.len() > 2, "{} threads", threads.len());
    for thread in threads {
        for set in ["CapPrm", "CapEff"] {
            let held = u64::from_str_radix(thread.get(set), 16).unwrap();
            assert_eq!(held, CAP_DAC_READ_SEARCH | CAP_SYS_ADMIN, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(thread.get(set), "0000000000000000", "{set}");
        }
        let bound = u64::from_str_radix(thread.get("CapBnd"), 16).unwrap();
        assert_eq!(bound & !(CAP_DAC_READ_SEARCH | CAP_SYS_ADMIN), 0);
        assert_eq!(thread.get("NoNewPrivs"), "1");
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
        Status::of(folder).get("CapEff") == format!("{CAP_DAC_READ_SEARCH:016x}")
    });
    for thread in Status::of_threads(folder) {
        assert_eq!(thread.get("CapPrm"), format!("{CAP_DAC_READ_SEARCH:016x}"));
        assert_eq!(thread.get("CapInh"), "0000000000000000");
        assert_eq!(thread.get("NoNewPrivs"), "1");
    }
    // One may be closed meanwhile.
    let links = fs::read_dir(folder.join("fd")).unwrap();
    for link in links.filter_map(|link| fs::read_link(link.unwrap().path()).ok()) {
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
    let its = Status::of(&process_of(&mount));
    let own = Status::of(Path::new("/proc/self"));
    assert_eq!(its.get("CapEff"), own.get("CapEff"));
    assert_eq!(its.get("NoNewPrivs"), "0");
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
    let all = "lock, journal, note, attributes, kept bytes, sidecar";
    wait_until(REFUSED_WITHIN, all, || {
        closed_files(&mount.scratch().join("spool")) >= 6
    });
}

/// How many files there are below a folder, which nobody else may read. Some go meanwhile.
#[track_caller]
fn closed_files(folder: &Path) -> usize {
    let mut seen = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => folders.push(path),
                Ok(found) => {
                    assert_eq!(found.mode() & 0o777, 0o600, "{}", path.display());
                    seen += 1;
                }
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
            }
        }
    }
    seen
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
