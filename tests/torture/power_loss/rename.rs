//! A rename whose copy is made when the power goes: what another client puts in the place of
//! the copy is not taken for it.

use std::fs;
use std::path::Path;

use super::disk::{Disk, Survives};
use super::objects;
use crate::support::data::MIB;
use crate::support::mount::{Mount, detach};
use crate::support::{Server, pattern};
use crate::workload::Tree;

#[test]
fn the_original_of_a_copy_that_another_client_replaces_outlives_the_loss_of_power() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::mount(folder.path());
    let mut mount = Mount::on(Server::shared())
        .durability("disk")
        .args(["--copy-part-size", "5MiB"])
        .env("FAILPOINTS", "rename_file_copied=return")
        .set("--spool", folder.path().join("spool"))
        .start();
    let (ours, theirs) = (pattern(6 * MIB, 1), pattern(6 * MIB, 2));
    mount.put_object("f", &ours);
    mount.wait_for("f", "the file", Path::exists);
    fs::rename(mount.path("f"), mount.path("g")).unwrap_err();
    mount.wait_for_exit();
    disk.cut();
    detach(&mount.root);
    mount.put_object("g", &theirs);
    disk.write_image(mount.scratch(), Survives::Nothing);
    drop(disk);
    mount.change_arg("--spool", mount.scratch().join("spool"));
    mount.remount();
    // What is looked at waits for the end of the rename.
    assert!(fs::read(mount.path("f")).unwrap() == ours);
    mount.unmount();
    let both = [("f", ours), ("g", theirs)];
    let both = both.map(|(name, body)| (name.to_owned(), body));
    assert!(objects(&mount) == Tree::from(both));
}
