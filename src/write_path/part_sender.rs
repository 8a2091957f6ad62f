//! The parts of one upload: begun or resumed, sent or copied, and completed.

use std::ops::Range;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::abort_queue::AbortQueue;
use super::budget::{Budget, MemoryPermit};
use super::byte_source::{ByteSource, RangeReader};
use super::copier::CopyPartSize;
use super::failed::Failed;
use super::multipart::{MultipartUpload, PartClaim};
use super::part_body::{is_of, streamed};
use super::parts::{PartSize, plan_parts, ranges};
use super::scratch::Scratch;
use super::upload_target::UploadTarget;
use super::zeros::{ZeroCopier, longest_of_zeros};
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::store::{
    Body, CompleteMultipartRequest, CompletedPart, CreateMultipartRequest, ETag, ListPartsRequest,
    ObjectStore, PartNumber, StoreError, StoreErrorKind, SummedBytes, UploadPartCopyRequest,
    UploadPartRequest,
};

/// Sends files in parts, with a bound on the memory of all uploads together.
#[derive(Debug)]
pub struct PartSender {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) part_size: PartSize,
    pub(super) copy_part_size: CopyPartSize,
    pub(super) concurrency: usize,
    pub(super) budget: Budget,
    pub(super) aborts: AbortQueue,
    /// Where zeros are made that holes are copied from, if they are.
    pub(super) scratch: Option<Scratch>,
}

impl PartSender {
    pub fn part_size(&self) -> PartSize {
        self.part_size
    }

    /// Parts that are in memory at once.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Whether a file of this length in bytes is one request.
    pub fn sends_at_once(&self, len: u64) -> bool {
        len <= self.part_size.bytes()
    }

    /// Sends what the store does not have yet of a file, and joins the parts.
    ///
    /// What fails leaves the upload to the source: the next attempt resumes it.
    pub(super) async fn upload_in_parts(
        &self,
        target: &UploadTarget,
        source: &Arc<dyn ByteSource>,
    ) -> Result<ETag, Failed> {
        let upload = self.upload_for(target, source).await?;
        let part_ends = match upload.part_ends() {
            Some(part_ends) => part_ends,
            None => {
                let sizes = (self.part_size, self.copy_part_size);
                let plan = plan_parts(&source.runs(), sizes, source.offloaded_end())?;
                source.sends(upload.set_part_ends(plan.clone()));
                plan
            }
        };
        failpoint::at(Point::PartsBegin);
        let zeros = self.zeros(source, &part_ends);
        let parts: Vec<CompletedPart> = stream::iter((1..).zip(ranges(&part_ends)))
            .map(|(number, range)| self.provide_part(source, &upload, (number, range), zeros))
            .buffered(self.concurrency)
            .try_collect()
            .await?;
        let request = CompleteMultipartRequest {
            key: target.key.clone(),
            upload: upload.id().clone(),
            parts,
            condition: target.condition.clone(),
        };
        if let Some(version) = request.expected_etag() {
            source.completes_as(version);
        }
        failpoint::at(Point::CompleteBegins);
        let made = self.store.complete_multipart(request).await?;
        failpoint::at(Point::CompleteAnswered);
        upload.finish();
        Ok(made.etag)
    }

