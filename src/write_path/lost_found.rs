//! lost+found: staged bytes that never reached S3, each with a sidecar that says why.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rangemap::RangeSet;
use serde::{Deserialize, Serialize};

use super::json_sum::json_sum;
use super::place::Place;
use crate::error::FsError;
use crate::private::{self, NotPrivate};
use crate::store::Key;

/// Said of a file that was longer than its spool has room for.
const MISSING: &str = "; parts of it were only in an unfinished upload, which is gone";

/// Of the folder, in a spool.
pub(super) const DIR_NAME: &str = "lost+found";

/// Why bytes are in lost+found.
#[derive(Debug, Clone)]
pub enum LostReason {
    /// The upload failed for good.
    UploadFailed(FsError),
    /// The daemon ended while the file was open.
    DaemonEnded,
    /// The file's program was killed, and most of it is holes.
    WriterKilled,
    /// What is there of a predecessor is not what it wrote.
    Damaged(&'static str),
    /// The same, and no file that was open is resumed.
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
                "mediafs ended before the file was closed, and its open files were not resumed: {why}"
            ),
        }
    }
}

/// What is known of bytes that are to be kept.
#[derive(Debug)]
pub struct LostFile<'a> {
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
    /// Where the key is. Not recorded: where the spool belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    pub reason: String,
    pub size_bytes: u64,
    /// The bytes are all of a file that was closed or synced.
    #[serde(default)]
    pub whole: bool,
    /// Ranges in bytes, each with its first and the one after its last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Vec<[u64; 2]>>,
    /// Ranges that were written and are gone with an unfinished upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<[u64; 2]>>,
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

    /// The same with its checksum.
    fn checked(self) -> Self {
        let check = self.sum();
        Self { check, ..self }
    }

    fn to_text(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    fn sum(&self) -> Option<u32> {
        json_sum(&Self {
            check: None,
            ..self.clone()
        })
    }

    /// Stands for one that is missing or damaged.
    pub fn unreadable(kept: &Path) -> Self {
        let metadata = fs::symlink_metadata(kept).ok();
        let modified = metadata.as_ref().and_then(|it| it.modified().ok());
        Self {
            key: None,
            place: None,
            reason: "unknown: its sidecar cannot be read".to_owned(),
            size_bytes: metadata.map_or(0, |it| it.len()),
            whole: false,
            written: None,
            missing: None,
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
    place: Option<Place>,
}

impl LostFound {
    /// What comes here from now on is of this place.
    pub fn open(dir: &Path, place: Option<Place>) -> Result<Self, NotPrivate> {
        private::directory(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            place,
        })
    }

    /// Moves a stage file here; the sidecar is written first, so that no kept bytes lack
    /// one. What is `missing` was written, and an unfinished upload alone had it.
    /// Errors: the disk's; the file stays where it is then.
    pub fn take(
        &self,
        stage: &Path,
        lost: &LostFile<'_>,
        missing: &[Range<u64>],
    ) -> io::Result<PathBuf> {
        let id = stage.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let kept = self.dir.join(id);
        let size_bytes = fs::symlink_metadata(stage)?.len();
        let written = match lost.written {
            written if missing.is_empty() => written.map(<[_]>::to_vec),
            Some(written) => Some(without(written, missing)),
            None => Some(without(std::slice::from_ref(&(0..size_bytes)), missing)),
        };
        let mut reason = lost.reason.to_string();
        if !missing.is_empty() {
            reason += MISSING;
        }
        let sidecar = Sidecar {
            key: lost.key.cloned(),
            place: self.place.clone(),
            reason,
            size_bytes,
            whole: matches!(lost.reason, LostReason::UploadFailed(_)) && written.is_none(),
            written: written.map(|written| pairs(&written)),
            missing: Some(missing).filter(|it| !it.is_empty()).map(pairs),
            kept_at_unix_seconds: unix_seconds(SystemTime::now()),
            check: None,
        };
        let text = sidecar.checked().to_text()?;
        let beside = kept.with_extension("json");
        let moved = private::write(&beside, &text).and_then(|()| fs::rename(stage, &kept));
        moved.inspect_err(|_| {
            // It tells of nothing, if it was made.
            if let Err(error) = fs::remove_file(&beside) {
                tracing::debug!(path = %beside.display(), %error, "no sidecar to remove");
            }
        })?;
        Ok(kept)
    }
}

fn pairs(ranges: &[Range<u64>]) -> Vec<[u64; 2]> {
    let pairs = ranges.iter().map(|range| [range.start, range.end]);
    pairs.collect()
}

fn without(ranges: &[Range<u64>], missing: &[Range<u64>]) -> Vec<Range<u64>> {
    let ranges = ranges.iter().filter(|range| !range.is_empty());
    let mut left: RangeSet<u64> = ranges.cloned().collect();
    for gone in missing.iter().filter(|range| !range.is_empty()) {
        left.remove(gone.clone());
    }
    left.into_iter().collect()
}

/// What happens to the place of kept bytes when that of the spool changes.
#[derive(Debug)]
pub(super) enum Restamp<'a> {
    /// The spool leaves the place: what is kept of it stays of it.
    Left(&'a Place),
    /// The place has another name.
    Moved { from: &'a Place, to: &'a Place },
}

impl Restamp<'_> {
    fn of(&self, place: Option<&Place>) -> Option<Place> {
        match (self, place) {
            (Self::Left(place), None) => Some((*place).clone()),
            (Self::Moved { from, to }, Some(place)) if place == *from => Some((*to).clone()),
            _ => None,
        }
    }
}

