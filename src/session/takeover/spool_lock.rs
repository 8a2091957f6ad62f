//! Waits for the spool's lock.
//!
//! Its owner may still bring to S3 what it has, after it was unmounted: its
//! successor waits for that. An owner that serves is not waited for, and one that
//! was killed and cannot end does nothing any more.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::session::mount::FS_TYPE;
use crate::session::mount::mountinfo::mount_at;
use crate::write_path::{SpoolError, SpoolLock, SpoolView, is_beyond_return};

/// What an end takes beyond its drain.
const END_RESERVE: Duration = Duration::from_secs(10);
/// A process that was killed ends within milliseconds, or waits in the kernel.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
const POLL_EVERY: Duration = Duration::from_millis(20);

/// What keeps an owner in its spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Serves,
    /// Unmounted, or not mounted yet.
    Drains,
    /// Killed; a thread of it may wait in the kernel for this daemon.
    Dead,
}

impl Owner {
    fn of(spool: &Path, pid: &str) -> Self {
        if is_beyond_return(pid) {
            return Self::Dead;
        }
        let note = SpoolView::at(spool).ok().and_then(|spool| spool.mount());
        let mounted = note.and_then(|note| mount_at(&note.mountpoint).ok().flatten());
        if mounted.is_some_and(|entry| entry.fs_type == FS_TYPE) {
            Self::Serves
        } else {
            Self::Drains
        }
    }
}

/// Takes the spool's lock; `note` says what it waits for, if it does.
///
/// Errors: `InUse` by an owner that serves, or that does not end in time.
pub fn take_lock(config: &Config, note: &dyn Fn(&str)) -> Result<SpoolLock, SpoolError> {
    let (spool, began) = (&config.spool_dir, Instant::now());
    let max_wait = config.drain_timeout.saturating_add(END_RESERVE);
    let mut saved = false;
    loop {
        let in_use = match SpoolLock::take(spool) {
            Err(error @ SpoolError::InUse { .. }) => error,
            outcome => return outcome,
        };
        let SpoolError::InUse { pid, .. } = &in_use else {
            return Err(in_use);
        };
        match Owner::of(spool, pid) {
            Owner::Serves => return Err(in_use),
            Owner::Dead if began.elapsed() >= ENDS_WITHIN => {
                tracing::warn!(
                    pid,
                    "the predecessor is dead but still held in the kernel: taking over its spool"
                );
                return SpoolLock::take_from_dead(spool);
            }
            Owner::Dead => {}
            Owner::Drains if began.elapsed() >= max_wait => return Err(in_use),
            Owner::Drains if !saved => {
                let text = format!(
                    "the predecessor (pid {pid}) is unmounted and still uploads what {} holds: waiting for it, for {} at most",
                    spool.display(),
                    humantime::format_duration(max_wait)
                );
                tracing::warn!("{text}");
                note(&text);
                saved = true;
            }
            Owner::Drains => {}
        }
        sleep(POLL_EVERY);
    }
}