    /// None where no parts are copied from zeros.
    fn zeros(&self, source: &Arc<dyn ByteSource>, part_ends: &[u64]) -> Option<ZeroCopier<'_>> {
        Some(ZeroCopier {
            longest: longest_of_zeros(source, part_ends, self.part_size)?,
            scratch: self.scratch.as_ref()?,
            store: &*self.store,
            part_size: self.part_size,
            concurrency: self.concurrency,
            budget: &self.budget,
            aborts: &self.aborts,
        })
    }

    /// The upload that has parts of the file already, else a new one.
    async fn upload_for(
        &self,
        target: &UploadTarget,
        source: &Arc<dyn ByteSource>,
    ) -> Result<Arc<MultipartUpload>, Failed> {
        let _turn = source.create_lock().lock().await;
        let begun = source.multipart();
        let is_only_copy = source.offloaded_end() > 0;
        let fits = |upload: &Arc<MultipartUpload>| {
            upload.matches(target) || (is_only_copy && upload.has_key_of(target))
        };
        if let Some(upload) = begun.filter(fits) {
            self.list_left(target, &upload).await?;
            return Ok(upload);
        }
        if is_only_copy {
            return Err(FsError::PartsLost.into());
        }
        let upload = self.begin(target).await?;
        source.set_multipart(Some(upload.clone()));
        Ok(upload)
    }

    pub(super) async fn begin(
        &self,
        target: &UploadTarget,
    ) -> Result<Arc<MultipartUpload>, StoreError> {
        let create = CreateMultipartRequest {
            key: target.key.clone(),
            headers: target.headers.clone(),
        };
        let id = self.store.create_multipart(create).await?;
        Ok(Arc::new(MultipartUpload::begun(
            target,
            id,
            self.aborts.clone(),
        )))
    }

    /// Asks the store which parts it has of an upload that a predecessor began.
    async fn list_left(
        &self,
        target: &UploadTarget,
        upload: &MultipartUpload,
    ) -> Result<(), Failed> {
        if !upload.is_to_be_listed() {
            return Ok(());
        }
        let mut parts = Vec::new();
        let mut after = None;
        loop {
            let request = ListPartsRequest {
                key: target.key.clone(),
                upload: upload.id().clone(),
                after,
            };
            let page = match self.store.list_parts(request).await {
                Ok(page) => page,
                // Not allowed to ask, or a store that cannot tell: all is sent again.
                Err(error)
                    if !error.kind.is_transient() && error.kind != StoreErrorKind::NoSuchUpload =>
                {
                    tracing::warn!(%error, "an unfinished upload is sent again");
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            parts.extend(page.parts);
            match page.next {
                Some(next) if after < Some(next) => after = Some(next),
                _ => break,
            }
        }
        tracing::info!(key = %target.key, parts = parts.len(), "resuming an unfinished upload");
        upload.listed(parts);
        Ok(())
    }

    /// Sees to it that the store has a part of a file that does not change.
    async fn provide_part(
        &self,
        source: &Arc<dyn ByteSource>,
        upload: &Arc<MultipartUpload>,
        (number, range): (u16, Range<u64>),
        zeros: Option<ZeroCopier<'_>>,
    ) -> Result<CompletedPart, FsError> {
        let number = PartNumber::new(number).ok_or(FsError::TOO_LARGE)?;
        let claimed = match upload.claim(number, range.clone()).await {
            PartClaim::Done(part) => return Ok(part),
            PartClaim::Send(claimed) => claimed,
        };
        failpoint::at(Point::PartBegins);
        let zeros = zeros.filter(|_| source.is_zero(range.clone()));
        let copied = match zeros {
            Some(zeros) => {
                let part = (number, range.end - range.start);
                zeros.copy(upload, part).await?
            }
            None => None,
        };
        let part = if let Some(copied) = copied {
            copied
        } else if let Some(stored) = source.stored(range.clone()) {
            let request = UploadPartCopyRequest {
                source: stored.key,
                source_if_match: stored.etag,
                range: stored.range,
                target: upload.key().clone(),
                upload: upload.id().clone(),
                number,
            };
            self.store.upload_part_copy(request).await?
        } else {
            let _memory = self.hold_part(upload, &range).await;
            let reader: Arc<dyn RangeReader> = source.clone();
            let left = upload.left_part(number, range.end - range.start);
            match left {
                Some(part) if is_of(&part, &*reader, range.clone()).await? => part,
                _ => {
                    let body = self.body(reader, range).await?;
                    let request = part_request(upload, number, body);
                    self.store.upload_part(request).await?
                }
            }
        };
        failpoint::at(Point::PartAnswered);
        claimed.sent(part.clone());
        Ok(part)
    }

    /// Reserves memory to send a part. A streamed part counts as a whole one of
    /// `--part-size`, so that no more requests are under way either.
    pub(super) async fn hold_part(
        &self,
        upload: &MultipartUpload,
        range: &Range<u64>,
    ) -> MemoryPermit<'_> {
        let len = range.end - range.start;
        let held = len.min(self.part_size.bytes());
        self.budget.part(upload.reservation(), held).await
    }

    pub(super) async fn body(
        &self,
        reader: Arc<dyn RangeReader>,
        range: Range<u64>,
    ) -> Result<Body, FsError> {
        if self.sends_at_once(range.end - range.start) {
            let summed = reader.read_summed(range).await?;
            return Ok(Body::Summed(SummedBytes {
                bytes: summed.bytes,
                crc64nvme: summed.crc64nvme.text(),
            }));
        }
        streamed(reader, range).await
    }
}

