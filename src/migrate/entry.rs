//! What is compared: files of a directory and objects of a bucket.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::namespace::Name;
use crate::store::ListedObject;

/// The resolution of the kernel's timestamps: a change within it may not show.
/// Source: the tick of kernels with CONFIG_HZ=100, twice.
const TIMESTAMP_STEP: Duration = Duration::from_millis(20);
/// Times of objects have no fraction, and clocks differ a little.
const SETTLED_AFTER_SECONDS: u64 = 2;

/// Seconds since 1970 and nanoseconds.
pub type Timestamp = (i64, i64);

/// What the kernel says of a file: as long as it is the same, its bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    pub device: u64,
    pub inode: u64,
    pub size_bytes: u64,
    pub mtime: Timestamp,
    /// No program sets it.
    pub ctime: Timestamp,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl From<&Metadata> for Stat {
    fn from(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size_bytes: found.size(),
            mtime: (found.mtime(), found.mtime_nsec()),
            ctime: (found.ctime(), found.ctime_nsec()),
            mode: found.mode(),
            uid: found.uid(),
            gid: found.gid(),
        }
    }
}

impl Stat {
    /// Whether one more change could leave it as it is.
    pub fn may_hide_a_change(&self) -> bool {
        let age = time_of(self.ctime).and_then(|changed| changed.elapsed().ok());
        age.is_some_and(|age| age < TIMESTAMP_STEP)
    }

    /// Whether it is the other one after a rename, which sets the ctime.
    pub fn is_only_renamed(&self, before: &Self) -> bool {
        Self {
            ctime: before.ctime,
            ..*self
        } == *before
    }

    pub fn modified(&self) -> Option<SystemTime> {
        time_of(self.mtime)
    }
}

fn time_of((seconds, nanoseconds): Timestamp) -> Option<SystemTime> {
    let fraction = Duration::from_nanos(u64::try_from(nanoseconds).ok()?);
    let whole = match u64::try_from(seconds) {
        Ok(after) => UNIX_EPOCH.checked_add(Duration::from_secs(after)),
        Err(_) => UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs())),
    };
    whole?.checked_add(fraction)
}

/// An object, by its path below the prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Object {
    pub path: String,
    pub etag: String,
    pub size_bytes: u64,
    /// Seconds since 1970.
    pub modified: u64,
}

impl Object {
    /// Whether nothing more was done to it in the second in which it was made, as far as
    /// the clocks of S3 and this host agree.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.modified.saturating_add(SETTLED_AFTER_SECONDS) <= now.unwrap_or_default().as_secs()
    }

    /// None for what is not below the prefix.
    pub fn below(prefix: &str, listed: &ListedObject) -> Option<Self> {
        let path = listed.key.as_str().strip_prefix(prefix)?;
        let since = listed.last_modified.duration_since(UNIX_EPOCH);
        Some(Self {
            path: path.to_owned(),
            etag: listed.etag.as_str().to_owned(),
            size_bytes: listed.size_bytes,
            modified: since.unwrap_or_default().as_secs(),
        })
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot::Object {
            etag: self.etag.clone(),
            size_bytes: self.size_bytes,
            modified: self.modified,
        }
    }

    /// Why no file can have this key.
    pub fn why_no_file(&self) -> Option<&'static str> {
        if (self.is_marker() || self.path.is_empty()) && self.size_bytes > 0 {
            return Some("its key ends in a slash, and it has bytes");
        }
        let path = self.path.strip_suffix('/').unwrap_or(&self.path);
        let mut segments = path.split('/').filter(|_| !self.path.is_empty());
        segments.find_map(Name::why_impossible)
    }

    /// Whether it stands for a directory.
    pub fn is_marker(&self) -> bool {
        self.path.ends_with('/')
    }
}

/// A file or an object as it was: as long as it is the same, its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Snapshot {
    File(Stat),
    Object {
        etag: String,
        size_bytes: u64,
        /// A copy onto itself, which changes headers, keeps the ETag.
        modified: u64,
    },
}

/// Why a name is in one place and cannot be in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Odd {
    Symlink,
    /// A FIFO, a socket or a device.
    Special,
    Unreadable,
    /// Not UTF-8, too long, or no name of a file.
    BadName,
    /// `a` where there is also `a/b`.
    BesideDirectory,
    /// A file with more than one name.
    HardLink,
    /// A file that an export has left.
    Unfinished,
}

impl Odd {
    pub fn words(self) -> &'static str {
        match self {
            Self::Symlink => "symlinks",
            Self::Special => "FIFOs, sockets and devices",
            Self::Unreadable => "unreadable",
            Self::BadName => "impossible names",
            Self::BesideDirectory => "files beside a directory of their name",
            Self::HardLink => "names of files that have more than one",
            Self::Unfinished => "unfinished files of an export",
        }
    }
}
