//! The inode table: numbers, names, reference counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::inode::{Ino, Inode, Kind, ROOT};
use super::keyspace::{DirPath, KeySpace};
use super::name::Name;
use super::numbers::Numbers;
use crate::error::FsError;
use crate::handover::{Ledger, Record, Told};
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
    numbers: Numbers,
    ledger: Arc<Ledger>,
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

impl InodeTable {
    /// The root alone. What the kernel is told of goes to the ledger.
    pub fn new(ledger: Arc<Ledger>, numbers: Numbers) -> Self {
        let root = Slot {
            lookups: 1,
            pins: 1,
            ..Slot::new(ROOT, Kind::Directory)
        };
        Self {
            inner: Mutex::new(Inner {
                slots: HashMap::from([(ROOT, root)]),
                names: BTreeMap::new(),
                numbers,
                ledger,
            }),
        }
    }

    /// Keeps the numbers that the kernel knows until `restore`: no name that is
    /// looked at meanwhile gets one of them, but for the name that has it.
    pub fn keep_numbers(&self, told: &Told) {
        let mut inner = self.inner.lock();
        for (number, inode) in &told.inodes {
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

    /// Takes over the numbers, names and references of an earlier daemon.
    ///
    /// Each inode is pinned until the result is dropped: whoever has use for it
    /// pins it meanwhile, and what the kernel does not know goes then.
    pub fn restore(self: &Arc<Self>, told: &Told) -> Vec<Pin> {
        let mut inner = self.inner.lock();
        for (number, inode) in &told.inodes {
            let ino = Ino(*number);
            let slot = inner.slots.entry(ino);
            let slot = slot.or_insert_with(|| Slot::new(ino, inode.kind.into()));
            slot.lookups = slot.lookups.max(inode.lookups);
            if let Some(set) = inode.set.as_deref() {
                slot.inode.state().overrides = set.into();
            }
        }
        for (number, inode) in &told.inodes {
            let Some((parent, name)) = &inode.place else {
                continue;
            };
            match Name::from_segment(name) {
                Some(name) => inner.restore_place(Ino(*number), Ino(*parent), name),
                None => tracing::error!(ino = number, "an inode was told with an impossible name"),
            }
        }
        inner.numbers.end_reservations();
        let inodes: Vec<Ino> = told.inodes.keys().map(|number| Ino(*number)).collect();
        let pins = inodes.into_iter().filter_map(|ino| inner.pin(self, ino));
        pins.collect()
    }

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
        let ino = inner.number(parent, name);
        inner.slots.insert(ino, Slot::new(ino, kind));
        inner.attach(ino, parent, name.clone());
        inner.pin(self, ino).ok_or(FsError::Stale)
    }

    /// The number that a name has, or would have if it were looked up now.
    pub fn number(&self, parent: Ino, name: &Name) -> Ino {
        let inner = self.inner.lock();
        let known = inner.names.get(&(parent, name.clone())).copied();
        known.unwrap_or_else(|| inner.number(parent, name))
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
        let mut inner = self.inner.lock();
        inner.change(ino, |slot| slot.lookups += 1);
        let (ino, count) = (ino.0, 1);
        inner.ledger.tell(|| Record::Lookup { ino, count });
    }

    /// The kernel gives references back.
    pub fn forget(&self, ino: Ino, count: u64) {
        let mut inner = self.inner.lock();
        inner.change(ino, |slot| {
            slot.lookups = slot.lookups.saturating_sub(count)
        });
        inner.ledger.tell(|| Record::Forget { ino: ino.0, count });
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

impl Slot {
    fn new(ino: Ino, kind: Kind) -> Self {
        Self {
            inode: Arc::new(Inode::new(ino, kind)),
            place: None,
            lookups: 0,
            pins: 0,
            children: 0,
        }
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
        if let Some(slot) = self.slots.get(&ino) {
            self.ledger.tell(|| Record::Placed {
                ino: ino.0,
                kind: slot.inode.kind.into(),
                place: (parent.0, name.as_str().to_owned()),
            });
        }
        let place = (parent, name);
        self.numbers.placed(ino, &place);
        self.names.insert(place, ino);
    }

    fn number(&self, parent: Ino, name: &Name) -> Ino {
        let in_use = |ino| self.slots.contains_key(&ino);
        self.numbers.of(&(parent, name.clone()), in_use)
    }

    /// A name whose directory was not told of, or that two have, is none.
    fn restore_place(&mut self, ino: Ino, parent: Ino, name: Name) {
        if self.slots.contains_key(&parent) && !self.names.contains_key(&(parent, name.clone())) {
            self.attach(ino, parent, name);
        }
    }

    fn detach(&mut self, ino: Ino) {
        let Some(place) = self.slots.get_mut(&ino).and_then(|slot| slot.place.take()) else {
            return;
        };
        if let Some(slot) = self.slots.get(&ino) {
            self.ledger.tell(|| Record::Unplaced {
                ino: ino.0,
                kind: slot.inode.kind.into(),
            });
        }
        self.numbers.gone(ino, &place);
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
            self.ledger.tell(|| Record::Gone { ino: at.0 });
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
        Arc::new(InodeTable::new(Arc::default(), Numbers::default()))
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

    #[test]
    fn numbers_names_and_references_are_those_of_the_daemon_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = crate::handover::path_in(dir.path());
        let session = crate::handover::tests::session();
        let ledger = Arc::new(Ledger::awaiting(&path));
        ledger.begin(session).unwrap();
        let before = Arc::new(InodeTable::new(ledger, Numbers::default()));
        let at = |parent: Ino, text, kind| {
            let pin = before.child_or_new(parent, &name(text), kind).unwrap();
            before.add_lookup(pin.ino);
            pin.ino
        };
        let dir = at(ROOT, "d", Kind::Directory);
        let file = at(dir, "f", Kind::File);
        let orphan = at(dir, "o", Kind::File);
        before.detach(orphan);
        before.rename(file, ROOT, &name("g")).unwrap();
        before.forget(dir, 1);
        drop(before.child_or_new(ROOT, &name("passing"), Kind::File));

        let told = crate::handover::told(&path).unwrap().unwrap();
        let table = Arc::new(InodeTable::new(Arc::default(), Numbers::default()));
        table.keep_numbers(&told);
        let early = table.child_or_new(dir, &name("o"), Kind::File);
        assert!(early.is_err(), "its directory is not there yet");
        let early = table.child_or_new(ROOT, &name("g"), Kind::File).unwrap();
        assert_eq!(early.ino, file, "as the kernel knows it");
        let other = table.number(dir, &name("o"));
        assert_ne!(other, orphan, "that number is still in use");
        drop(early);
        drop(table.restore(&told));
        assert_eq!(table.count(), 3, "root, file and orphan: {table:?}");
        assert_eq!(table.child(ROOT, &name("g")).unwrap().ino, file);
        assert!(table.place(orphan).is_none());
        assert!(table.get(dir).is_err());
        let again = table.child_or_new(ROOT, &name("d"), Kind::Directory);
        let again = again.unwrap();
        assert_eq!(again.ino, dir, "by its name");
        let new = table.child_or_new(dir, &name("f"), Kind::File).unwrap();
        assert_ne!(new.ino, file, "the file has moved and kept its number");
        table.forget(file, 1);
        table.forget(orphan, 1);
        drop((again, new));
        assert_eq!(table.count(), 1);
    }
}
