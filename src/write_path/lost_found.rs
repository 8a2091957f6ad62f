//! lost+found: staged bytes that never reached S3, each with a sidecar that says why.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::FsError;
use crate::private::{self, NotPrivate};
use crate::store::Key;

/// Why bytes are in lost+found.
#[derive(Debug, Clone)]
pub enum LostReason {
    /// The upload failed for good.
    UploadFailed(FsError),
    /// The daemon ended while the file was open.
    DaemonEnded,
    /// The file's program was killed, and most of it is holes.
    WriterKilled,
    /// What a daemon left for the next one is not what it wrote.
    Damaged(&'static str),
    /// The same, and no file that was open is gone on with.
    SessionRefused(String),
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UploadFailed(error) => write!(f, "upload failed: {error}"),
            Self::DaemonEnded => f.write_str("mediafs ended before the file was closed"),
            Self::WriterKilled => {
                f.write_str("the program that wrote the file was killed, and the file is mostly holes: not uploaded")
            }
            Self::Damaged(record) => write!(
                f,
                "the disk has changed {record} that says what is in the file: bytes may be missing or old"
            ),
            Self::SessionRefused(why) => write!(
                f,
                "mediafs ended before the file was closed, and its open files were not gone on with: {why}"
            ),
        }
    }
}

/// What is known of bytes that are to be kept.
#[derive(Debug)]
pub struct Remnant<'a> {
    pub key: Option<&'a Key>,
    pub reason: LostReason,
    /// Ranges that were written; the rest of the file was never here.
    pub written: Option<&'a [Range<u64>]>,
}

/// What stands beside kept bytes, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sidecar {
    pub key: Option<Key>,
    pub reason: String,
    pub size_bytes: u64,
    /// The bytes are all of a file that was closed or synced.
    #[serde(default)]
    pub whole: bool,
    /// Ranges in bytes, each with its first and the one after its last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Vec<[u64; 2]>>,
    pub kept_at_unix_seconds: u64,
    /// CRC-32 of all that is before, as JSON in one line. A mediafs that had none left none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<u32>,
}

impl Sidecar {
    /// What stands beside kept bytes; none where it is missing or damaged. By its key
    /// the bytes are uploaded.
    pub fn beside(kept: &Path) -> Option<Self> {
        let text = private::read(&kept.with_extension("json")).ok()?;
        let found: Self = serde_json::from_slice(&text).ok()?;
        (found.check.is_none() || found.check == found.sum()).then_some(found)
    }

    fn sum(&self) -> Option<u32> {
        let unchecked = Self {
            check: None,
            ..self.clone()
        };
        let text = serde_json::to_vec(&unchecked).ok()?;
        Some(crc32fast::hash(&text))
    }

    /// Stands for one that is missing or damaged.
    pub fn unreadable(kept: &Path) -> Self {
        let metadata = fs::symlink_metadata(kept).ok();
        let modified = metadata.as_ref().and_then(|it| it.modified().ok());
        Self {
            key: None,
            reason: "unknown: its sidecar cannot be read".to_owned(),
            size_bytes: metadata.map_or(0, |it| it.len()),
            whole: false,
            written: None,
            kept_at_unix_seconds: modified.map_or(0, unix_seconds),
            check: None,
        }
    }
}

pub(super) fn unix_seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[derive(Debug)]
pub struct LostFound {
    dir: PathBuf,
}

impl LostFound {
    pub fn open(dir: &Path) -> Result<Self, NotPrivate> {
        private::directory(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Moves a stage file here; the sidecar is written first, so that no kept bytes lack one.
    pub fn take(&self, stage: &Path, remnant: &Remnant<'_>) -> io::Result<PathBuf> {
        let id = stage.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let kept = self.dir.join(id);
        let sidecar = Sidecar {
            key: remnant.key.cloned(),
            reason: remnant.reason.to_string(),
            size_bytes: fs::symlink_metadata(stage)?.len(),
            whole: matches!(remnant.reason, LostReason::UploadFailed(_))
                && remnant.written.is_none(),
            written: remnant.written.map(|ranges| {
                ranges
                    .iter()
                    .map(|range| [range.start, range.end])
                    .collect()
            }),
            kept_at_unix_seconds: unix_seconds(SystemTime::now()),
            check: None,
        };
        let check = sidecar.sum();
        let sidecar = Sidecar { check, ..sidecar };
        let text = serde_json::to_vec_pretty(&sidecar)?;
        private::write(&kept.with_extension("json"), &text)?;
        fs::rename(stage, &kept)?;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_bytes_have_a_sidecar_with_key_and_reason() {
        let dir = tempfile::tempdir().unwrap();
        let lost = LostFound::open(&dir.path().join("lost+found")).unwrap();
        let stage = dir.path().join("0001");
        fs::write(&stage, b"bytes").unwrap();
        let key = Key::new("media/a.png");
        let remnant = Remnant {
            key: Some(&key),
            reason: LostReason::UploadFailed(FsError::AccessDenied),
            written: Some(&[0..1, 2..5]),
        };
        let kept = lost.take(&stage, &remnant).unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"bytes");
        let sidecar = fs::read_to_string(kept.with_extension("json")).unwrap();
        assert!(
            sidecar.contains("media/a.png") && sidecar.contains("access denied"),
            "{sidecar}"
        );
        let whole = Sidecar::beside(&kept).unwrap();
        for at in 0..sidecar.len() * 8 {
            let mut changed = sidecar.clone().into_bytes();
            changed[at / 8] ^= 1 << (at % 8);
            fs::write(kept.with_extension("json"), changed).unwrap();
            let found = Sidecar::beside(&kept);
            assert!(found.is_none_or(|it| it == whole), "bit {at}");
        }
    }
}
