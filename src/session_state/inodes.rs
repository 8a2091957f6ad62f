//! The inodes that the kernel knows, in as little memory as may be: there are many.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use crate::vocabulary::{Ino, Kind, Overrides};

/// Names that are nobody's any more are cleared away when they are most of the text,
/// and as much as this.
const CLEAR_FROM_BYTES: usize = 1 << 20;
/// A table with room for so many times as many is made smaller.
const ROOM_RATIO: usize = 8;
/// Smaller ones are left as they are.
const ROOM_LIMIT: usize = 1 << 16;
/// References that an inode has for ever.
const ENDLESS: u32 = u32::MAX;

/// What is known of each inode: its name, and how often the kernel was told of it.
///
/// The names stand one after another in one piece of memory.
#[derive(Debug, Clone, Default)]
pub struct SavedInodes {
    /// In the order in which they came, in which they are mostly asked for again.
    table: IndexMap<u64, Compact, RandomState>,
    names: String,
    /// Bytes of `names` that are nobody's.
    unused: usize,
    sets: HashMap<u64, Box<Overrides>>,
}

#[derive(Debug, Clone, Copy)]
struct Compact {
    parent: u64,
    name_at: u32,
    lookups: u32,
    index: u32,
    name_len: u16,
    kind: Kind,
    place: PlaceKind,
}

/// Whether an inode has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlaceKind {
    None,
    /// Its number follows from it.
    Derived,
    Moved,
}

impl Compact {
    fn new(kind: Kind) -> Self {
        Self {
            parent: 0,
            name_at: 0,
            lookups: 0,
            index: 0,
            name_len: 0,
            kind,
            place: PlaceKind::None,
        }
    }

    fn name<'a>(&self, names: &'a str) -> Option<&'a str> {
        let from = self.name_at as usize;
        let name = names.get(from..from + usize::from(self.name_len));
        name.filter(|_| self.place != PlaceKind::None)
    }
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedInode<'a> {
    pub kind: Kind,
    pub place: Option<(u64, &'a str)>,
    pub lookups: u64,
    pub set: Option<&'a Overrides>,
}

/// One that is in the collection no more.
#[derive(Debug)]
pub struct TakenInode {
    pub kind: Kind,
    pub place: Option<(u64, Arc<str>)>,
    pub lookups: u64,
    pub set: Option<Box<Overrides>>,
    /// Which of the entries of its directory it is.
    pub index: u32,
}

impl SavedInodes {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Of all names together.
    pub fn name_bytes(&self) -> usize {
        self.names.len() - self.unused
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub fn contains(&self, ino: u64) -> bool {
        self.table.contains_key(&ino)
    }

    pub fn reserve(&mut self, inodes: usize, name_bytes: usize) {
        self.table.reserve(inodes);
        self.names.reserve(name_bytes);
    }

    pub fn get(&self, ino: u64) -> Option<SavedInode<'_>> {
        let compact = self.table.get(&ino)?;
        Some(self.view(ino, compact))
    }

