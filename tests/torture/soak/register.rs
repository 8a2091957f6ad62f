//! What may be under a name that several programs on two mounts change: a
//! register that is written whole, removed and read, with the times of each call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::support::pattern;

/// Bytes of a version begin with its number and length.
const HEAD_BYTES: usize = 16;

/// A version of a file; all have different bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

impl Version {
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// One that is written with one call.
    pub fn short() -> Self {
        let version = Self::next();
        if version.is_long() {
            Self::next()
        } else {
            version
        }
    }

    fn is_long(self) -> bool {
        self.0.is_multiple_of(40)
    }

    /// Some thousand bytes, seldom some MiB.
    pub fn bytes(self) -> Vec<u8> {
        let len = match self.is_long() {
            true => (9 << 20) + self.0 as usize,
            false => HEAD_BYTES + 977 * (self.0 % 40) as usize,
        };
        let mut bytes = pattern(len, self.0);
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8..HEAD_BYTES].copy_from_slice(&(len as u64).to_le_bytes());
        bytes
    }

    /// The version that these bytes are, whole and unmixed. Errors: what they are else.
    pub fn of(bytes: &[u8]) -> Result<Self, String> {
        let head = bytes.get(..8).and_then(|head| head.try_into().ok());
        let version = head.map(|head| Self(u64::from_le_bytes(head)));
        let whole = version.filter(|version| bytes == version.bytes());
        whole.ok_or_else(|| format!("{} bytes, mixed or cut: {version:?}", bytes.len()))
    }

    /// Permissions with which it is published by rename.
    pub fn mode(self) -> u32 {
        [0o600, 0o640, 0o644, 0o664][(self.0 % 4) as usize]
    }
}

/// What a call did, as far as it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Wrote(Version),
    Removed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    /// It failed: it may have been done, or not.
    Unknown,
}

/// A call, from its beginning to its end.
#[derive(Debug, Clone, Copy)]
pub struct Event<T> {
    pub what: T,
    pub outcome: Outcome,
    pub began: Instant,
    pub ended: Instant,
}

/// All that happened under one name.
#[derive(Debug, Default)]
pub struct Register {
    pub changes: Vec<Event<Change>>,
    pub reads: Vec<Event<Option<Version>>>,
    /// Changes that wrote to the file itself.
    pub in_place: Vec<OnMount>,
    /// Reads of bytes that are of no version.
    pub mixed: Vec<OnMount>,
}

/// When a call on one of the mounts was under way.
#[derive(Debug, Clone, Copy)]
pub struct OnMount {
    pub mount: usize,
    pub began: Instant,
    pub ended: Instant,
}

impl OnMount {
    fn overlaps(&self, other: &Self) -> bool {
        self.mount == other.mount && self.began <= other.ended && other.began <= self.ended
    }
}

impl Register {
    /// Begins with what is there.
    pub fn holding(version: Option<Version>, at: Instant) -> Self {
        Self {
            changes: vec![Event {
                what: version.map_or(Change::Removed, Change::Wrote),
                outcome: Outcome::Acknowledged,
                began: at,
                ended: at,
            }],
            ..Self::default()
        }
    }

    /// Whether a read may see this: some call left it so, and no acknowledged one
    /// that began after that call had ended was itself over before the read began.
    ///
    /// A removal hides nothing from the other mount while it is on its way to the
    /// store in bulk: only `settled` reads take it for done.
    pub fn may_show(
        &self,
        seen: Option<Version>,
        began: Instant,
        ended: Instant,
        settled: bool,
    ) -> bool {
        let left = seen.map_or(Change::Removed, Change::Wrote);
        let is_over = |by: &Event<Change>, since: Instant| {
            by.outcome == Outcome::Acknowledged
                && by.what != left
                && by.began > since
                && by.ended < began
                && (settled || by.what != Change::Removed)
        };
        let mut causes = self.changes.iter().filter(|change| change.what == left);
        causes.any(|cause| {
            cause.began <= ended && !self.changes.iter().any(|by| is_over(by, cause.ended))
        })
    }

