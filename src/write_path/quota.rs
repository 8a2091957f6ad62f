//! How many bytes the stages of a spool may hold together: as many as it may have, and
//! as its disk has room for beyond what mediafs needs itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk_room::DiskRoom;
use crate::error::FsError;

/// The spool's bound, and what of it is taken.
#[derive(Debug)]
pub struct SpoolQuota {
    limit_bytes: AtomicU64,
    taken_bytes: AtomicU64,
    disk: DiskRoom,
}

/// What one stage takes; given back when its file is closed for good.
#[derive(Debug)]
pub struct Reservation {
    room: Arc<SpoolQuota>,
    bytes: AtomicU64,
}

impl SpoolQuota {
    pub fn new(limit_bytes: u64, disk: DiskRoom) -> Self {
        Self {
            limit_bytes: AtomicU64::new(limit_bytes),
            taken_bytes: AtomicU64::new(0),
            disk,
        }
    }

    /// What is taken already stays, also beyond a smaller bound.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }

    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Ordering::Relaxed)
    }

    pub fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation {
            room: self.clone(),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Reservation {
    /// Errors: `NoSpace` when the spool would hold more than it may, or its disk is
    /// nearly full.
    pub fn reserve(&self, bytes: u64) -> Result<(), FsError> {
        self.room.disk.check(bytes)?;
        let limit = self.room.limit_bytes();
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= limit);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = self.room.taken_bytes.fetch_update(set, fetch, fits);
        taken.map_err(|_| FsError::NoSpace)?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes what is there already, whatever the bound.
    pub fn reserve_unchecked(&self, bytes: u64) {
        self.room.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes what another stage of the spool has, which does not need it any more;
    /// where that has less, whatever the bound.
    pub fn take_from(&self, other: &Self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let lacking = bytes - other.subtract(bytes);
        self.room.taken_bytes.fetch_add(lacking, Ordering::Relaxed);
    }

    /// Gives back, at most what it has.
    pub fn release(&self, bytes: u64) {
        let given = self.subtract(bytes);
        self.room.taken_bytes.fetch_sub(given, Ordering::Relaxed);
    }

    /// Returns how much it took.
    fn subtract(&self, bytes: u64) -> u64 {
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let rest = |had: u64| Some(had.saturating_sub(bytes));
        let had = self.bytes.fetch_update(set, fetch, rest);
        had.unwrap_or(0).min(bytes)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release(self.bytes.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_never_passes_the_bound_and_comes_back() {
        let room = Arc::new(SpoolQuota::new(10, DiskRoom::unlimited()));
        let (first, second) = (room.reservation(), room.reservation());
        first.reserve(6).unwrap();
        assert!(matches!(second.reserve(5), Err(FsError::NoSpace)));
        second.reserve(4).unwrap();
        first.release(2);
        second.reserve(2).unwrap();
        drop(first);
        second.reserve(4).unwrap();
        assert!(matches!(second.reserve(1), Err(FsError::NoSpace)));
        let third = room.reservation();
        third.take_from(&second, 10);
        assert_eq!(room.taken_bytes(), 10, "what the second one had");
        drop(second);
        assert_eq!(room.taken_bytes(), 10);
        drop(third);
        assert_eq!(room.taken_bytes(), 0);
    }
}