pub(super) fn restamp(dir: &Path, restamp: &Restamp<'_>) -> io::Result<()> {
    let names = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    for name in names {
        let path = name?.path();
        if path.extension().is_some() {
            continue;
        }
        let Some(sidecar) = Sidecar::beside(&path) else {
            continue;
        };
        if let place @ Some(_) = restamp.of(sidecar.place.as_ref()) {
            let text = Sidecar { place, ..sidecar }.checked().to_text()?;
            private::replace(&path.with_extension("json"), &text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_bytes_have_a_sidecar_with_key_and_reason() {
        let dir = tempfile::tempdir().unwrap();
        let lost = LostFound::open(&dir.path().join("lost+found"), None).unwrap();
        let stage = dir.path().join("0001");
        fs::write(&stage, b"bytes").unwrap();
        let key = Key::new("media/a.png");
        let file = LostFile {
            key: Some(&key),
            reason: LostReason::UploadFailed(FsError::ACCESS_DENIED),
            written: Some(&[0..1, 2..5]),
        };
        let kept = lost.take(&stage, &file, &[]).unwrap();
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
    #[test]
    fn kept_bytes_stay_of_the_place_that_the_spool_leaves_and_go_along_with_one_that_moves() {
        let place = |bucket: &str| Place {
            bucket: bucket.to_owned(),
            prefix: String::new(),
            endpoint: None,
        };
        let (a, b, c) = (place("a"), place("b"), place("c"));
        let dir = tempfile::tempdir().unwrap();
        let keep = |name: &str, place: Option<&Place>| {
            let lost = LostFound::open(&dir.path().join("lost+found"), place.cloned()).unwrap();
            let stage = dir.path().join(name);
            fs::write(&stage, b"bytes").unwrap();
            let file = LostFile {
                key: None,
                reason: LostReason::DaemonEnded,
                written: None,
            };
            lost.take(&stage, &file, &[]).unwrap()
        };
        let kept = [keep("1", None), keep("2", Some(&a)), keep("3", Some(&b))];
        let found = || {
            kept.clone()
                .map(|kept| Sidecar::beside(&kept).unwrap().place)
        };
        let folder = dir.path().join("lost+found");
        restamp(&folder, &Restamp::Left(&c)).unwrap();
        assert_eq!(found(), [&c, &a, &b].map(|it| Some(it.clone())));
        restamp(&folder, &Restamp::Moved { from: &a, to: &b }).unwrap();
        assert_eq!(found(), [&c, &b, &b].map(|it| Some(it.clone())));
        restamp(&dir.path().join("none"), &Restamp::Left(&c)).unwrap();
    }
}
