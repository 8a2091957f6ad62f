//! How many bytes of uploads are in memory, and who may take them next.
//!
//! Neither kind of upload can take all: some of it is for files that are one
//! request, some for parts. Of what is for parts, one file leaves enough for
//! others, however many it has waiting and however slow they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What is for files of one request alone, as a reservation of it all.
const SINGLE_SHARE: u64 = 4;

#[derive(Debug)]
pub struct Budget {
    /// Most that files of one request take together.
    singles_limit: u64,
    /// Most that parts take together.
    parts_limit: u64,
    limit: u64,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    singles: u64,
    parts: u64,
}

/// What the parts of one file have of it.
#[derive(Debug, Default)]
pub struct FileShare(AtomicU64);

/// Bytes that may be in memory for as long as this lives.
#[derive(Debug)]
pub struct MemoryPermit<'a> {
    budget: &'a Budget,
    reservation: Option<Arc<FileShare>>,
    bytes: u64,
}

impl Budget {
    /// Memory for `count` parts of `part_bytes`.
    pub fn new(part_bytes: u64, count: u64) -> Self {
        let limit = part_bytes * count;
        let (for_singles, for_parts) = match count {
            // Too little to be shared out.
            0 | 1 => (0, 0),
            _ => (part_bytes.max(limit / SINGLE_SHARE), part_bytes),
        };
        Self {
            singles_limit: limit - for_parts,
            parts_limit: limit - for_singles,
            limit,
            taken: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// For a file that is one request, or at most for all that such files may have.
    pub async fn single(&self, bytes: u64) -> MemoryPermit<'_> {
        let bytes = bytes.min(self.singles_limit);
        self.take(|taken| {
            let fits = taken.singles + bytes <= self.singles_limit
                && taken.singles + taken.parts + bytes <= self.limit;
            taken.singles += if fits { bytes } else { 0 };
            fits
        })
        .await;
        MemoryPermit {
            budget: self,
            reservation: None,
            bytes,
        }
    }

    /// For a part of a file: its first one, or one more while about as much is
    /// left for others as the file has.
    pub async fn part(&self, reservation: &Arc<FileShare>, bytes: u64) -> MemoryPermit<'_> {
        let bytes = bytes.min(self.parts_limit);
        self.take(|taken| {
            let after = taken.parts + bytes;
            let mine = reservation.0.load(Ordering::Relaxed);
            let fits = after <= self.parts_limit
                && after + taken.singles <= self.limit
                && (mine == 0 || mine + bytes <= 2 * (self.parts_limit - after));
            if fits {
                taken.parts = after;
                reservation.0.store(mine + bytes, Ordering::Relaxed);
            }
            fits
        })
        .await;
        MemoryPermit {
            budget: self,
            reservation: Some(reservation.clone()),
            bytes,
        }
    }

    async fn take(&self, mut fits: impl FnMut(&mut Taken) -> bool) {
        loop {
            let freed = self.freed.notified();
            if fits(&mut self.taken.lock()) {
                return;
            }
            freed.await;
        }
    }
}

impl Drop for MemoryPermit<'_> {
    fn drop(&mut self) {
        let mut taken = self.budget.taken.lock();
        match &self.reservation {
            None => taken.singles -= self.bytes,
            Some(reservation) => {
                taken.parts -= self.bytes;
                reservation.0.fetch_sub(self.bytes, Ordering::Relaxed);
            }
        }
        drop(taken);
        self.budget.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const PART: u64 = 8;

    /// As many parts of a file as there is room for now.
    fn parts<'a>(budget: &'a Budget, reservation: &Arc<FileShare>) -> Vec<MemoryPermit<'a>> {
        let next = || budget.part(reservation, PART).now_or_never();
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_file_leaves_room_for_parts_of_others_and_all_for_small_files() {
        let budget = Budget::new(PART, 8);
        let files: Vec<Arc<FileShare>> = (0..3).map(|_| Arc::default()).collect();
        let held: Vec<_> = files
            .iter()
            .map(|reservation| parts(&budget, reservation))
            .collect();
        let counts: Vec<_> = held.iter().map(Vec::len).collect();
        assert_eq!(counts, [4, 1, 1]);
        let small: Vec<_> = (0..16).map(|_| budget.single(1).now_or_never()).collect();
        assert!(small.iter().all(Option::is_some));
        assert!(budget.single(1).now_or_never().is_none(), "all is taken");
        drop(held);
        assert!(budget.single(1).now_or_never().is_some());
    }

    #[test]
    fn small_files_leave_room_for_a_part() {
        let budget = Budget::new(PART, 8);
        let small = || budget.single(1).now_or_never();
        let held: Vec<_> = std::iter::from_fn(small).collect();
        assert_eq!(held.len() as u64, 7 * PART);
        assert_eq!(parts(&budget, &Arc::default()).len(), 1);
    }

    #[test]
    fn the_least_budgets_let_one_at_a_time_through() {
        for (count, together) in [(1, false), (2, true)] {
            let budget = Budget::new(PART, count);
            let part = parts(&budget, &Arc::default());
            assert_eq!(part.len(), 1);
            let small = budget.single(PART).now_or_never();
            assert_eq!(small.is_some(), together);
            drop((part, small));
            assert!(budget.single(100 * PART).now_or_never().is_some());
        }
    }

    #[tokio::test]
    async fn who_waits_goes_on_once_there_is_room() {
        let budget = Budget::new(PART, 1);
        let held = budget.single(PART).await;
        let reservation = Arc::default();
        let (_part, ()) = tokio::join!(budget.part(&reservation, PART), async {
            tokio::task::yield_now().await;
            drop(held);
        });
        assert_eq!(reservation.0.load(Ordering::Relaxed), PART);
    }
}