pub(super) fn part_request(
    upload: &MultipartUpload,
    number: PartNumber,
    body: Body,
) -> UploadPartRequest {
    UploadPartRequest {
        key: upload.key().clone(),
        upload: upload.id().clone(),
        number,
        body,
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;
    use parking_lot::Mutex;

    use super::*;
    use crate::journal::UploadStart;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{GetRequest, Key, ObjectHeaders, StoreOp, WriteCondition};
    use crate::write_path::parts::{Origin, Run, StoredRange};
    use crate::write_path::{PriorAttempt, Uploader};

    const MIB: usize = 1 << 20;

    /// A sealed file in memory.
    #[derive(Debug, Default)]
    struct Source {
        bytes: Bytes,
        upload: Mutex<Option<Arc<MultipartUpload>>>,
        create_lock: tokio::sync::Mutex<()>,
        sending: Mutex<Option<UploadStart>>,
        version: Mutex<Option<ETag>>,
    }

    #[async_trait]
    impl RangeReader for Source {
        async fn read(&self, range: Range<u64>) -> Result<Bytes, FsError> {
            Ok(self.bytes.slice(range.start as usize..range.end as usize))
        }
    }

    impl ByteSource for Source {
        fn runs(&self) -> Vec<Run> {
            vec![Run {
                range: 0..self.bytes.len() as u64,
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

        fn sends(&self, sending: UploadStart) {
            *self.sending.lock() = Some(sending);
        }

        fn completes_as(&self, version: ETag) {
            *self.version.lock() = Some(version);
        }

        fn completed_as(&self) -> Option<ETag> {
            self.version.lock().clone()
        }
    }

    fn source() -> Arc<Source> {
        let bytes = (0..33 * MIB).map(|at| (at / 7 % 251) as u8).collect();
        Arc::new(Source {
            bytes,
            ..Source::default()
        })
    }

    async fn upload(
        uploader: &Uploader,
        source: &Arc<Source>,
        prior: PriorAttempt,
    ) -> Result<ETag, FsError> {
        let target = UploadTarget {
            key: Key::new("k"),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::Always,
            known: WriteCondition::Always,
            len: source.bytes.len() as u64,
            prior,
        };
        let source: Arc<dyn ByteSource> = source.clone();
        let made = uploader.upload(&target, &source).await?;
        Ok(made.etag)
    }

    /// One part at a time, so that the `nth` request is the part of that number.
    /// Uploads until this request for a part, counted from one, fails.
    async fn fail_at_part(store: &Faulty, nth: u64, (uploader, source): (&Uploader, &Arc<Source>)) {
        let fault = Fault::Before(StoreErrorKind::Server);
        store.plan(StoreOp::UploadPart, nth, fault);
        let outcome = upload(uploader, source, PriorAttempt::None).await;
        assert!(outcome.is_err());
    }

    fn uploader(store: &Arc<Faulty>) -> Uploader {
        let copy = CopyPartSize::new(512 << 20).unwrap();
        Uploader::new(store.clone(), PartSize::new(5 << 20).unwrap(), copy, 1)
    }

    async fn settle(uploader: &Uploader) {
        tokio::select! {
            () = uploader.abort_queued() => {}
            () = uploader.aborts_settled() => {}
        }
    }

    async fn stored(store: &Faulty) -> Bytes {
        let request = GetRequest {
            key: Key::new("k"),
            range: None,
            if_match: None,
            sink: None,
        };
        store.get(request).await.unwrap().body
    }

    #[tokio::test]
    async fn the_next_attempt_sends_what_the_one_before_did_not() {
        let store = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let (uploader, source) = (uploader(&store), source());
        fail_at_part(&store, 4, (&uploader, &source)).await;
        upload(&uploader, &source, PriorAttempt::None)
            .await
            .unwrap();
        assert_eq!(store.seen(StoreOp::UploadPart), 8, "7 parts, one twice");
        assert_eq!(store.seen(StoreOp::CreateMultipart), 1);
        assert_eq!(store.seen(StoreOp::ListParts), 0);
        assert!(stored(&store).await == source.bytes);
    }

    #[tokio::test]
    async fn the_next_life_asks_page_by_page_and_sends_what_is_missing_or_another() {
        let store = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let (first, before) = (uploader(&store), source());
        fail_at_part(&store, 6, (&first, &before)).await;
        let sending = before.sending.lock().clone().unwrap();
        // The store has another part 2 by now.
        let other = UploadPartRequest {
            key: Key::new("k"),
            upload: sending.upload.clone(),
            number: PartNumber::new(2).unwrap(),
            body: Bytes::from(vec![1; 5 * MIB]).into(),
        };
        store.upload_part(other).await.unwrap();
        let sent = store.seen(StoreOp::UploadPart);

        let (second, after) = (uploader(&store), source());
        after.set_multipart(Some(second.take_over(sending)));
        upload(&second, &after, PriorAttempt::None).await.unwrap();
        assert_eq!(store.seen(StoreOp::ListParts), 3, "5 parts, 2 a page");
        assert_eq!(store.seen(StoreOp::UploadPart) - sent, 3, "2, 6 and 7");
        assert!(stored(&store).await == after.bytes);
    }

    #[tokio::test]
    async fn an_upload_that_is_gone_begins_anew_and_a_completed_one_is_known() {
        let store = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let (uploader, source) = (uploader(&store), source());
        let gone = |store: &Faulty| {
            let nth = store.seen(StoreOp::UploadPart) + 2;
            store.plan(
                StoreOp::UploadPart,
                nth,
                Fault::Before(StoreErrorKind::NoSuchUpload),
            );
        };
        gone(&store);
        let etag = upload(&uploader, &source, PriorAttempt::None)
            .await
            .unwrap();
        assert_eq!(store.seen(StoreOp::CreateMultipart), 2);
        assert!(stored(&store).await == source.bytes);
        // The same bytes are there of an earlier attempt, and its upload is gone.
        source.set_multipart(None);
        gone(&store);
        let again = upload(&uploader, &source, PriorAttempt::Maybe).await;
        assert_eq!(again.unwrap(), etag);
        assert_eq!(store.seen(StoreOp::CompleteMultipart), 1);
    }

    #[tokio::test]
    async fn an_upload_whose_bytes_another_client_has_put_meanwhile_is_aborted() {
        let store = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let (uploader, source) = (uploader(&store), source());
        fail_at_part(&store, 2, (&uploader, &source)).await;
        let put = crate::store::PutRequest {
            key: Key::new("k"),
            body: source.bytes.clone(),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::Always,
        };
        let theirs = store.put(put).await.unwrap().etag;
        let target = UploadTarget {
            key: Key::new("k"),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::IfAbsent,
            known: WriteCondition::IfAbsent,
            len: source.bytes.len() as u64,
            prior: PriorAttempt::Maybe,
        };
        let sent: Arc<dyn ByteSource> = source.clone();
        let found = uploader.upload(&target, &sent).await.unwrap();
        assert_eq!(found.etag, theirs);
        settle(&uploader).await;
        assert_eq!(store.seen(StoreOp::AbortMultipart), 1);
    }

    #[tokio::test]
    async fn an_upload_that_nobody_goes_on_with_is_aborted() {
        let store = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let (uploader, source) = (uploader(&store), source());
        fail_at_part(&store, 2, (&uploader, &source)).await;
        source.set_multipart(None);
        settle(&uploader).await;
        assert_eq!(store.seen(StoreOp::AbortMultipart), 1);
        let upload = source.sending.lock().clone().unwrap().upload;
        let request = ListPartsRequest {
            key: Key::new("k"),
            upload,
            after: None,
        };
        let gone: Result<_, StoreError> = store.list_parts(request).await;
        assert_eq!(gone.unwrap_err().kind, StoreErrorKind::NoSuchUpload);
    }
}
