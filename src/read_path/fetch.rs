//! The task that fetches a run, and what is done with its blocks.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::block::{BlockId, BlockSize};
use super::cache::{CachedBlock, DiskTier, MemoryTier};
use super::load::{LoadError, Loads};
use super::run::{Arrival, Run};
use super::throughput::Throughput;
use crate::store::{BodySink, GetRequest, ObjectStore, StoreError, StoreErrorKind, StoreOp};
use crate::task::caught;

/// What the reader shares with the requests under way.
pub(super) struct Core {
    pub store: Arc<dyn ObjectStore>,
    pub block_size: BlockSize,
    pub memory: Mutex<MemoryTier>,
    pub disk: Option<Arc<DiskTier>>,
    pub loads: Loads,
    pub inflight: Mutex<Inflight>,
    pub throughput: Throughput,
    /// One permit a block that is being fetched.
    pub budget: Arc<Semaphore>,
    pub budget_blocks: u64,
}

/// The runs that blocks come with.
pub(super) type Inflight = HashMap<BlockId, Arc<Run>>;

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read path over {:?}", self.store)
    }
}

impl Core {
    /// Blocks have come: they are cached before they stop counting as under way, so
    /// that nobody asks twice.
    fn publish(&self, run: &Arc<Run>, blocks: Vec<(u64, CachedBlock)>) {
        let mut inflight = self.inflight.lock();
        let mut memory = self.memory.lock();
        for (index, block) in blocks {
            let object = run.object.clone();
            let id = BlockId { object, index };
            forget(&mut inflight, &id, run);
            memory.insert(id, block);
        }
    }

    fn end(&self, run: &Arc<Run>, outcome: Result<(), StoreError>) {
        let mut inflight = self.inflight.lock();
        for index in run.indexes.clone() {
            let object = run.object.clone();
            forget(&mut inflight, &BlockId { object, index }, run);
        }
        drop(inflight);
        run.end(outcome);
    }
}

/// A block of this run is not under way any more. Another run may have it by now.
fn forget(inflight: &mut Inflight, id: &BlockId, run: &Arc<Run>) {
    if inflight
        .get(id)
        .is_some_and(|there| Arc::ptr_eq(there, run))
    {
        inflight.remove(id);
    }
}

/// The task of a run. Dropped, whoever waits for its blocks gets an answer.
pub(super) struct Fetch {
    pub core: Arc<Core>,
    pub run: Arc<Run>,
}

impl Fetch {
    pub async fn run(self) {
        let blocks = self.run.indexes.end - self.run.indexes.start;
        let permits = u32::try_from(blocks).unwrap_or(u32::MAX);
        let permit = self.core.budget.clone().acquire_many_owned(permits).await;
        let outcome = caught("read", self.fill()).await;
        let outcome = outcome.unwrap_or_else(|panicked| {
            let (kind, op) = (StoreErrorKind::Rejected, StoreOp::Get);
            let key = self.run.object.key.clone();
            Err(StoreError::new(kind, op, key, panicked.to_string()))
        });
        self.core.end(&self.run, outcome);
        drop(permit);
    }

    async fn fill(&self) -> Result<(), StoreError> {
        self.load().await;
        let rest = self.run.rest();
        if rest.is_empty() {
            return Ok(());
        }
        self.get(rest).await?;
        // Now it is known that they are all of this version.
        if let Some(disk) = &self.core.disk {
            for (index, block) in self.run.fetched() {
                let object = self.run.object.clone();
                disk.store(BlockId { object, index }, block);
            }
        }
        Ok(())
    }

    /// Takes from the disk what it has, up to the first block that it has not.
    async fn load(&self) {
        let object = self.run.object.clone();
        let id = move |index| BlockId {
            object: object.clone(),
            index,
        };
        let first = id(self.run.indexes.start);
        let disk = self.core.disk.clone().filter(|disk| disk.has(&first));
        let Some(disk) = disk else { return };
        let of_thread = disk.clone();
        let load = move |index| of_thread.load(&id(index));
        let take = |index, block: CachedBlock| {
            self.run.take_cached(block.clone());
            self.core.publish(&self.run, vec![(index, block)]);
            self.run.tell();
        };
        let indexes = self.run.indexes.clone();
        match self.core.loads.run(indexes, load, take).await {
            Ok(()) => {}
            Err(LoadError::Silent) => disk.turn_off("it does not answer"),
            Err(LoadError::Broken(why)) => disk.turn_off(&format!("reading broke off: {why}")),
        }
    }

    async fn get(&self, blocks: Range<u64>) -> Result<(), StoreError> {
        let (run, object) = (&self.run, &self.run.object);
        let bytes = run.byte_range(&blocks);
        let whole = bytes == (0..object.size_bytes);
        let (core, of_sink) = (self.core.clone(), run.clone());
        let arrival = Arrival {
            run: run.clone(),
            publish: move |blocks: Vec<(u64, CachedBlock)>| {
                let bytes = blocks.iter().map(|(_, block)| block.len() as u64);
                core.throughput.arrived(bytes.sum());
                core.publish(&of_sink, blocks);
            },
        };
        let sink: Arc<dyn BodySink> = Arc::new(arrival);
        let request = GetRequest {
            key: object.key.clone(),
            range: (!whole).then_some(bytes.clone()),
            if_match: Some(object.etag.clone()),
            sink: Some(sink.clone()),
        };
        let answer = self.core.store.get(request).await?;
        // Some stores ignore If-Match; and a body cut short is no body.
        if answer.meta.etag != object.etag {
            return Err(StoreError {
                kind: StoreErrorKind::PreconditionFailed,
                ..run.broken("the object was replaced")
            });
        }
        // Through the sink, though another request for the same may have answered first.
        if run.is_whole() {
            return Ok(());
        }
        if answer.body.len() as u64 != bytes.end - bytes.start {
            return Err(run.broken("the body has another length than asked for"));
        }
        if blocks.end - blocks.start == 1 {
            let block = run.take_block(answer.body);
            self.core.publish(run, vec![block]);
        } else {
            // Copied, so that one cached block does not keep the whole run in memory.
            sink.begin();
            sink.take(&answer.body);
        }
        Ok(())
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.core.end(&self.run, Err(self.run.broken("broken off")));
    }
}
