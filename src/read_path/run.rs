//! A GET under way: one block after the other is there, as its bytes arrive.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::block::BlockSize;
use super::cache::CachedBlock;
use crate::store::{BodySink, StoreError, StoreErrorKind, StoreOp};
use crate::vocabulary::ObjectId;

/// Consecutive blocks of one object, fetched with one GET.
#[derive(Debug)]
pub(super) struct Run {
    pub object: Arc<ObjectId>,
    pub indexes: Range<u64>,
    block_size: BlockSize,
    arriving: Mutex<Arriving>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Arriving {
    /// Those that are there, from the first on.
    blocks: Vec<CachedBlock>,
    /// The bytes of the next one so far.
    partial: Vec<u8>,
    /// What an attempt gives again that another one gave before it broke off.
    skip_bytes: u64,
    /// So many were cached, once the rest is asked for.
    cached: Option<usize>,
}

#[derive(Debug, Clone)]
enum Progress {
    /// So many blocks are there.
    Ready(usize),
    Ended(Result<(), StoreError>),
}

impl Run {
    pub fn new(object: Arc<ObjectId>, indexes: Range<u64>, block_size: BlockSize) -> Self {
        Self {
            object,
            indexes,
            block_size,
            arriving: Mutex::default(),
            progress: watch::Sender::new(Progress::Ready(0)),
        }
    }

    /// Takes the next block, which was cached. To be called before the rest is asked for.
    pub fn take_cached(&self, block: CachedBlock) {
        self.arriving.lock().blocks.push(block);
    }

    /// What was not cached is to be asked for: the blocks of the GET.
    pub fn rest(&self) -> Range<u64> {
        let mut arriving = self.arriving.lock();
        let cached = arriving.blocks.len();
        let cached = *arriving.cached.get_or_insert(cached);
        self.indexes.start + cached as u64..self.indexes.end
    }

    pub fn byte_range(&self, blocks: &Range<u64>) -> Range<u64> {
        self.block_size.byte_range(blocks, self.object.size_bytes)
    }

    /// The blocks that came by the GET, by index.
    pub fn fetched(&self) -> Vec<(u64, CachedBlock)> {
        let arriving = self.arriving.lock();
        let cached = arriving.cached.unwrap_or(0);
        let indexes = self.indexes.start + cached as u64..;
        let fetched = arriving.blocks.iter().skip(cached).cloned();
        indexes.zip(fetched).collect()
    }

    /// A block once it is there. Errors: why it does not come.
    pub async fn block(&self, index: u64) -> Result<CachedBlock, StoreError> {
        let missing = || self.broken("a block is missing");
        let at = index.checked_sub(self.indexes.start);
        let at = at.and_then(|at| usize::try_from(at).ok());
        let at = at.ok_or_else(missing)?;
        let is_known = |progress: &Progress| match progress {
            Progress::Ready(blocks) => *blocks > at,
            Progress::Ended(_) => true,
        };
        let mut progress = self.progress.subscribe();
        // The sender is in `self`.
        let known = progress.wait_for(is_known).await;
        let outcome = known.map(|progress| progress.clone());
        if let Some(block) = self.arriving.lock().blocks.get(at) {
            return Ok(block.clone());
        }
        match outcome {
            Ok(Progress::Ended(Err(error))) => Err(error),
            Ok(_) | Err(_) => Err(missing()),
        }
    }

    /// The bytes of the next attempt begin.
    pub fn begin(&self) {
        let mut arriving = self.arriving.lock();
        arriving.partial.clear();
        let fetched = arriving.blocks.iter().skip(arriving.cached.unwrap_or(0));
        arriving.skip_bytes = fetched.map(|it| it.len() as u64).sum();
    }

    /// Takes the next bytes, and returns the blocks that they complete, by index.
    pub fn take(&self, mut bytes: &[u8]) -> Vec<(u64, CachedBlock)> {
        let mut completed = Vec::new();
        let mut arriving = self.arriving.lock();
        let skipped = arriving.skip_bytes.min(bytes.len() as u64);
        arriving.skip_bytes -= skipped;
        bytes = bytes.get(skipped as usize..).unwrap_or_default();
        while !bytes.is_empty() {
            let index = self.indexes.start + arriving.blocks.len() as u64;
            let len = self.len_of(index);
            if len == 0 {
                break;
            }
            if arriving.partial.capacity() < len {
                arriving.partial = Vec::with_capacity(len);
            }
            let fits = (len - arriving.partial.len()).min(bytes.len());
            let (taken, rest) = bytes.split_at(fits);
            arriving.partial.extend_from_slice(taken);
            bytes = rest;
            if arriving.partial.len() == len {
                let block = Bytes::from(std::mem::take(&mut arriving.partial));
                let block = CachedBlock::new(block);
                arriving.blocks.push(block.clone());
                completed.push((index, block));
            }
        }
        completed
    }

    /// Takes a body that is one block, as it is.
    pub fn take_block(&self, body: Bytes) -> (u64, CachedBlock) {
        let block = CachedBlock::new(body);
        let mut arriving = self.arriving.lock();
        let index = self.indexes.start + arriving.blocks.len() as u64;
        arriving.blocks.push(block.clone());
        (index, block)
    }

    /// Whoever waits for blocks that are there goes on.
    pub fn tell(&self) {
        let ready = self.arriving.lock().blocks.len();
        self.progress_to(Progress::Ready(ready));
    }

