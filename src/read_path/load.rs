//! Blocks that are read from the disk, as long as it answers.
//!
//! The threads that wait for a disk are shared with the spool: so many wait for the cache
//! at the most, also when its disk is frozen and none of them comes back.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};

use super::cache::CachedBlock;

/// A disk that takes longer for a block is not used any more: S3 is faster.
const WITHIN: Duration = Duration::from_secs(2);
/// Of the threads that wait for disks, of which the run time has 512.
pub(super) const AT_ONCE_LIMIT: u64 = 64;
/// Blocks that wait for whoever takes them.
const LOADED_AHEAD: usize = 1;

#[derive(Debug)]
pub(super) struct Loads {
    free: Arc<Semaphore>,
    within: Duration,
}

/// Why nothing more is read from the disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LoadError {
    Silent,
    Broken(String),
}

impl Loads {
    pub fn new(at_once: u64) -> Self {
        let at_once = usize::try_from(at_once.min(AT_ONCE_LIMIT)).unwrap_or(1);
        Self {
            free: Arc::new(Semaphore::new(at_once)),
            within: WITHIN,
        }
    }

    /// Has blocks read one after the other, up to the first that is not there, and gives
    /// them to `take`. None where as many are being read for as long as a block may take.
    ///
    /// Errors: the disk does not answer for one block, or the reading broke off.
    pub async fn run(
        &self,
        indexes: Range<u64>,
        load: impl Fn(u64) -> Option<CachedBlock> + Send + 'static,
        take: impl Fn(u64, CachedBlock),
    ) -> Result<(), LoadError> {
        let free = self.free.clone().acquire_owned();
        let Ok(Ok(thread)) = tokio::time::timeout(self.within, free).await else {
            return Ok(());
        };
        let (loaded, mut blocks) = mpsc::channel(LOADED_AHEAD);
        let loading = tokio::task::spawn_blocking(move || {
            // Free again when it has come back.
            let _thread = thread;
            for index in indexes {
                let Some(block) = load(index) else { return };
                if loaded.blocking_send((index, block)).is_err() {
                    return;
                }
            }
        });
        loop {
            match tokio::time::timeout(self.within, blocks.recv()).await {
                Ok(Some((index, block))) => take(index, block),
                Ok(None) => break,
                Err(_) => return Err(LoadError::Silent),
            }
        }
        let outcome = loading.await;
        outcome.map_err(|error| LoadError::Broken(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use parking_lot::Mutex;

    use super::*;

    fn block(index: u64) -> CachedBlock {
        CachedBlock::new(vec![index as u8; 10].into())
    }

    fn loads(at_once: u64, within: Duration) -> Loads {
        Loads {
            within,
            ..Loads::new(at_once)
        }
    }

    /// The blocks that came, and how it ended.
    async fn run(
        loads: &Loads,
        load: impl Fn(u64) -> Option<CachedBlock> + Send + 'static,
    ) -> (Vec<u64>, Result<(), LoadError>) {
        let taken = Mutex::new(Vec::new());
        let take = |index, block: CachedBlock| {
            assert_eq!(block.slice(0..1), [index as u8].as_slice());
            taken.lock().push(index);
        };
        let outcome = loads.run(0..6, load, take).await;
        (taken.into_inner(), outcome)
    }

    #[tokio::test]
    async fn a_slow_disk_has_its_time_for_each_block_and_what_it_has_not_ends_it() {
        let within = Duration::from_secs(2);
        let slow = move |index| {
            thread::sleep(within / 4);
            Some(block(index))
        };
        let (taken, outcome) = run(&loads(1, within), slow).await;
        assert_eq!((taken, outcome), ((0..6).collect(), Ok(())));
        let some = |index| (index < 3).then(|| block(index));
        let (taken, outcome) = run(&loads(1, within), some).await;
        assert_eq!((taken, outcome), (vec![0, 1, 2], Ok(())));
        let broken = |_| -> Option<CachedBlock> { panic!("planned") };
        let (_, outcome) = run(&loads(1, 10 * within), broken).await;
        assert!(matches!(outcome, Err(LoadError::Broken(_))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_frozen_disk_holds_a_few_threads_until_it_comes_back_and_nobody_waits_for_long() {
        let loads = loads(2, Duration::from_secs(1));
        let (mut thaw, mut held) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let (send, frozen) = channel::<()>();
            thaw.push(send);
            held.push(frozen);
        }
        for frozen in held {
            let load = move |index| {
                if index == 1 {
                    assert!(frozen.recv().is_err());
                }
                Some(block(index))
            };
            let (taken, outcome) = run(&loads, load).await;
            assert_eq!((taken, outcome), (vec![0], Err(LoadError::Silent)));
        }
        // Both threads still wait: no third one does.
        let (taken, outcome) = run(&loads, |index| Some(block(index))).await;
        assert_eq!((taken, outcome), (vec![], Ok(())));
        drop(thaw);
        let free = loads.free.acquire_many(2);
        let free = tokio::time::timeout(Duration::from_secs(20), free).await;
        assert!(free.is_ok(), "they came back");
    }
}
