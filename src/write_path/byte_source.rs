//! Where the bytes of an upload come from.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::crc64nvme::Summed;
use super::multipart::MultipartUpload;
use super::parts::{Run, StoredRange};
use super::stage_file::StageFile;
use crate::error::FsError;
use crate::journal::UploadStart;
use crate::store::ETag;

/// Bytes that are read by range.
#[async_trait]
pub trait RangeReader: Send + Sync + fmt::Debug {
    /// Exactly the bytes of a range.
    async fn read(&self, range: Range<u64>) -> Result<Bytes, FsError>;

    /// The same with their checksum, where they are gone over only once if possible.
    async fn read_summed(&self, range: Range<u64>) -> Result<Summed, FsError> {
        Ok(Summed::of(self.read(range).await?))
    }
}

#[async_trait]
impl RangeReader for StageFile {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, FsError> {
        StageFile::read(self, range).map(Bytes::from)
    }

    async fn read_summed(&self, range: Range<u64>) -> Result<Summed, FsError> {
        StageFile::read_summed(self, range)
    }
}

/// Bytes to upload.
///
/// The uploader does not know whose they are: a sealed stage over its lower layer, which is
/// a matter of `files` above it, or a file of a directory that `migrate` sends. What an
/// upload has come to is noted by each in its own log, so the calls for that are here too.
pub trait ByteSource: RangeReader {
    /// What of the file is local and what the store has, from its start to its end.
    fn runs(&self) -> Vec<Run>;

    /// Whether all bytes of a range are zeros that nobody wrote.
    fn is_zero(&self, range: Range<u64>) -> bool;

    /// Where in the store exactly the bytes of a range are, if they are.
    fn stored(&self, range: Range<u64>) -> Option<StoredRange>;

    /// The multipart upload that has parts of them, if one was begun.
    fn multipart(&self) -> Option<Arc<MultipartUpload>>;

    /// Takes the place of the one before, which is aborted.
    fn set_multipart(&self, upload: Option<Arc<MultipartUpload>>);

    /// Up to here parts are in that upload alone, and can be neither read nor sent again.
    fn offloaded_end(&self) -> u64 {
        0
    }

    /// Held while a multipart upload of them is begun.
    fn create_lock(&self) -> &tokio::sync::Mutex<()>;

    /// This is how the multipart upload goes on, also in another life of the daemon.
    fn sends(&self, sending: UploadStart);

    /// The next request makes this version of them.
    fn completes_as(&self, version: ETag);

    /// The version that an earlier attempt was about to make.
    fn completed_as(&self) -> Option<ETag>;
}