    /// Whether each of its blocks is there.
    pub fn is_whole(&self) -> bool {
        let blocks = self.indexes.end - self.indexes.start;
        self.arriving.lock().blocks.len() as u64 == blocks
    }

    /// No more bytes come.
    pub fn end(&self, outcome: Result<(), StoreError>) {
        let outcome = match outcome {
            Ok(()) if !self.is_whole() => Err(self.broken("the body is shorter than asked for")),
            outcome => outcome,
        };
        self.progress_to(Progress::Ended(outcome));
    }

    /// Its first end is its end.
    fn progress_to(&self, next: Progress) {
        self.progress.send_if_modified(|progress| {
            let goes_on = matches!(progress, Progress::Ready(_));
            if goes_on {
                *progress = next;
            }
            goes_on
        });
    }

    pub fn broken(&self, why: &str) -> StoreError {
        let key = self.object.key.clone();
        StoreError::new(StoreErrorKind::Corrupt, StoreOp::Get, key, why)
    }

    fn len_of(&self, index: u64) -> usize {
        if !self.indexes.contains(&index) {
            return 0;
        }
        let size_bytes = self.object.size_bytes;
        let bytes = self.block_size.byte_range(&(index..index + 1), size_bytes);
        bytes.end.saturating_sub(bytes.start) as usize
    }
}

/// Where the blocks of a run go as they arrive.
pub(super) struct Arrival<F> {
    pub run: Arc<Run>,
    pub publish: F,
}

impl<F> std::fmt::Debug for Arrival<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.run.fmt(f)
    }
}

impl<F: Fn(Vec<(u64, CachedBlock)>) + Send + Sync> BodySink for Arrival<F> {
    fn begin(&self) {
        self.run.begin();
    }

    fn take(&self, bytes: &[u8]) {
        let completed = self.run.take(bytes);
        if !completed.is_empty() {
            (self.publish)(completed);
            self.run.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ETag, Key};

    const BLOCK: usize = 4096;

    fn run(len: u64, indexes: Range<u64>) -> Run {
        let object = ObjectId {
            key: Key::new("k"),
            etag: ETag::new("e"),
            size_bytes: len,
        };
        Run::new(Arc::new(object), indexes, BlockSize::new(BLOCK).unwrap())
    }

    fn bytes(range: Range<usize>) -> Vec<u8> {
        range.map(|at| (at * 7 % 251) as u8).collect()
    }

    #[tokio::test]
    async fn a_block_is_there_as_soon_as_its_bytes_are() {
        let run = run(3 * BLOCK as u64, 0..3);
        let all = bytes(0..3 * BLOCK);
        run.begin();
        assert!(run.take(&all[..BLOCK - 1]).is_empty());
        let done = run.take(&all[BLOCK - 1..2 * BLOCK + 5]);
        run.tell();
        assert_eq!(done.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 1]);
        let second = run.block(1).await.unwrap();
        assert_eq!(second.slice(0..BLOCK), all[BLOCK..2 * BLOCK]);
        run.end(Err(run.broken("cut off")));
        assert!(run.block(0).await.is_ok() && run.block(2).await.is_err());
    }

    #[tokio::test]
    async fn an_attempt_goes_on_where_the_one_before_broke_off() {
        let len = 2 * BLOCK + 100;
        let run = run(5 * BLOCK as u64 + 100, 3..6);
        let all = bytes(0..len);
        run.begin();
        run.take(&all[..BLOCK + 10]);
        run.begin();
        for piece in all.chunks(1000) {
            run.take(piece);
        }
        run.take(b"more than asked for");
        assert!(run.is_whole());
        run.end(Ok(()));
        for (index, want) in (3..).zip(all.chunks(BLOCK)) {
            let block = run.block(index).await.unwrap();
            assert_eq!(block.slice(0..BLOCK), want, "{index}");
        }
        assert!(run.block(2).await.is_err() && run.block(6).await.is_err());
    }

    #[tokio::test]
    async fn what_was_cached_is_not_asked_for_and_comes_first() {
        let run = run(4 * BLOCK as u64, 0..4);
        let all = bytes(0..4 * BLOCK);
        let block = |at: usize| CachedBlock::new(all[at * BLOCK..][..BLOCK].to_vec().into());
        run.take_cached(block(0));
        assert_eq!(run.rest(), 1..4);
        run.begin();
        run.take(&all[BLOCK..2 * BLOCK + 5]);
        run.begin();
        run.take(&all[BLOCK..]);
        assert_eq!(run.rest(), 1..4);
        let fetched = run.fetched();
        assert_eq!(fetched.iter().map(|it| it.0).collect::<Vec<_>>(), [1, 2, 3]);
        run.end(Ok(()));
        for (index, want) in (0..).zip(all.chunks(BLOCK)) {
            assert_eq!(run.block(index).await.unwrap().slice(0..BLOCK), want);
        }
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_an_error_for_what_is_missing() {
        let run = run(2 * BLOCK as u64, 0..2);
        run.begin();
        run.take(&bytes(0..BLOCK));
        run.end(Ok(()));
        assert!(run.block(0).await.is_ok());
        assert_eq!(
            run.block(1).await.unwrap_err().kind,
            StoreErrorKind::Corrupt
        );
    }
}
