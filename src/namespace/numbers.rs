//! Inode numbers: derived from where a name is, so that they are the same when the
//! kernel has forgotten a name, and in another mount.
//!
//! A file that was renamed keeps the number that its old name gave it, and a name
//! whose number is in use gets the next free one: those are kept by name. A
//! directory keeps its number likewise, and with it what is below its own.

use super::name::Name;
use super::name_store::NameStore;
use crate::vocabulary::Ino;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Most names whose number is not the derived one; the oldest fall back to it.
const KEPT_LIMIT: usize = 100_000;

/// Parent and name.
type Place = (Ino, Name);

#[derive(Debug, Default)]
pub struct Numbers {
    kept: HashMap<Place, Ino>,
    /// Whose the numbers in `kept` are; nobody's by name, where the kernel knows an
    /// inode without one.
    owners: HashMap<Ino, Option<Place>>,
    /// Names in `kept`, the oldest first; also some that are not any more.
    order: VecDeque<Place>,
    store: Arc<NameStore>,
}

impl Numbers {
    pub fn new(store: Arc<NameStore>) -> Self {
        let mut numbers = Self::default();
        for (place, ino) in store.numbers() {
            numbers.insert(place, ino);
        }
        numbers.store = store;
        numbers
    }

    /// The number of a name; `in_use` are those of other inodes.
    pub fn of(&self, place: &Place, in_use: impl Fn(Ino) -> bool) -> Ino {
        let kept = self.kept.get(place).filter(|ino| !in_use(**ino));
        kept.copied().unwrap_or_else(|| {
            let mut tries = 0;
            loop {
                let ino = Ino::derived_again(place.0, place.1.as_str(), tries);
                let reserved = self.owners.get(&ino);
                if !in_use(ino) && reserved.is_none_or(|owner| owner.as_ref() == Some(place)) {
                    return ino;
                }
                tries += 1;
            }
        })
    }

    /// Whether a number is the one that follows from the place.
    pub fn derives(ino: Ino, parent: Ino, name: &str) -> bool {
        ino == Ino::derived(parent, name)
    }

    /// An inode has this place now.
    pub fn placed(&mut self, ino: Ino, place: &Place) {
        if Self::derives(ino, place.0, place.1.as_str()) {
            self.remove(place);
        } else if self.kept.get(place) != Some(&ino) {
            self.remove(place);
            self.insert(place.clone(), ino);
            self.store.note_number(place, Some(ino));
        }
    }

    /// The name is gone.
    pub fn gone(&mut self, ino: Ino, place: &Place) {
        if self.kept.get(place) == Some(&ino) {
            self.remove(place);
        }
    }

    /// The kernel knows an inode without a name by this number.
    pub fn reserve(&mut self, ino: Ino) {
        self.owners.entry(ino).or_insert(None);
    }

    /// What was reserved is in use, or was forgotten.
    pub fn end_reservations(&mut self) {
        self.owners.retain(|_, owner| owner.is_some());
    }

    fn insert(&mut self, place: Place, ino: Ino) {
        if self.kept.len() >= KEPT_LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.remove(&oldest);
        }
        if self.order.len() >= 2 * KEPT_LIMIT {
            let kept = &self.kept;
            self.order.retain(|place| kept.contains_key(place));
        }
        self.order.push_back(place.clone());
        self.owners.insert(ino, Some(place.clone()));
        self.kept.insert(place, ino);
    }

    fn remove(&mut self, place: &Place) {
        if let Some(ino) = self.kept.remove(place) {
            self.owners.remove(&ino);
            self.store.note_number(place, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::name_store::Session;
    use super::*;

    fn place(parent: u64, name: &str) -> Place {
        (Ino(parent), Name::from_segment(name).unwrap())
    }

    fn free(_: Ino) -> bool {
        false
    }

    #[test]
    fn a_derived_number_is_the_same_for_ever() {
        let number = Numbers::default().of(&place(1, "a"), free);
        assert_eq!(number, Ino(A_IN_THE_ROOT));
        assert!(number.0 < 1 << 53);
        assert_ne!(Numbers::default().of(&place(2, "a"), free), number);
    }

    /// Backups compare it from mount to mount.
    const A_IN_THE_ROOT: u64 = 4_849_134_412_928_697;

    #[test]
    fn a_number_that_moved_is_not_given_to_its_old_name() {
        let mut numbers = Numbers::default();
        let (a, b) = (place(1, "a"), place(1, "b"));
        let first = numbers.of(&a, free);
        numbers.gone(first, &a);
        numbers.placed(first, &b);
        assert_eq!(numbers.of(&b, free), first);
        let other = numbers.of(&a, free);
        assert_ne!(other, first);
        numbers.placed(other, &a);
        // Also once the first is free again.
        numbers.gone(first, &b);
        assert_eq!(numbers.of(&a, free), other);
        numbers.gone(other, &a);
        assert_eq!(numbers.of(&a, free), first);
    }

    #[test]
    fn a_number_in_use_or_reserved_is_passed_over() {
        let mut numbers = Numbers::default();
        let a = place(1, "a");
        let first = numbers.of(&a, free);
        let second = numbers.of(&a, |ino| ino == first);
        assert_ne!(second, first);
        numbers.reserve(first);
        assert_eq!(numbers.of(&a, free), second);
        numbers.end_reservations();
        assert_eq!(numbers.of(&a, free), first);
    }

    #[test]
    fn kept_numbers_survive_a_remount_and_have_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names");
        let (a, b) = (place(1, "a"), place(1, "b"));
        {
            let store = Arc::new(NameStore::open(&path, "a", None, Session::New));
            let mut numbers = Numbers::new(store.clone());
            numbers.placed(Ino(7), &a);
            numbers.placed(Ino(8), &b);
            numbers.gone(Ino(8), &b);
            store.write_out();
        }
        let mut numbers = Numbers::new(Arc::new(NameStore::open(&path, "a", None, Session::New)));
        assert_eq!(numbers.of(&a, free), Ino(7));
        assert_ne!(numbers.of(&b, free), Ino(8));
        for count in 0..KEPT_LIMIT as u64 {
            numbers.placed(Ino(100 + count), &place(2, &count.to_string()));
        }
        assert_eq!(numbers.kept.len(), KEPT_LIMIT);
        assert_ne!(numbers.of(&a, free), Ino(7));
    }
}
