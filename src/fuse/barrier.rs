//! Calls that change names or files wait here while a mount's last difference is brought
//! elsewhere; then they go on, or are sent to what has taken the mount's place.
//!
//! Until nobody has a file open for writing, what those do who have passes: their close
//! may come after it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::FsError;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Open,
    /// Writers are waited for.
    Gathering,
    Held,
    /// Another directory is in the mount's place.
    Replaced,
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    /// Calls that have passed and are not over.
    passing: usize,
}

#[derive(Debug, Default)]
pub struct WriteBarrier {
    state: Mutex<State>,
    changed: Notify,
}

/// A call that has passed.
#[derive(Debug)]
pub struct Passing(Arc<WriteBarrier>);

impl WriteBarrier {
    /// Returns once the call may change something; one of a writer earlier, while
    /// writers are waited for.
    ///
    /// Errors: `Stale` where another directory is in the mount's place: the kernel looks
    /// the path up once more, and finds that. Source: path_lookup(7), "ESTALE".
    pub async fn pass(
        self: &Arc<Self>,
        is_by_writer: impl Fn() -> bool,
    ) -> Result<Passing, FsError> {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state.lock();
                let passes = match state.mode {
                    Mode::Open => true,
                    Mode::Gathering => is_by_writer(),
                    Mode::Held => false,
                    Mode::Replaced => return Err(FsError::STALE),
                };
                if passes {
                    state.passing += 1;
                    return Ok(Passing(self.clone()));
                }
            }
            changed.await;
        }
    }

    /// Holds calls back from now on, but those of writers. Returns false where they are
    /// held already, or go elsewhere.
    pub fn gather(&self) -> bool {
        let mut state = self.state.lock();
        let is_open = state.mode == Mode::Open;
        if is_open {
            state.mode = Mode::Gathering;
        }
        is_open
    }

    /// Holds those of writers back too, once there are none and every call that passed
    /// is over. Returns whether all are held.
    pub fn hold_all(&self, is_any_writer: impl Fn() -> bool) -> bool {
        let mut state = self.state.lock();
        // In this order: a call that had passed may have opened a file.
        if state.mode == Mode::Gathering && state.passing == 0 && !is_any_writer() {
            state.mode = Mode::Held;
        }
        state.mode == Mode::Held
    }

    /// Whether calls are held that are not over.
    pub fn is_held(&self) -> bool {
        matches!(self.state.lock().mode, Mode::Gathering | Mode::Held)
    }

    pub fn is_replaced(&self) -> bool {
        self.state.lock().mode == Mode::Replaced
    }

    /// Lets the calls that wait go on.
    pub fn lift(&self) {
        self.leave_held(Mode::Open);
    }

    /// Sends the calls that are held, and all that come, to what is in the mount's place.
    pub fn send_away(&self) {
        self.leave_held(Mode::Replaced);
    }

    fn leave_held(&self, mode: Mode) {
        {
            let mut state = self.state.lock();
            if !matches!(state.mode, Mode::Gathering | Mode::Held) {
                return;
            }
            state.mode = mode;
        }
        self.changed.notify_waiters();
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.state.lock().passing -= 1;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn calls_wait_while_it_is_held_and_go_on_or_elsewhere() {
        let barrier = Arc::new(WriteBarrier::default());
        let pass = || Box::pin(barrier.pass(|| false));
        let before = pass().await.unwrap();
        assert!(barrier.gather() && !barrier.gather());
        assert!(!barrier.hold_all(|| false));
        drop(before);
        assert!(!barrier.hold_all(|| true) && barrier.hold_all(|| false));
        let mut held = pass();
        assert!(held.as_mut().now_or_never().is_none());
        barrier.lift();
        drop(held.await.unwrap());
        assert!(barrier.gather() && barrier.hold_all(|| false));
        let mut held = pass();
        assert!(held.as_mut().now_or_never().is_none());
        barrier.send_away();
        assert!(matches!(held.await, Err(FsError::Stale(_))));
        assert!(matches!(pass().await, Err(FsError::Stale(_))));
        assert!(!barrier.gather() && barrier.is_replaced());
        barrier.lift();
        assert!(pass().await.is_err());
    }

    #[tokio::test]
    async fn calls_of_writers_pass_and_are_waited_for_until_all_are_held() {
        let barrier = Arc::new(WriteBarrier::default());
        assert!(barrier.gather());
        assert!(barrier.pass(|| false).now_or_never().is_none());
        let of_writer = barrier.pass(|| true).await.unwrap();
        assert!(!barrier.hold_all(|| false));
        drop(of_writer);
        assert!(barrier.hold_all(|| false));
        assert!(barrier.pass(|| true).now_or_never().is_none());
    }
}
