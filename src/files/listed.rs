//! What was listed of an open directory, by offset.

use crate::namespace::{Name, StreamedEntry};
use crate::vocabulary::Kind;

/// So many entries are kept as they were listed: more than are given out and asked for
/// again. Of those before them only names and kinds are, since there may be a million.
const WHOLE_LIMIT: usize = 4096;

/// Entries as they were given out, in order.
#[derive(Debug, Default)]
pub struct Listed {
    /// Names of the first ones, one after another, and where each ends.
    names: String,
    packed: Vec<(usize, Kind)>,
    /// The others.
    whole: Vec<StreamedEntry>,
}

impl Listed {
    /// Names that a predecessor gave out.
    pub fn given_before(names: impl Iterator<Item = Name>) -> Self {
        Self {
            whole: names.map(StreamedEntry::given_before).collect(),
            ..Self::default()
        }
    }

    pub fn len(&self) -> usize {
        self.packed.len() + self.whole.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, while none is packed.
    pub fn whole_mut(&mut self) -> Option<&mut Vec<StreamedEntry>> {
        self.packed.is_empty().then_some(&mut self.whole)
    }

    pub fn extend(&mut self, entries: Vec<StreamedEntry>) {
        self.whole.extend(entries);
    }

    /// Packs what lies so far before an index that it is hardly asked for again.
    pub fn passed(&mut self, index: usize) {
        let passed = index.saturating_sub(self.packed.len());
        if passed < 2 * WHOLE_LIMIT {
            return;
        }
        let passed = (passed - WHOLE_LIMIT).min(self.whole.len());
        for entry in self.whole.drain(..passed) {
            self.names.push_str(entry.name.as_str());
            self.packed.push((self.names.len(), entry.kind));
        }
    }

    /// So many from an index on, as far as they are there.
    pub fn from(&self, first: usize, limit: usize) -> Vec<StreamedEntry> {
        let packed = (first..self.packed.len()).map_while(|index| self.unpacked(index));
        let whole = self.whole.iter();
        let whole = whole.skip(first.saturating_sub(self.packed.len()));
        packed.chain(whole.cloned()).take(limit).collect()
    }

    /// Names from an index up to another.
    pub fn names(&self, range: std::ops::Range<usize>) -> Vec<String> {
        let entries = self.from(range.start, range.len());
        let names = entries.iter().map(|entry| entry.name.as_str().to_owned());
        names.collect()
    }

    fn unpacked(&self, index: usize) -> Option<StreamedEntry> {
        let (end, kind) = *self.packed.get(index)?;
        let before = index.checked_sub(1).and_then(|it| self.packed.get(it));
        let start = before.map_or(0, |(end, _)| *end);
        let name = Name::from_segment(self.names.get(start..end)?)?;
        let mut entry = StreamedEntry::given_before(name);
        entry.kind = kind;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_offset_name_and_kind_however_far_they_lie_behind() {
        let entry = |number: usize| {
            let name = Name::from_segment(&format!("name {number}")).unwrap();
            let kind = match number % 3 {
                0 => Kind::Directory,
                _ => Kind::File,
            };
            let mut entry = StreamedEntry::given_before(name);
            entry.kind = kind;
            entry
        };
        let mut listed = Listed::default();
        assert!(listed.is_empty() && listed.whole_mut().is_some());
        for page in 0..40 {
            listed.extend((page * 1000..(page + 1) * 1000).map(entry).collect());
            listed.passed(page * 1000);
        }
        assert_eq!(listed.len(), 40_000);
        assert!(listed.whole.len() < 12_000 && listed.whole_mut().is_none());
        for first in [0, 1, 5000, 30_000, 33_000, 39_999, 40_000, 50_000] {
            let found = listed.from(first, 3000);
            assert_eq!(found.len(), 3000.min(40_000_usize.saturating_sub(first)));
            for (found, number) in found.iter().zip(first..) {
                let expected = entry(number);
                assert_eq!((&found.name, found.kind), (&expected.name, expected.kind));
            }
        }
        assert_eq!(listed.names(7..9), ["name 7", "name 8"]);
    }
}
