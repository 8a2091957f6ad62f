//! Cached blocks on disk: found again after a restart, and by a successor.
//!
//! A block is bound to key, ETag, size and place in its object, and checked bit by bit
//! when it is read: what is torn, damaged or of another version is a miss. One thread
//! writes and removes files. Whoever reads from S3 only puts a block in its queue, which
//! is bounded: what does not fit is not stored. A disk that fails turns the tier off until
//! it works again; a full one has nothing more stored. Nobody's read fails for it.
//!
//! Lock order: `state` alone, held for microseconds, never while the disk works.

mod block_file;
mod folder;
mod former;
mod index;
mod usage;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use block_file::{BlockName, block_in, head_of, limit_bytes};
use folder::{Folder, FolderError, is_full};
use former::FormerPlaces;
use index::{Index, on_disk_bytes};
pub use usage::{DiskSettings, DiskUse};

use super::{CachedBlock, memory_bytes};
use crate::read_path::block::BlockId;
use crate::task::caught_now;

const QUEUE_LIMIT_BLOCKS: usize = 4096;
/// Before a disk that failed is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(10);
/// Before a folder that another daemon uses is: a predecessor ends.
const LOCK_RETRY_EVERY: Duration = Duration::from_millis(500);
/// What is left free for others, the spool first of all: a twentieth of a small disk.
const FREE_LIMIT_BYTES: u64 = 1 << 30;
const FREE_SHARE: u64 = 20;
const POLL_EVERY: Duration = Duration::from_millis(5);
const STARTING: &str = "listing its blocks";

#[derive(Debug)]
pub struct DiskTier {
    shared: Arc<Shared>,
    queue: SyncSender<(BlockId, CachedBlock)>,
}

