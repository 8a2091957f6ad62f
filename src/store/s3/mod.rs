//! S3 itself: the one place that knows the AWS SDK.
//!
//! Owns: connecting, the translation of requests, answers and errors.
//! Must not know: retries and deadlines, which are a decorator's.

mod answer;
mod checksum;
mod connect;
mod connections;
mod credentials;
mod customer_key;
mod delete;
pub mod encoding;
mod error;
mod http;
pub mod inspect;
mod list;
mod multipart;
mod object;
mod request_options;
pub mod settings;
mod stream;
mod whole;

pub use checksum::{ChecksumChoice, UploadChecksum};
pub use connect::{Addressing, AwsVariants, Identity, S3Settings};
pub use customer_key::CustomerKey;
pub use http::{NetworkError, OnNetworkError};
pub use request_options::{RequestOptions, ServerEncryption};

use async_trait::async_trait;

use super::request::{
    CompleteMultipartRequest, CompletedPart, CopyRequest, CreateMultipartRequest, DeleteRequest,
    GetAnswer, GetRequest, HeadRequest, ListAnswer, ListPartsAnswer, ListPartsRequest, ListRequest,
    ObjectMeta, PutAnswer, PutRequest, UploadId, UploadPartCopyRequest, UploadPartRequest,
};
use super::{Endpoint, Key, ObjectChecksums, ObjectStore, StoreError};
use checksum::{Checksums, Transport};
use connections::Connections;
use credentials::Renewal;
use list::ListQuirks;

/// One bucket of an S3 service.
#[derive(Debug)]
pub struct S3Store {
    bucket: String,
    endpoint: Endpoint,
    renewal: Renewal,
    list_quirks: ListQuirks,
    checksums: Checksums,
    transport: Transport,
    connections: Connections,
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        self.renewing(self.head_object(request)).await
    }

    async fn checksums(&self, key: Key) -> Result<ObjectChecksums, StoreError> {
        self.renewing(inspect::checksums(self, &key)).await
    }

    async fn get(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        self.renewing(self.get_object(request)).await
    }

    async fn tags(&self, key: Key) -> Result<Option<String>, StoreError> {
        self.renewing(self.object_tags(key)).await
    }

    async fn put(&self, request: PutRequest) -> Result<PutAnswer, StoreError> {
        self.renewing(self.put_object(request)).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        self.renewing(self.copy_object(request)).await
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        self.renewing(self.delete_object(request)).await
    }

    async fn delete_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        self.renewing(self.delete_objects(requests)).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListAnswer, StoreError> {
        self.renewing(self.list_objects(request)).await
    }

    async fn create_multipart(
        &self,
        request: CreateMultipartRequest,
    ) -> Result<UploadId, StoreError> {
        self.renewing(self.create_upload(request)).await
    }

    async fn upload_part(&self, request: UploadPartRequest) -> Result<CompletedPart, StoreError> {
        self.renewing(self.send_part(request)).await
    }

    async fn upload_part_copy(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        self.renewing(self.copy_part(request)).await
    }

    async fn complete_multipart(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        self.renewing(self.complete_upload(request)).await
    }

    async fn abort_multipart(&self, key: Key, upload: UploadId) -> Result<(), StoreError> {
        self.renewing(self.abort_upload(key, upload)).await
    }

    async fn list_parts(&self, request: ListPartsRequest) -> Result<ListPartsAnswer, StoreError> {
        self.renewing(self.parts_of_upload(request)).await
    }

    fn renew_connections(&self) {
        self.connections.renew();
    }
}
