//! How many readers are fetched ahead of, and what each may have.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cursor::Window;
use crate::vocabulary::ObjectId;

/// Most bytes of one GET. A long window ends where one does, so that few are shorter.
pub(super) const RUN_LIMIT_BYTES: u64 = 4 << 20;
/// The same where so many readers have requests under way that more connections do not pay.
const LONG_RUN_LIMIT_BYTES: u64 = 8 << 20;
const LONG_RUNS_FROM: u64 = 4;
/// Of a window, for one GET: several are under way.
const RUN_SHARE: u64 = 4;
/// The same of readers with long runs.
const LONG_RUN_SHARE: u64 = 2;
/// Of what is cached, for what is fetched ahead of all readers.
const AHEAD_SHARE: (u64, u64) = (3, 4);
/// A reader that reads nothing for so long needs nothing.
const RECENT: Duration = Duration::from_secs(1);
/// Readers that are counted.
const STREAMS_LIMIT: usize = 1000;

/// Shares memory among sequential readers.
#[derive(Debug)]
pub(super) struct Streams {
    recent: Mutex<HashMap<Arc<ObjectId>, Instant>>,
    block_bytes: u64,
    /// Of requests under way.
    inflight_bytes: u64,
    /// Of blocks that wait to be read.
    ahead_bytes: u64,
}

impl Streams {
    pub fn new(block_bytes: u64, inflight_bytes: u64, cached_bytes: u64) -> Self {
        let (share, of) = AHEAD_SHARE;
        Self {
            recent: Mutex::default(),
            block_bytes,
            inflight_bytes,
            ahead_bytes: cached_bytes / of * share,
        }
    }

    /// An object is read on.
    pub fn note(&self, object: &Arc<ObjectId>) {
        let mut recent = self.recent.lock();
        if recent.len() < STREAMS_LIMIT || recent.contains_key(object) {
            recent.insert(object.clone(), Instant::now());
        }
    }

    /// An object was read to its end.
    pub fn end(&self, object: &Arc<ObjectId>) {
        self.recent.lock().remove(object);
    }

    /// What one reader may have now, of `most_bytes`.
    pub fn window(&self, most_bytes: u64) -> Window {
        let mut recent = self.recent.lock();
        recent.retain(|_, at| at.elapsed() < RECENT);
        let readers = recent.len().max(1) as u64;
        drop(recent);
        self.window_of(readers, most_bytes)
    }

    fn window_of(&self, readers: u64, most_bytes: u64) -> Window {
        // The rest is for what others ask for now.
        let limit_bytes = (self.inflight_bytes / 4 * 3)
            .min(self.ahead_bytes / readers)
            .min(most_bytes);
        let (limit, share) = if readers < LONG_RUNS_FROM {
            (RUN_LIMIT_BYTES, RUN_SHARE)
        } else {
            (LONG_RUN_LIMIT_BYTES, LONG_RUN_SHARE)
        };
        let run = limit.min(limit_bytes / share).checked_ilog2();
        Window {
            limit_bytes,
            run_bytes: run.map_or(0, |power| 1 << power).max(self.block_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ETag, Key};

    const MIB: u64 = 1 << 20;
    const MOST: u64 = 64 * MIB;

    #[test]
    fn readers_share_memory_and_have_long_requests_where_they_are_many() {
        let streams = Streams::new(128 << 10, 64 * MIB, 192 * MIB);
        let mib = |readers| {
            let window = streams.window_of(readers, MOST);
            (window.limit_bytes / MIB, window.run_bytes / MIB)
        };
        assert_eq!([1, 3].map(mib), [(48, 4), (48, 4)]);
        assert_eq!([4, 8, 9].map(mib), [(36, 8), (18, 8), (16, 8)]);
        assert_eq!([16, 40].map(mib), [(9, 4), (3, 1)]);
        for readers in 1..200 {
            let window = streams.window_of(readers, MOST);
            assert!(window.limit_bytes * readers <= 144 * MIB);
            assert!(window.run_bytes >= 128 << 10);
        }
        let small = Streams::new(128 << 10, 4 * MIB, 12 * MIB).window_of(1, MOST);
        assert_eq!((small.limit_bytes, small.run_bytes), (3 * MIB, MIB / 2));
        let large = Streams::new(128 << 10, 1024 * MIB, 3072 * MIB);
        for most_bytes in [MOST, 8 * MOST] {
            assert_eq!(large.window_of(1, most_bytes).limit_bytes, most_bytes);
        }
    }

    #[test]
    fn a_reader_counts_while_it_reads() {
        let streams = Streams::new(128 << 10, 64 * MIB, 192 * MIB);
        let object = |number: u32| {
            Arc::new(ObjectId {
                key: Key::new(number.to_string()),
                etag: ETag::new("e"),
                size_bytes: 1 << 30,
            })
        };
        let alone = streams.window(MOST);
        for number in 0..8 {
            streams.note(&object(number));
            streams.note(&object(number));
        }
        assert_ne!(streams.window(MOST), alone);
        (0..7).for_each(|number| streams.end(&object(number)));
        assert_eq!(streams.window(MOST), alone);
    }
}
