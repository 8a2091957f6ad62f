//! Backups to a repository on the mount: restic and borg, checked to the last byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::suite::make_tree;
use crate::support::suite::{builder, run, tool};
use crate::support::{Mount, pattern};

/// Three generations of a folder, which changes between them.
fn generations(mount: &Mount, mut back_up: impl FnMut(&Path)) -> std::path::PathBuf {
    let source = mount.scratch().join("source");
    make_tree(&source);
    for number in 0..3 {
        fs::write(source.join("changing"), pattern(3_000_000, number)).unwrap();
        fs::write(source.join(format!("new{number}")), pattern(100, number)).unwrap();
        back_up(&source);
    }
    source
}

#[test]
fn a_restic_repository_is_sound_and_brings_everything_back() {
    let mut mount = builder().start();
    let (repository, cache) = (mount.path("repository"), mount.scratch().join("cache"));
    let restic = |words: &[&str]| -> Command {
        let mut command = tool("restic");
        command.env("RESTIC_PASSWORD", "secret");
        command.arg("--cache-dir").arg(&cache).arg("-q").arg("-r");
        command.arg(&repository).args(words);
        command
    };
    run(&mut restic(&["init"]));
    let source = generations(&mount, |source| {
        run(restic(&["backup", "."]).current_dir(source));
    });
    run(&mut restic(&["check", "--read-data"]));
    run(&mut restic(&["forget", "--keep-last", "1", "--prune"]));
    mount.remount();
    run(&mut restic(&["check", "--read-data"]));
    let restored = mount.scratch().join("restored");
    run(restic(&["restore", "latest", "--target"]).arg(&restored));
    run(tool("diff").arg("-r").arg(&source).arg(&restored));
    // And to the mount.
    let restored = mount.path("restored");
    run(restic(&["restore", "latest", "--target"]).arg(&restored));
    run(tool("diff").arg("-r").arg(&source).arg(&restored));
    println!(
        "suite restic: 3 snapshots, forget --prune, check --read-data clean, restored without a difference"
    );
}

#[test]
fn a_borg_repository_is_sound_and_brings_everything_back() {
    let mut mount = builder().start();
    let (repository, base) = (mount.path("repository"), mount.scratch().join("borg"));
    let borg = |words: &[&str]| -> Command {
        let mut command = tool("borg");
        command
            .env("BORG_BASE_DIR", &base)
            .env("BORG_PASSPHRASE", "secret");
        command.env("BORG_REPO", &repository).args(words);
        command
    };
    run(&mut borg(&["init", "-e", "repokey"]));
    let mut number = 0;
    let source = generations(&mount, |source| {
        number += 1;
        run(borg(&["create", &format!("::{number}"), "."]).current_dir(source));
    });
    run(&mut borg(&["check", "--verify-data"]));
    run(&mut borg(&["prune", "--keep-last", "1"]));
    run(&mut borg(&["compact"]));
    mount.remount();
    run(&mut borg(&["check", "--verify-data"]));
    for restored in [mount.scratch().join("restored"), mount.path("restored")] {
        fs::create_dir(&restored).unwrap();
        run(borg(&["extract", "::3"]).current_dir(&restored));
        run(tool("diff").arg("-r").arg(&source).arg(&restored));
    }
    println!(
        "suite borg: 3 archives, prune and compact, check --verify-data clean, extracted without a difference"
    );
}
