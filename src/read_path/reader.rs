//! Reading objects through the block cache, one GET for a block however many ask.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::block::{BlockId, BlockSize};
use super::cache::{BlockUse, CachedBlock, DiskSettings, DiskTier, DiskUse, MemoryTier, TierUse};
use super::cursor::Cursor;
use super::fetch::{Core, Fetch, Inflight};
use super::load::{AT_ONCE_LIMIT, Loads};
use super::neighbours::{NeighbourUse, Neighbours};
use super::run::Run;
use super::streams::{RUN_LIMIT_BYTES, Streams};
use super::throughput::Throughput;
use crate::error::{Cause, FsError};
use crate::store::{ObjectStore, StoreError, StoreErrorKind};
use crate::telemetry::SPANS;
use crate::vocabulary::ObjectId;

/// Of the blocks under way, for those that wait for the disk.
const LOADS_SHARE: u64 = 8;
/// Longest wait for blocks to be written to disk.
const DISK_ENDS_WITHIN: Duration = Duration::from_secs(2);
/// An object of so many blocks or bytes is fetched whole, and so compared with its checksum.
const WHOLE_BLOCKS: u64 = 8;
const WHOLE_BYTES: u64 = 1 << 20;

/// Sizes and budgets of the read path.
#[derive(Debug, Clone)]
pub struct ReadSettings {
    pub block_size: BlockSize,
    /// Cached blocks and requests under way together stay below it.
    pub memory_limit_bytes: u64,
    /// Blocks are kept there too.
    pub disk: Option<DiskSettings>,
}

/// Reads ranges of object versions.
#[derive(Debug)]
pub struct Reader {
    core: Arc<Core>,
    /// Owns the requests under way; they end by themselves, within the store's deadline.
    tasks: TaskTracker,
    streams: Streams,
    neighbours: Neighbours,
}

enum Piece {
    Cached(u64, CachedBlock),
    Coming(u64, Arc<Run>),
}

impl Reader {
    pub fn new(store: Arc<dyn ObjectStore>, settings: ReadSettings) -> Self {
        let inflight_bytes = settings.memory_limit_bytes / 4;
        let blocks = (inflight_bytes / settings.block_size.bytes()).max(1);
        // What a disk that is frozen does not give back is not of the budget.
        let loads = match settings.disk {
            Some(_) => (blocks / LOADS_SHARE).clamp(1, AT_ONCE_LIMIT),
            None => 0,
        };
        let budget_blocks = (blocks - loads).max(1);
        let cached_bytes = settings.memory_limit_bytes - inflight_bytes;
        let block_bytes = settings.block_size.bytes();
        let streams = Streams::new(block_bytes, budget_blocks * block_bytes, cached_bytes);
        let core = Core {
            store,
            block_size: settings.block_size,
            memory: Mutex::new(MemoryTier::new(cached_bytes, settings.block_size)),
            disk: settings.disk.map(|disk| Arc::new(DiskTier::start(disk))),
            loads: Loads::new(loads),
            inflight: Mutex::default(),
            throughput: Throughput::new(),
            budget: Arc::new(Semaphore::new(
                usize::try_from(budget_blocks).unwrap_or(usize::MAX >> 4),
            )),
            budget_blocks,
        };
        Self {
            core: Arc::new(core),
            tasks: TaskTracker::new(),
            streams,
            neighbours: Neighbours::default(),
        }
    }

    /// Of cached blocks in memory.
    pub fn memory_tier(&self) -> TierUse {
        self.core.memory.lock().usage()
    }

    /// Of cached blocks on disk, where there is such a tier.
    pub fn disk_tier(&self) -> Option<DiskUse> {
        self.core.disk.as_ref().map(|disk| disk.usage())
    }

    /// The bytes of a range, in order, cut at the end of the object.
    ///
    /// Errors: `Stale` when the object is no longer this version and the bytes
    /// are not cached; the store's.
    pub async fn read(
        &self,
        object: &Arc<ObjectId>,
        range: Range<u64>,
    ) -> Result<Vec<Bytes>, FsError> {
        let range = range.start..range.end.min(object.size_bytes);
        let size = self.core.block_size;
        let mut pieces = Vec::new();
        for piece in self.demand(object, &range) {
            let within = |index: u64| {
                let start = index * size.bytes();
                range.start.saturating_sub(start) as usize..(range.end - start) as usize
            };
            pieces.push(match piece {
                Piece::Cached(index, block) => match block.intact(within(index)) {
                    Some(bytes) => bytes,
                    None => self.read_anew(object, index, within(index)).await?,
                },
                Piece::Coming(index, run) => {
                    let block = run.block(index).await.map_err(changed)?;
                    let object = object.clone();
                    self.core.memory.lock().used(&BlockId { object, index });
                    block.slice(within(index))
                }
            });
        }
        Ok(pieces)
    }

