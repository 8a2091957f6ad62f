//! The inode table: numbers, names, reference counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::inode::{Ino, Inode, Kind, ROOT};
use super::keyspace::{DirPath, KeySpace};
use super::name::Name;
use crate::error::FsError;
use crate::store::Key;

/// Every inode that the kernel or an operation refers to.
///
/// A name belongs to one inode; an inode without a name (unlinked, or replaced)
/// lives on until nothing refers to it.
#[derive(Debug)]
pub struct InodeTable {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    slots: HashMap<Ino, Slot>,
    names: BTreeMap<(Ino, Name), Ino>,
    next: u64,
}

#[derive(Debug)]
struct Slot {
    inode: Arc<Inode>,
    /// Where the inode is; the root and inodes without a name have none.
    place: Option<(Ino, Name)>,
    /// References of the kernel. Source: libfuse's documentation of `forget`.
    lookups: u64,
    /// References of operations and open files.
    pins: u64,
    /// Inodes whose place is in this directory.
    children: u64,
}

/// Keeps an inode in the table.
#[derive(Debug)]
pub struct Pin {
    table: Arc<InodeTable>,
    inode: Arc<Inode>,
}

impl std::ops::Deref for Pin {
    type Target = Arc<Inode>;

    fn deref(&self) -> &Arc<Inode> {
        &self.inode
    }
}

impl Pin {
    /// Key of the file's object; none when its name is gone or too long.
    pub fn key(&self, keys: &KeySpace) -> Option<Key> {
        let (parent, name) = self.table.place(self.inode.ino)?;
        keys.file_key(&self.table.dir_path(parent).ok()?, &name)
            .ok()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut inner = self.table.inner.lock();
        inner.change(self.inode.ino, |slot| slot.pins -= 1);
        inner.drop_unreferenced(self.inode.ino);
    }
}

impl Default for InodeTable {
    fn default() -> Self {
        let root = Slot {
            inode: Arc::new(Inode::new(ROOT, Kind::Directory)),
            place: None,
            lookups: 1,
            pins: 1,
            children: 0,
        };
        Self {
            inner: Mutex::new(Inner {
                slots: HashMap::from([(ROOT, root)]),
                names: BTreeMap::new(),
                next: ROOT.0 + 1,
            }),
        }
    }
}

impl InodeTable {
    /// Errors: `Stale` when the number refers to nothing.
    pub fn get(self: &Arc<Self>, ino: Ino) -> Result<Pin, FsError> {
        let mut inner = self.inner.lock();
        inner.pin(self, ino).ok_or(FsError::Stale)
    }

    /// The inode that has the name, if any.
    pub fn child(self: &Arc<Self>, parent: Ino, name: &Name) -> Option<Pin> {
        let mut inner = self.inner.lock();
        let ino = *inner.names.get(&(parent, name.clone()))?;
        inner.pin(self, ino)
    }

    /// The inode that has the name; a new one where there is none.
    ///
    /// Errors: `Stale` when the parent is gone; `Exists` when the name belongs
    /// to an inode of another kind.
    pub fn child_or_new(
        self: &Arc<Self>,
        parent: Ino,
        name: &Name,
        kind: Kind,
    ) -> Result<Pin, FsError> {
        let mut inner = self.inner.lock();
        if let Some(ino) = inner.names.get(&(parent, name.clone())).copied() {
            let pin = inner.pin(self, ino).ok_or(FsError::Stale)?;
            return if pin.kind == kind {
                Ok(pin)
            } else {
                Err(FsError::Exists)
            };
        }
        if !inner.slots.contains_key(&parent) {
            return Err(FsError::Stale);
        }
        let ino = Ino(inner.next);
        inner.next += 1;
        let inode = Arc::new(Inode::new(ino, kind));
        let slot = Slot {
            inode,
            place: None,
            lookups: 0,
            pins: 0,
            children: 0,
        };
        inner.slots.insert(ino, slot);
        inner.attach(ino, parent, name.clone());
        inner.pin(self, ino).ok_or(FsError::Stale)
    }

