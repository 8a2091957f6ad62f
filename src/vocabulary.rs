//! The plain types that several layers speak of, in memory and in the files of the
//! session: one definition each.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::store::{ETag, Key, ObjectMeta};

/// In hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

/// The mount's root. Source: linux/fuse.h, `FUSE_ROOT_ID`.
pub const ROOT: Ino = Ino(1);

/// Numbers that follow from names are from here to twice as much: far from the
/// reserved ones, and whole in a double, as JavaScript tells them.
const FIRST_DERIVED: u64 = 1 << 52;

impl Ino {
    /// The number that follows from a name in a directory, the same for ever.
    pub fn derived(parent: Self, name: &str) -> Self {
        Self::derived_again(parent, name, 0)
    }

    /// The next ones, where that is another inode's.
    pub fn derived_again(parent: Self, name: &str, tries: u64) -> Self {
        let step = tries.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = mix(fnv(parent.0, name).wrapping_add(step));
        Self(FIRST_DERIVED | (hash % FIRST_DERIVED))
    }
}

/// A hash of a name that is the same for ever.
pub fn hash_of_name(seed: u64, name: &str) -> u64 {
    mix(fnv(seed, name))
}

/// FNV-1a.
fn fnv(seed: u64, name: &str) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finalizer of MurmurHash3.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    File,
    Directory,
    /// This and the following only where attributes are stored with objects.
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// Names a stage file of the spool; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StageId(pub u64);

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for StageId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// Number of a handle, as the kernel repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// What a handle may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpenMode {
    Read,
    Write,
    ReadWrite,
}

impl OpenMode {
    pub fn reads(self) -> bool {
        self != Self::Write
    }

    pub fn writes(self) -> bool {
        self != Self::Read
    }
}

/// How the next upload may replace what the store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// The name must still be free.
    Exclusive,
    /// The last close wins.
    Replace,
    /// The object must still be the version that was changed.
    Edit,
}

/// Whose the name of an open file is, and what the store has under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameState {
    /// Its own: what the store has there is of this file.
    Own,
    /// Taken from another file, whose object is there until the next upload.
    TakenOver,
    /// None: nothing of this file goes to the store any more.
    Gone,
}

/// One version of one object: its bytes never change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    pub key: Key,
    pub etag: ETag,
    pub size_bytes: u64,
}

/// One version of an object as the store reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectVersion {
    pub etag: ETag,
    pub size_bytes: u64,
    /// Whole seconds.
    #[serde(with = "timestamp")]
    pub last_modified: SystemTime,
}

impl ObjectVersion {
    /// This version under its key.
    pub fn at(&self, key: Key) -> ObjectId {
        ObjectId {
            key,
            etag: self.etag.clone(),
            size_bytes: self.size_bytes,
        }
    }
}

impl From<ObjectMeta> for ObjectVersion {
    fn from(meta: ObjectMeta) -> Self {
        Self {
            etag: meta.etag,
            size_bytes: meta.size_bytes,
            last_modified: meta.last_modified,
        }
    }
}

/// Values of extended attributes by their names.
pub type Xattrs = BTreeMap<String, Vec<u8>>;

/// Attributes that applications set and the store does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    pub mode: Option<u16>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    #[serde(with = "optional_timestamp")]
    pub mtime: Option<SystemTime>,
    #[serde(with = "optional_timestamp")]
    pub atime: Option<SystemTime>,
    #[serde(with = "optional_timestamp")]
    pub ctime: Option<SystemTime>,
    pub xattrs: Option<Xattrs>,
    /// For a successor: the version that the file had with these times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<ETag>,
}

/// A time as files have it: nanoseconds since 1970, also before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp(i64);

impl From<SystemTime> for Timestamp {
    /// Times further than 292 years from 1970 are brought as near.
    fn from(time: SystemTime) -> Self {
        let nanoseconds = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(since) => nanoseconds(since),
            Err(before) => -nanoseconds(before.duration()),
        })
    }
}

impl From<Timestamp> for SystemTime {
    fn from(Timestamp(nanoseconds): Timestamp) -> Self {
        let span = Duration::from_nanos(nanoseconds.unsigned_abs());
        if nanoseconds < 0 {
            UNIX_EPOCH - span
        } else {
            UNIX_EPOCH + span
        }
    }
}

mod timestamp {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Timestamp;

    pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        Timestamp::from(*time).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        Timestamp::deserialize(deserializer).map(SystemTime::from)
    }
}

mod optional_timestamp {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Timestamp;

    pub fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Timestamp::from).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Option::<Timestamp>::deserialize(deserializer).map(|time| time.map(SystemTime::from))
    }
}
