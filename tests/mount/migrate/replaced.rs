//! What keeps a directory from a mount's place, and a command that was killed once it was there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use super::materialize::{WITHIN, command, ends, is_fuse};
use crate::support::control::listening;
use crate::support::mount::detach;
use crate::support::programs::{has_all, run_within, said};
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
    ends(&mount, &directory, &["--delete", "--force"], 0);
    assert_eq!(names_in(&mount.root), ["a", "f", "link"]);
    assert_eq!(fs::read(mount.path("a/b")).unwrap(), b"b");
    detach(&mount.root);
}

#[test]
fn a_command_that_was_killed_at_its_end_is_finished_by_the_next_one() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), "text").unwrap();
    let directory = mount.scratch().join("local");
    let socket = listening(&mount);
    // Its daemon serves on what is open.
    let reader = fs::File::open(mount.path("f")).unwrap();
    let mut killed = command(&mount, &socket, &directory, &[]);
    let killed = run_within(WITHIN, killed.env("FAILPOINTS", "place_taken=return"));
    assert_eq!(killed.status.signal(), Some(9), "{}", said(&killed));
    assert!(!is_fuse(&mount.root));
    let mut again = command(&mount, &socket, &directory, &[]);
    let mut running = again
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    let mut errors = BufReader::new(running.stderr.take().unwrap());
    while !told.contains("waiting for it") {
        assert!(errors.read_line(&mut told).unwrap() > 0, "{told}");
    }
    drop(reader);
    let ended = running.wait_with_output().unwrap();
    assert!(ended.status.success(), "{told}{}", mount.log());
    has_all(&said(&ended), &["is there already", "not there any more"]);
    assert!(!mount.scratch().join("spool/materialize").exists());
    // The daemon has ended.
    let last = ends_without_a_daemon(&mount, &socket, &directory);
    has_all(&last, &["is there already"]);
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"text");
    // Another directory is not there.
    let other = mount.scratch().join("other");
    let told = run_within(WITHIN, &mut command(&mount, &socket, &other, &[]));
    assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    detach(&mount.root);
}

#[track_caller]
fn ends_without_a_daemon(mount: &Mount, socket: &Path, directory: &Path) -> String {
    let output = run_within(WITHIN, &mut command(mount, socket, directory, &[]));
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}
