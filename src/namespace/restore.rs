//! The inode table of a predecessor, and inodes that are kept as small as it had them.
//!
//! A file that only the kernel refers to, and of which nothing is known that the store
//! does not tell, is dormant: its number, name and references are all there is of it.
//! It wakes when somebody asks for it. So a successor serves before it has looked at
//! each of a million names, and so many take little memory.

use std::collections::HashSet;
use std::sync::Arc;

use super::inner::Inner;
use super::inode::Inode;
use super::name::Name;
use super::numbers::Numbers;
use super::slot::Slot;
use super::table::{InodeTable, Pin};
use crate::session_state::{SavedInodes, SessionState, TakenInode};
use crate::vocabulary::{Ino, Kind, ROOT};

/// Of these are looked at whenever one may: more than come to be awake.
const STEPS: usize = 4;
/// Numbers of inodes that are not awake any more, at most, beside as many as are.
const STALE_LIMIT: usize = 1024;

impl InodeTable {
    /// Keeps the numbers that the kernel knows until `restore`: no name that is
    /// looked at meanwhile gets one of them, but for the name that has it.
    pub fn keep_numbers(&self, saved: &SessionState) {
        let mut inner = self.inner.lock();
        for (number, inode) in saved.inodes.moved() {
            let ino = Ino(number);
            let place = inode.place;
            match place.and_then(|(parent, name)| Some((Ino(parent), Name::from_segment(name)?))) {
                Some(place) => inner.numbers.placed(ino, &place),
                None => inner.numbers.reserve(ino),
            }
        }
    }

    /// Takes over the numbers, names and references of a predecessor, which told
    /// this one of them already.
    ///
    /// What the kernel does not know is pinned until the result is dropped: whoever
    /// has use for it pins it meanwhile.
    pub fn restore(self: &Arc<Self>, saved: &mut SessionState) -> Vec<Pin> {
        let mut inodes = std::mem::take(&mut saved.inodes);
        let mut inner = self.inner.lock();
        let (directories, mut others) = inodes.uncommon();
        // Looked at meanwhile.
        others.extend(inner.slots.keys().map(|ino| ino.0));
        let mut unknown = Vec::new();
        // Directories first: the others have their places in them.
        inner.restore_awake(directories, &mut inodes, &mut unknown);
        let mut others = Taken::of(others, &mut inodes);
        let homeless = inner.restore_dormant(inodes);
        others.0.extend(homeless);
        inner.restore_each(others, &mut unknown);
        inner.numbers.end_reservations();
        let pins = unknown
            .into_iter()
            .filter_map(|ino| self.pin(&mut inner, ino));
        pins.collect()
    }

    /// Every directory but the root.
    pub fn directories(&self) -> Vec<Arc<Inode>> {
        let inner = self.inner.lock();
        let inodes = inner.slots.values().map(|slot| &slot.inode);
        let found = inodes.filter(|it| it.kind == Kind::Directory && it.ino != ROOT);
        found.cloned().collect()
    }
}

/// Inodes that are awake from the start.
struct Taken(Vec<(Ino, TakenInode)>);

impl Taken {
    fn of(numbers: Vec<u64>, from: &mut SavedInodes) -> Self {
        let found = numbers.into_iter();
        Self(
            found
                .filter_map(|ino| Some((Ino(ino), from.take(ino)?)))
                .collect(),
        )
    }
}

impl Inner {
    fn restore_awake(&mut self, numbers: Vec<u64>, from: &mut SavedInodes, unknown: &mut Vec<Ino>) {
        self.restore_each(Taken::of(numbers, from), unknown);
    }

    fn restore_each(&mut self, taken: Taken, unknown: &mut Vec<Ino>) {
        for (ino, inode) in &taken.0 {
            self.restore_slot(*ino, inode);
            if inode.lookups == 0 {
                unknown.push(*ino);
            }
        }
        for (ino, inode) in taken.0 {
            if let Some(place) = inode.place {
                self.restore_place(ino, place);
            }
        }
    }

    /// Returns those that have no directory.
    fn restore_dormant(&mut self, inodes: SavedInodes) -> Vec<(Ino, TakenInode)> {
        self.dormant = inodes;
        let slots = &mut self.slots;
        let homeless = self.dormant.enter(|ino, parent| {
            let directory = slots.get_mut(&Ino(parent));
            let directory = directory.filter(|slot| slot.inode.kind == Kind::Directory);
            directory.map(|slot| slot.entries.push(Ino(ino)))
        });
        Taken::of(homeless, &mut self.dormant).0
    }

