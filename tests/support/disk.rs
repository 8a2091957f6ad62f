//! A small disk of its own for a test, which can be filled and freed again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs::succeeds;

const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);
const FILLER: &str = "filler";
const FILES: &str = "files";

/// Which file system it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    Tmpfs,
    Ext4,
}

/// Dropped, it is unmounted.
#[derive(Debug)]
pub struct SmallDisk {
    pub folder: PathBuf,
}

impl SmallDisk {
    /// Mounted below a folder of the test.
    #[track_caller]
    pub fn new(scratch: &Path, kind: DiskKind, bytes: u64) -> Self {
        let folder = scratch.join("disk");
        fs::create_dir(&folder).unwrap();
        let mut mount = Command::new("mount");
        match kind {
            DiskKind::Tmpfs => {
                let options = format!("size={bytes},mode=755");
                mount.args(["-t", "tmpfs", "-o", &options, "none"]);
            }
            DiskKind::Ext4 => {
                let image = scratch.join("image");
                File::create(&image).unwrap().set_len(bytes).unwrap();
                // Nothing is kept for root, as which the tests run.
                let mut make = Command::new("mkfs.ext4");
                make.args(["-q", "-m", "0"]).arg(&image);
                succeeds(&mut make);
                mount.args(["-o", "loop,errors=remount-ro"]).arg(image);
            }
        }
        succeeds(mount.arg(&folder));
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes until nothing fits any more, not even a byte.
    pub fn fill(&self) {
        let mut filler = File::options();
        let filler = filler.append(true).create(true);
        let mut filler = filler.open(self.path(FILLER)).unwrap();
        let block = vec![7; 1 << 20];
        let mut len = block.len();
        while len > 0 {
            // Part of it may be written.
            if let Err(error) = filler.write_all(&block[..len]) {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
                len /= 2;
            }
        }
        // Blocks that are only promised would be given back.
        filler.sync_all().unwrap();
    }

    /// Gives back what `fill` took.
    pub fn free(&self) {
        fs::remove_file(self.path(FILLER)).unwrap();
        self.sync();
    }

    /// Makes files until there is no inode for another one. For ext4.
    pub fn use_up_inodes(&self) {
        let folder = self.path(FILES);
        fs::create_dir(&folder).unwrap();
        let made =
            (0..).find_map(|number: u64| File::create(folder.join(number.to_string())).err());
        assert_eq!(made.unwrap().raw_os_error(), Some(libc::ENOSPC));
    }

    /// Gives back what `use_up_inodes` took.
    pub fn free_inodes(&self) {
        fs::remove_dir_all(self.path(FILES)).unwrap();
        self.sync();
    }

    /// This disk alone: others may take long, or hang in another test.
    fn sync(&self) {
        rustix::fs::syncfs(File::open(&self.folder).unwrap()).unwrap();
    }

    /// The file system turns read-only, as after an error of the disk.
    pub fn turn_read_only(&self) {
        let mut command = Command::new("findmnt");
        let found = command.args(["-n", "-o", "SOURCE"]).arg(&self.folder);
        let device = String::from_utf8(found.output().unwrap().stdout).unwrap();
        let device = Path::new(device.trim()).file_name().unwrap();
        let trigger = Path::new("/sys/fs/ext4").join(device);
        fs::write(trigger.join("trigger_fs_error"), "planned").unwrap();
        super::wait_until(WITHIN, "a read-only disk", || {
            fs::write(self.path("probe"), b"x").is_err()
        });
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut command = Command::new("umount");
        drop(command.arg("-l").arg(&self.folder).status());
    }
}
