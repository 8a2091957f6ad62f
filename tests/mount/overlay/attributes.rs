//! What old files and directories are like, beside their bytes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::{old_directory, over, wait_for_the_end, write};
use crate::support::{Mount, Server};

#[test]
fn an_old_directory_is_as_it_was_before_the_import_and_after_it() {
    // The other server keeps no metadata of a marker.
    let plan = Mount::on(Server::moto()).args(["--attributes", "stored"]);
    let old = old_directory(&plan);
    for path in ["d/in/f", "d/g", "moved/in/f", "removed/in/f"] {
        write(&old, path, "old");
    }
    fs::create_dir(old.join("empty")).unwrap();
    for (path, mode) in [
        ("d/in", 0o750),
        ("d", 0o700),
        ("empty", 0o711),
        ("moved/in", 0o701),
    ] {
        fs::set_permissions(old.join(path), fs::Permissions::from_mode(mode)).unwrap();
        chown(old.join(path), Some(33), Some(44)).unwrap();
    }
    let mut mount = over(plan, &old).start();
    // Something comes to be in it, before anybody asks what it is like.
    fs::write(mount.path("d/in/new"), "new").unwrap();
    fs::rename(mount.path("moved"), mount.path("d/moved")).unwrap();
    fs::remove_dir_all(mount.path("removed")).unwrap();
    let is_as_it_was = |mount: &Mount| {
        let paths = ["d/in", "d", "empty", "d/moved/in"];
        for (path, mode) in paths.into_iter().zip([0o750, 0o700, 0o711, 0o701]) {
            let found = fs::metadata(mount.path(path)).unwrap();
            let found = (found.mode() & 0o7777, found.uid(), found.gid());
            assert_eq!(found, (mode, 33, 44), "{path}");
        }
        assert!(!mount.path("removed").exists() && !mount.path("moved").exists());
    };
    is_as_it_was(&mount);
    wait_for_the_end(&mount);
    is_as_it_was(&mount);
    mount.unmount();
    fs::rename(&old, old.with_extension("away")).unwrap();
    mount.remount();
    is_as_it_was(&mount);
    mount.wait_for_keys("the bucket", |keys| {
        keys.iter()
            .all(|key| !key.starts_with("removed/") && !key.starts_with("moved/"))
    });
}
