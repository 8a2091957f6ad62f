//! The room on the spool's disk that is left to the bytes of applications.
//!
//! The last of it is for what mediafs itself has to write when nothing else may:
//! records of files that go to lost+found, and more room for the journal and the
//! session log.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::fstatvfs;

use crate::error::FsError;

/// Kept free of applications' bytes; on a small disk, a part of it.
const RESERVE_BYTES: u64 = 4 << 20;
const RESERVE_SHARE: u64 = 16;
/// What was asked of the disk counts for so long, and for a part of what is free.
const ASKED_FOR: Duration = Duration::from_secs(1);
const ASKED_SHARE: u64 = 8;

#[derive(Debug)]
pub struct DiskRoom {
    /// None where the disk does not tell.
    dir: Option<File>,
    granted: Mutex<Granted>,
}

/// Bytes that may be written before the disk is asked again.
#[derive(Debug)]
struct Granted {
    bytes: u64,
    until: Instant,
}

impl DiskRoom {
    /// Of the disk of a directory.
    pub fn of(dir: &Path) -> Self {
        let opened = File::open(dir);
        if let Err(error) = &opened {
            tracing::warn!(path = %dir.display(), %error, "cannot ask how full the disk is");
        }
        Self::with(opened.ok())
    }

    #[cfg(test)]
    pub fn unlimited() -> Self {
        Self::with(None)
    }

    fn with(dir: Option<File>) -> Self {
        Self {
            dir,
            granted: Mutex::new(Granted {
                bytes: 0,
                until: Instant::now(),
            }),
        }
    }

    /// Errors: `NoSpace` where so many bytes would use the reserve.
    pub fn check(&self, bytes: u64) -> Result<(), FsError> {
        let Some(dir) = self.dir.as_ref().filter(|_| bytes > 0) else {
            return Ok(());
        };
        let now = Instant::now();
        let mut granted = self.granted.lock();
        if now < granted.until && bytes <= granted.bytes {
            granted.bytes -= bytes;
            return Ok(());
        }
        let Ok(found) = fstatvfs(dir) else {
            return Ok(());
        };
        // Root may use what a file system keeps for it.
        let is_root = rustix::process::geteuid().is_root();
        let blocks = if is_root {
            found.f_bfree
        } else {
            found.f_bavail
        };
        let free = blocks.saturating_mul(found.f_frsize);
        let size = found.f_blocks.saturating_mul(found.f_frsize);
        let room = free.saturating_sub(reserve(size));
        // A file system that counts nothing has no size.
        if size > 0 && bytes > room {
            return Err(FsError::NoSpace);
        }
        *granted = Granted {
            bytes: (room / ASKED_SHARE).saturating_sub(bytes),
            until: now + ASKED_FOR,
        };
        Ok(())
    }
}

fn reserve(size: u64) -> u64 {
    RESERVE_BYTES.min(size / RESERVE_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_lacks_is_refused_and_what_it_has_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let room = DiskRoom::of(dir.path());
        room.check(0).unwrap();
        for _ in 0..100 {
            room.check(1).unwrap();
        }
        let refused = room.check(u64::MAX / 2);
        assert!(matches!(refused, Err(FsError::NoSpace)));
        room.check(1).unwrap();
    }
}