#[derive(Debug)]
struct Shared {
    settings: DiskSettings,
    state: Mutex<TierState>,
    queued_bytes: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    damaged: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct TierState {
    mode: Mode,
    full: Option<String>,
    /// The operator knows; nothing is said again before a block was stored.
    is_told: bool,
}

#[derive(Debug)]
enum Mode {
    Off(String),
    On { folder: Arc<Folder>, index: Index },
}

impl TierState {
    fn index(&mut self) -> Option<&mut Index> {
        match &mut self.mode {
            Mode::On { index, .. } => Some(index),
            Mode::Off(_) => None,
        }
    }
}

impl DiskTier {
    /// Looks for what the folder has meanwhile: nobody waits for it.
    pub fn start(settings: DiskSettings) -> Self {
        let (queue, queued) = sync_channel(QUEUE_LIMIT_BLOCKS);
        let state = TierState {
            mode: Mode::Off(STARTING.to_owned()),
            full: None,
            is_told: false,
        };
        let shared = Arc::new(Shared {
            settings,
            state: Mutex::new(state),
            queued_bytes: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let of_thread = shared.clone();
        // It ends with the tier, whose end of the queue it notices.
        let thread = thread::Builder::new().name("disk cache".to_owned());
        let begun = thread.spawn(move || {
            let run = || of_thread.serve(&queued);
            if caught_now("disk cache", run).is_err() {
                of_thread.turn_off("it panicked");
            }
        });
        if let Err(error) = begun {
            shared.turn_off(&format!("no thread for it: {error}"));
        }
        Self { shared, queue }
    }

    /// Whether a block is there, as far as is known.
    pub fn has(&self, id: &BlockId) -> bool {
        let name = self.shared.name_of(id);
        let mut state = self.shared.state.lock();
        state.index().is_some_and(|index| index.has(name))
    }

    /// A block is used again, from another tier.
    pub fn touch(&self, id: &BlockId) {
        let name = self.shared.name_of(id);
        if let Some(index) = self.shared.state.lock().index() {
            index.touch(name);
        }
    }

    /// Reads a block. Waits for the disk.
    pub fn load(&self, id: &BlockId) -> Option<CachedBlock> {
        self.shared.load(id)
    }

    /// Stores a block, whose bytes are known to be those of its object's version, or drops it.
    pub fn store(&self, id: BlockId, block: CachedBlock) {
        let shared = &self.shared;
        if matches!(shared.state.lock().mode, Mode::Off(_)) {
            return;
        }
        shared.misses.fetch_add(1, Ordering::Relaxed);
        let takes = memory_bytes(&id, &block);
        let queued = shared.queued_bytes.fetch_add(takes, Ordering::Relaxed);
        let is_taken = queued + takes <= shared.settings.queue_limit_bytes
            && self.queue.try_send((id, block)).is_ok();
        if !is_taken {
            shared.queued_bytes.fetch_sub(takes, Ordering::Relaxed);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The disk is not used any more, until it is tried again.
    pub fn turn_off(&self, why: &str) {
        self.shared.turn_off(why);
    }

    /// Returns once what came before is written, or after a while.
    pub async fn flush(&self, within: Duration) {
        let deadline = Instant::now() + within;
        while self.shared.queued_bytes.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    pub fn usage(&self) -> DiskUse {
        usage::of(&self.shared)
    }
}

impl Shared {
    fn name_of(&self, id: &BlockId) -> BlockName {
        BlockName::of(id, self.settings.block_size)
    }

    fn folder(&self) -> Option<Arc<Folder>> {
        match &self.state.lock().mode {
            Mode::On { folder, .. } => Some(folder.clone()),
            Mode::Off(_) => None,
        }
    }

    /// The thread's work, until the tier is dropped.
    fn serve(&self, queued: &Receiver<(BlockId, CachedBlock)>) {
        let mut former = FormerPlaces::new(&self.settings.dir, &self.settings.place);
        loop {
            let retry_every = match self.turn_on(&mut former) {
                Ok(()) => RETRY_EVERY,
                Err(error) => {
                    self.turn_off(&error.to_string());
                    match error {
                        FolderError::InUse(_) => LOCK_RETRY_EVERY,
                        _ => RETRY_EVERY,
                    }
                }
            };
            loop {
                match queued.recv_timeout(retry_every) {
                    Ok((id, block)) => {
                        let takes = memory_bytes(&id, &block);
                        self.write(&id, &block, &mut former);
                        drop((id, block));
                        self.queued_bytes.fetch_sub(takes, Ordering::Relaxed);
                    }
                    Err(RecvTimeoutError::Timeout) if self.folder().is_none() => break,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    /// Locks the folder and learns what it has.
    fn turn_on(&self, former: &mut FormerPlaces) -> Result<(), FolderError> {
        let settings = &self.settings;
        let folder = Arc::new(Folder::open(&settings.dir, &settings.place)?);
        let io_error = |source| FolderError::Io {
            path: settings.dir.clone(),
            source,
        };
        let mut index = Index::new(settings.limit_bytes, settings.index_limit_bytes);
        let found = folder.newest_blocks(index.most_blocks());
        for name in index.fill(found.map_err(io_error)?) {
            folder.remove(name).map_err(io_error)?;
        }
        let (blocks, used_bytes) = (index.blocks(), index.used_bytes());
        former.look();
        former.shrink(settings.limit_bytes.saturating_sub(used_bytes));
        tracing::debug!(dir = %settings.dir.display(), blocks, used_bytes, "disk cache in use");
        self.state.lock().mode = Mode::On { folder, index };
        Ok(())
    }

    fn turn_off(&self, why: &str) {
        let mut state = self.state.lock();
        let is_told = std::mem::replace(&mut state.is_told, true);
        state.mode = Mode::Off(why.to_owned());
        drop(state);
        if !is_told {
            let dir = self.settings.dir.display();
            tracing::warn!(%dir, why, "disk cache off until its disk works again: reads go on without it");
        }
    }

    fn load(&self, id: &BlockId) -> Option<CachedBlock> {
        let name = self.name_of(id);
        let folder = {
            let mut state = self.state.lock();
            if !state.index()?.touch(name) {
                return None;
            }
            match &state.mode {
                Mode::On { folder, .. } => folder.clone(),
                Mode::Off(_) => return None,
            }
        };
        let size = self.settings.block_size;
        let why = match folder.read(name, limit_bytes(size)) {
            Ok(file) => match block_in(file, id, size) {
                Some(block) => {
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    return Some(block);
                }
                None => "checksum mismatch".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        let (key, index) = (&id.object.key, id.index);
        tracing::debug!(%key, block = index, why, "cached block on disk damaged: fetching it again");
        self.damaged.fetch_add(1, Ordering::Relaxed);
        self.forget(&folder, name);
        None
    }

    /// What cannot be read is not there.
    fn forget(&self, folder: &Folder, name: BlockName) {
        if let Some(index) = self.state.lock().index() {
            index.remove(name);
        }
        if let Err(error) = folder.remove(name) {
            self.turn_off(&format!("removing a damaged block: {error}"));
        }
    }

    fn write(&self, id: &BlockId, block: &CachedBlock, former: &mut FormerPlaces) {
        let Some(folder) = self.folder() else {
            return;
        };
        let name = self.name_of(id);
        let Some(head) = head_of(id, self.settings.block_size, block) else {
            return;
        };
        let len_bytes = (head.len() + block.len()) as u64;
        let written = self.have_room(&folder, former, on_disk_bytes(len_bytes));
        let written = written.and_then(|()| folder.write(name, &[&head, block.bytes()]));
        match written {
            Ok(()) => self.stored(&folder, former, (name, len_bytes)),
            Err(error) if is_full(&error) => self.full((&folder, former), &error, len_bytes),
            Err(error) => self.turn_off(&error.to_string()),
        }
    }

    /// Leaves others on the disk what they need. Errors: `StorageFull`.
    fn have_room(
        &self,
        folder: &Folder,
        former: &mut FormerPlaces,
        needed_bytes: u64,
    ) -> io::Result<()> {
        let enough = || {
            let space = folder.space()?;
            let reserve = FREE_LIMIT_BYTES.min(space.total_bytes / FREE_SHARE);
            let wanted = reserve.saturating_add(needed_bytes);
            io::Result::Ok(wanted.saturating_sub(space.free_bytes))
        };
        let missing = enough()?;
        if missing == 0 {
            return Ok(());
        }
        self.give_up(folder, former, missing)?;
        match enough()? {
            0 => Ok(()),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn give_up(&self, folder: &Folder, former: &mut FormerPlaces, bytes: u64) -> io::Result<()> {
        let bytes = bytes.saturating_sub(former.give_up(bytes));
        let mut state = self.state.lock();
        let removed = state.index().map(|index| index.give_up(bytes));
        drop(state);
        let mut removed = removed.into_iter().flatten();
        removed.try_for_each(|name| folder.remove(name))
    }

    fn stored(
        &self,
        folder: &Folder,
        former: &mut FormerPlaces,
        (name, len_bytes): (BlockName, u64),
    ) {
        let mut state = self.state.lock();
        let removed = state.index().map(|index| index.insert(name, len_bytes));
        let used_bytes = state.index().map_or(0, |index| index.used_bytes());
        let was_told = std::mem::take(&mut state.is_told);
        state.full = None;
        drop(state);
        if was_told {
            let dir = self.settings.dir.display();
            tracing::info!(%dir, "disk cache in use again");
        }
        for name in removed.into_iter().flatten() {
            if let Err(error) = folder.remove(name) {
                return self.turn_off(&error.to_string());
            }
        }
        former.look();
        former.shrink(self.settings.limit_bytes.saturating_sub(used_bytes));
    }

    /// Nothing more is stored until there is room; what is there is read.
    fn full(
        &self,
        (folder, former): (&Folder, &mut FormerPlaces),
        error: &io::Error,
        len_bytes: u64,
    ) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        let is_told = std::mem::replace(&mut state.is_told, true);
        state.full = Some("its disk is full".to_owned());
        drop(state);
        if !is_told {
            let dir = self.settings.dir.display();
            tracing::warn!(%dir, %error, "disk cache: its disk is full, nothing more is stored until there is room");
        }
        let given_up = self.give_up(folder, former, 2 * on_disk_bytes(len_bytes));
        if let Err(error) = given_up {
            self.turn_off(&error.to_string());
        }
    }
}

#[cfg(test)]
mod tests;
