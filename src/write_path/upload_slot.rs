//! The multipart upload that has parts of one stage's bytes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::multipart::MultipartUpload;

/// Holds one upload at most; the one before is aborted with its last holder.
#[derive(Debug, Default)]
pub struct UploadSlot {
    state: Mutex<State>,
    /// Held while an upload is begun, so that there is one.
    create_lock: tokio::sync::Mutex<()>,
    /// Parts up to here are sent, or about to be, while the file is being written.
    ahead_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    upload: Option<Arc<MultipartUpload>>,
    /// Nobody wants the stage's bytes any more.
    closed: bool,
}

impl UploadSlot {
    pub fn get(&self) -> Option<Arc<MultipartUpload>> {
        self.state.lock().upload.clone()
    }

    pub fn set(&self, upload: Option<Arc<MultipartUpload>>) {
        let before = std::mem::replace(&mut self.state.lock().upload, upload);
        drop(before);
    }

    /// False where there is one already, or nobody wants the bytes any more.
    pub(super) fn adopt(&self, upload: Arc<MultipartUpload>) -> bool {
        let mut state = self.state.lock();
        let wanted = state.upload.is_none() && !state.closed;
        if wanted {
            state.upload = Some(upload);
        }
        wanted
    }

    /// Nobody wants the stage's bytes any more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let before = state.upload.take();
        drop(state);
        drop(before);
    }

    pub fn create_lock(&self) -> &tokio::sync::Mutex<()> {
        &self.create_lock
    }

    pub(super) fn ahead_bytes(&self) -> u64 {
        self.ahead_bytes.load(Ordering::Relaxed)
    }

    pub fn set_ahead_bytes(&self, bytes: u64) {
        self.ahead_bytes.store(bytes, Ordering::Relaxed);
    }

    /// To be called after these bytes of the stage have changed.
    pub(super) fn invalidate(&self, range: &Range<u64>) {
        if let Some(upload) = &self.state.lock().upload {
            upload.invalidate(range);
        }
    }
}
