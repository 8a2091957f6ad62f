//! What is said again and again is said a few times, and then counted.
//!
//! Lines from one place in the source about one operation are a group. Lines without an
//! operation are grouped by file, so that the fate of each file is logged. Of each group some lines of
//! a while are written; the last of the others is, at the while's end, with their number. So
//! an outage that ten thousand files meet fills no disk and hides no other line.
//!
//! Locks: its own, for a look.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::Level;
use tracing::callsite::Identifier;

use super::record::{FieldValue, Record};

/// Lines of a group that are written in a while.
const TOLD_LIMIT: u32 = 10;
const WHILE: Duration = Duration::from_secs(10);
const GROUPS_LIMIT: usize = 1000;
/// What tells lines from one place apart: the first of these that they have.
const SUBJECTS: [&str; 4] = ["operation", "op", "key", "ino"];

#[derive(Debug, Default)]
pub struct Repeats {
    groups: Mutex<HashMap<Group, Window>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group {
    place: Identifier,
    subject: String,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    told: u32,
    counted: u64,
    last: Option<Record>,
}

impl Window {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= WHILE
    }

    /// The line that stands for those that were counted.
    fn sum_up(&mut self) -> Option<Record> {
        let mut record = self.last.take()?;
        let counted = std::mem::take(&mut self.counted);
        record
            .fields
            .push("repeated", FieldValue::Plain(counted.into()));
        Some(record)
    }
}

impl Repeats {
    /// What is to be written now that this came: the line itself, after what was counted
    /// before it; or nothing, since it is counted.
    pub fn admit(&self, place: Identifier, record: Record, now: Instant) -> Vec<Record> {
        // Who asks for more than that asks for all of it.
        if record.level > Level::INFO {
            return vec![record];
        }
        let subject = SUBJECTS.iter().find_map(|name| record.fields.get(name));
        let subject = subject.map_or_else(String::new, FieldValue::text);
        let mut groups = self.groups.lock();
        if groups.len() >= GROUPS_LIMIT {
            groups.retain(|_, window| !window.is_over(now) || window.last.is_some());
        }
        let is_full = groups.len() >= GROUPS_LIMIT;
        let group = Group { place, subject };
        if is_full && !groups.contains_key(&group) {
            return vec![record];
        }
        let fresh = || Window {
            began: now,
            told: 0,
            counted: 0,
            last: None,
        };
        let window = groups.entry(group).or_insert_with(fresh);
        let mut written = Vec::new();
        if window.is_over(now) {
            written.extend(window.sum_up());
            *window = fresh();
        }
        if window.told < TOLD_LIMIT {
            window.told += 1;
            written.push(record);
        } else {
            window.counted += 1;
            window.last = Some(record);
        }
        written
    }

    /// What stands for lines that were counted in whiles that are over.
    pub fn due(&self, now: Instant) -> Vec<Record> {
        self.sum_up(|window| window.is_over(now))
    }

    /// What stands for all lines that were counted.
    pub fn all(&self) -> Vec<Record> {
        self.sum_up(|_| true)
    }

    fn sum_up(&self, is_meant: impl Fn(&Window) -> bool) -> Vec<Record> {
        let mut groups = self.groups.lock();
        let meant = groups.values_mut().filter(|window| is_meant(window));
        let mut records: Vec<Record> = meant.filter_map(Window::sum_up).collect();
        records.sort_by_key(|record| record.at);
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one place, about an operation.
    fn record(operation: &str, ino: u64) -> Record {
        let mut record = Record::new(Level::ERROR, "failed".to_owned());
        let operation = FieldValue::Text(operation.to_owned());
        record.fields.push("operation", operation);
        record.fields.push("ino", FieldValue::Plain(ino.into()));
        record
    }

    fn place() -> Identifier {
        struct Place;
        static PLACE: Place = Place;
        impl tracing::Callsite for Place {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unreachable!()
            }
        }
        tracing::callsite::Identifier(&PLACE)
    }

    #[test]
    fn a_storm_is_ten_lines_and_a_count_and_another_operation_is_still_told() {
        let (repeats, began) = (Repeats::default(), Instant::now());
        let told = (0..1000).flat_map(|ino| repeats.admit(place(), record("read", ino), began));
        assert_eq!(told.count(), 10);
        assert_eq!(repeats.admit(place(), record("write", 7), began).len(), 1);
        assert_eq!(repeats.due(began), []);
        let [sum] = &repeats.due(began + WHILE)[..] else {
            panic!("one line stands for all of them");
        };
        assert!(
            sum.text().ends_with("ino=999 repeated=990"),
            "{}",
            sum.text()
        );
        assert_eq!(repeats.due(began + WHILE), [], "it is said once");
    }

    #[test]
    fn the_next_line_after_a_while_comes_after_the_count_of_those_before_it() {
        let (repeats, began) = (Repeats::default(), Instant::now());
        for ino in 0..12 {
            repeats.admit(place(), record("read", ino), began);
        }
        let later = repeats.admit(place(), record("read", 99), began + WHILE);
        let told: Vec<String> = later.iter().map(Record::text).collect();
        assert!(told[0].ends_with("ino=11 repeated=2"), "{told:?}");
        assert!(told[1].ends_with("ino=99"), "{told:?}");
        assert_eq!(repeats.all(), []);
    }

    #[test]
    fn what_became_of_each_file_is_told() {
        let repeats = Repeats::default();
        for number in 0..50 {
            let mut record = Record::new(Level::ERROR, "delete dropped".to_owned());
            let key = FieldValue::Shown(format!("d/{number}"));
            record.fields.push("key", key);
            assert_eq!(repeats.admit(place(), record, Instant::now()).len(), 1);
        }
    }

    #[test]
    fn what_is_asked_for_in_detail_is_told_whole() {
        let repeats = Repeats::default();
        for ino in 0..50 {
            let mut record = record("read", ino);
            record.level = Level::DEBUG;
            assert_eq!(repeats.admit(place(), record, Instant::now()).len(), 1);
        }
    }
}
