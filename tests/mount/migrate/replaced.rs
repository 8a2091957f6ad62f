//! What keeps a directory from a mount's place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::materialize::{ends, is_fuse};
use crate::support::mount::detach;
use crate::support::programs::has_all;
use crate::support::{Mount, Server};

fn names_in(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = names
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn what_is_in_the_way_is_told_before_anything_changes() {
    // The other server cannot have an object beside others below its name.
    let mount = Mount::on(Server::moto()).start();
    mount.put_object("a", b"hidden");
    mount.put_object("a/b", b"b");
    mount.put_object("f", b"f");
    mount.put_object("link", b"no symlink");
    let directory = mount.scratch().join("local");
    fs::create_dir(&directory).unwrap();
    let in_the_way = directory.join("a");
    fs::write(&in_the_way, "hidden").unwrap();
    for args in [&[][..], &["--delete"]] {
        let told = ends(&mount, &directory, args, 5);
        has_all(
            &told,
            &["a/b: the file a is in its way here", "serves as before"],
        );
        assert_eq!(names_in(&directory), ["a"]);
    }
    fs::remove_file(&in_the_way).unwrap();
    // A mount would show none of these.
    symlink("f", directory.join("link")).unwrap();
    symlink("f", directory.join("other")).unwrap();
    for args in [&[][..], &["--delete"]] {
        let told = ends(&mount, &directory, args, 5);
        has_all(&told, &["link: leads to f", "other: leads to f"]);
        assert_eq!(names_in(&directory), ["link", "other"]);
    }
    for name in ["link", "other"] {
        fs::remove_file(directory.join(name)).unwrap();
    }
    fs::write(directory.join("own"), "own").unwrap();
    let told = ends(&mount, &directory, &[], 5);
    has_all(&told, &["has 1 files", "--delete removes them"]);
    assert_eq!(names_in(&directory), ["own"]);
    assert!(is_fuse(&mount.root));
    let told = ends(&mount, &directory, &["--delete"], 5);
    has_all(&told, &["1 of 1 files, more than half"]);
    mount.client().delete(mount.bucket(), "a");
    ends(&mount, &directory, &["--delete", "--force"], 0);
    assert_eq!(names_in(&mount.root), ["a", "f", "link"]);
    assert_eq!(fs::read(mount.path("a/b")).unwrap(), b"b");
    detach(&mount.root);
}
