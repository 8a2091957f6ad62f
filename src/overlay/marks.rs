//! What of the old directory still counts: a log in the spool.
//!
//! Paths and ETags are kept as hashes: there may be a million.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::old_directory::OldDirectory;
use crate::record_log::{Durable, LogError, LogState, RecordLog, Replayed, Subject, read};
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
    /// Nothing knows a version of the old directory any more.
    Over,
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
    /// None without a path.
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

/// Grows with each record. What counted at a moment can be asked for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZeroU64);

impl Moment {
    const LATEST: Self = Self(NonZeroU64::MAX);

    fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Default for Moment {
    fn default() -> Self {
        Self(NonZeroU64::MIN)
    }
}

/// An object that was made of an old file, or may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twin {
    pub made: u64,
    pub of: u64,
    stored: Option<Moment>,
}

impl Twin {
    /// It was made.
    pub fn is_stored(&self) -> bool {
        self.stored.is_some()
    }
}

/// What the records come to. What does not count any more never counts again.
#[derive(Debug, Default)]
pub struct Marks {
    begun: Option<(String, u64)>,
    now: Moment,
    hidden: HashMap<u64, Moment>,
    above: HashMap<u64, Moment>,
    twins: HashMap<u64, Twin>,
    copies: HashMap<u64, (u64, ETag)>,
    ended: Option<Moment>,
    is_over: bool,
    damaged: usize,
}

/// How far the overlay of a spool has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    NotBegun,
    /// The old directory is needed.
    Begun(PathBuf),
    /// All of the old directory is in the bucket. What began before may know old versions.
    Ended(PathBuf),
    /// Nothing knows an old version. What waits in the spool began later.
    Over,
}

impl Marks {
    pub fn now(&self) -> Moment {
        self.now
    }

    fn phase(&self) -> Phase {
        match &self.begun {
            None => Phase::NotBegun,
            Some(_) if self.is_over => Phase::Over,
            Some((path, _)) if self.is_ended() => Phase::Ended(path.into()),
            Some((path, _)) => Phase::Begun(path.into()),
        }
    }

    pub fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub fn is_hidden(&self, key: u64) -> bool {
        self.is_ended() || self.is_removed(key)
    }

    /// Whether it was removed, renamed or replaced.
    pub fn is_removed(&self, key: u64) -> bool {
        self.hidden.contains_key(&key)
    }

    /// Whether an old file of this name, if there is one, is shown by itself: it is not
    /// hidden, and was not in the bucket.
    pub fn counts(&self, key: u64) -> bool {
        self.counted(key, Moment::LATEST)
    }

    /// Whether it was at a moment.
    pub fn counted(&self, key: u64, at: Moment) -> bool {
        let stored = self.twins.get(&key).and_then(|twin| twin.stored);
        let over = [self.ended, self.hidden.get(&key).copied(), stored];
        !over.into_iter().flatten().any(|since| since <= at)
    }

    /// The same, or its object is shown in its place.
    pub fn may_count(&self, key: u64) -> bool {
        !self.is_hidden(key)
    }

    /// Whether something below a directory was hidden at a moment.
    pub fn hid_below(&self, dir: u64, at: Moment) -> bool {
        let since = [self.ended, self.above.get(&dir).copied()];
        since.into_iter().flatten().any(|since| since <= at)
    }

    pub fn twin(&self, key: u64) -> Option<Twin> {
        self.twins.get(&key).copied()
    }

    fn note(&mut self, Made { key, made, of }: Made, stored: Option<Moment>) {
        self.twins.insert(key, Twin { made, of, stored });
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
            Record::Over => (7, 0),
        };
        Subject { kind, id }
    }

    fn damaged(&mut self, _: Option<Subject>) {
        self.damaged += 1;
    }

    fn apply(&mut self, record: Record) {
        let now = self.now.next();
        self.now = now;
        match record {
            Record::Begun { path, inode } => self.begun = Some((path, inode)),
            Record::Hidden { keys, above } => {
                for key in keys {
                    self.hidden.entry(key).or_insert(now);
                }
                for dir in above {
                    self.above.entry(dir).or_insert(now);
                }
            }
            Record::Sending(made) => self.note(made, None),
            Record::Stored(made) => self.note(made, Some(now)),
            Record::Copied { key, made, of } => {
                self.copies.insert(key, (made, of));
            }
            Record::Ended => self.ended = Some(now),
            // Nobody asks for the rest.
            Record::Over => {
                *self = Self {
                    begun: self.begun.take(),
                    ended: self.ended,
                    is_over: true,
                    ..Self::default()
                }
            }
        }
    }

    fn for_each(&self, give: &mut dyn FnMut(Record)) {
        if let Some((path, inode)) = self.begun.clone() {
            give(Record::Begun { path, inode });
        }
        let batch = |names: &HashMap<u64, Moment>| {
            let names: Vec<u64> = names.keys().copied().collect();
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
            give(match twin.is_stored() {
                true => Record::Stored(made),
                false => Record::Sending(made),
            });
        }
        for (key, (made, of)) in self.copies.clone() {
            give(Record::Copied { key, made, of });
        }
        if self.is_ended() {
            give(Record::Ended);
        }
        if self.is_over {
            give(Record::Over);
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
    let is_ended = replayed.state.is_ended();
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

/// How far the overlay has come that has this log.
pub fn phase(path: &Path) -> Result<Phase, MarksError> {
    Ok(read::<Marks>(path)?.state.phase())
}

/// Notes that nothing knows a version of the old directory any more.
pub fn set_over(path: &Path) -> Result<(), MarksError> {
    let log = RecordLog::<Marks>::resume(path, read(path)?)?;
    Ok(log.append(Record::Over, Durable::Yes)?)
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
            let hides_below = |dir| marks.hid_below(hash_of(dir), marks.now());
            assert!(hides_below("a/") && hides_below("a/b/"));
            assert!(hides_below("e/") && !hides_below("e/f/"));
            assert!(marks.counts(hash_of("s")) && !marks.counts(hash_of("t")));
            assert_eq!(marks.copy(hash_of("u")), Some((5, ETag::new("o"))));
            assert!(!marks.is_ended());
        }
        again.apply(Record::Ended);
        assert!(again.is_hidden(hash_of("anything")));
        again.apply(Record::Over);
        let mut last = Marks::default();
        for record in again.records() {
            last.apply(record);
        }
        assert_eq!(marks.phase(), Phase::Begun("/old".into()));
        assert_eq!(last.phase(), Phase::Over);
    }

    #[test]
    fn what_counted_at_a_moment_is_known_later() {
        let mut marks = Marks::default();
        let key = hash_of("d/f");
        let made = Made {
            key,
            made: 1,
            of: 2,
        };
        let records = [
            Record::Stored(made),
            Record::hidden(["d/f"]).unwrap(),
            Record::Ended,
        ];
        for over in records {
            let mut marks = Marks::default();
            marks.apply(Record::Sending(made));
            let before = marks.now();
            marks.apply(over.clone());
            assert!(marks.counted(key, before), "{over:?}");
            assert!(!marks.hid_below(hash_of("d/"), before), "{over:?}");
            assert!(!marks.counted(key, marks.now()), "{over:?}");
            assert!(!marks.counts(key), "{over:?}");
        }
        marks.apply(Record::hidden(["d/f"]).unwrap());
        let hidden = marks.now();
        marks.apply(Record::hidden(["d/f"]).unwrap());
        assert!(!marks.counted(key, hidden), "it never counts again");
    }
}
