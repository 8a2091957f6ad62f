//! What of the old directory still counts: a log in the spool.
//!
//! Paths and ETags are kept as hashes: there may be a million.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::old_directory::OldDirectory;
use crate::journal::{Durable, LogError, LogState, RecordLog, Replayed, Subject, read};
use crate::store::ETag;

/// Names that one record of a shortened log has.
const BATCH: usize = 512;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MarksError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "the overlay of this mount is of {began}, not of {given}: mount with --overlay {began} until it has ended"
    )]
    OfAnother { began: String, given: String },
    #[error(
        "{0} is not the directory that the overlay began with: something is mounted on it, or it was replaced"
    )]
    Replaced(String),
    #[error("overlay log: {0}")]
    Io(#[from] std::io::Error),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum Record {
    /// The overlay is of this directory.
    Begun { path: String, inode: u64 },
    /// These names of the old directory do not count; `above`: the directories that they
    /// lie in.
    Hidden { keys: Vec<u64>, above: Vec<u64> },
    /// An object is about to be made of an old file.
    Sending(Made),
    /// It was made.
    Stored(Made),
    /// The same under another name.
    Copied { key: u64, made: u64, of: ETag },
    /// All that counts is in the bucket.
    Ended,
}

/// An object of an old file, which has the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub key: u64,
    /// Its ETag.
    pub made: u64,
    /// The file's.
    pub of: u64,
}

impl Record {
    /// None of no path.
    pub fn hidden<'a>(paths: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let (mut keys, mut above) = (Vec::new(), HashSet::new());
        for path in paths {
            keys.push(hash_of(path));
            let inside = path.strip_suffix('/').unwrap_or(path);
            for (at, _) in inside.match_indices('/') {
                above.extend(path.get(..=at).map(hash_of));
            }
        }
        let above = above.into_iter().collect();
        (!keys.is_empty()).then_some(Self::Hidden { keys, above })
    }
}

/// An object that was made of an old file, or may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twin {
    pub made: u64,
    pub of: u64,
    pub is_stored: bool,
}

/// What the records come to.
#[derive(Debug, Default)]
pub struct Marks {
    begun: Option<(String, u64)>,
    hidden: HashSet<u64>,
    above: HashSet<u64>,
    twins: HashMap<u64, Twin>,
    copies: HashMap<u64, (u64, ETag)>,
    is_ended: bool,
    damaged: usize,
}

impl Marks {
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    pub fn is_hidden(&self, key: u64) -> bool {
        self.is_ended || self.hidden.contains(&key)
    }

    /// Whether it was removed, renamed or replaced.
    pub fn is_removed(&self, key: u64) -> bool {
        self.hidden.contains(&key)
    }

    /// Whether an old file of this name, if there is one, is shown by itself: it is not
    /// hidden, and was not in the bucket.
    pub fn counts(&self, key: u64) -> bool {
        self.may_count(key) && self.twins.get(&key).is_none_or(|twin| !twin.is_stored)
    }

    /// The same, or its object is shown in its place.
    pub fn may_count(&self, key: u64) -> bool {
        !self.is_hidden(key)
    }

    /// Whether something below a directory is hidden.
    pub fn hides_below(&self, dir: u64) -> bool {
        self.is_ended || self.above.contains(&dir)
    }

    pub fn twin(&self, key: u64) -> Option<Twin> {
        self.twins.get(&key).copied()
    }

    fn note(&mut self, Made { key, made, of }: Made, is_stored: bool) {
        let twin = Twin {
            made,
            of,
            is_stored,
        };
        self.twins.insert(key, twin);
    }

    /// What was made under a name of a file with another name.
    pub fn copy(&self, key: u64) -> Option<(u64, ETag)> {
        self.copies.get(&key).cloned()
    }
}

impl LogState for Marks {
    type Record = Record;
    const NAME: &'static str = "overlay";
    const VERSION: u32 = 3;
    const DURABLE: Durable = Durable::Yes;

    fn subject(record: &Record) -> Subject {
        let (kind, id) = match record {
            Record::Begun { inode, .. } => (1, *inode),
            Record::Hidden { keys, .. } => (2, keys.first().copied().unwrap_or_default()),
            Record::Sending(made) => (3, made.key),
            Record::Stored(made) => (4, made.key),
            Record::Copied { key, .. } => (5, *key),
            Record::Ended => (6, 0),
        };
        Subject { kind, id }
    }

