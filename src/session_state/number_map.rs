//! What numbers stand for, where there are many of them.

use std::hash::BuildHasher;
use std::hint::black_box;

use foldhash::fast::RandomState;

/// Of nobody.
const FREE: u64 = 0;
const SLOTS_LEAST: usize = 16;

/// Entries by number. They stand one after another in memory as they came, since they are
/// mostly asked for in that order again. A table finds them that is small beside them: what
/// slows a table of millions down is memory that no cache of the processor has.
#[derive(Debug, Clone)]
pub struct NumberMap<T> {
    /// A power of two, of which at most half are taken: half of a number's hash, which says
    /// where to begin looking, and the place of its entry, counted from 1.
    slots: Vec<u64>,
    entries: Vec<(u64, T)>,
    hashes: RandomState,
}

impl<T> Default for NumberMap<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            entries: Vec::new(),
            hashes: RandomState::default(),
        }
    }
}

impl<T> NumberMap<T> {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that there is room for.
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub fn reserve(&mut self, more: usize) {
        self.entries.reserve(more);
        self.have_slots(self.len() + more);
    }

    /// Gives room back beyond so many entries.
    pub fn shrink_to(&mut self, len: usize) {
        self.entries.shrink_to(len);
        self.resize(slots_for(len.max(self.len())));
    }

    fn have_slots(&mut self, len: usize) {
        let wanted = slots_for(len);
        if self.slots.len() < wanted {
            self.resize(wanted);
        }
    }

    fn resize(&mut self, len: usize) {
        let before = std::mem::replace(&mut self.slots, vec![FREE; len]);
        for slot in before.into_iter().filter(|slot| *slot != FREE) {
            self.take_slot(slot);
        }
    }

    fn hash(&self, number: u64) -> u64 {
        self.hashes.hash_one(number)
    }

    /// Where looking for it begins.
    fn home(&self, slot: u64) -> usize {
        (slot >> 32) as usize & self.mask()
    }

    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    /// The slots that a number may have, in order.
    fn probes(&self, slot: u64) -> impl Iterator<Item = (usize, u64)> {
        let (home, mask) = (self.home(slot), self.mask());
        let taken = (home..).map_while(move |at| {
            let at = at & mask;
            let slot = self.slots.get(at).copied();
            slot.filter(|slot| *slot != FREE).map(|slot| (at, slot))
        });
        taken.take(self.slots.len())
    }

    /// Slot and place of a number.
    fn find(&self, number: u64) -> Option<(usize, usize)> {
        let wanted = slot_of(self.hash(number), 0);
        let mut probes = self.probes(wanted);
        probes.find_map(|(at, slot)| {
            let place = place_in(slot);
            let is_it = || self.entries.get(place).is_some_and(|(of, _)| *of == number);
            (slot >> 32 == wanted >> 32 && is_it()).then_some((at, place))
        })
    }

    fn take_slot(&mut self, slot: u64) {
        let (home, mask) = (self.home(slot), self.mask());
        let mut at = home;
        while self.slots.get(at).is_some_and(|slot| *slot != FREE) {
            at = (at + 1) & mask;
        }
        self.set_slot(at, slot);
    }

