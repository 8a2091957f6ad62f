//! Signals that come while a daemon starts, before those who act on them are there.
//!
//! Where it takes a predecessor's place, the mount is there already: a signal that killed
//! the daemon would be lost, for the next one would serve on. It is kept, and sent again
//! once somebody acts on it. A daemon that does not come so far dies of it, and whoever
//! starts the next one passes it on.
//!
//! A hangup is always kept: it is no wish to end the mount, and from outside nobody sees
//! when the daemon is ready for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Signal, getpid, kill_process};
use signal_hook::SigId;
use signal_hook::{flag, low_level};

use super::takeover::fd_store;

/// To stop, and to read the configuration again.
const KEPT: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::HUP];

/// Signals that came since it was made.
#[derive(Debug)]
pub struct EarlySignals(Vec<Early>);

/// A signal to stop came to a daemon that ends without having served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("told to stop before the mount was taken over")]
pub struct UnheardStop(i32);

impl UnheardStop {
    /// Ends the process by the signal.
    pub fn die(self) {
        if let Err(error) = low_level::emulate_default_handler(self.0) {
            tracing::warn!(%error, "a signal that came early is lost");
        }
    }
}

#[derive(Debug)]
struct Early {
    signal: Signal,
    handler: SigId,
    came: Arc<AtomicBool>,
}

impl EarlySignals {
    /// To be called first of all. A daemon without a predecessor has no mount yet, and
    /// may be told to end.
    ///
    /// Errors: there is no handler for a signal.
    pub fn keep() -> io::Result<Self> {
        let has_predecessor = fd_store::has_some();
        let is_kept = |signal: &Signal| has_predecessor || *signal == Signal::HUP;
        let kept = KEPT.into_iter().filter(is_kept).map(|signal| {
            let came = Arc::new(AtomicBool::new(false));
            let handler = flag::register(signal.as_raw(), came.clone())?;
            Ok(Early {
                signal,
                handler,
                came,
            })
        });
        kept.collect::<io::Result<_>>().map(Self)
    }

    /// The error of a daemon that comes to its end, with the signal to stop that came.
    pub fn unheard(&self, error: anyhow::Error) -> anyhow::Error {
        let came = |early: &&Early| early.came.load(Ordering::SeqCst);
        match self
            .0
            .iter()
            .filter(came)
            .find(|it| it.signal != Signal::HUP)
        {
            Some(early) => error.context(UnheardStop(early.signal.as_raw())),
            None => error,
        }
    }

    /// Has each that came come again. To be called when all who act on them listen.
    pub fn send_again(&self) {
        for early in &self.0 {
            low_level::unregister(early.handler);
            if !early.came.swap(false, Ordering::SeqCst) {
                continue;
            }
            tracing::info!(signal = ?early.signal, "a signal came before the mount was ready");
            if let Err(error) = kill_process(getpid(), early.signal) {
                tracing::warn!(%error, "a signal that came early is lost");
            }
        }
    }
}
