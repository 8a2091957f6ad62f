//! How long an unmount waits for S3, and what it tells meanwhile.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use super::flush::flush;
use super::mounts::FoundMount;
use super::shown::{counted, size};
use crate::session::control::commands::Flushed;

/// Between two lines of progress that is no terminal's.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// A look at what is missing takes as long.
const STEP: Duration = Duration::from_secs(1);

/// Waits until all is sent, or the time is over; says how far it is.
pub fn drain(mount: &FoundMount, deadline: Instant) -> anyhow::Result<Flushed> {
    let mut progress = Progress::default();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let flushed = flush(mount, "", STEP.min(left))?;
        let is_over = flushed.done || left.is_zero() || !flushed.lost.is_empty();
        if is_over {
            progress.end();
            return Ok(flushed);
        }
        progress.tell(&flushed);
    }
}

/// A line that is written over on a terminal, and a line now and then elsewhere.
#[derive(Debug, Default)]
struct Progress {
    told_at: Option<Instant>,
}

impl Progress {
    fn tell(&mut self, flushed: &Flushed) {
        let unsent = &flushed.unsent;
        let all = [unsent.dirty, unsent.queued, unsent.uploading];
        let files: usize = all.iter().map(|it| it.files).sum();
        let bytes = all.iter().map(|it| it.bytes).sum();
        let files = counted(files, "file");
        let deletes = counted(flushed.deletes_waiting, "delete");
        let line = format!("still to be sent: {files} ({}), {deletes}", size(bytes));
        if stderr().is_terminal() {
            eprint!("\r\u{1b}[K{line}");
            // Nobody may read it.
            drop(stderr().flush());
        } else if self.told_at.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            eprintln!("{line}");
        } else {
            return;
        }
        self.told_at = Some(Instant::now());
    }

    fn end(&self) {
        if self.told_at.is_some() && stderr().is_terminal() {
            eprint!("\r\u{1b}[K");
        }
    }
}