    fn restore_slot(&mut self, ino: Ino, saved: &TakenInode) {
        if !self.slots.contains_key(&ino) {
            self.add_awake(Slot::new(ino, saved.kind));
        }
        let Some(slot) = self.slots.get_mut(&ino) else {
            return;
        };
        slot.lookups = slot.lookups.max(saved.lookups);
        if let Some(set) = saved.set.as_deref() {
            slot.inode.state().overrides = set.clone().into();
        }
    }

    /// A name whose directory was not told of, or that two have, is none.
    fn restore_place(&mut self, ino: Ino, (parent, name): (u64, Arc<str>)) {
        let parent = Ino(parent);
        let Some(name) = valid(ino, name) else { return };
        let is_placed = self.slots.get(&ino).is_none_or(|slot| slot.place.is_some());
        if is_placed || !self.slots.contains_key(&parent) {
            return;
        }
        let place = (parent, name);
        if !Numbers::derives(ino, place.0, place.1.as_str()) {
            if self.find(place.0, &place.1).is_some() {
                return;
            }
            self.numbers.placed(ino, &place);
        }
        self.put(ino, place);
    }

    /// The inode, which is awake from now on.
    pub(super) fn wake(&mut self, ino: Ino) -> Option<&mut Slot> {
        if !self.slots.contains_key(&ino) {
            let TakenInode {
                kind,
                place,
                lookups,
                index,
                ..
            } = self.dormant.take(ino.0)?;
            let mut slot = Slot::new(ino, kind);
            (slot.lookups, slot.index) = (lookups, index);
            if let Some((parent, name)) = place {
                let parent = Ino(parent);
                match valid(ino, name) {
                    Some(name) => slot.place = Some((parent, name)),
                    None => self.leave(parent, index),
                }
            }
            self.add_awake(slot);
        }
        self.slots.get_mut(&ino).map(|slot| &mut **slot)
    }

    /// Parent and name of an inode that need not be awake.
    pub(super) fn place_of(&self, ino: Ino) -> Option<(Ino, Name)> {
        if let Some(slot) = self.slots.get(&ino) {
            return slot.place.clone();
        }
        let (parent, name) = self.dormant.get(ino.0)?.place?;
        Some((Ino(parent), Name::from_segment(name)?))
    }

    /// The entry of a directory is not in it any more.
    pub(super) fn leave(&mut self, parent: Ino, index: u32) {
        let directory = self.slots.get_mut(&parent);
        let Some(moved) = directory.and_then(|slot| slot.entries.remove(index)) else {
            return;
        };
        match self.slots.get_mut(&moved) {
            Some(slot) => slot.index = index,
            None => drop(self.dormant.set_index(moved.0, index)),
        }
    }

    /// Files go dormant in the order in which they woke.
    pub(super) fn add_awake(&mut self, slot: Slot) {
        let (ino, kind) = (slot.inode.ino, slot.inode.kind);
        self.slots.insert(ino, Box::new(slot));
        if kind == Kind::Directory {
            self.directories += 1;
            return;
        }
        self.awake.push_back(ino);
        if self.awake.len() > 2 * self.slots.len() + STALE_LIMIT {
            let (slots, mut seen) = (&self.slots, HashSet::new());
            // A name that goes and comes back has its number again.
            self.awake
                .retain(|ino| slots.contains_key(ino) && seen.insert(*ino));
        }
    }

    /// Puts the oldest to sleep while too many are awake.
    pub(super) fn calm(&mut self) {
        for _ in 0..STEPS {
            if self.slots.len() - self.directories <= self.awake_limit {
                return;
            }
            let Some(ino) = self.awake.pop_front() else {
                return;
            };
            let is_awake = self.slots.contains_key(&ino);
            if is_awake && self.put_to_sleep(ino) {
                self.note_dormant(ino);
            } else if is_awake {
                self.awake.push_back(ino);
            }
        }
    }

