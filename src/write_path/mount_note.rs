//! `mount.json` of a spool: which place it belongs to, and where that was mounted last.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::json_sum::json_sum;
use super::place::Place;
use crate::private;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountNote {
    #[serde(flatten)]
    pub place: Place,
    pub mountpoint: PathBuf,
    /// CRC-32 of all that is before, as JSON in one line. A mediafs that had none left none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<u32>,
}

/// What is found of it.
#[derive(Debug)]
pub enum Recorded {
    Nothing,
    Note(MountNote),
    /// The disk has changed it, or it cannot be read.
    Damaged,
}

impl MountNote {
    pub fn new(place: Place, mountpoint: &Path) -> Self {
        let mut note = Self {
            place,
            mountpoint: mountpoint.to_owned(),
            check: None,
        };
        note.check = note.sum();
        note
    }

    pub fn path_in(spool: &Path) -> PathBuf {
        spool.join("mount.json")
    }

    pub fn read(spool: &Path) -> Recorded {
        let text = match private::read(&Self::path_in(spool)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Recorded::Nothing,
            Err(error) => {
                tracing::error!(path = %Self::path_in(spool).display(), %error, "cannot read mount.json");
                return Recorded::Damaged;
            }
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(note) if note.check.is_none() || note.check == note.sum() => Recorded::Note(note),
            _ => Recorded::Damaged,
        }
    }

    /// Writes it, unless it is there as it is. It outlives a power loss once this returns.
    pub fn write(&self, spool: &Path) -> io::Result<()> {
        if matches!(Self::read(spool), Recorded::Note(known) if known == *self) {
            return Ok(());
        }
        private::replace(&Self::path_in(spool), &serde_json::to_vec_pretty(self)?)
    }

    fn sum(&self) -> Option<u32> {
        json_sum(&Self {
            check: None,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Endpoint;

    #[test]
    fn a_record_that_has_changed_names_no_other_place() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place {
            bucket: "bucket".to_owned(),
            prefix: "media/".to_owned(),
            endpoint: Some(Endpoint::parse("http://minio:9000")),
        };
        assert!(matches!(MountNote::read(dir.path()), Recorded::Nothing));
        let note = MountNote::new(place.clone(), Path::new("/srv/media"));
        note.write(dir.path()).unwrap();
        assert!(matches!(MountNote::read(dir.path()), Recorded::Note(read) if read == note));
        let path = MountNote::path_in(dir.path());
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[at / 8] ^= 1 << (at % 8);
            std::fs::write(&path, changed).unwrap();
            match MountNote::read(dir.path()) {
                Recorded::Note(read) => assert_eq!(read.place, place, "bit {at}"),
                Recorded::Damaged => {}
                Recorded::Nothing => panic!("bit {at}"),
            }
        }
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(matches!(MountNote::read(dir.path()), Recorded::Damaged));
        }
    }
}