    /// Takes the inode's name away; it lives on while something refers to it.
    pub fn detach(&self, ino: Ino) {
        let mut inner = self.inner.lock();
        inner.detach(ino);
        inner.drop_unreferenced(ino);
    }

    /// Gives the inode another name; whatever had that name loses it.
    ///
    /// Errors: `Stale` when the inode or the new parent is gone.
    pub fn rename(&self, ino: Ino, parent: Ino, name: &Name) -> Result<(), FsError> {
        let mut inner = self.inner.lock();
        if !inner.slots.contains_key(&ino) || !inner.slots.contains_key(&parent) {
            return Err(FsError::Stale);
        }
        let replaced = inner.names.get(&(parent, name.clone())).copied();
        if replaced == Some(ino) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            inner.detach(replaced);
            inner.drop_unreferenced(replaced);
        }
        inner.detach(ino);
        inner.attach(ino, parent, name.clone());
        Ok(())
    }

    /// Parent and name of an inode; none for the root and for inodes without a name.
    pub fn place(&self, ino: Ino) -> Option<(Ino, Name)> {
        self.inner.lock().slots.get(&ino)?.place.clone()
    }

    /// Path of a directory. Errors: `NotFound` when it, or one above it, has no name any more.
    pub fn dir_path(&self, dir: Ino) -> Result<DirPath, FsError> {
        let inner = self.inner.lock();
        let mut names = Vec::new();
        let mut at = dir;
        while at != ROOT {
            let (parent, name) = inner
                .slots
                .get(&at)
                .and_then(|slot| slot.place.as_ref())
                .ok_or(FsError::NotFound)?;
            names.push(name);
            at = *parent;
        }
        Ok(names
            .iter()
            .rev()
            .fold(DirPath::root(), |path, name| path.join(name)))
    }

    /// Whether `dir` is `above` or lies under it.
    pub fn is_within(&self, dir: Ino, above: Ino) -> bool {
        let inner = self.inner.lock();
        let mut at = dir;
        while at != above {
            match inner.slots.get(&at).and_then(|slot| slot.place.as_ref()) {
                Some((parent, _)) => at = *parent,
                None => return false,
            }
        }
        true
    }

    /// The directory's entries that are in the table.
    pub fn children(self: &Arc<Self>, dir: Ino) -> Vec<(Name, Pin)> {
        let mut inner = self.inner.lock();
        let found: Vec<(Name, Ino)> = inner
            .names
            .range((dir, Name::first())..)
            .take_while(|((parent, _), _)| *parent == dir)
            .map(|((_, name), ino)| (name.clone(), *ino))
            .collect();
        found
            .into_iter()
            .filter_map(|(name, ino)| Some((name, inner.pin(self, ino)?)))
            .collect()
    }

    /// The kernel has taken one more reference, by an answer that carries the inode.
    pub fn add_lookup(&self, ino: Ino) {
        self.inner.lock().change(ino, |slot| slot.lookups += 1);
    }

    /// The kernel gives references back.
    pub fn forget(&self, ino: Ino, count: u64) {
        let mut inner = self.inner.lock();
        inner.change(ino, |slot| {
            slot.lookups = slot.lookups.saturating_sub(count)
        });
        inner.drop_unreferenced(ino);
    }

    /// Whether someone besides the caller's one pin uses the inode.
    pub fn is_pinned_elsewhere(&self, ino: Ino) -> bool {
        self.inner
            .lock()
            .slots
            .get(&ino)
            .is_some_and(|slot| slot.pins > 1)
    }

    /// How many inodes are referred to, the root included.
    pub fn count(&self) -> usize {
        self.inner.lock().slots.len()
    }
}

impl Inner {
    fn pin(&mut self, table: &Arc<InodeTable>, ino: Ino) -> Option<Pin> {
        let slot = self.slots.get_mut(&ino)?;
        slot.pins += 1;
        Some(Pin {
            table: table.clone(),
            inode: slot.inode.clone(),
        })
    }

