//! A version that is sent, as the source of an upload.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::checkpoint::{Begun, Checkpoint};
use super::operator::Operator;
use super::sent_bytes::{ReadFailure, SentBytes};
use super::throttle::Throttle;
use crate::error::FsError;
use crate::journal::UploadStart;
use crate::store::ETag;
use crate::write_path::{ByteSource, MultipartUpload, Origin, RangeReader, Run, StoredRange};

/// What becomes of an upload in parts that is not completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfinished {
    /// The next run resumes it.
    Keep,
    Abort,
}

/// Bytes of one version. An upload in parts that it has begun is kept for
/// the next run, unless it is given up.
pub struct UploadSource {
    path: String,
    bytes: SentBytes,
    throttle: Arc<Throttle>,
    checkpoint: Arc<Checkpoint>,
    operator: Arc<dyn Operator>,
    failure: Mutex<Option<ReadFailure>>,
    unfinished: Mutex<Unfinished>,
    upload: Mutex<Option<Arc<MultipartUpload>>>,
    version: Mutex<Option<ETag>>,
    create_lock: tokio::sync::Mutex<()>,
}

impl fmt::Debug for UploadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UploadSource").field(&self.path).finish()
    }
}

impl UploadSource {
    pub fn new(
        path: &str,
        bytes: SentBytes,
        upload: Option<Arc<MultipartUpload>>,
        throttle: Arc<Throttle>,
        checkpoint: Arc<Checkpoint>,
        operator: Arc<dyn Operator>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            bytes,
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

    fn failed(&self, failure: ReadFailure) -> FsError {
        let why = match &failure {
            ReadFailure::Changed => "it changed while it was read",
            ReadFailure::NoAnswer(why) | ReadFailure::Other(why) => why,
        };
        let error = io::Error::other(why.to_owned());
        *self.failure.lock() = Some(failure);
        FsError::Spool(Arc::new(error))
    }
}

impl Drop for UploadSource {
    fn drop(&mut self) {
        if let (Some(upload), Unfinished::Keep) =
            (self.upload.get_mut().take(), *self.unfinished.get_mut())
        {
            upload.finish();
        }
    }
}

#[async_trait]
impl RangeReader for UploadSource {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, FsError> {
        let len = range.end - range.start;
        self.throttle.take(len).await;
        let read = self.bytes.read(range).await;
        self.operator.moved(0, len);
        read.map_err(|failure| self.failed(failure))
    }
}

impl ByteSource for UploadSource {
    fn runs(&self) -> Vec<Run> {
        let range = 0..self.bytes.len();
        let origin = match self.bytes.stored(range.clone()) {
            Some(stored) => Origin::Object(stored.key, stored.etag),
            None => Origin::Local,
        };
        vec![Run { range, origin }]
    }

    fn is_zero(&self, _: Range<u64>) -> bool {
        false
    }

    fn stored(&self, range: Range<u64>) -> Option<StoredRange> {
        let stored = self.bytes.stored(range.clone())?;
        self.operator.moved(0, range.end - range.start);
        Some(stored)
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

    fn sends(&self, sending: UploadStart) {
        let noted = self.checkpoint.begun(&self.path);
        let (since, before) = match noted {
            Some(noted) => (noted.since, noted.before),
            None => (SystemTime::now(), None),
        };
        let begun = Begun {
            source: self.bytes.snapshot(),
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