    /// Whether some call that had begun left it so. Where close waits for the disk alone,
    /// the order of two mounts is that of their uploads.
    pub fn was_left_so(&self, seen: Option<Version>, ended: Instant) -> bool {
        let left = seen.map_or(Change::Removed, Change::Wrote);
        let mut causes = self.changes.iter().filter(|change| change.what == left);
        causes.any(|cause| cause.began <= ended)
    }

    /// As the last state, when all calls are over.
    pub fn may_end(&self, seen: Option<Version>) -> bool {
        let now = Instant::now();
        self.may_show(seen, now, now, true)
    }

    /// A program that writes to the file itself mixes what others on its mount read
    /// meanwhile, as on a local disk. Nothing else does.
    #[track_caller]
    pub fn check_mixed(&self, name: &str) {
        for mixed in &self.mixed {
            let is_written = self.in_place.iter().any(|write| write.overlaps(mixed));
            assert!(is_written, "{name}: mixed or cut: {mixed:?}");
        }
    }

    #[track_caller]
    pub fn check_reads(&self, name: &str) {
        for read in &self.reads {
            assert!(
                self.may_show(read.what, read.began, read.ended, false),
                "{name} showed {:?}: {:#?}",
                read.what,
                self.around(read.ended)
            );
        }
    }

    /// What is there in the end, and whether it may be.
    #[track_caller]
    pub fn check_end(&self, name: &str, seen: Option<Version>) {
        assert!(
            self.may_end(seen),
            "{name} is {seen:?} in the end: {:#?}",
            self.around(Instant::now())
        );
    }

    /// The last changes before a moment, for who looks into a failure.
    fn around(&self, end: Instant) -> Vec<String> {
        let first = self.changes.first().map_or(end, |first| first.began);
        let ms = |at: Instant| at.duration_since(first).as_millis();
        let mut told: Vec<_> = self
            .changes
            .iter()
            .filter(|change| change.began <= end)
            .collect();
        told.sort_by_key(|change| change.began);
        let last = told.len().saturating_sub(12);
        told[last..]
            .iter()
            .map(|change| {
                let Event {
                    what,
                    outcome,
                    began,
                    ended,
                } = change;
                format!("{}..{} ms: {what:?} {outcome:?}", ms(*began), ms(*ended))
            })
            .collect()
    }
}

/// Histories of many registers, by name.
pub type Histories = HashMap<String, Register>;

pub fn note(into: &mut Histories, other: Histories) {
    for (name, register) in other {
        let known = into.entry(name).or_default();
        known.changes.extend(register.changes);
        known.reads.extend(register.reads);
        known.in_place.extend(register.in_place);
        known.mixed.extend(register.mixed);
    }
}

#[test]
fn a_register_shows_what_was_written_last_or_at_the_same_time() {
    let start = Instant::now();
    let at = |ms| start + std::time::Duration::from_millis(ms);
    let mut register = Register::holding(None, start);
    let mut change = |what, began, ended, outcome| {
        let (began, ended) = (at(began), at(ended));
        register.changes.push(Event {
            what,
            outcome,
            began,
            ended,
        });
    };
    let [a, b, c] = [1, 2, 3].map(Version);
    change(Change::Wrote(a), 10, 20, Outcome::Acknowledged);
    change(Change::Wrote(b), 15, 30, Outcome::Acknowledged);
    change(Change::Removed, 40, 50, Outcome::Acknowledged);
    change(Change::Wrote(c), 60, 70, Outcome::Unknown);
    let shows = |seen, when, settled| register.may_show(seen, at(when), at(when), settled);
    assert!(shows(None, 5, true) && !shows(Some(a), 5, true));
    assert!(shows(None, 16, true) && shows(Some(a), 16, true));
    assert!(shows(Some(a), 35, true) && shows(Some(b), 35, true) && !shows(None, 35, true));
    assert!(shows(None, 55, true) && !shows(Some(a), 55, true) && shows(Some(a), 55, false));
    assert!(shows(Some(c), 80, true) && shows(None, 80, true) && !shows(Some(b), 80, true));
}
