//! Signals that come while a daemon takes a predecessor's place, before those who act on
//! them are there.
//!
//! The mount is there already: a signal that killed the daemon would be lost, for the
//! next one would serve on. It is kept, and sent again once somebody acts on it.

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
#[derive(Debug, Default)]
pub struct EarlySignals(Vec<Early>);

#[derive(Debug)]
struct Early {
    signal: Signal,
    handler: SigId,
    came: Arc<AtomicBool>,
}

impl EarlySignals {
    /// To be called first of all. A daemon without a predecessor has no mount yet, and
    /// may be ended.
    ///
    /// Errors: there is no handler for a signal.
    pub fn keep() -> io::Result<Self> {
        if !fd_store::has_some() {
            return Ok(Self::default());
        }
        let kept = KEPT.into_iter().map(|signal| {
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

    /// Has each that came come again. To be called when all who act on them listen.
    pub fn send_again(self) {
        for early in self.0 {
            low_level::unregister(early.handler);
            if !early.came.load(Ordering::SeqCst) {
                continue;
            }
            tracing::info!(signal = ?early.signal, "a signal came before the mount was taken over");
            if let Err(error) = kill_process(getpid(), early.signal) {
                tracing::warn!(%error, "a signal that came early is lost");
            }
        }
    }
}
