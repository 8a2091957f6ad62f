//! Which inodes have their places in a directory.

use crate::vocabulary::Ino;
/// Only directories have any.
#[derive(Debug, Default)]
pub struct Entries(Option<Box<List>>);

#[derive(Debug, Default)]
struct List(Vec<Ino>);

impl Entries {
    pub fn all(&self) -> &[Ino] {
        self.0.as_ref().map_or(&[], |list| list.0.as_slice())
    }

    /// Returns where it is.
    pub fn push(&mut self, ino: Ino) -> u32 {
        let list = &mut self.0.get_or_insert_default().0;
        list.push(ino);
        (list.len() - 1) as u32
    }

    /// Returns which one is in the place of the one that is gone.
    pub fn remove(&mut self, index: u32) -> Option<Ino> {
        let list = &mut self.0.as_mut()?.0;
        let index = index as usize;
        if index < list.len() {
            list.swap_remove(index);
        }
        let moved = list.get(index).copied();
        if list.is_empty() {
            self.0 = None;
        } else if list.capacity() > 4 * list.len() {
            list.shrink_to(2 * list.len());
        }
        moved
    }
}
