//! The overlay as the store that all above has to do with.

use std::sync::Arc;

use async_trait::async_trait;

use super::core::{Core, Either, of_old, refused};
use super::listing::Listing;
use super::old_directory::OldStat;
use super::reading::Reading;
use super::removal::Removals;
use super::send::{OldFileSender, Sent};
use super::versions::{Version, Versions};
use crate::store::*;

/// The bucket and the old directory as one store.
#[derive(Debug)]
pub struct OverlayStore {
    pub core: Arc<Core>,
    pub versions: Arc<Versions>,
    pub listing: Arc<Listing>,
    pub reading: Arc<Reading>,
    pub sender: Arc<OldFileSender>,
    pub removals: Removals,
}

#[async_trait]
impl ObjectStore for OverlayStore {
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        let _busy = self.core.foreground.begin();
        self.reading.head_shown(request).await
    }

    async fn checksums(&self, key: Key) -> Result<ObjectChecksums, StoreError> {
        let ask = || self.core.parts.store.checksums(key.clone());
        match self.core.either(&key, ask).await? {
            Either::Above(told) => Ok(told),
            Either::Below(stat) => Ok(self.reading.meta_of(&key, &stat).into()),
        }
    }

    async fn get(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        let _busy = self.core.foreground.begin();
        self.reading.get_shown(request).await
    }

    async fn tags(&self, key: Key) -> Result<Option<String>, StoreError> {
        let ask = || self.core.parts.store.tags(key.clone());
        match self.core.either(&key, ask).await? {
            Either::Above(tags) => Ok(tags),
            Either::Below(_) => Ok(None),
        }
    }

    async fn put(&self, request: PutRequest) -> Result<PutAnswer, StoreError> {
        let _busy = self.core.foreground.begin();
        let send = |condition| {
            let request = request.clone();
            self.core.parts.store.put(PutRequest {
                condition,
                ..request
            })
        };
        let changed = self
            .versions
            .change(StoreOp::Put, &request.key, &request.condition, send);
        changed.await
    }

    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        let _busy = self.core.foreground.begin();
        self.copy_shown(request).await
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        let _busy = self.core.foreground.begin();
        self.removals.remove(request).await
    }

    async fn delete_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        let _busy = self.core.foreground.begin();
        self.removals.remove_many(requests).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListAnswer, StoreError> {
        let _busy = self.core.foreground.begin();
        self.listing.list_shown(request).await
    }

    async fn create_multipart(
        &self,
        request: CreateMultipartRequest,
    ) -> Result<UploadId, StoreError> {
        self.core.parts.store.create_multipart(request).await
    }

    async fn upload_part(&self, request: UploadPartRequest) -> Result<CompletedPart, StoreError> {
        let _busy = self.core.foreground.begin();
        self.core.parts.store.upload_part(request).await
    }

    async fn upload_part_copy(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        let _busy = self.core.foreground.begin();
        self.part_of_shown(request).await
    }

    async fn complete_multipart(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        let send = |condition| {
            let request = request.clone();
            self.core
                .parts
                .store
                .complete_multipart(CompleteMultipartRequest {
                    condition,
                    ..request
                })
        };
        let (op, key) = (StoreOp::CompleteMultipart, &request.key);
        self.versions
            .change(op, key, &request.condition, send)
            .await
    }

    async fn abort_multipart(&self, key: Key, upload: UploadId) -> Result<(), StoreError> {
        self.core.parts.store.abort_multipart(key, upload).await
    }

    async fn list_parts(&self, request: ListPartsRequest) -> Result<ListPartsAnswer, StoreError> {
        self.core.parts.store.list_parts(request).await
    }

    fn renew_connections(&self) {
        self.core.parts.store.renew_connections();
    }
}