    fn change(&mut self, ino: Ino, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get_mut(&ino) {
            change(slot);
        }
    }

    fn attach(&mut self, ino: Ino, parent: Ino, name: Name) {
        self.change(parent, |slot| slot.children += 1);
        self.change(ino, |slot| slot.place = Some((parent, name.clone())));
        self.names.insert((parent, name), ino);
    }

    fn detach(&mut self, ino: Ino) {
        let Some(place) = self.slots.get_mut(&ino).and_then(|slot| slot.place.take()) else {
            return;
        };
        self.change(place.0, |slot| slot.children -= 1);
        let parent = place.0;
        self.names.remove(&place);
        self.drop_unreferenced(parent);
    }

    /// Drops the inode, and then the directories above it, as far as nothing refers to them.
    fn drop_unreferenced(&mut self, ino: Ino) {
        let mut at = ino;
        while let Some(slot) = self.slots.get(&at) {
            if at == ROOT || slot.lookups > 0 || slot.pins > 0 || slot.children > 0 {
                return;
            }
            let Some(slot) = self.slots.remove(&at) else {
                return;
            };
            let Some(place) = slot.place else { return };
            self.change(place.0, |parent| parent.children -= 1);
            at = place.0;
            self.names.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_segment(text).unwrap()
    }

    fn table() -> Arc<InodeTable> {
        Arc::new(InodeTable::default())
    }

    #[test]
    fn an_inode_lives_until_the_kernel_forgets_it() {
        let table = table();
        let ino = table
            .child_or_new(ROOT, &name("a"), Kind::File)
            .unwrap()
            .ino;
        assert!(table.get(ino).is_err(), "nothing referred to it");
        let pin = table.child_or_new(ROOT, &name("a"), Kind::File).unwrap();
        table.add_lookup(pin.ino);
        table.add_lookup(pin.ino);
        let ino = pin.ino;
        drop(pin);
        table.forget(ino, 1);
        assert!(table.get(ino).is_ok());
        table.forget(ino, 1);
        assert!(table.get(ino).is_err());
        assert_eq!(table.count(), 1);
    }

    #[test]
    fn a_directory_stays_while_an_entry_of_it_is_referred_to() {
        let table = table();
        let dir = table
            .child_or_new(ROOT, &name("d"), Kind::Directory)
            .unwrap();
        let file = table.child_or_new(dir.ino, &name("f"), Kind::File).unwrap();
        let dir_ino = dir.ino;
        drop(dir);
        assert_eq!(table.dir_path(dir_ino).unwrap().as_str(), "d/");
        drop(file);
        assert!(table.get(dir_ino).is_err());
    }

    #[test]
    fn rename_takes_the_subtree_along_and_detaches_what_it_replaces() {
        let table = table();
        let dir = table
            .child_or_new(ROOT, &name("d"), Kind::Directory)
            .unwrap();
        let sub = table
            .child_or_new(dir.ino, &name("s"), Kind::Directory)
            .unwrap();
        let old = table
            .child_or_new(ROOT, &name("e"), Kind::Directory)
            .unwrap();
        table.rename(dir.ino, ROOT, &name("e")).unwrap();
        assert_eq!(table.dir_path(sub.ino).unwrap().as_str(), "e/s/");
        assert!(matches!(table.dir_path(old.ino), Err(FsError::NotFound)));
        assert!(table.is_within(sub.ino, dir.ino));
        assert!(!table.is_within(dir.ino, sub.ino));
    }

    #[test]
    fn a_detached_inode_serves_until_its_last_reference_goes() {
        let table = table();
        let file = table.child_or_new(ROOT, &name("f"), Kind::File).unwrap();
        table.detach(file.ino);
        assert!(table.child(ROOT, &name("f")).is_none());
        assert!(table.get(file.ino).is_ok());
        let ino = file.ino;
        drop(file);
        assert!(table.get(ino).is_err());
    }
}