    fn set_slot(&mut self, at: usize, to: u64) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = to;
        }
    }

    /// What stands behind it moves up, as far as it is looked for from there.
    fn free_slot(&mut self, at: usize) {
        let mask = self.mask();
        let (mut hole, mut next) = (at, (at + 1) & mask);
        while let Some(slot) = self.slots.get(next).copied().filter(|slot| *slot != FREE) {
            let behind = |from: usize| next.wrapping_sub(from) & mask;
            if behind(self.home(slot)) >= behind(hole) {
                self.set_slot(hole, slot);
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.set_slot(hole, FREE);
    }

    pub fn contains(&self, number: u64) -> bool {
        self.find(number).is_some()
    }

    pub fn get(&self, number: u64) -> Option<&T> {
        let (_, place) = self.find(number)?;
        self.entries.get(place).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (_, place) = self.find(number)?;
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// What a number stands for: this value, where it stood for nothing. None where there is
    /// no room for one more.
    pub fn get_or_insert(&mut self, number: u64, value: T) -> Option<&mut T> {
        let place = match self.find(number) {
            Some((_, place)) => place,
            None => {
                let place = self.len();
                u32::try_from(place + 1).ok()?;
                self.have_slots(place + 1);
                self.take_slot(slot_of(self.hash(number), place));
                self.entries.push((number, value));
                place
            }
        };
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// The last entry takes the place of this one.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let (at, place) = self.find(number)?;
        self.free_slot(at);
        let (_, removed) = self.entries.swap_remove(place);
        if let Some((moved, _)) = self.entries.get(place) {
            let hash = self.hash(*moved);
            let old = slot_of(hash, self.len());
            let found = self.probes(old).find(|(_, slot)| *slot == old);
            if let Some((at, _)) = found {
                self.set_slot(at, slot_of(hash, place));
            }
        }
        Some(removed)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.entries.iter().map(|(number, value)| (*number, value))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        let entries = self.entries.iter_mut();
        entries.map(|(number, value)| (*number, value))
    }

    /// Has the processor fetch what is about to be asked for: all at once take little longer
    /// than one, where memory is slow.
    pub fn fetch(&self, numbers: impl Iterator<Item = u64>) {
        let first_bytes = numbers.map(|number| {
            let slot = self.slots.get(self.home(slot_of(self.hash(number), 0)));
            let entry = slot.and_then(|slot| self.entries.get(place_in(*slot)));
            entry.map_or(0, |(number, _)| *number)
        });
        black_box(first_bytes.fold(0, |all, one| all ^ one));
    }
}

fn slots_for(len: usize) -> usize {
    (2 * len).next_power_of_two().max(SLOTS_LEAST)
}

fn slot_of(hash: u64, place: usize) -> u64 {
    hash << 32 | (place as u64 + 1)
}

/// Of a free slot it is one that nobody has.
fn place_in(slot: u64) -> usize {
    (slot as u32).wrapping_sub(1) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn it_says_what_a_map_says_after_any_number_of_changes() {
        let (mut map, mut expected) = (NumberMap::default(), HashMap::new());
        let mut random = fastrand::Rng::with_seed(5);
        for round in 0..300_000_u64 {
            let number = random.u64(..3000);
            match random.u8(..4) {
                0 => assert_eq!(map.remove(number), expected.remove(&number)),
                1 => {
                    let known = expected.entry(number).or_insert(round);
                    assert_eq!(map.get_or_insert(number, round), Some(known));
                }
                2 => assert_eq!(map.get(number), expected.get(&number)),
                _ => {
                    if let Some(value) = map.get_mut(number) {
                        *value += 1;
                    }
                    expected.entry(number).and_modify(|value| *value += 1);
                }
            }
            assert_eq!(map.len(), expected.len());
            if round % 10_000 == 0 {
                map.shrink_to(0);
                map.fetch(0..4000);
            }
        }
        let all: HashMap<u64, u64> = map.iter().map(|(number, value)| (number, *value)).collect();
        assert_eq!(all, expected);
        for number in 0..3000 {
            assert_eq!(map.remove(number), expected.remove(&number));
        }
        assert!(map.is_empty() && map.slots.iter().all(|slot| *slot == FREE));
    }

    /// As it is where a table is nearly full, or hashes are alike.
    #[test]
    fn numbers_whose_slots_run_into_each_other_are_found_until_they_are_removed() {
        for seed in 0..2000 {
            let mut map = NumberMap::default();
            let mut random = fastrand::Rng::with_seed(seed);
            let mut numbers: Vec<u64> = (0..8).map(|_| random.u64(..)).collect();
            for number in &numbers {
                assert_eq!(map.get_or_insert(*number, *number).copied(), Some(*number));
                assert_eq!(map.get_or_insert(*number, 0).copied(), Some(*number));
            }
            assert_eq!(map.slots.len(), SLOTS_LEAST);
            random.shuffle(&mut numbers);
            while let Some(number) = numbers.pop() {
                assert_eq!(map.remove(number), Some(number));
                assert!(!map.contains(number));
                assert!(numbers.iter().all(|left| map.get(*left) == Some(left)));
            }
        }
    }

    #[test]
    fn entries_stand_in_the_order_in_which_they_came() {
        let mut map = NumberMap::default();
        let numbers = [7, 3, 9, 1];
        for number in numbers {
            map.get_or_insert(number, ());
        }
        let found: Vec<u64> = map.iter().map(|(number, ())| number).collect();
        assert_eq!(found, numbers);
    }
}
