//! A read that failed for want of an answer: the kernel asks for its first page once more.
//!
//! What a readahead does not get, the read that caused it asks for by itself. A program
//! would wait for S3 twice. Source: mm/filemap.c, `filemap_get_pages`.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::FsError;

/// The kernel asks again at once; a program that tries again does so later.
const ASKED_AGAIN_WITHIN: Duration = Duration::from_millis(200);

/// The last one of a handle.
#[derive(Debug, Default)]
pub struct FailedRead(Mutex<Option<Failed>>);

#[derive(Debug)]
struct Failed {
    offset: u64,
    error: FsError,
    at: Instant,
}

impl FailedRead {
    /// To be called with what came of each read.
    pub fn note<T>(&self, offset: u64, outcome: &Result<T, FsError>) {
        let Err(error) = outcome else { return };
        if error.is_transient() {
            let (error, at) = (error.clone(), Instant::now());
            *self.0.lock() = Some(Failed { offset, error, at });
        }
    }

    /// Fails this read once, without a request.
    pub fn again(&self, offset: u64) -> Result<(), FsError> {
        match self.0.lock().take() {
            Some(failed) if failed.offset == offset && failed.at.elapsed() < ASKED_AGAIN_WITHIN => {
                Err(failed.error)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_read_fails_at_once_a_single_time_and_not_later() {
        let failed = FailedRead::default();
        let timed_out = || Err::<(), _>(FsError::TIMED_OUT);
        failed.note(0, &timed_out());
        assert!(failed.again(0).is_err());
        assert!(failed.again(0).is_ok());
        failed.note(0, &timed_out());
        assert!(failed.again(4096).is_ok());
        failed.note(0, &timed_out());
        advance(ASKED_AGAIN_WITHIN).await;
        assert!(failed.again(0).is_ok());
        failed.note(0, &Err::<(), _>(FsError::NoSpace));
        failed.note(0, &Ok(()));
        assert!(failed.again(0).is_ok());
    }
}
