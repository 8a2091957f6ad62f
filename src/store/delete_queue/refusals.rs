//! Deletes that the store has refused: their objects are there again, and whoever
//! deletes next waits for the answer.

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use super::DeleteQueue;
use crate::store::Key;

/// After a refusal nobody is told for so long that an object goes before it has gone.
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
}

impl Refusals {
    pub fn note(&self, refused: Vec<Key>) {
        if refused.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.last = Some(Instant::now());
        let room = KEYS_LIMIT.saturating_sub(state.keys.len());
        state.keys.extend(refused.into_iter().take(room));
        drop(state);
        self.added.notify_one();
    }
}

impl DeleteQueue {
    /// Whether the last attempt to delete failed.
    pub fn is_failing(&self) -> bool {
        *self.failing.borrow()
    }

    /// Sends what waits without waiting for more, or for the end of a pause.
    pub fn hurry(&self) {
        self.flush_now.notify_one();
        self.retry_now.notify_waiters();
    }

    /// Notes that the store refuses deletes, where somebody has waited for the answer.
    pub fn note_refusal(&self) {
        self.refusals.state.lock().last = Some(Instant::now());
    }

    /// Whether the store has refused a delete a short time ago.
    pub fn is_refusing(&self) -> bool {
        let last = self.refusals.state.lock().last;
        last.is_some_and(|last| last.elapsed() < REMEMBERED)
    }

    /// Waits for objects that are there again though they were to go.
    pub async fn refused(&self) -> Vec<Key> {
        loop {
            let added = self.refusals.added.notified();
            let keys = std::mem::take(&mut self.refusals.state.lock().keys);
            if !keys.is_empty() {
                return keys;
            }
            added.await;
        }
    }
}
