//! The bytes of a request, in memory or read as they are sent.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// Read, and in memory, at once of a body that is not there as a whole.
const PIECE_BYTES: u64 = 1 << 20;

#[derive(Debug, Clone)]
pub enum Body {
    Bytes(Bytes),
    Summed(SummedBytes),
    Stream(BodyStream),
}

/// Bytes whose checksum is known: nobody has to go over them for it again.
#[derive(Debug, Clone)]
pub struct SummedBytes {
    pub bytes: Bytes,
    /// As S3 writes it.
    pub crc64nvme: String,
}

/// A body that is read as it is sent, from the start for each attempt.
#[derive(Debug, Clone)]
pub struct BodyStream {
    pub source: Arc<dyn BodySource>,
    pub range: Range<u64>,
    /// Of all of it, as S3 writes it.
    pub crc64nvme: String,
}

/// Where the bytes of a body are read from.
#[async_trait]
pub trait BodySource: Send + Sync + fmt::Debug {
    /// Exactly the bytes of a range.
    async fn read(&self, range: Range<u64>) -> io::Result<Bytes>;
}

/// Takes the bytes of an answer while they arrive.
pub trait BodySink: Send + Sync + fmt::Debug {
    /// An attempt gives its bytes from the first on; one before may have given some.
    fn begin(&self);
    fn take(&self, bytes: &[u8]);
}

impl Body {
    pub fn len_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Summed(summed) => summed.bytes.len() as u64,
            Self::Stream(stream) => stream.len_bytes(),
        }
    }
}

impl BodyStream {
    pub fn len_bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// A range in pieces of at most `PIECE_BYTES`.
pub fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send {
    let end = range.end;
    let starts = range.step_by(PIECE_BYTES as usize);
    starts.map(move |start| start..end.min(start + PIECE_BYTES))
}