    /// Returns whether it may sleep.
    fn put_to_sleep(&mut self, ino: Ino) -> bool {
        let Some(slot) = self.slots.get(&ino) else {
            return false;
        };
        let is_only_the_kernels = slot.lookups > 0
            && slot.pins == 0
            && slot.entries.all().is_empty()
            && Arc::strong_count(&slot.inode) == 1
            && slot.inode.state().has_nothing_local();
        let place = slot.place.as_ref().filter(|_| is_only_the_kernels);
        let Some((parent, name)) = place else {
            return false;
        };
        let (kind, place) = (slot.inode.kind, (parent.0, name.as_str()));
        if !self.dormant.place(ino.0, kind, place, slot.lookups) {
            return false;
        }
        self.dormant.set_index(ino.0, slot.index);
        self.slots.remove(&ino);
        true
    }
}

/// The name, if it can be one.
fn valid(ino: Ino, name: Arc<str>) -> Option<Name> {
    let name = Name::from_shared(name);
    if name.is_none() {
        tracing::error!(
            ?ino,
            "session record ignored: the inode's name is not valid"
        );
    }
    name
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::attributes::Attributes;
    use super::super::invalidation::{Invalidation, Invalidations, UNUSED_BATCH};
    use super::*;
    use crate::session_state::Record;
    use crate::vocabulary::Overrides;

    fn name(text: &str) -> Name {
        Name::from_segment(text).unwrap()
    }

    /// A table that keeps few awake.
    fn table() -> Arc<InodeTable> {
        let table = InodeTable::new(Arc::default(), Numbers::default(), Default::default());
        table.inner.lock().awake_limit = 10;
        Arc::new(table)
    }

    fn awake(table: &InodeTable) -> usize {
        table.inner.lock().slots.len()
    }

    fn looked_up(table: &Arc<InodeTable>, parent: Ino, text: &str, kind: Kind) -> Ino {
        let pin = table.child_or_new(parent, &name(text), kind).unwrap();
        table.add_lookup(pin.ino);
        pin.ino
    }

    #[test]
    fn files_beyond_a_bound_sleep_and_are_the_same_when_somebody_asks_for_them() {
        let table = table();
        let dir = looked_up(&table, ROOT, "d", Kind::Directory);
        let all: Vec<Ino> = (0..1000)
            .map(|number| looked_up(&table, dir, &number.to_string(), Kind::File))
            .collect();
        assert!(awake(&table) <= 12, "{}", awake(&table));
        assert_eq!(table.count(), 1002);
        for (number, ino) in all.iter().enumerate() {
            let text = number.to_string();
            assert_eq!(table.place(*ino), Some((dir, name(&text))));
            assert_eq!(table.number(dir, &name(&text)), *ino);
            assert_eq!(table.child(dir, &name(&text)).unwrap().ino, *ino);
        }
        assert!(awake(&table) <= 12, "{}", awake(&table));
        table.rename(all[3], ROOT, &name("moved")).unwrap();
        table.detach(all[4]);
        assert_eq!(table.child(ROOT, &name("moved")).unwrap().ino, all[3]);
        assert_eq!(table.child(dir, &name("3")).map(|it| it.ino), None);
        assert_eq!(table.place(all[4]), None);
        assert_eq!(table.children(dir).len(), 998);
        for ino in &all {
            table.add_lookup(*ino);
            table.forget(*ino, 1);
            assert!(table.get(*ino).is_ok(), "one reference is left");
            table.forget(*ino, 1);
            assert!(table.get(*ino).is_err());
        }
        table.forget(dir, 1);
        assert_eq!(table.count(), 1);
    }

    #[test]
    fn the_kernel_is_asked_to_forget_what_goes_dormant_beyond_a_bound() {
        let (invalidations, mut told) = Invalidations::channel();
        let table = InodeTable::new(Arc::default(), Numbers::default(), invalidations);
        let table = Arc::new(table);
        table.inner.lock().awake_limit = 10;
        table.inner.lock().known_limit = 100;
        let number = |text: usize| looked_up(&table, ROOT, &text.to_string(), Kind::File);
        let all: Vec<Ino> = (0..100 + 2 * UNUSED_BATCH).map(number).collect();
        let mut unused = Vec::new();
        while let Ok(Invalidation::Unused { inos }) = told.try_recv() {
            assert_eq!(inos.len(), UNUSED_BATCH);
            unused.extend(inos);
        }
        // The oldest of them went dormant while there was room for all.
        let first = all.iter().position(|ino| *ino == unused[0]).unwrap();
        assert!((85..=100).contains(&first), "{first}");
        assert_eq!(unused, all[first..first + unused.len()]);
        assert!(unused.len() >= UNUSED_BATCH);
    }

    #[test]
    fn what_somebody_uses_or_the_store_does_not_have_stays_awake() {
        let table = table();
        let used = table.child_or_new(ROOT, &name("used"), Kind::File).unwrap();
        table.add_lookup(used.ino);
        used.state().content_generation = 7;
        let staged = looked_up(&table, ROOT, "staged", Kind::File);
        let local = super::super::LocalState::Staged { size_bytes: 3 };
        table.get(staged).unwrap().state().local = Some(local);
        let set = looked_up(&table, ROOT, "set", Kind::File);
        let overrides = Overrides {
            mode: Some(0o600),
            ..Overrides::default()
        };
        table.get(set).unwrap().state().overrides = overrides.into();
        for number in 0..1000 {
            looked_up(&table, ROOT, &number.to_string(), Kind::File);
        }
        assert!(awake(&table) <= 15, "{}", awake(&table));
        assert_eq!(table.get(staged).unwrap().state().local, Some(local));
        assert_eq!(table.get(set).unwrap().state().overrides.mode, Some(0o600));
        assert_eq!(used.state().content_generation, 7);
        assert_eq!(table.awake_children(ROOT).len(), awake(&table) - 1);
    }

    #[test]
    fn files_whose_attributes_were_changed_and_stored_sleep() {
        let table = table();
        for number in 0..1000 {
            let ino = looked_up(&table, ROOT, &number.to_string(), Kind::File);
            let inode = table.get(ino).unwrap();
            let mut state = inode.state();
            // As chmod(2) does, and the store then.
            state.overrides.mode = Some(0o600);
            state.overrides.ctime = Some(SystemTime::now());
            let stored = Attributes {
                mode: Some(0o600),
                ..Attributes::default()
            };
            state.settle(Arc::new(stored));
        }
        looked_up(&table, ROOT, "last", Kind::File);
        assert!(awake(&table) <= 15, "{}", awake(&table));
    }

    #[test]
    fn names_of_a_predecessor_sleep_until_they_are_asked_for() {
        let dir = Ino::derived(ROOT, "d");
        let file = |number: u64| Ino::derived(dir, &number.to_string());
        let mut saved = SessionState::default();
        let inode = |ino: Ino, kind, parent: Ino, text: &str| Record::Inode {
            ino: ino.0,
            kind,
            place: (parent.0, text.into()),
            lookups: 1,
        };
        crate::session_state::tests::apply(
            &mut saved,
            (0..1000)
                .map(|number| inode(file(number), Kind::File, dir, &number.to_string()))
                .chain([
                    inode(dir, Kind::Directory, ROOT, "d"),
                    inode(Ino(77), Kind::File, dir, "moved"),
                    inode(Ino::derived(Ino(5), "lost"), Kind::File, Ino(5), "lost"),
                    inode(Ino::derived(dir, "a/b"), Kind::File, dir, "a/b"),
                ]),
        );
        let table = table();
        table.keep_numbers(&saved);
        drop(table.restore(&mut saved));
        assert_eq!((awake(&table), table.count()), (4, 1005));
        assert_eq!(table.child(dir, &name("7")).unwrap().ino, file(7));
        assert_eq!(table.child(dir, &name("moved")).unwrap().ino, Ino(77));
        assert_eq!(table.place(Ino::derived(Ino(5), "lost")), None);
        assert!(table.get(Ino::derived(Ino(5), "lost")).is_ok());
        assert!(table.get(Ino::derived(dir, "a/b")).is_ok());
        assert_eq!(table.place(Ino::derived(dir, "a/b")), None);
        let found = table.children(dir);
        let numbers = found.iter().map(|(text, pin)| (text.as_str(), pin.ino));
        let right = |(text, ino)| match text {
            "moved" => ino == Ino(77),
            text => ino == Ino::derived(dir, text),
        };
        assert_eq!(numbers.filter(|it| right(*it)).count(), 1001);
        drop(found);
        table.forget(file(3), 1);
        assert!(table.get(file(3)).is_err() && table.get(file(4)).is_ok());
    }
}