    /// Memory has changed a cached block: it is none.
    async fn read_anew(
        &self,
        object: &Arc<ObjectId>,
        index: u64,
        within: Range<usize>,
    ) -> Result<Bytes, FsError> {
        tracing::error!(
            key = %object.key, block = index,
            "cached block damaged in memory (checksum mismatch): fetching it again"
        );
        self.core.memory.lock().remove(&BlockId {
            object: object.clone(),
            index,
        });
        let size = self.core.block_size;
        let bytes = size.byte_range(&(index..index + 1), object.size_bytes);
        for piece in self.demand(object, &bytes) {
            if let Piece::Coming(index, run) = piece {
                let block = run.block(index).await.map_err(changed)?;
                return Ok(block.slice(within));
            }
        }
        Err(FsError::CORRUPT)
    }

    /// Notes a handle's read and fetches ahead of it as far as memory allows.
    pub fn read_ahead(&self, object: &Arc<ObjectId>, cursor: &Mutex<Cursor>, read: &Range<u64>) {
        if self.is_fetched_whole(object) {
            return;
        }
        let mut cursor = cursor.lock();
        let window = self.streams.window(self.core.throughput.window_bytes());
        let ahead = cursor.advance(read, window);
        if cursor.is_stream() && read.end < object.size_bytes {
            self.streams.note(object);
        } else {
            self.streams.end(object);
        }
        let ahead = ahead.start..ahead.end.min(object.size_bytes);
        if ahead.is_empty() {
            return;
        }
        let block_bytes = self.core.block_size.bytes();
        let wanted = self.core.block_size.blocks(&ahead);
        let run_blocks = window.run_bytes / block_bytes;
        // What is asked for comes before what may be.
        let mut free = self.core.budget.available_permits() as u64;
        let mut inflight = self.core.inflight.lock();
        for run in self.missing_runs(&inflight, object, wanted, run_blocks) {
            let (at, blocks) = (run.start * block_bytes, run.end - run.start);
            // The reader would wait for it in any case: it is one long request.
            if blocks > free && at > read.end {
                cursor.fell_short(at);
                return;
            }
            free = free.saturating_sub(blocks);
            drop(self.start(&mut inflight, object, run));
        }
    }

    /// A file of a directory is read from its start: fetches small ones that its listing has
    /// next, where its readers go by the listing. `next` tells of so many of these sizes.
    pub fn read_neighbours(
        &self,
        directory: u64,
        object: &ObjectId,
        next: impl Fn(&RangeInclusive<u64>, usize) -> Vec<ObjectId>,
    ) {
        let small = 1..=self.core.block_size.bytes();
        if !small.contains(&object.size_bytes) {
            return;
        }
        let next = |limit| next(&small, limit);
        for object in self.neighbours.read(directory, &object.key, next) {
            // What is asked for comes before what may be.
            if (self.core.budget.available_permits() as u64) < self.core.budget_blocks / 2 {
                return;
            }
            let object = Arc::new(object);
            let mut inflight = self.core.inflight.lock();
            for run in self.missing_runs(&inflight, &object, 0..1, 1) {
                drop(self.start(&mut inflight, &object, run));
            }
        }
    }

    /// Files that were fetched beside others.
    pub fn neighbour_use(&self) -> NeighbourUse {
        self.neighbours.usage()
    }

