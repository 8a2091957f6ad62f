//! What is sent: a file of the directory, or an object of another bucket.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::{Object, Snapshot};
use super::local_file::{LocalFile, is_changed_while_read};
use crate::store::{ETag, GetRequest, Key, ObjectStore, StoreErrorKind};
use crate::write_path::StoredRange;

/// Why the bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFailure {
    Changed,
    /// The source's store did not answer: what was begun goes on in the next run.
    NoAnswer(String),
    Other(String),
}

/// Bytes of one version.
#[derive(Debug, Clone)]
pub enum SentBytes {
    File(LocalFile),
    Object(SentObject),
}

/// One version of an object of another bucket.
#[derive(Clone)]
pub struct SentObject {
    pub store: Arc<dyn ObjectStore>,
    pub key: Key,
    pub object: Object,
    pub way: ObjectWay,
}

/// How an object's bytes come to the other bucket.
#[derive(Debug, Clone)]
pub enum ObjectWay {
    /// They were read with the headers.
    Read(Bytes),
    /// They are read range by range.
    ByRange,
    /// The store copies them itself.
    Copied,
}

impl fmt::Debug for SentObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SentObject").field(&self.key).finish()
    }
}

impl SentBytes {
    pub fn len(&self) -> u64 {
        match self {
            Self::File(file) => file.stat().size_bytes,
            Self::Object(object) => object.object.size_bytes,
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        match self {
            Self::File(file) => Snapshot::File(*file.stat()),
            Self::Object(object) => object.object.snapshot(),
        }
    }

    /// Where the store has a range, if it is to copy that itself.
    pub fn stored(&self, range: Range<u64>) -> Option<StoredRange> {
        match self {
            Self::Object(SentObject {
                key,
                object,
                way: ObjectWay::Copied,
                ..
            }) => Some(StoredRange {
                key: key.clone(),
                etag: ETag::new(&object.etag),
                range,
            }),
            Self::File(_) | Self::Object(_) => None,
        }
    }

    /// Exactly the bytes of a range.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, ReadFailure> {
        match self {
            Self::File(file) => file.read(range).await.map_err(|error| {
                if is_changed_while_read(&error) {
                    ReadFailure::Changed
                } else {
                    ReadFailure::Other(error.to_string())
                }
            }),
            Self::Object(object) => object.read(range).await,
        }
    }
}

impl SentObject {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, ReadFailure> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let len = range.end - range.start;
        let bytes = match &self.way {
            ObjectWay::Read(bytes) => {
                let whole = (range.start as usize, range.end as usize);
                bytes.get(whole.0..whole.1).map(|it| bytes.slice_ref(it))
            }
            ObjectWay::ByRange | ObjectWay::Copied => Some(self.get(range).await?),
        };
        bytes
            .filter(|bytes| bytes.len() as u64 == len)
            .ok_or_else(|| {
                let why = "S3 sent another number of bytes than the object has";
                ReadFailure::Other(why.to_owned())
            })
    }

    async fn get(&self, range: Range<u64>) -> Result<Bytes, ReadFailure> {
        let request = GetRequest {
            key: self.key.clone(),
            range: Some(range),
            if_match: Some(ETag::new(&self.object.etag)),
            sink: None,
        };
        let answer = self.store.get(request).await;
        answer.map(|answer| answer.body).map_err(|error| {
            let is_gone = matches!(
                error.kind,
                StoreErrorKind::NotFound | StoreErrorKind::PreconditionFailed
            );
            match error.kind {
                _ if is_gone => ReadFailure::Changed,
                kind if kind.is_no_answer() => ReadFailure::NoAnswer(error.to_string()),
                _ => ReadFailure::Other(error.to_string()),
            }
        })
    }
}
