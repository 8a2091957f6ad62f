//! What the records of a file come to, as the file is to treat them.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::Subject;

/// Whether a record must be on disk when `append` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// It outlives a power loss.
    Yes,
    /// It outlives the daemon.
    No,
}

/// What records come to.
pub trait LogState: Default {
    type Record: Serialize + DeserializeOwned;
    /// What the file is, in errors and in its first line.
    const NAME: &'static str;
    /// Grows with every change that an older mediafs would misread.
    const VERSION: u32;
    /// Whether a rewritten file must outlive a power loss.
    const DURABLE: Durable;

    /// Whether the record still says something.
    fn accepts(&self, _record: &Self::Record) -> bool {
        true
    }

    /// Records of so many bytes follow.
    fn expect(&mut self, _bytes: usize) {}

    /// Records about these follow at once.
    fn expect_about(&self, _subjects: impl Iterator<Item = Subject>) {}

    fn apply(&mut self, record: Self::Record);

    /// What a record is about, which is mostly known also of one that is damaged.
    fn subject(record: &Self::Record) -> Subject;

    /// The rest of a record, in bytes.
    fn encode(record: &Self::Record) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(record)?)
    }

    fn decode(_subject: Subject, payload: &[u8]) -> Option<Self::Record> {
        serde_json::from_slice(payload).ok()
    }

    /// Applies a record as it stands in the file. Returns whether it is one.
    fn replay(&mut self, subject: Subject, payload: &[u8]) -> bool {
        let record = Self::decode(subject, payload);
        record.map(|record| self.apply(record)).is_some()
    }

    /// A record is not what was written, or some are missing. Where it is not known
    /// what it was about, nothing said before counts as the last word.
    fn damaged(&mut self, subject: Option<Subject>);

    /// Hands out records that come to the same.
    fn for_each(&self, give: &mut dyn FnMut(Self::Record));

    fn records(&self) -> Vec<Self::Record> {
        let mut records = Vec::new();
        self.for_each(&mut |record| records.push(record));
        records
    }
}