    fn view(&self, ino: u64, compact: &Compact) -> SavedInode<'_> {
        let name = compact.name(&self.names);
        SavedInode {
            kind: compact.kind,
            place: name.map(|name| (compact.parent, name)),
            lookups: compact.lookups.into(),
            set: self.sets.get(&ino).map(|set| &**set),
        }
    }

    /// Whether an inode is in this place.
    pub fn is_at(&self, ino: u64, (parent, name): (u64, &str)) -> bool {
        let found = self.table.get(&ino);
        found.is_some_and(|it| it.parent == parent && it.name(&self.names) == Some(name))
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, SavedInode<'_>)> {
        let inodes = self.table.iter();
        inodes.map(|(ino, compact)| (*ino, self.view(*ino, compact)))
    }

    /// Those whose number does not follow from their name.
    pub fn moved(&self) -> impl Iterator<Item = (u64, SavedInode<'_>)> {
        let moved = self.table.iter();
        let moved = moved.filter(|(_, it)| it.place != PlaceKind::Derived);
        moved.map(|(ino, compact)| (*ino, self.view(*ino, compact)))
    }

    /// Directories, and others that are more than a file that the kernel refers to by
    /// a name that its number follows from.
    pub fn uncommon(&self) -> (Vec<u64>, Vec<u64>) {
        let is_common = |it: &Compact| it.place == PlaceKind::Derived && it.lookups > 0;
        let uncommon = self.table.iter();
        let uncommon = uncommon.filter(|(ino, it)| {
            it.kind == Kind::Directory || !is_common(it) || self.sets.contains_key(ino)
        });
        let numbers = uncommon.map(|(ino, it)| (*ino, it.kind));
        let (directories, others): (Vec<_>, Vec<_>) =
            numbers.partition(|(_, kind)| *kind == Kind::Directory);
        let only = |list: Vec<(u64, Kind)>| list.into_iter().map(|(ino, _)| ino).collect();
        (only(directories), only(others))
    }

    /// Gives each its index among the entries of its directory. Returns those that have none.
    pub fn enter(&mut self, mut enter: impl FnMut(u64, u64) -> Option<u32>) -> Vec<u64> {
        let mut homeless = Vec::new();
        for (ino, compact) in &mut self.table {
            match enter(*ino, compact.parent) {
                Some(index) => compact.index = index,
                None => homeless.push(*ino),
            }
        }
        homeless
    }

    /// Returns whether it is here.
    pub fn set_index(&mut self, ino: u64, index: u32) -> bool {
        let found = self.table.get_mut(&ino);
        found.map(|it| it.index = index).is_some()
    }

    /// Has the processor fetch what is known of these, which are about to be asked for: in
    /// slow memory, all at once take little longer than one.
    pub fn fetch(&self, numbers: impl Iterator<Item = u64>) {
        let parents = numbers.filter_map(|ino| Some(self.table.get(&ino)?.parent));
        black_box(parents.fold(0, |all, parent| all ^ parent));
    }

    /// One that is known already keeps its kind.
    fn entry(&mut self, ino: u64, kind: Kind) -> &mut Compact {
        let entry = self.table.entry(ino);
        entry.or_insert_with(|| Compact::new(kind))
    }

    /// Gives it a place, and so many references more. Returns whether there is room for the name.
    #[must_use]
    pub fn place(
        &mut self,
        ino: u64,
        kind: Kind,
        (parent, name): (u64, &str),
        lookups: u64,
    ) -> bool {
        let at = u32::try_from(self.names.len());
        let (Ok(name_at), Ok(name_len)) = (at, u16::try_from(name.len())) else {
            return false;
        };
        let place = match Ino(ino) == Ino::derived(Ino(parent), name) {
            true => PlaceKind::Derived,
            false => PlaceKind::Moved,
        };
        self.names.push_str(name);
        let entry = self.entry(ino, kind);
        let before = *entry;
        *entry = Compact {
            parent,
            name_at,
            name_len,
            place,
            ..before
        };
        entry.lookups = more(entry.lookups, lookups);
        self.free_name(before);
        true
    }

    pub fn unplace(&mut self, ino: u64, kind: Kind) {
        let entry = self.entry(ino, kind);
        let before = *entry;
        (entry.place, entry.name_len) = (PlaceKind::None, 0);
        self.free_name(before);
    }

    pub fn add_lookups(&mut self, ino: u64, count: u64) {
        if let Some(entry) = self.table.get_mut(&ino) {
            entry.lookups = more(entry.lookups, count);
        }
    }

    pub fn take_lookups(&mut self, ino: u64, count: u64) {
        if let Some(entry) = self.table.get_mut(&ino)
            && entry.lookups != ENDLESS
        {
            let count = u32::try_from(count).unwrap_or(ENDLESS);
            entry.lookups = entry.lookups.saturating_sub(count);
        }
    }

    /// It may have any number of references more: they do not end.
    pub fn doubt_lookups(&mut self, ino: u64) {
        if let Some(entry) = self.table.get_mut(&ino) {
            entry.lookups = ENDLESS;
        }
    }

    pub fn set(&mut self, ino: u64, set: Option<Overrides>) {
        match set {
            Some(set) if self.contains(ino) => drop(self.sets.insert(ino, Box::new(set))),
            _ => drop(self.sets.remove(&ino)),
        }
    }

    pub fn remove(&mut self, ino: u64) {
        if let Some(removed) = self.table.swap_remove(&ino) {
            self.sets.remove(&ino);
            self.free_name(removed);
            self.free_room();
        }
    }

    pub fn take(&mut self, ino: u64) -> Option<TakenInode> {
        let compact = *self.table.get(&ino)?;
        let name = compact.name(&self.names).map(Arc::from);
        let taken = TakenInode {
            kind: compact.kind,
            place: name.map(|name| (compact.parent, name)),
            lookups: compact.lookups.into(),
            set: self.sets.remove(&ino),
            index: compact.index,
        };
        self.remove(ino);
        Some(taken)
    }

    fn free_name(&mut self, of: Compact) {
        if of.place == PlaceKind::None {
            return;
        }
        self.unused += usize::from(of.name_len);
        if self.unused < CLEAR_FROM_BYTES || self.unused * 2 < self.names.len() {
            return;
        }
        let mut names = String::with_capacity(self.names.len() - self.unused);
        for compact in self.table.values_mut() {
            let name = compact.name(&self.names).unwrap_or_default();
            // There is less than before, whose offsets fitted.
            compact.name_at = names.len() as u32;
            names.push_str(name);
        }
        (self.names, self.unused) = (names, 0);
    }

    fn free_room(&mut self) {
        let (len, room) = (self.table.len(), self.table.capacity());
        if room > ROOM_LIMIT && len * ROOM_RATIO < room {
            self.table.shrink_to(2 * len);
        }
    }
}

