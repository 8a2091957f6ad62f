//! Mount commands that are expected to fail.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::mount::{is_mounted, mount_command, output};
use super::{Bucket, Server};

/// A bucket and an empty mountpoint, with nothing mounted yet.
pub fn prepared() -> (Bucket, tempfile::TempDir) {
    (Bucket::new(Server::shared()), tempfile::tempdir().unwrap())
}

/// A mount command in the background, whose spool is out of the way.
pub fn command(bucket: &Bucket, scratch: &Path) -> Command {
    let dir = scratch.join("mnt");
    fs::create_dir_all(&dir).unwrap();
    let mut command = mount_command(bucket, &bucket.name, &dir);
    command.arg("--spool").arg(scratch.join("state/spool"));
    command
}

/// The command fails, says all of this, and mounts nothing.
pub fn refused(command: &mut Command, scratch: &Path, words: &[&str]) {
    let (status, text) = output(command);
    assert_eq!(status.code(), Some(1), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    assert!(!text.contains("test-secret-key"), "{text}");
    assert!(!is_mounted(&scratch.join("mnt")));
}
