//! What waits for its turn, and for the next one where an attempt has failed.
//!
//! Whoever waits costs an entry and no task: some workers take what is ready, in the order
//! in which it became so. What pauses, or is blocked, keeps nobody else from its turn.
//! There is no bound: it holds what its owner has in memory anyway, each once.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout_at};

use crate::task::caught;

/// After a turn that panicked.
const PANIC_PAUSE: Duration = Duration::from_secs(30);

/// What becomes of what has had its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It waits for nothing more.
    Over,
    /// It is ready behind all others.
    Ready,
    /// The same before all others.
    First,
    /// It is ready after the pause.
    Pause(Duration),
    /// It is ready once `end_blocks` is called, which counts from when its turn began.
    Blocked,
}

#[derive(Debug)]
pub struct RetryQueue<T> {
    state: Mutex<Waiting<T>>,
    /// Something is ready, or a pause has begun. Who takes a turn wakes another worker, so
    /// that one that is idle knows of the first pause that ends.
    changed: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    ready: VecDeque<T>,
    /// By when their pauses end, and a number of their own.
    pausing: BTreeMap<(Instant, u64), T>,
    pauses: u64,
    blocked: Vec<T>,
    /// How often `end_blocks` was called.
    blocks_ended: u64,
}

impl<T> RetryQueue<T> {
    pub fn new() -> Self {
        Self {
            state: Mutex::new(Waiting {
                ready: VecDeque::new(),
                pausing: BTreeMap::new(),
                pauses: 0,
                blocked: Vec::new(),
                blocks_ended: 0,
            }),
            changed: Notify::new(),
        }
    }

    pub fn add(&self, waiting: T) {
        self.state.lock().ready.push_back(waiting);
        self.changed.notify_one();
    }