    /// Waits until no request is under way.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(disk) = &self.core.disk {
            disk.flush(DISK_ENDS_WITHIN).await;
        }
    }

    /// Whether one GET without a range brings all of it.
    fn is_fetched_whole(&self, object: &ObjectId) -> bool {
        let block_bytes = self.core.block_size.bytes();
        let limit = WHOLE_BYTES.min(WHOLE_BLOCKS * block_bytes).max(block_bytes);
        object.size_bytes <= limit.min(self.run_blocks() * block_bytes)
    }

    /// Most blocks of one GET.
    fn run_blocks(&self) -> u64 {
        let blocks = RUN_LIMIT_BYTES / self.core.block_size.bytes();
        blocks.clamp(1, self.core.budget_blocks)
    }

    /// The blocks in order: what is neither cached nor coming is asked for now.
    fn demand(&self, object: &Arc<ObjectId>, bytes: &Range<u64>) -> Vec<Piece> {
        let size = self.core.block_size;
        let blocks = size.blocks(bytes);
        let mut inflight = self.core.inflight.lock();
        let mut pieces = Vec::new();
        for index in blocks.clone() {
            let id = BlockId {
                object: object.clone(),
                index,
            };
            if let Some(coming) = inflight.get(&id) {
                pieces.push(Piece::Coming(index, coming.clone()));
                continue;
            }
            let of_read = if index * size.bytes() >= bytes.start {
                BlockUse::Begins
            } else {
                BlockUse::Continues
            };
            let hit = self.core.memory.lock().get(&id, of_read);
            if let Some(hit) = hit {
                if let Some(disk) = self.core.disk.as_ref().filter(|_| hit.is_reuse) {
                    disk.touch(&id);
                }
                pieces.push(Piece::Cached(index, hit.block));
            } else {
                let run = if self.is_fetched_whole(object) {
                    self.core.block_size.blocks(&(0..object.size_bytes))
                } else {
                    let wanted = index..blocks.end;
                    let runs = self.missing_runs(&inflight, object, wanted, self.run_blocks());
                    runs.into_iter().next().unwrap_or(index..index + 1)
                };
                pieces.push(Piece::Coming(index, self.start(&mut inflight, object, run)));
            }
        }
        pieces
    }

    /// Runs of blocks that are neither in memory nor coming, each at most one GET long and
    /// either on disk or not. GETs of so many blocks end where the next one begins.
    fn missing_runs(
        &self,
        inflight: &Inflight,
        object: &Arc<ObjectId>,
        blocks: Range<u64>,
        run_blocks: u64,
    ) -> Vec<Range<u64>> {
        let limit = run_blocks.clamp(1, self.core.budget_blocks);
        let memory = self.core.memory.lock();
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut last_on_disk = false;
        for index in blocks {
            let id = BlockId {
                object: object.clone(),
                index,
            };
            if inflight.contains_key(&id) || memory.contains(&id) {
                continue;
            }
            let disk = self.core.disk.as_ref();
            let on_disk = disk.is_some_and(|disk| disk.has(&id));
            let is_alike = std::mem::replace(&mut last_on_disk, on_disk) == on_disk;
            match runs.last_mut() {
                Some(run) if is_alike && run.end == index && !index.is_multiple_of(limit) => {
                    run.end += 1;
                }
                _ => runs.push(index..index + 1),
            }
        }
        runs
    }

    fn start(
        &self,
        inflight: &mut Inflight,
        object: &Arc<ObjectId>,
        indexes: Range<u64>,
    ) -> Arc<Run> {
        let size = self.core.block_size;
        let run = Arc::new(Run::new(object.clone(), indexes.clone(), size));
        for index in indexes {
            let object = object.clone();
            inflight.insert(BlockId { object, index }, run.clone());
        }
        let fetch = Fetch {
            core: self.core.clone(),
            run: run.clone(),
        };
        // The call that asks for it ends earlier where it is read ahead.
        let span = tracing::debug_span!(target: SPANS, "fetch");
        self.tasks.spawn(fetch.run().instrument(span));
        run
    }
}

