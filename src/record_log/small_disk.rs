//! A small disk for tests of what is written when it is full. Needs root.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug)]
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// None for who may not mount one.
    pub fn new(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={bytes},mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "none"]);
        let is_root = rustix::process::geteuid().is_root();
        let mounted = is_root && mount.arg(dir.path()).status().unwrap().success();
        mounted.then_some(Self { dir })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn fill(&self) {
        let mut filler = File::options();
        let filler = filler.append(true).create(true);
        let mut filler = filler.open(self.path("filler")).unwrap();
        while filler.write_all(&[7; 4096]).is_ok() {}
    }

    pub fn free(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let path: &Path = self.dir.path();
        drop(Command::new("umount").arg("-l").arg(path).status());
    }
}