    /// Gives what is ready first its turn, once something is. What panics in it pauses.
    pub async fn give_turn(&self, step: &'static str, turn: impl AsyncFnOnce(&mut T) -> Next) {
        let (mut waiting, blocks_ended) = self.next_in_epoch().await;
        let next = caught(step, turn(&mut waiting)).await;
        let next = next.unwrap_or(Next::Pause(PANIC_PAUSE));
        let mut state = self.state.lock();
        match next {
            Next::Over => return,
            Next::Blocked if state.blocks_ended == blocks_ended => {
                return state.blocked.push(waiting);
            }
            Next::Ready | Next::Blocked => state.ready.push_back(waiting),
            Next::First => state.ready.push_front(waiting),
            Next::Pause(pause) => state.pause(waiting, pause),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// It is ready once `end_blocks` is called.
    pub fn block(&self, waiting: T) {
        self.state.lock().blocked.push(waiting);
    }

    /// All that pauses now is ready.
    pub fn end_pauses(&self) {
        let mut state = self.state.lock();
        let pausing = std::mem::take(&mut state.pausing);
        state.ready.extend(pausing.into_values());
        drop(state);
        self.changed.notify_one();
    }

    pub fn end_blocks(&self) {
        let mut state = self.state.lock();
        let blocked = std::mem::take(&mut state.blocked);
        state.blocks_ended += 1;
        state.ready.extend(blocked);
        drop(state);
        self.changed.notify_one();
    }

    /// Returns what is ready first, once something is. Cancel-safe.
    pub async fn next(&self) -> T {
        self.next_in_epoch().await.0
    }

    /// The same, with how often blocks had been ended by then.
    async fn next_in_epoch(&self) -> (T, u64) {
        loop {
            let changed = self.changed.notified();
            let (taken, blocks_ended) = {
                let mut state = self.state.lock();
                (state.take(), state.blocks_ended)
            };
            let first_end = match taken {
                Ok(ready) => {
                    self.changed.notify_one();
                    return (ready, blocks_ended);
                }
                Err(first_end) => first_end,
            };
            match first_end {
                // Either way it looks again.
                Some(end) => drop(timeout_at(end, changed).await),
                None => changed.await,
            }
        }
    }
}

impl<T> Waiting<T> {
    fn pause(&mut self, waiting: T, pause: Duration) {
        self.pauses += 1;
        let end = (Instant::now() + pause, self.pauses);
        self.pausing.insert(end, waiting);
    }

    /// What is ready first; else when the first pause ends.
    fn take(&mut self) -> Result<T, Option<Instant>> {
        let now = Instant::now();
        while let Some(pausing) = self.pausing.first_entry()
            && pausing.key().0 <= now
        {
            self.ready.push_back(pausing.remove());
        }
        let first_end = self.pausing.keys().next().map(|(end, _)| *end);
        self.ready.pop_front().ok_or(first_end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{sleep, timeout};

    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);
    const SOON: Duration = Duration::from_millis(1);

    async fn soon(queue: &RetryQueue<u32>) -> Option<u32> {
        timeout(SOON, queue.next()).await.ok()
    }

    async fn turn(queue: &RetryQueue<u32>, next: Next) {
        queue.give_turn("test", async |_| next).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_pauses_or_is_blocked_keeps_nobody_from_its_turn() {
        let queue = RetryQueue::new();
        (0..6).for_each(|number| queue.add(number));
        turn(&queue, Next::Pause(PAUSE)).await;
        turn(&queue, Next::Blocked).await;
        turn(&queue, Next::Ready).await;
        let mut seen = Vec::new();
        while let Some(number) = soon(&queue).await {
            seen.push(number);
        }
        assert_eq!(seen, [3, 4, 5, 2]);
        sleep(PAUSE).await;
        assert_eq!(soon(&queue).await, Some(0));
        assert_eq!(soon(&queue).await, None);
        queue.end_blocks();
        assert_eq!(soon(&queue).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_end_early_where_somebody_asks_for_it() {
        let queue = RetryQueue::new();
        for number in 0..3 {
            queue.add(number);
            turn(&queue, Next::Pause(PAUSE)).await;
        }
        assert_eq!(soon(&queue).await, None);
        queue.end_pauses();
        for number in 0..3 {
            assert_eq!(soon(&queue).await, Some(number));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_panics_in_its_turn_has_another_one() {
        let queue = RetryQueue::new();
        queue.add(7);
        let broken = async |_: &mut u32| -> Next { panic!("planned") };
        queue.give_turn("test", broken).await;
        assert_eq!(soon(&queue).await, None);
        sleep(PANIC_PAUSE).await;
        assert_eq!(soon(&queue).await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_that_ends_before_its_turn_does_is_none() {
        let queue = RetryQueue::new();
        queue.add(7);
        let ends_meanwhile = async |_: &mut u32| {
            queue.end_blocks();
            Next::Blocked
        };
        queue.give_turn("test", ends_meanwhile).await;
        assert_eq!(soon(&queue).await, Some(7));
    }

    /// However many wait: the workers alone are tasks.
    #[tokio::test(start_paused = true)]
    async fn each_of_many_gets_its_turns_though_a_worker_is_stuck() {
        const MANY: u32 = 10_000;
        let queue = Arc::new(RetryQueue::new());
        let (done, mut all_done) = tokio::sync::watch::channel(0);
        for _ in 0..2 {
            let (queue, done) = (queue.clone(), done.clone());
            tokio::spawn(async move {
                loop {
                    let turn = async |waiting: &mut (u32, u32)| match waiting {
                        // A hung request.
                        (0, _) => std::future::pending().await,
                        (_, turns @ 0) => {
                            *turns += 1;
                            Next::Pause(PAUSE)
                        }
                        _ => {
                            done.send_modify(|done| *done += 1);
                            Next::Over
                        }
                    };
                    queue.give_turn("test", turn).await;
                }
            });
        }
        // Both are idle when the first comes.
        sleep(SOON).await;
        queue.add((1, 0));
        sleep(SOON).await;
        queue.add((0, 0));
        sleep(SOON).await;
        (2..MANY).for_each(|number| queue.add((number, 0)));
        let wanted = all_done.wait_for(|done| *done == MANY - 1);
        assert!(timeout(PAUSE * 2, wanted).await.is_ok());
    }
}
