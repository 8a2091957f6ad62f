//! The inode table: numbers, names, reference counts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

use super::inner::{AWAKE_LIMIT, Inner, known_limit};
use super::inode::{Inode, LocalState};
use super::invalidation::Invalidations;
use super::keyspace::{DirPath, KeySpace};
use super::name::Name;
use super::numbers::Numbers;
use super::slot::Slot;
use crate::error::FsError;
use crate::session_state::{Record, SavedInodes, SessionLog};
use crate::store::Key;
use crate::vocabulary::{Ino, Kind, ROOT};

/// Every inode that the kernel or an operation refers to.
///
/// A name belongs to one inode; an inode without a name (unlinked, or replaced)
/// lives on until nothing refers to it.
#[derive(Debug)]
pub struct InodeTable {
    pub(super) inner: Mutex<Inner>,
}

impl InodeTable {
    /// The root alone. What the kernel is told of goes to the session log.
    pub fn new(
        session_log: Arc<SessionLog>,
        numbers: Numbers,
        invalidations: Invalidations,
    ) -> Self {
        let known_limit = known_limit();
        let root = Slot {
            lookups: 1,
            pins: 1,
            ..Slot::new(ROOT, Kind::Directory)
        };
        Self {
            inner: Mutex::new(Inner {
                slots: HashMap::from_iter([(ROOT, Box::new(root))]),
                directories: 1,
                dormant: SavedInodes::default(),
                awake: VecDeque::new(),
                awake_limit: AWAKE_LIMIT.min(known_limit),
                known_limit,
                unused: Vec::new(),
                invalidations,
                others: BTreeMap::new(),
                numbers,
                session_log,
            }),
        }
    }

    /// Errors: `Stale` when the number refers to nothing.
    pub fn get(self: &Arc<Self>, ino: Ino) -> Result<Pin, FsError> {
        let mut inner = self.inner.lock();
        self.pin(&mut inner, ino).ok_or(FsError::STALE)
    }

    /// The inode that has the name, if any.
    pub fn child(self: &Arc<Self>, parent: Ino, name: &Name) -> Option<Pin> {
        let mut inner = self.inner.lock();
        let ino = inner.find(parent, name)?;
        self.pin(&mut inner, ino)
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
        if let Some(ino) = inner.find(parent, name) {
            let pin = self.pin(&mut inner, ino).ok_or(FsError::STALE)?;
            return if pin.kind == kind {
                Ok(pin)
            } else {
                Err(FsError::EXISTS)
            };
        }
        if !inner.slots.contains_key(&parent) {
            return Err(FsError::STALE);
        }
        let ino = inner.number(parent, name);
        inner.add_awake(Slot::new(ino, kind));
        inner.attach(ino, parent, name.clone());
        self.pin(&mut inner, ino).ok_or(FsError::STALE)
    }

    /// The number that a name has, or would have if it were looked up now.
    pub fn number(&self, parent: Ino, name: &Name) -> Ino {
        let inner = self.inner.lock();
        let known = inner.find(parent, name);
        known.unwrap_or_else(|| inner.number(parent, name))
    }

    /// Takes the inode's name away; it lives on while something refers to it.
    pub fn detach(&self, ino: Ino) {
        {
            let mut inner = self.inner.lock();
            inner.detach(ino);
            inner.drop_unreferenced(ino);
        }
        self.commit();
    }

