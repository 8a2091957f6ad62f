//! The same with an old directory below the bucket: what was removed, renamed or replaced
//! of it stays so, whatever was sent of it meanwhile.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::disk::{Disk, Survives};
use super::{CUTS, POWER_GOES_WITHIN, Pid, check_what_is_left, for_each, lose_power};
use crate::support::Server;
use crate::support::control::status;
use crate::support::mount::Mount;
use crate::support::wait_until;
use crate::workload::{Tree, Workload, read_tree};

fn write(root: &Path, tree: &Tree) {
    for (name, body) in tree {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, body).unwrap();
    }
}

fn run(cut: Option<u64>, survives: Survives) -> u64 {
    let (folder, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let before = Workload::old();
    write(old.path(), &before);
    let disk = Disk::mount(folder.path());
    let mut mount = Mount::on(Server::shared())
        .args(["--durability", "disk", "--part-size", "5MiB"])
        .args(["--negative-ttl", "1h"])
        .set("--ttl", "1h")
        .set("--spool", folder.path().join("spool"))
        .arg("--overlay")
        .arg(old.path())
        .start();
    let began = disk.operations();
    if let Some(cut) = cut {
        disk.cut_at(began + cut, Pid::from_raw(mount.pid() as i32));
    }
    let mut work = Workload::over(&mount.root, before.clone());
    let outcome = work.run_on_old();
    if cut.is_none() {
        outcome.unwrap();
        wait_for_the_end(&mount);
        return disk.operations() - began;
    }
    lose_power(&mut mount, disk, survives, &work, outcome);
    // A rename that was under way is finished meanwhile.
    wait_for_the_end(&mount);
    let seen = read_tree(&mount.root).unwrap();
    work.check_or_both(&seen).unwrap();
    mount.unmount();
    check_what_is_left(&mount, &seen);
    assert!(
        read_tree(old.path()).unwrap() == before,
        "the old directory was changed"
    );
    0
}

fn wait_for_the_end(mount: &Mount) {
    wait_until(POWER_GOES_WITHIN, "the end of the overlay", || {
        let overlay: Value = status(mount)["overlay"].clone();
        overlay.is_null() || overlay["ended"] == true
    });
}

#[test]
fn what_was_hidden_of_an_old_directory_outlives_the_loss_of_power_at_any_time() {
    let total = run(None, Survives::Nothing);
    let cuts = (0..CUTS).map(|number| number * total / CUTS);
    for_each(cuts, |cut, survives| {
        run(Some(cut), survives);
    });
    println!(
        "power loss over an old directory: {} cuts in {total} operations",
        2 * CUTS
    );
}
