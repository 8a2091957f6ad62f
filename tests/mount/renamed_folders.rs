//! A folder above a mountpoint gets another name while the mount serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::control::{done, mediafs, wait_for_health};
use crate::support::mount::is_mounted;
use crate::support::programs::{has_all, run_within};
use crate::support::{Mount, SupervisedMount, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// The folder has its old name again at the end, for whoever cleans up.
struct Renamed {
    old: PathBuf,
    new: PathBuf,
}

impl Renamed {
    fn new(old: &Path) -> Self {
        let new = old.with_file_name("new");
        fs::rename(old, &new).unwrap();
        let old = old.to_owned();
        Self { old, new }
    }
}

impl Drop for Renamed {
    fn drop(&mut self) {
        drop(fs::rename(&self.new, &self.old));
    }
}

#[test]
fn a_mount_goes_on_under_the_new_name_of_a_folder_above_it() {
    let plan = Mount::builder();
    let old = plan.scratch().join("old");
    let root = old.join("below/mnt");
    fs::create_dir_all(&root).unwrap();
    let mount = SupervisedMount::start(plan.mountpoint(&root));
    let renamed = Renamed::new(&old);
    let root = renamed.new.join("below/mnt");
    let (path, before) = (root.to_str().unwrap(), mount.root.to_str().unwrap());
    for number in 0..2 {
        wait_for_health(&mount, "alive");
        let told = done(&mount, &["status", path]);
        has_all(&told, &["alive", path]);
        let name = format!("f{number}");
        fs::write(root.join(&name), b"bytes").unwrap();
        done(&mount, &["flush", root.join(&name).to_str().unwrap()]);
        assert_eq!(mount.object(&name).unwrap(), b"bytes");
        // And so does a successor.
        mount.kill_daemon();
    }
    wait_for_health(&mount, "alive");
    let log = mount.log();
    assert!(!log.contains("detached by somebody else"), "{log}");
    has_all(&done(&mount, &["unmount", path]), &["S3 has everything"]);
    assert!(!is_mounted(&root) && !is_mounted(Path::new(before)));
}

#[test]
fn such_a_mount_is_listed_once_and_a_signal_unmounts_it() {
    let plan = Mount::builder().without("--control-socket");
    let old = plan.scratch().join("old");
    let root = old.join("mnt");
    fs::create_dir(&old).unwrap();
    fs::create_dir(&root).unwrap();
    let mut mount = plan.mountpoint(&root).start();
    let renamed = Renamed::new(&old);
    let root = renamed.new.join("mnt");
    let (path, before) = (root.to_str().unwrap(), mount.root.to_str().unwrap());
    let mut listed = String::new();
    wait_until(WITHIN, "the mount in the list", || {
        let output = run_within(WITHIN, &mut mediafs(["status"]));
        listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows = listed.lines().filter(|line| line.contains(path));
        rows.filter(|row| row.contains("alive")).count() == 1
    });
    let rows = listed.lines().filter(|line| line.contains(path));
    assert_eq!(rows.count(), 1, "{listed}");
    assert!(!listed.contains(before), "{listed}");
    mount.signal(rustix::process::Signal::TERM);
    assert!(mount.wait_for_exit().success());
    assert!(!is_mounted(&root));
}