    /// Gives the inode another name; whatever had that name loses it.
    ///
    /// Errors: `Stale` when the inode or the new parent is gone.
    pub fn rename(&self, ino: Ino, parent: Ino, name: &Name) -> Result<(), FsError> {
        let mut inner = self.inner.lock();
        if inner.wake(ino).is_none() || !inner.slots.contains_key(&parent) {
            return Err(FsError::STALE);
        }
        let replaced = inner.find(parent, name);
        if replaced == Some(ino) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            inner.detach(replaced);
            inner.drop_unreferenced(replaced);
        }
        inner.detach(ino);
        inner.attach(ino, parent, name.clone());
        drop(inner);
        self.commit();
        Ok(())
    }

    /// Parent and name of an inode; none for the root and for inodes without a name.
    pub fn place(&self, ino: Ino) -> Option<(Ino, Name)> {
        self.inner.lock().place_of(ino)
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
                .ok_or(FsError::NOT_FOUND)?;
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
        self.children_where(dir, |_, _| true)
    }

    /// Those of which more may be known than the store tells.
    pub fn awake_children(self: &Arc<Self>, dir: Ino) -> Vec<(Name, Pin)> {
        self.children_where(dir, |inner, ino| inner.slots.contains_key(&ino))
    }

    /// Whether something below the directory exists here only.
    pub fn has_local_below(self: &Arc<Self>, dir: &Pin) -> bool {
        let children = self.awake_children(dir.ino);
        children.into_iter().any(|(_, child)| {
            child.state().local.is_some()
                || (child.kind == Kind::Directory && self.has_local_below(&child))
        })
    }

    /// Entries of a directory that the store does not have yet, all or in part.
    pub fn children_only_here(self: &Arc<Self>, dir: &Pin) -> Vec<(Name, Pin)> {
        let mut children = self.awake_children(dir.ino);
        children.retain(|(_, child)| match child.state().local {
            Some(LocalState::Staged { .. } | LocalState::BareDirectory) => true,
            None => child.kind == Kind::Directory && self.has_local_below(child),
        });
        children
    }

    /// Whether the directory has entries in the table.
    pub fn has_children(&self, dir: Ino) -> bool {
        let inner = self.inner.lock();
        let slot = inner.slots.get(&dir);
        slot.is_some_and(|slot| !slot.entries.all().is_empty())
    }

    fn children_where(
        self: &Arc<Self>,
        dir: Ino,
        wanted: impl Fn(&Inner, Ino) -> bool,
    ) -> Vec<(Name, Pin)> {
        let mut inner = self.inner.lock();
        let entries = inner.slots.get(&dir).map(|slot| slot.entries.all());
        let entries = entries.unwrap_or_default().iter().copied();
        let found: Vec<Ino> = entries.filter(|ino| wanted(&inner, *ino)).collect();
        let place = |ino: Ino| {
            let (_, name) = inner.wake(ino)?.place.as_ref()?;
            Some((name.clone(), ino))
        };
        let found = found.into_iter().filter_map(place);
        let mut found: Vec<(Name, Ino)> = found.collect();
        found.sort_unstable();
        found
            .into_iter()
            .filter_map(|(name, ino)| Some((name, self.pin(&mut inner, ino)?)))
            .collect()
    }

    /// The kernel has taken one more reference, by an answer that carries the inode.
    /// The successor knows of it once `commit` returns, which comes before the answer.
    pub fn add_lookup(&self, ino: Ino) {
        let mut inner = self.inner.lock();
        inner.change(ino, |slot| slot.lookups += 1);
        let (ino, count) = (ino.0, 1);
        inner.session_log.queue(|| Record::Lookup { ino, count });
    }

    /// The kernel gives references back. The successor knows of it once `commit` returns.
    pub fn forget(&self, ino: Ino, count: u64) {
        let mut inner = self.inner.lock();
        inner.change(ino, |slot| {
            slot.lookups = slot.lookups.saturating_sub(count)
        });
        inner
            .session_log
            .queue(|| Record::Forget { ino: ino.0, count });
        inner.drop_unreferenced(ino);
    }

    /// What changed before is known to the successor once this returns.
    pub fn commit(&self) {
        let session_log = self.inner.lock().session_log.clone();
        session_log.commit();
    }

    /// A pin is gone.
    pub(super) fn unpin(&self, ino: Ino) {
        let mut inner = self.inner.lock();
        inner.change(ino, |slot| slot.pins -= 1);
        inner.drop_unreferenced(ino);
        inner.calm();
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
        let inner = self.inner.lock();
        inner.slots.len() + inner.dormant.len()
    }

    pub(super) fn pin(self: &Arc<Self>, inner: &mut Inner, ino: Ino) -> Option<Pin> {
        let slot = inner.wake(ino)?;
        slot.pins += 1;
        Some(Pin {
            table: self.clone(),
            inode: slot.inode.clone(),
        })
    }
}

/// Keeps an inode in the table, and awake.
#[derive(Debug)]
pub struct Pin {
    table: Arc<InodeTable>,
    inode: Arc<Inode>,
}

impl Deref for Pin {
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
        self.table.unpin(self.inode.ino);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_segment(text).unwrap()
    }

    fn table() -> Arc<InodeTable> {
        Arc::new(InodeTable::new(
            Arc::default(),
            Numbers::default(),
            Default::default(),
        ))
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
        assert!(matches!(table.dir_path(old.ino), Err(FsError::NotFound(_))));
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
    fn numbers_names_and_references_are_those_of_the_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        let path = crate::session_state::path_in(dir.path());
        let session = crate::session_state::tests::session();
        let session_log = Arc::new(SessionLog::awaiting(&path));
        session_log.begin(session).unwrap();
        let before = Arc::new(InodeTable::new(
            session_log,
            Numbers::default(),
            Default::default(),
        ));
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

        before.commit();
        let mut saved = crate::session_state::saved(&path).unwrap().unwrap();
        let table = Arc::new(InodeTable::new(
            Arc::default(),
            Numbers::default(),
            Default::default(),
        ));
        table.keep_numbers(&saved);
        let early = table.child_or_new(dir, &name("o"), Kind::File);
        assert!(early.is_err(), "its directory is not there yet");
        let early = table.child_or_new(ROOT, &name("g"), Kind::File).unwrap();
        assert_eq!(early.ino, file, "as the kernel knows it");
        let other = table.number(dir, &name("o"));
        assert_ne!(other, orphan, "that number is still in use");
        drop(early);
        drop(table.restore(&mut saved));
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