impl OverlayStore {
    pub fn new(core: Arc<Core>) -> Self {
        let versions = Arc::new(Versions { core: core.clone() });
        let with_versions = || (core.clone(), versions.clone());
        let reading = {
            let (core, versions) = with_versions();
            Arc::new(Reading { core, versions })
        };
        let sender = {
            let ((core, versions), reading) = (with_versions(), reading.clone());
            Arc::new(OldFileSender {
                core,
                versions,
                reading,
            })
        };
        let listing = {
            let (core, versions) = with_versions();
            Arc::new(Listing { core, versions })
        };
        let removals = {
            let (core, versions) = with_versions();
            Removals { core, versions }
        };
        Self {
            core,
            versions,
            listing,
            reading,
            sender,
            removals,
        }
    }

    async fn copy_shown(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        let source = request.source.clone();
        let of_old_version = request.source_if_match.clone().filter(OldStat::is_etag);
        let of = match (&request.source_if_match, of_old_version) {
            (_, Some(of)) => of,
            (Some(_), None) => return self.copy_above(request, None).await,
            (None, None) => {
                let key = source.clone();
                self.reading.head_shown(HeadRequest { key }).await?.etag
            }
        };
        match self.versions.version_in_turn(&source, &of).await? {
            Version::Above(etag) => {
                let request = CopyRequest {
                    source_if_match: Some(etag),
                    ..request
                };
                let of = OldStat::is_etag(&of).then_some(of);
                self.copy_above(request, of).await
            }
            Version::Below(_) => {
                let Some(file) = self.reading.open_version(&source, &of).await? else {
                    return Err(refused(StoreOp::Copy, &source));
                };
                let stored = self.reading.meta_of(&source, &file.stat).headers;
                let headers = request.replace_headers.unwrap_or(ObjectHeaders {
                    placement: request.placement,
                    ..stored
                });
                let sent = Sent {
                    key: &request.target,
                    file: &file,
                    headers,
                };
                self.sender.copy_old(sent, &request.condition).await
            }
            Version::Gone => Err(refused(StoreOp::Copy, &source)),
        }
    }

    /// `of`: the old version that the source has the bytes of.
    async fn copy_above(
        &self,
        request: CopyRequest,
        of: Option<ETag>,
    ) -> Result<PutAnswer, StoreError> {
        let target = request.target.clone();
        let note = async |made: &ETag| match &of {
            Some(of) => {
                let noted = self.versions.note_copy(&target, made, of).await;
                noted.map_err(|error| of_old(StoreOp::Copy, &target, &error))
            }
            None => Ok(()),
        };
        // Most stores name a copy as its source.
        let expected = request.source_if_match.clone();
        if let Some(expected) = &expected {
            note(expected).await?;
        }
        let send = |condition| {
            let request = request.clone();
            self.core.parts.store.copy(CopyRequest {
                condition,
                ..request
            })
        };
        let answer = self
            .versions
            .change(StoreOp::Copy, &target, &request.condition, send)
            .await?;
        if Some(&answer.etag) != expected.as_ref() {
            note(&answer.etag).await?;
        }
        Ok(of.map_or(answer, |etag| PutAnswer { etag }))
    }

    async fn part_of_shown(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        let (source, of) = (request.source.clone(), request.source_if_match.clone());
        let file = match OldStat::is_etag(&of) {
            true => self.reading.open_version(&source, &of).await?,
            false => None,
        };
        if let Some(file) = file {
            let op = StoreOp::UploadPartCopy;
            let body = self
                .reading
                .bytes_of(op, &source, &file, request.range)
                .await?;
            let request = UploadPartRequest {
                key: request.target,
                upload: request.upload,
                number: request.number,
                body: body.into(),
            };
            return self.core.parts.store.upload_part(request).await;
        }
        match self.versions.version_in_turn(&source, &of).await? {
            Version::Above(source_if_match) => {
                let request = UploadPartCopyRequest {
                    source_if_match,
                    ..request
                };
                self.core.parts.store.upload_part_copy(request).await
            }
            Version::Below(_) | Version::Gone => Err(refused(StoreOp::UploadPartCopy, &source)),
        }
    }
}
