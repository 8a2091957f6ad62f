//! The inode table of a predecessor.

use std::sync::Arc;

use super::inode::Inode;
use super::name::Name;
use super::numbers::Numbers;
use super::pin::Pin;
use super::slot::Slot;
use super::table::{Inner, InodeTable};
use crate::session_state::{SavedInode, SessionState};
use crate::vocabulary::{Ino, Kind, ROOT};

impl InodeTable {
    /// Keeps the numbers that the kernel knows until `restore`: no name that is
    /// looked at meanwhile gets one of them, but for the name that has it.
    pub fn keep_numbers(&self, saved: &SessionState) {
        let mut inner = self.inner.lock();
        for (number, inode) in &saved.inodes {
            let ino = Ino(*number);
            let place = inode.place.as_ref();
            let place = place.map(|(parent, name)| (Ino(*parent), &**name));
            match place {
                Some((parent, name)) if Numbers::derives(ino, parent, name) => {}
                Some((parent, name)) => match Name::from_segment(name) {
                    Some(name) => inner.numbers.placed(ino, &(parent, name)),
                    None => inner.numbers.reserve(ino),
                },
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
        let inodes = std::mem::take(&mut saved.inodes);
        let mut inner = self.inner.lock();
        inner.slots.reserve(inodes.len());
        // Directories first: the others have their places in them.
        let is_directory = |inode: &SavedInode| inode.kind == Kind::Directory;
        let mut places = Vec::new();
        for (number, inode) in inodes.iter().filter(|(_, it)| is_directory(it)) {
            inner.restore_slot(Ino(*number), inode);
            places.extend(inode.place.clone().map(|place| (Ino(*number), place)));
        }
        for (ino, place) in places {
            inner.restore_place(ino, place);
        }
        let mut unknown = Vec::new();
        for (number, inode) in inodes {
            let ino = Ino(number);
            if inode.lookups == 0 {
                unknown.push(ino);
            }
            if !is_directory(&inode) {
                inner.restore_slot(ino, &inode);
                if let Some(place) = inode.place {
                    inner.restore_place(ino, place);
                }
            }
        }
        inner.numbers.end_reservations();
        let pins = unknown.into_iter().filter_map(|ino| inner.pin(self, ino));
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

impl Inner {
    fn restore_slot(&mut self, ino: Ino, saved: &SavedInode) {
        let slot = self.slots.entry(ino);
        let slot = slot.or_insert_with(|| Box::new(Slot::new(ino, saved.kind)));
        slot.lookups = slot.lookups.max(saved.lookups);
        if let Some(set) = saved.set.as_deref() {
            slot.inode.state().overrides = set.clone().into();
        }
    }

    /// A name whose directory was not told of, or that two have, is none.
    fn restore_place(&mut self, ino: Ino, (parent, name): (u64, Arc<str>)) {
        let parent = Ino(parent);
        let Some(name) = Name::from_shared(name) else {
            tracing::error!(
                ?ino,
                "session record ignored: the inode's name is not valid"
            );
            return;
        };
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
}
