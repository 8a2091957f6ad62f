//! A file of the directory as the source of an upload.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::checkpoint::{Begun, Checkpoint};
use super::local_file::{LocalFile, is_changed_while_read};
use super::operator::Operator;
use super::throttle::Throttle;
use crate::error::FsError;
use crate::journal::Sending;
use crate::store::ETag;
use crate::write_path::{ByteSource, MultipartUpload, Origin, RangeReader, Run, StoredRange};

/// Why the bytes of a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFailure {
    Changed,
    Other(String),
}

/// What becomes of an upload in parts that is not completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfinished {
    /// The next run resumes it.
    Keep,
    Abort,
}

/// Bytes of one version of a file. An upload in parts that it has begun is kept for
/// the next run, unless it is given up.
pub struct SentFile {
    path: String,
    file: LocalFile,
    throttle: Arc<Throttle>,
    checkpoint: Arc<Checkpoint>,
    operator: Arc<dyn Operator>,
    failure: Mutex<Option<ReadFailure>>,
    unfinished: Mutex<Unfinished>,
    upload: Mutex<Option<Arc<MultipartUpload>>>,
    version: Mutex<Option<ETag>>,
    create_lock: tokio::sync::Mutex<()>,
}

impl fmt::Debug for SentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SentFile").field(&self.path).finish()
    }
}

impl SentFile {
    pub fn new(
        path: &str,
        file: LocalFile,
        upload: Option<Arc<MultipartUpload>>,
        throttle: Arc<Throttle>,
        checkpoint: Arc<Checkpoint>,
        operator: Arc<dyn Operator>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            file,
            throttle,
            checkpoint,
            operator,
            failure: Mutex::default(),
            unfinished: Mutex::new(Unfinished::Keep),
            upload: Mutex::new(upload),
            version: Mutex::default(),
            create_lock: tokio::sync::Mutex::default(),
        }
    }

    /// Why it could not be read, if that is why it was not sent.
    pub fn failure(&self) -> Option<ReadFailure> {
        self.failure.lock().clone()
    }

    /// Its upload in parts, if it has one, is aborted.
    pub fn give_up(&self) {
        *self.unfinished.lock() = Unfinished::Abort;
    }

    fn failed(&self, error: io::Error) -> FsError {
        let failure = match is_changed_while_read(&error) {
            true => ReadFailure::Changed,
            false => ReadFailure::Other(error.to_string()),
        };
        *self.failure.lock() = Some(failure);
        FsError::Spool(Arc::new(error))
    }
}

impl Drop for SentFile {
    fn drop(&mut self) {
        if let (Some(upload), Unfinished::Keep) =
            (self.upload.get_mut().take(), *self.unfinished.get_mut())
        {
            upload.finish();
        }
    }
}

#[async_trait]
impl RangeReader for SentFile {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, FsError> {
        let len = range.end - range.start;
        self.throttle.take(len).await;
        let read = self.file.read(range).await;
        self.operator.moved(0, len);
        read.map_err(|error| self.failed(error))
    }
}

impl ByteSource for SentFile {
    fn runs(&self) -> Vec<Run> {
        vec![Run {
            range: 0..self.file.stat().size_bytes,
            origin: Origin::Local,
        }]
    }

    fn is_zero(&self, _: Range<u64>) -> bool {
        false
    }

    fn stored(&self, _: Range<u64>) -> Option<StoredRange> {
        None
    }

    fn multipart(&self) -> Option<Arc<MultipartUpload>> {
        self.upload.lock().clone()
    }

    fn set_multipart(&self, upload: Option<Arc<MultipartUpload>>) {
        *self.upload.lock() = upload;
    }

    fn create_lock(&self) -> &tokio::sync::Mutex<()> {
        &self.create_lock
    }

    fn sends(&self, sending: Sending) {
        let noted = self.checkpoint.begun(&self.path);
        let (since, before) = match noted {
            Some(noted) => (noted.since, noted.before),
            None => (SystemTime::now(), None),
        };
        let begun = Begun {
            stat: *self.file.stat(),
            since,
            before,
            sending: Some(sending),
        };
        if let Err(error) = self.checkpoint.begin(&self.path, &begun) {
            tracing::warn!(path = self.path, %error, "cannot write the checkpoint");
        }
    }

    fn completes_as(&self, version: ETag) {
        *self.version.lock() = Some(version);
    }

    fn completed_as(&self) -> Option<ETag> {
        self.version.lock().clone()
    }
}