/// An object version that is gone has changed under its reader.
fn changed(error: StoreError) -> FsError {
    match error.kind {
        StoreErrorKind::NotFound | StoreErrorKind::InvalidRange => {
            FsError::Stale(Cause::from(error))
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOp;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{Key, ObjectHeaders, PutRequest, WriteCondition};

    const BLOCK: u64 = 4096;

    async fn object(len: usize) -> (Arc<Faulty>, Arc<ObjectId>, Vec<u8>) {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
        let etag = replace(&faulty, bytes.clone()).await;
        let size_bytes = len as u64;
        (
            faulty,
            Arc::new(ObjectId {
                key: Key::new("k"),
                etag,
                size_bytes,
            }),
            bytes,
        )
    }

    async fn replace(store: &Arc<Faulty>, bytes: Vec<u8>) -> crate::store::ETag {
        put(store, "k", bytes.into()).await.etag
    }

    async fn put(store: &Arc<Faulty>, key: &str, body: Bytes) -> ObjectId {
        let (headers, condition) = (ObjectHeaders::default(), WriteCondition::Always);
        let (key, size_bytes) = (Key::new(key), body.len() as u64);
        let request = PutRequest {
            key: key.clone(),
            body,
            headers,
            condition,
        };
        let etag = store.put(request).await.unwrap().etag;
        ObjectId {
            key,
            etag,
            size_bytes,
        }
    }

    fn reader(store: &Arc<Faulty>, memory_limit_bytes: u64) -> Reader {
        let block_size = BlockSize::new(BLOCK as usize).unwrap();
        Reader::new(
            store.clone(),
            ReadSettings {
                block_size,
                memory_limit_bytes,
                disk: None,
            },
        )
    }

    #[tokio::test]
    async fn bytes_that_come_twice_are_those_of_their_own_block() {
        let (store, object, bytes) = object(50_001).await;
        let reader = reader(&store, 64 * BLOCK);
        // Past what is fetched whole: one block, whose neighbour is asked for then.
        store.plan(StoreOp::Get, 1, Fault::Twice);
        for block in [5, 6] {
            let range = block * BLOCK..(block + 1) * BLOCK;
            let read = reader.read(&object, range.clone()).await.unwrap().concat();
            assert!(read == bytes[range.start as usize..range.end as usize]);
        }
    }

    #[tokio::test]
    async fn any_range_has_its_bytes() {
        let (store, object, bytes) = object(50_001).await;
        let reader = reader(&store, 16 * BLOCK);
        for range in [
            0..1,
            0..50_001,
            4095..4097,
            8192..12_288,
            50_000..60_000,
            50_001..50_002,
        ] {
            let read = reader.read(&object, range.clone()).await.unwrap().concat();
            let end = (range.end as usize).min(bytes.len());
            assert_eq!(read, bytes[range.start as usize..end], "{range:?}");
        }
    }

    #[tokio::test]
    async fn a_block_is_fetched_once_however_many_ask() {
        let (store, object, _) = object(4000).await;
        let reader = reader(&store, 1 << 20);
        let reads = (0..20).map(|_| reader.read(&object, 0..4000));
        futures::future::try_join_all(reads).await.unwrap();
        reader.read(&object, 100..200).await.unwrap();
        assert_eq!(store.seen(StoreOp::Get), 1);
    }

    #[tokio::test]
    async fn a_sequential_reader_costs_few_long_requests() {
        let (store, object, bytes) = object(40 * BLOCK as usize).await;
        let reader = reader(&store, 4 << 20);
        let cursor = Mutex::new(Cursor::default());
        let mut read = Vec::new();
        while read.len() < bytes.len() {
            let range = read.len() as u64..read.len() as u64 + 1000;
            reader.read_ahead(&object, &cursor, &range);
            read.extend(reader.read(&object, range).await.unwrap().concat());
        }
        assert_eq!(read, bytes);
        assert!(
            store.seen(StoreOp::Get) <= 4,
            "{}",
            store.seen(StoreOp::Get)
        );
    }

    #[tokio::test]
    async fn readers_that_share_a_budget_have_long_requests_and_their_bytes() {
        const READERS: usize = 8;
        const STEP: usize = 128 << 10;
        let store = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let bytes: Vec<u8> = (0..16 << 20).map(|at: u32| (at / 7) as u8).collect();
        let bytes = Bytes::from(bytes);
        let mut readers = Vec::new();
        for number in 0..READERS {
            let object = put(&store, &format!("k{number}"), bytes.clone()).await;
            readers.push((Arc::new(object), Mutex::new(Cursor::default())));
        }
        // Of each file some 4 MiB may be fetched ahead, with 2 MiB at once.
        let settings = ReadSettings {
            block_size: BlockSize::new(64 << 10).unwrap(),
            memory_limit_bytes: 64 << 20,
            disk: None,
        };
        let reader = Reader::new(store.clone(), settings);
        for (at, want) in bytes.chunks(STEP).enumerate() {
            let range = (at * STEP) as u64..((at + 1) * STEP) as u64;
            let reads = readers.iter().map(|(object, cursor)| {
                reader.read_ahead(object, cursor, &range);
                reader.read(object, range.clone())
            });
            for read in futures::future::try_join_all(reads).await.unwrap() {
                assert!(read.concat() == want, "{range:?}");
            }
            assert!(reader.memory_tier().used_bytes <= 48 << 20);
        }
        let asked = store.seen(StoreOp::Get);
        assert!(asked <= 10 * READERS as u64, "{asked}");
    }

    #[tokio::test]
    async fn an_object_that_changed_is_stale_but_cached_blocks_stay_readable() {
        let (store, object, bytes) = object(30 * BLOCK as usize).await;
        let reader = reader(&store, 1 << 20);
        reader.read(&object, 0..BLOCK).await.unwrap();
        replace(&store, vec![0; 30 * BLOCK as usize]).await;
        let stale = reader.read(&object, 0..2 * BLOCK).await;
        assert!(
            matches!(stale, Err(FsError::Stale(_))),
            "never a mix of two versions"
        );
        assert_eq!(
            reader.read(&object, 10..20).await.unwrap().concat(),
            bytes[10..20]
        );
    }

    #[tokio::test]
    async fn a_bit_that_memory_flips_is_not_served_but_fetched_anew() {
        let (store, object, bytes) = object(10_000).await;
        let reader = reader(&store, 1 << 20);
        assert_eq!(
            reader.read(&object, 0..10_000).await.unwrap().concat(),
            bytes
        );
        let id = BlockId {
            object: object.clone(),
            index: 1,
        };
        {
            let mut memory = reader.core.memory.lock();
            let damaged = memory.get(&id, BlockUse::Begins).unwrap().block.damaged(7);
            memory.insert(id, damaged);
        }
        let asked = store.seen(StoreOp::Get);
        for _ in 0..2 {
            assert_eq!(
                reader.read(&object, 100..9_000).await.unwrap().concat(),
                bytes[100..9_000]
            );
        }
        assert_eq!(store.seen(StoreOp::Get), asked + 1, "one block, once");
    }

    #[tokio::test]
    async fn a_short_object_is_one_request_without_a_range_wherever_it_is_read() {
        let (store, object, bytes) = object(8 * BLOCK as usize).await;
        let reader = reader(&store, 1 << 20);
        for at in [5 * BLOCK, 0, 3 * BLOCK + 1] {
            let read = reader.read(&object, at..at + 10).await.unwrap().concat();
            assert_eq!(read, bytes[at as usize..at as usize + 10]);
        }
        assert_eq!(store.seen(StoreOp::Get), 1);
    }

    #[tokio::test]
    async fn a_random_reader_of_a_long_object_moves_the_blocks_that_it_reads() {
        let (store, object, bytes) = object(100 * BLOCK as usize).await;
        let reader = reader(&store, 1 << 20);
        for at in [50 * BLOCK, 9 * BLOCK, 98 * BLOCK] {
            let read = reader.read(&object, at..at + 10).await.unwrap().concat();
            assert_eq!(read, bytes[at as usize..at as usize + 10]);
        }
        assert_eq!(reader.memory_tier().blocks, 3);
    }

    #[tokio::test]
    async fn a_failed_request_is_not_remembered() {
        let (store, object, bytes) = object(100).await;
        let reader = reader(&store, 1 << 20);
        store.plan(
            StoreOp::Get,
            1,
            Fault::Before(crate::store::StoreErrorKind::Server),
        );
        assert!(reader.read(&object, 0..100).await.is_err());
        assert_eq!(reader.read(&object, 0..100).await.unwrap().concat(), bytes);
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_gives_no_other_version_either() {
        let memory = Arc::new(Faulty::new(Arc::new(Memory::without_conditions())));
        let etag = replace(&memory, b"first".to_vec()).await;
        let object = Arc::new(ObjectId {
            key: Key::new("k"),
            etag,
            size_bytes: 5,
        });
        replace(&memory, b"other".to_vec()).await;
        let read = reader(&memory, 1 << 20).read(&object, 0..5).await;
        assert!(matches!(read, Err(FsError::Stale(_))));
    }
}
