//! Waits until S3 has what was written, as another client sees it.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use super::Served;
use super::answers::Lost;
use super::commands::Flushed;
use super::status::{lost, unix_seconds, uploads};
use crate::backoff::Backoff;
use crate::error::FsError;
use crate::ops::Unsent;
use crate::vocabulary::{Ino, ROOT};
use crate::write_path::SpoolView;

/// Between two looks.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_LIMIT: Duration = Duration::from_millis(500);
/// Files that are named.
const LOST_NAMED_LIMIT: usize = 20;

/// What there is left to wait for.
struct Left {
    unsent: Unsent,
    deletes: usize,
}

impl Left {
    /// What failed is not waited for.
    fn is_over(&self) -> bool {
        let waits = self.unsent.files() > self.unsent.failed.files || self.unsent.is_losing;
        !waits && self.deletes == 0
    }
}

/// Waits for a file or all below a directory, at most until `timeout`.
///
/// A file that is being written is waited for until it is closed or synced: half of
/// it is not to be seen. Errors: of finding the path.
pub async fn flush(served: &Served, path: &str, timeout: Duration) -> Result<Flushed, FsError> {
    let (began, deadline) = (SystemTime::now(), Instant::now() + timeout);
    tracing::debug!(path, ?timeout, "waits until S3 has what was written");
    let inode = served.running.ops.controls().find(path).await?;
    served.running.ops.controls().retry_now();
    let mut pauses = Backoff::new(PAUSE_FIRST, PAUSE_LIMIT);
    let left = loop {
        let left = left_below(served, inode.ino);
        if left.is_over() || Instant::now() >= deadline {
            break left;
        }
        sleep(pauses.next_pause().min(deadline - Instant::now())).await;
    };
    let is_over = left.is_over();
    let lost = lost_since(served, began, path).await;
    let mut reasons = Vec::new();
    if !is_over {
        reasons.extend(served.problems());
        // Who waits in steps knows how long that was.
        if !timeout.is_zero() {
            let span = humantime::format_duration(timeout);
            reasons.push(format!("not done after {span}"));
        }
    }
    if left.unsent.writing.files > 0 {
        reasons.push("some are being written: neither closed nor synced".to_owned());
    }
    if left.unsent.failed.files > 0 {
        reasons.push("some could not be uploaded, and are still open".to_owned());
    }
    if !lost.is_empty() {
        reasons.push("some could not be uploaded: see 'mediafs spool list'".to_owned());
    }
    Ok(Flushed {
        done: reasons.is_empty(),
        reasons,
        unsent: uploads(left.unsent),
        deletes_waiting: left.deletes,
        lost,
        spool: served.running.mounted.spool_dir.display().to_string(),
    })
}

fn left_below(served: &Served, below: Ino) -> Left {
    let ops = &served.running.ops;
    // Deletes are of keys, which may be below the path or not.
    let deletes = if below == ROOT {
        ops.controls().waiting().deletes
    } else {
        0
    };
    Left {
        unsent: ops.controls().unsent(below),
        deletes,
    }
}

/// Files below the path that went to lost+found since.
async fn lost_since(served: &Served, began: SystemTime, path: &str) -> Vec<Lost> {
    let config = &served.running.mounted;
    let (spool, key) = (config.spool_dir.clone(), config.prefix.clone() + path);
    let look = move || {
        let kept = SpoolView::at(&spool).and_then(|view| view.last_kept(LOST_NAMED_LIMIT));
        let (_, kept) = kept.unwrap_or_default();
        let is_below = |lost: &Lost| match &lost.key {
            Some(of) => is_below(of, &key),
            None => true,
        };
        let recent = kept.into_iter().map(lost);
        recent
            .filter(|lost| lost.at_unix_seconds >= unix_seconds(began))
            .filter(is_below)
            .collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// Whether a key is this one, or below it as a directory; empty for all of the bucket.
fn is_below(key: &str, above: &str) -> bool {
    let is_directory = above.is_empty() || above.ends_with('/');
    key.strip_prefix(above)
        .is_some_and(|rest| is_directory || rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_below_a_directory_and_not_below_a_name_that_begins_alike() {
        assert!(is_below("media/a/b", "media/a"));
        assert!(is_below("media/a", "media/a"));
        assert!(is_below("media/a", "media/"));
        assert!(is_below("x", ""));
        assert!(!is_below("media/ab", "media/a"));
        assert!(!is_below("other", "media/"));
    }
}
