//! A sealed stage as the uploader reads it.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::file::StageFactory;
use super::layers::{ReadSegment, SealedStage, fetch, plan_staged};
use crate::error::FsError;
use crate::journal::UploadStart;
use crate::read_path::Reader;
use crate::store::ETag;
use crate::write_path::{
    ByteSource, MultipartUpload, Origin, RangeReader, Run, StoredRange, Summed,
};

/// A sealed stage over its lower layer, and where its upload is noted.
#[derive(Debug)]
pub struct SealedSource {
    pub sealed: Arc<SealedStage>,
    pub reader: Arc<Reader>,
    pub stage_factory: Arc<StageFactory>,
}

impl SealedSource {
    fn pieces(&self, range: Range<u64>) -> Vec<ReadSegment> {
        let mut pieces = Vec::new();
        plan_staged(&self.sealed.stage, &self.sealed.base, range, &mut pieces);
        pieces
    }
}

#[async_trait]
impl RangeReader for SealedSource {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, FsError> {
        let wanted = range.end - range.start;
        let pieces = self.pieces(range);
        let bytes = fetch(&self.reader, pieces).await?;
        // A base shorter than it was would shift every byte behind it.
        if bytes.len() as u64 == wanted {
            Ok(bytes)
        } else {
            Err(FsError::CORRUPT)
        }
    }

    async fn read_summed(&self, range: Range<u64>) -> Result<Summed, FsError> {
        let pieces = self.pieces(range.clone());
        if let [ReadSegment::Local(file, here)] = pieces.as_slice()
            && here.end - here.start == range.end - range.start
        {
            return file.read_summed(here.clone());
        }
        let bytes = self.read(range).await?;
        Ok(Summed::of(bytes))
    }
}

impl ByteSource for SealedSource {
    fn runs(&self) -> Vec<Run> {
        let pieces = self.pieces(0..self.sealed.stage.len());
        let mut at = 0;
        let runs = pieces.into_iter().map(|piece| {
            let (len, origin) = match piece {
                ReadSegment::Local(_, range) => (range.end - range.start, Origin::Local),
                ReadSegment::Zero(len) => (len, Origin::Zero),
                ReadSegment::Object(object, range) => (
                    range.end - range.start,
                    Origin::Object(object.key.clone(), object.etag.clone()),
                ),
            };
            let range = at..at + len;
            at = range.end;
            Run { range, origin }
        });
        runs.collect()
    }

    fn is_zero(&self, range: Range<u64>) -> bool {
        let pieces = self.pieces(range);
        pieces
            .iter()
            .all(|piece| matches!(piece, ReadSegment::Zero(_)))
    }

    fn stored(&self, range: Range<u64>) -> Option<StoredRange> {
        let pieces = self.pieces(range.clone());
        match pieces.as_slice() {
            [ReadSegment::Object(object, stored)] if *stored == range => Some(StoredRange {
                key: object.key.clone(),
                etag: object.etag.clone(),
                range,
            }),
            _ => None,
        }
    }

    fn multipart(&self) -> Option<Arc<MultipartUpload>> {
        self.sealed.stage.file().upload_slot().get()
    }

    fn set_multipart(&self, upload: Option<Arc<MultipartUpload>>) {
        self.sealed.stage.file().upload_slot().set(upload);
    }

    fn offloaded_end(&self) -> u64 {
        self.sealed.stage.file().offloaded().end()
    }

    fn create_lock(&self) -> &tokio::sync::Mutex<()> {
        self.sealed.stage.file().upload_slot().create_lock()
    }

    fn sends(&self, sending: UploadStart) {
        self.stage_factory
            .spool
            .sending(self.sealed.stage.file(), sending);
    }

    fn completes_as(&self, version: ETag) {
        self.stage_factory
            .spool
            .completing(self.sealed.stage.file(), version.clone());
        self.sealed.sent.set_version(version);
    }

    fn completed_as(&self) -> Option<ETag> {
        self.sealed.sent.as_version()
    }
}
