//! The bytes of parts: one of `--part-size` is held in memory, longer ones are
//! read twice, for their checksum and as they are sent.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest, Md5};

use super::byte_source::RangeReader;
use super::crc64nvme::Crc64Nvme;
use crate::error::FsError;
use crate::store::{Body, BodySource, BodyStream, CompletedPart, pieces};

/// For the store, which knows of no file.
#[derive(Debug)]
struct Streamed(Arc<dyn RangeReader>);

#[async_trait]
impl BodySource for Streamed {
    async fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.0.read(range).await.map_err(io::Error::other)
    }
}

/// The body of a part that is not held in memory.
pub async fn streamed(reader: Arc<dyn RangeReader>, range: Range<u64>) -> Result<Body, FsError> {
    let crc64nvme = crc64nvme(&*reader, range.clone()).await?;
    let source = Arc::new(Streamed(reader));
    Ok(Body::Stream(BodyStream {
        source,
        range,
        crc64nvme,
    }))
}

/// Whether a part that the store has is of exactly these bytes.
///
/// By its CRC-64/NVME where the store tells it, else by its ETag, which is the
/// MD5 of the bytes but for some kinds of encryption.
/// Source: S3 User Guide, "Checking object integrity".
pub async fn is_of(
    part: &CompletedPart,
    reader: &dyn RangeReader,
    range: Range<u64>,
) -> Result<bool, FsError> {
    if let Some(theirs) = &part.crc64nvme {
        return Ok(*theirs == crc64nvme(reader, range).await?);
    }
    let mut md5 = Md5::new();
    for piece in pieces(range) {
        md5.update(reader.read(piece).await?);
    }
    let md5: [u8; 16] = md5.finalize().into();
    Ok(part.etag.as_str() == format!("{:032x}", u128::from_be_bytes(md5)))
}

async fn crc64nvme(reader: &dyn RangeReader, range: Range<u64>) -> Result<String, FsError> {
    let mut crc = Crc64Nvme::default();
    for piece in pieces(range) {
        crc.update(&reader.read(piece).await?);
    }
    Ok(crc.text())
}
