//! Whole folders copied in: git clone, rsync and tar.

use std::fs;
use std::path::Path;

use crate::support::pattern;
use crate::support::suite::{builder_with_directories, files, make_tree, run, tool};

#[test]
fn a_git_clone_is_sound_and_goes_on_working() {
    let mut mount = builder_with_directories().start();
    let source = mount.scratch().join("source");
    make_tree(&source);
    let git = |folder: &Path, line: &str| {
        let mut command = tool("git");
        let author = ["-c", "user.name=Test", "-c", "user.email=test@localhost"];
        let words = line.split(' ');
        run(command.arg("-C").arg(folder).args(author).args(words))
    };
    git(&source, "init -q -b main");
    git(&source, "add -A");
    git(&source, "commit -q -m first");
    for number in 0..5 {
        fs::write(source.join("changing"), pattern(90_000, number)).unwrap();
        git(&source, "add -A");
        git(&source, "commit -q -m next");
    }

    let url = format!("file://{}", source.display());
    git(&mount.root, &format!("clone -q {url} clone"));
    // A second one without a protocol: objects are copied file by file.
    git(&mount.root, "clone -q clone again");
    let clone = mount.path("clone");
    fs::write(clone.join("mine"), b"mine").unwrap();
    git(&clone, "checkout -q -b topic");
    git(&clone, "add -A");
    git(&clone, "commit -q -m mine");
    git(&clone, "rebase -q HEAD~2");
    git(&clone, "gc -q --prune=now");
    mount.remount();
    let mut objects = 0;
    for name in ["clone", "again"] {
        let repository = mount.path(name);
        git(&repository, "fsck --full --strict --no-dangling");
        assert_eq!(git(&repository, "status --porcelain"), "", "{name}");
        let listed = git(&repository, "rev-list --all --objects");
        objects += listed.lines().count();
    }
    let heads = [&source, &mount.path("again")].map(|folder| git(folder, "rev-parse main"));
    assert_eq!(heads[0], heads[1]);
    println!("suite git: 2 clones of {objects} objects together, fsck --full --strict clean");
}

#[test]
fn a_second_rsync_transfers_nothing() {
    let mut mount = builder_with_directories().start();
    let source = mount.scratch().join("source");
    make_tree(&source);
    let copy = mount.path("copy");
    let rsync = |more: &[&str]| {
        let mut command = tool("rsync");
        command.args(["-a", "--itemize-changes", "--stats"]);
        let from = format!("{}/", source.display());
        run(command.args(more).arg(from).arg(&copy))
    };
    let transferred = |told: &str| {
        let label = "Number of regular files transferred: ";
        let line = told.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap().replace(',', "").parse::<usize>().unwrap()
    };
    let first = rsync(&[]);
    assert_eq!(transferred(&first), files());
    let changes = |told: &str| told.lines().take_while(|line| !line.is_empty()).count();
    for more in [&[][..], &["--checksum"]] {
        let again = rsync(more);
        assert_eq!((transferred(&again), changes(&again)), (0, 0), "{again}");
    }
    mount.remount();
    let later = rsync(&[]);
    assert_eq!((transferred(&later), changes(&later)), (0, 0), "{later}");
    println!(
        "suite rsync: {} files, the second run and that of the next mount transferred 0",
        files()
    );
}

/// As servers are copied: with hard links, of which there are none here, ACLs and
/// extended attributes.
#[test]
fn rsync_with_acls_and_attributes_transfers_all_and_nothing_a_second_time() {
    let mut mount = builder_with_directories().start();
    let source = mount.scratch().join("source");
    make_tree(&source);
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    let marked = source.join("d1/marked");
    fs::write(&marked, b"bytes").unwrap();
    set(&marked, "user.colour", b"red");
    set(&marked, "user.size", b"large");
    fs::write(source.join("d2/plain"), b"bytes").unwrap();
    let copy = mount.path("copy");
    let rsync = |from: &Path, to: &Path| {
        let mut command = tool("rsync");
        command.args(["-aHAX", "--itemize-changes"]);
        run(command.arg(format!("{}/", from.display())).arg(to))
    };
    rsync(&source, &copy);
    assert_eq!(rsync(&source, &copy), "");
    mount.remount();
    assert_eq!(rsync(&source, &copy), "");
    let back = mount.scratch().join("back");
    rsync(&copy, &back);
    run(tool("diff").arg("-r").arg(&source).arg(&back));
    for path in [copy.join("d1/marked"), back.join("d1/marked")] {
        let mut value = [0; 16];
        let len = rustix::fs::getxattr(&path, "user.colour", &mut value).unwrap();
        assert_eq!(&value[..len], b"red", "{path:?}");
    }
    println!(
        "suite rsync: -aHAX of {} files, the second run changed nothing",
        files() + 2
    );
}

#[test]
fn an_unpacked_tar_archive_is_what_was_packed() {
    let mut mount = builder_with_directories().start();
    let source = mount.scratch().join("source");
    make_tree(&source);
    let archive = mount.scratch().join("source.tar");
    let tar = |options: &str, folder: &Path| {
        let mut command = tool("tar");
        command.arg(options).arg(&archive).arg("-C").arg(folder);
        command
    };
    run(tar("-cf", &source).arg("."));
    run(&mut tar("-xpf", &mount.root));
    // Contents, modes, owners and dates.
    run(&mut tar("-df", &mount.root));
    mount.remount();
    run(&mut tar("-df", &mount.root));
    println!("suite tar: {} files unpacked, no difference", files());
}
