//! An overlay on a directory that a container has: what it writes there before it sees the
//! mount.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::container::Container;
use crate::support::control::{listening, mediafs, status};
use crate::support::programs::{has_all, run_within, said};
use crate::support::{Mount, SupervisedMount, wait_until};

/// Containers of other tests that are starting are waited for too.
const WITHIN: Duration = Duration::from_secs(120);
const APPLICATION: u32 = 1000;

#[test]
fn an_import_waits_until_a_container_that_writes_to_the_old_directory_sees_the_mount() {
    let plan = Mount::builder().arg("--allow-other");
    fs::write(plan.root.join("f"), "old").unwrap();
    fs::write(plan.root.join("removed"), "old").unwrap();
    fs::set_permissions(&plan.root, fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(plan.root.join("f"), fs::Permissions::from_mode(0o666)).unwrap();
    let container = Container::private(&plan.root);
    let overlay = plan.root.clone();
    let plan = plan.set("--ttl", "1h").arg("--overlay").arg(overlay);
    let mount = SupervisedMount::start(plan);
    let waits_for = || status(&mount)["overlay"]["waits_for"].to_string();
    wait_until(WITHIN, "who is waited for", || waits_for() != "[]");
    let pid = container.pid().to_string();
    let root = mount.root.display().to_string();
    // Any process of the container serves.
    let shown = format!(" {root} /mnt'");
    has_all(&waits_for(), &["'mediafs attach --pid ", &shown]);

    // What the mount knows of these is not what the container makes of them.
    let names = || fs::read_dir(&mount.root).unwrap().count();
    assert_eq!(
        (fs::read(mount.path("f")).unwrap(), names()),
        (b"old".into(), 2)
    );
    container.says(
        APPLICATION,
        "echo new >/mnt/f; echo more >/mnt/g; rm /mnt/removed",
    );
    assert!(mount.keys().is_empty());
    let mut attach = mediafs(["attach", "--pid", &pid, "--socket"]);
    attach.arg(listening(&mount)).args([&root, "/mnt"]);
    let attached = run_within(WITHIN, &mut attach);
    assert!(attached.status.success(), "{}", said(&attached));
    assert_eq!(
        container.says(APPLICATION, "cat /mnt/f /mnt/g"),
        "new\nmore\n"
    );
    assert_eq!(container.says(APPLICATION, "ls /mnt"), "f\ng\n");
    container.says(APPLICATION, "echo appended >>/mnt/f");
    container.says(APPLICATION, "echo last >/mnt/g");
    wait_until(WITHIN, "the end of the overlay", || {
        status(&mount)["overlay"]["ended"] == true
    });
    assert_eq!(mount.object("f").unwrap(), b"new\nappended\n");
    assert_eq!(mount.object("g").unwrap(), b"last\n");
}

#[test]
fn an_import_waits_for_who_has_a_file_of_the_old_directory_open_for_writing() {
    let plan = Mount::builder();
    let overlay = plan.root.clone();
    let mut log = fs::File::create(overlay.join("log")).unwrap();
    log.write_all(b"before\n").unwrap();
    let mount = SupervisedMount::start(plan.arg("--overlay").arg(&overlay));
    wait_until(WITHIN, "what is open", || {
        status(&mount)["overlay"]["open_names"][0] == "log"
    });
    log.write_all(b"after\n").unwrap();
    drop(log);
    wait_until(WITHIN, "the end of the overlay", || {
        status(&mount)["overlay"]["ended"] == true
    });
    assert_eq!(mount.object("log").unwrap(), b"before\nafter\n");
    assert_eq!(fs::read(mount.path("log")).unwrap(), b"before\nafter\n");
}