    fn damaged(&mut self, _: Option<Subject>) {
        self.damaged += 1;
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Begun { path, inode } => self.begun = Some((path, inode)),
            Record::Hidden { keys, above } => {
                self.hidden.extend(keys);
                self.above.extend(above);
            }
            Record::Sending(made) => self.note(made, false),
            Record::Stored(made) => self.note(made, true),
            Record::Copied { key, made, of } => {
                self.copies.insert(key, (made, of));
            }
            Record::Ended => self.is_ended = true,
        }
    }

    fn for_each(&self, give: &mut dyn FnMut(Record)) {
        if let Some((path, inode)) = self.begun.clone() {
            give(Record::Begun { path, inode });
        }
        let batch = |names: &HashSet<u64>| {
            let names: Vec<u64> = names.iter().copied().collect();
            names.chunks(BATCH).map(<[u64]>::to_vec).collect::<Vec<_>>()
        };
        for keys in batch(&self.hidden) {
            let above = Vec::new();
            give(Record::Hidden { keys, above });
        }
        for above in batch(&self.above) {
            let keys = Vec::new();
            give(Record::Hidden { keys, above });
        }
        for (key, twin) in &self.twins {
            let (key, made, of) = (*key, twin.made, twin.of);
            let made = Made { key, made, of };
            give(match twin.is_stored {
                true => Record::Stored(made),
                false => Record::Sending(made),
            });
        }
        for (key, (made, of)) in self.copies.clone() {
            give(Record::Copied { key, made, of });
        }
        if self.is_ended {
            give(Record::Ended);
        }
    }
}

/// Opens the log of an overlay of this directory, and begins it where there is none.
pub fn open(path: &Path, old: &OldDirectory) -> Result<RecordLog<Marks>, MarksError> {
    let replayed: Replayed<Marks> = read(path)?;
    if replayed.state.damaged > 0 {
        let records = replayed.state.damaged;
        tracing::error!(
            records,
            "the log of the overlay is damaged: names of the old directory that were removed or renamed may be shown again"
        );
    }
    let given = old.path().display().to_string();
    let inode = old.inode()?;
    let begun = replayed.state.begun.clone();
    let is_ended = replayed.state.is_ended;
    let log = RecordLog::resume(path, replayed)?;
    match begun {
        Some(_) if is_ended => Ok(log),
        Some((began, _)) if began != given => Err(MarksError::OfAnother { began, given }),
        Some((_, began)) if began != inode => Err(MarksError::Replaced(given)),
        Some(_) => Ok(log),
        None => {
            let path = given;
            log.append(Record::Begun { path, inode }, Durable::Yes)?;
            Ok(log)
        }
    }
}

/// Of which directory the overlay is that has this log, unless it has ended.
pub fn unfinished(path: &Path) -> Result<Option<String>, MarksError> {
    let state = read::<Marks>(path)?.state;
    let begun = state.begun.filter(|_| !state.is_ended);
    Ok(begun.map(|(began, _)| began))
}

/// The same of one that has ended.
pub fn has_ended(path: &Path) -> Result<Option<String>, MarksError> {
    let state = read::<Marks>(path)?.state;
    let begun = state.begun.filter(|_| state.is_ended);
    Ok(begun.map(|(began, _)| began))
}

/// Of a path, or an ETag.
pub fn hash_of(text: &str) -> u64 {
    let md5: [u8; 16] = Md5::digest(text).into();
    let [a, b, c, d, e, f, g, h, ..] = md5;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_log_says_the_same() {
        let mut marks = Marks::default();
        let records = [
            Record::Begun {
                path: "/old".to_owned(),
                inode: 7,
            },
            Record::hidden(["a/b/c", "x", "e/f/"]).unwrap(),
            Record::Sending(Made {
                key: hash_of("s"),
                made: 1,
                of: 2,
            }),
            Record::Stored(Made {
                key: hash_of("t"),
                made: 3,
                of: 4,
            }),
            Record::Copied {
                key: hash_of("u"),
                made: 5,
                of: ETag::new("o"),
            },
        ];
        for record in records {
            marks.apply(record);
        }
        let mut again = Marks::default();
        for record in marks.records() {
            again.apply(record);
        }
        for marks in [&marks, &again] {
            assert!(marks.is_hidden(hash_of("a/b/c")) && !marks.is_hidden(hash_of("a/b")));
            assert!(marks.hides_below(hash_of("a/")) && marks.hides_below(hash_of("a/b/")));
            assert!(marks.hides_below(hash_of("e/")) && !marks.hides_below(hash_of("e/f/")));
            assert!(marks.counts(hash_of("s")) && !marks.counts(hash_of("t")));
            assert_eq!(marks.copy(hash_of("u")), Some((5, ETag::new("o"))));
            assert!(!marks.is_ended());
        }
        again.apply(Record::Ended);
        assert!(again.is_hidden(hash_of("anything")));
    }
}
