//! Calls that change names or files wait here while a mount's last difference is brought
//! elsewhere; then they go on, or are sent to what has taken the mount's place.
//!
//! What is done through a handle that is open for writing passes: whoever waits for
//! writers to close has to let them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::FsError;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Open,
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
    /// Returns once the call may change something.
    ///
    /// Errors: `Stale` where another directory is in the mount's place: the kernel looks
    /// the path up once more, and finds that. Source: path_lookup(7), "ESTALE".
    pub async fn pass(self: &Arc<Self>) -> Result<Passing, FsError> {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state.lock();
                match state.mode {
                    Mode::Open => {
                        state.passing += 1;
                        return Ok(Passing(self.clone()));
                    }
                    Mode::Replaced => return Err(FsError::STALE),
                    Mode::Held => {}
                }
            }
            changed.await;
        }
    }

    /// Holds calls back from now on. Returns false where they are held already, or go
    /// elsewhere.
    pub fn hold(&self) -> bool {
        let mut state = self.state.lock();
        let is_open = state.mode == Mode::Open;
        if is_open {
            state.mode = Mode::Held;
        }
        is_open
    }

    pub fn is_held(&self) -> bool {
        self.state.lock().mode == Mode::Held
    }

    /// Whether every call that passed is over.
    pub fn is_quiet(&self) -> bool {
        self.state.lock().passing == 0
    }

    /// Lets the calls that are held go on.
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
            if state.mode != Mode::Held {
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
        let before = barrier.pass().await.unwrap();
        assert!(barrier.hold() && !barrier.hold());
        assert!(!barrier.is_quiet());
        drop(before);
        assert!(barrier.is_quiet());
        let mut held = Box::pin(barrier.pass());
        assert!(held.as_mut().now_or_never().is_none());
        barrier.lift();
        drop(held.await.unwrap());
        assert!(barrier.hold());
        let mut held = Box::pin(barrier.pass());
        assert!(held.as_mut().now_or_never().is_none());
        barrier.send_away();
        assert!(matches!(held.await, Err(FsError::Stale(_))));
        assert!(matches!(barrier.pass().await, Err(FsError::Stale(_))));
        assert!(!barrier.hold());
        barrier.lift();
        assert!(barrier.pass().await.is_err());
    }
}
