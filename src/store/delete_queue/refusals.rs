//! Deletes that the store has refused: their objects are there again, and whoever
//! deletes next waits for the answer.

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::store::Key;

/// For this long after a refusal, each delete is answered only once it is done.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Keys that are there again and of which nobody has been told; of more the ttl tells.
const KEYS_LIMIT: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Refusals {
    state: Mutex<State>,
    added: Notify,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    keys: Vec<Key>,
    /// How many were not deleted that were to be.
    stayed: u64,
}

impl Refusals {
    pub fn note(&self, refused: Vec<Key>) {
        if refused.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.last = Some(Instant::now());
        state.stayed += refused.len() as u64;
        let room = KEYS_LIMIT.saturating_sub(state.keys.len());
        state.keys.extend(refused.into_iter().take(room));
        drop(state);
        self.added.notify_one();
    }

    /// So many are other versions, which stay.
    pub fn note_stayed(&self, count: usize) {
        self.state.lock().stayed += count as u64;
    }

    /// How many have stayed that were to be deleted, since the mount.
    pub fn stayed(&self) -> u64 {
        self.state.lock().stayed
    }

    /// The object was taken for one that is to go, and is not.
    pub fn reappear(&self, key: Key) {
        let mut state = self.state.lock();
        if state.keys.len() < KEYS_LIMIT {
            state.keys.push(key);
        }
        drop(state);
        self.added.notify_one();
    }

    /// The store refuses deletes, where somebody has waited for the answer.
    pub fn note_told(&self) {
        self.state.lock().last = Some(Instant::now());
    }

    /// Whether there was one a short time ago.
    pub fn is_recent(&self) -> bool {
        let last = self.state.lock().last;
        last.is_some_and(|last| last.elapsed() < REMEMBERED)
    }

    /// Waits for objects that are there again though they were to go.
    pub async fn next(&self) -> Vec<Key> {
        loop {
            let added = self.added.notified();
            let keys = std::mem::take(&mut self.state.lock().keys);
            if !keys.is_empty() {
                return keys;
            }
            added.await;
        }
    }
}
