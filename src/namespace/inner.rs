//! What the inode table has, under its lock: slots, names, numbers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::invalidation::{Invalidations, UNUSED_BATCH};
use super::name::Name;
use super::numbers::Numbers;
use super::slot::Slot;
use crate::session_state::{Record, SavedInodes, SessionLog};
use crate::vocabulary::{Ino, Kind, ROOT};

/// So many inodes are awake; beyond it the oldest go dormant.
pub const AWAKE_LIMIT: usize = 250_000;
/// So many the kernel may know; beyond it it is asked to forget what goes dormant.
const KNOWN_LIMIT: usize = 1_000_000;

#[derive(Debug)]
pub struct Inner {
    /// Boxed: a table that grows has room for twice as many.
    pub slots: HashMap<Ino, Box<Slot>, RandomState>,
    /// How many of them are directories, which never sleep.
    pub directories: usize,
    /// The others that the kernel knows. See `restore`.
    pub dormant: SavedInodes,
    /// Files in `slots`, the oldest first; also some that are not any more.
    pub awake: VecDeque<Ino>,
    pub awake_limit: usize,
    pub known_limit: usize,
    /// What the kernel is about to be asked to forget.
    pub unused: Vec<Ino>,
    pub invalidations: Invalidations,
    /// Names whose number is not the derived one; the others are found by it.
    pub others: BTreeMap<(Ino, Name), Ino>,
    pub numbers: Numbers,
    pub session_log: Arc<SessionLog>,
}

impl Inner {
    pub fn change(&mut self, ino: Ino, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.wake(ino) {
            change(slot);
        }
    }

    /// The inode that has the name, if any.
    pub fn find(&self, parent: Ino, name: &Name) -> Option<Ino> {
        let derived = Ino::derived(parent, name.as_str());
        let has_it = match self.slots.get(&derived) {
            Some(slot) => {
                let place = slot.place.as_ref();
                place.is_some_and(|(dir, it)| *dir == parent && it == name)
            }
            None => self.dormant.is_at(derived.0, (parent.0, name.as_str())),
        };
        if has_it {
            return Some(derived);
        }
        if self.others.is_empty() {
            return None;
        }
        self.others.get(&(parent, name.clone())).copied()
    }

    pub fn attach(&mut self, ino: Ino, parent: Ino, name: Name) {
        if let Some(slot) = self.slots.get(&ino) {
            self.session_log.queue(|| Record::Placed {
                ino: ino.0,
                kind: slot.inode.kind,
                place: (parent.0, name.shared()),
            });
        }
        let place = (parent, name);
        self.numbers.placed(ino, &place);
        self.put(ino, place);
    }

    pub fn put(&mut self, ino: Ino, place: (Ino, Name)) {
        if !Numbers::derives(ino, place.0, place.1.as_str()) {
            self.others.insert(place.clone(), ino);
        }
        let directory = self.slots.get_mut(&place.0);
        let index = directory.map_or(0, |slot| slot.entries.push(ino));
        self.change(ino, |slot| {
            slot.index = index;
            slot.place = Some(place);
        });
    }

    /// An inode that was in this place is not any more.
    pub fn take_out(&mut self, place: &(Ino, Name), index: u32) {
        self.others.remove(place);
        self.leave(place.0, index);
    }

    pub fn number(&self, parent: Ino, name: &Name) -> Ino {
        let in_use = |ino: Ino| self.slots.contains_key(&ino) || self.dormant.contains(ino.0);
        self.numbers.of(&(parent, name.clone()), in_use)
    }

    pub fn detach(&mut self, ino: Ino) {
        let Some(slot) = self.wake(ino) else {
            return;
        };
        let (index, kind) = (slot.index, slot.inode.kind);
        let Some(place) = slot.place.take() else {
            return;
        };
        self.session_log
            .queue(|| Record::Unplaced { ino: ino.0, kind });
        self.numbers.gone(ino, &place);
        self.take_out(&place, index);
        self.drop_unreferenced(place.0);
    }

    /// The inode is dormant, and the kernel may forget it where it knows too many.
    pub fn note_dormant(&mut self, ino: Ino) {
        if self.slots.len() + self.dormant.len() <= self.known_limit {
            return;
        }
        self.unused.push(ino);
        if self.unused.len() >= UNUSED_BATCH {
            self.invalidations.unused(std::mem::take(&mut self.unused));
        }
    }

    /// Drops the inode, and then the directories above it, as far as nothing refers to them.
    pub fn drop_unreferenced(&mut self, ino: Ino) {
        let mut at = ino;
        while let Some(slot) = self.slots.get(&at) {
            let is_used = slot.lookups > 0 || slot.pins > 0 || !slot.entries.all().is_empty();
            if at == ROOT || is_used {
                return;
            }
            let Some(slot) = self.slots.remove(&at) else {
                return;
            };
            self.directories -= usize::from(slot.inode.kind == Kind::Directory);
            self.session_log.queue(|| Record::Gone { ino: at.0 });
            let Slot { place, index, .. } = *slot;
            let Some(place) = place else { return };
            self.take_out(&place, index);
            at = place.0;
        }
    }
}

/// A test has the kernel forget earlier.
pub fn known_limit() -> usize {
    let given = std::env::var("_MEDIAFS_NAMES_LIMIT").ok();
    given.and_then(|it| it.parse().ok()).unwrap_or(KNOWN_LIMIT)
}