fn more(lookups: u32, count: u64) -> u32 {
    u32::try_from(u64::from(lookups).saturating_add(count)).unwrap_or(ENDLESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Kind = Kind::File;

    fn derived(parent: u64, name: &str) -> u64 {
        Ino::derived(Ino(parent), name).0
    }

    #[test]
    fn names_and_references_are_what_they_were_after_any_number_of_changes() {
        let mut inodes = SavedInodes::default();
        let mut expected = HashMap::new();
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..200_000_u64 {
            let ino = 2 + random.u64(..3000);
            match random.u8(..6) {
                0 => {
                    inodes.remove(ino);
                    expected.remove(&ino);
                }
                1 => {
                    let taken = inodes.take(ino).map(|it| (it.place, it.lookups));
                    let known = expected.remove(&ino);
                    let known = known
                        .map(|(place, lookups): (Option<(u64, Arc<str>)>, _)| (place, lookups));
                    assert_eq!(taken, known);
                }
                2 => {
                    inodes.unplace(ino, FILE);
                    expected.entry(ino).or_default().0 = None;
                }
                3 => {
                    inodes.take_lookups(ino, 1);
                    if let Some((_, lookups)) = expected.get_mut(&ino) {
                        *lookups = lookups.saturating_sub(1);
                    }
                }
                _ => {
                    let name = format!("a name that is rather long {round}");
                    assert!(inodes.place(ino, FILE, (round, &name), 1));
                    let known = expected.entry(ino).or_default();
                    *known = (Some((round, name.into())), known.1 + 1);
                }
            }
        }
        assert_eq!(inodes.len(), expected.len());
        for (ino, is) in inodes.iter() {
            let (place, lookups) = &expected[&ino];
            let place = place.as_ref().map(|(parent, name)| (*parent, &**name));
            assert_eq!((is.place, is.lookups), (place, *lookups));
        }
        let live: usize = expected
            .values()
            .flat_map(|it| &it.0)
            .map(|it| it.1.len())
            .sum();
        assert_eq!(inodes.names.len() - inodes.unused, live);
        assert!(inodes.names.len() < 4 << 20, "{}", inodes.names.len());
    }

    #[test]
    fn references_that_nobody_has_counted_do_not_end() {
        let mut inodes = SavedInodes::default();
        assert!(inodes.place(3, FILE, (1, "a"), 1));
        inodes.doubt_lookups(3);
        inodes.take_lookups(3, u64::MAX);
        inodes.add_lookups(3, u64::MAX);
        assert_eq!(inodes.get(3).unwrap().lookups, u64::from(u32::MAX));
    }

    #[test]
    fn what_is_more_than_a_file_with_a_name_of_its_own_is_told_apart() {
        let mut inodes = SavedInodes::default();
        let common = derived(1, "common");
        assert!(inodes.place(common, FILE, (1, "common"), 1));
        assert!(inodes.place(7, FILE, (1, "moved"), 1));
        assert!(inodes.place(8, Kind::Directory, (1, "d"), 1));
        let unknown = derived(1, "unknown");
        assert!(inodes.place(unknown, FILE, (1, "unknown"), 0));
        let set = derived(1, "set");
        assert!(inodes.place(set, FILE, (1, "set"), 1));
        inodes.set(set, Some(Overrides::default()));
        let (directories, mut others) = inodes.uncommon();
        others.sort_unstable();
        let mut expected = [7, unknown, set];
        expected.sort_unstable();
        assert_eq!((directories, others), (vec![8], expected.to_vec()));
        assert!(inodes.is_at(common, (1, "common")) && !inodes.is_at(common, (2, "common")));
        let moved: Vec<u64> = inodes.moved().map(|(ino, _)| ino).collect();
        assert_eq!(moved.len(), 2, "{moved:?}");
        assert_eq!(inodes.enter(|ino, _| (ino != 7).then_some(4)), [7]);
        assert_eq!(inodes.take(common).unwrap().index, 4);
    }
}
