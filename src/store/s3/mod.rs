//! S3 itself: the one place that knows the AWS SDK.
//!
//! Owns: connecting, the translation of requests, answers and errors.
//! Must not know: retries and deadlines, which are a decorator's.

mod answer;
mod checksum;
mod client;
mod connections;
mod credentials;
mod customer_key;
mod delete;
mod dial;
pub mod encoding;
mod error;
mod http;
pub mod inspect;
mod list;
mod list_quirks;
mod malformed;
mod multipart;
mod object;
mod pooled_client;
mod profile;
mod proxies;
mod region;
mod request_options;
mod s3_settings;
pub mod settings;
mod stream;
mod whole;

pub use checksum::{ChecksumChoice, UploadChecksum};
pub use customer_key::CustomerKey;
pub use dial::Dial;
pub use http::{NetworkError, OnNetworkError, dial};
pub use profile::ProfileSettings;
pub use proxies::{NamedProxy, proxy_of};
pub use request_options::{RequestOptions, ServerEncryption};
pub use s3_settings::{Addressing, AwsVariants, Identity, S3Settings};

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, SharedHttpClient};

use super::request::{
    CompleteMultipartRequest, CompletedPart, CopyRequest, CreateMultipartRequest, DeleteRequest,
    GetAnswer, GetRequest, HeadRequest, ListAnswer, ListPartsAnswer, ListPartsRequest, ListRequest,
    ObjectMeta, PutAnswer, PutRequest, UploadId, UploadPartCopyRequest, UploadPartRequest,
};
use super::{Endpoint, Key, ObjectChecksums, ObjectStore, StoreClock, StoreError};
use checksum::{Checksums, Transport};
use connections::Connections;
use credentials::Renewal;
use list_quirks::ListQuirks;

/// One bucket of an S3 service.
#[derive(Debug)]
pub struct S3Store {
    bucket: String,
    /// Has the sources of copies.
    copied_from: String,
    endpoint: Endpoint,
    renewal: Renewal,
    list_quirks: ListQuirks,
    checksums: Checksums,
    transport: Transport,
    connections: Connections,
}

impl S3Store {
    /// Reads the AWS configuration; sends no request to the bucket yet.
    ///
    /// Errors: certificates, a proxy or options that cannot be used.
    pub async fn connect(
        settings: S3Settings,
        on_error: OnNetworkError,
    ) -> Result<Self, NetworkError> {
        let files = profile::files(settings.credentials_file.as_deref());
        let clients = http::clients(&settings, &files, on_error).await?;
        let connections = Connections::new(clients);
        let http = SharedHttpClient::new(connections.clone());
        let renewal = Renewal::new(settings.clone(), http).await;
        let route = renewal.route();
        if let Err(error) = route.check_url() {
            match on_error {
                OnNetworkError::Refuse => return Err(error),
                OnNetworkError::Ignore => tracing::error!(%error, "invalid endpoint URL used"),
            }
        }
        route.check(&settings)?;
        let client = renewal.client();
        let calculation = client.config().request_checksum_calculation();
        let wants_none = calculation == Some(&RequestChecksumCalculation::WhenRequired);
        let checksums = Checksums::new(settings.upload_checksum, wants_none);
        Ok(Self {
            copied_from: settings.bucket.clone(),
            bucket: settings.bucket,
            endpoint: route.endpoint(),
            transport: route.transport(),
            renewal,
            list_quirks: ListQuirks::new(),
            checksums,
            connections,
        })
    }

    /// The same store, to which the source of a copy is a key of this bucket.
    pub fn copying_from(self, bucket: &str) -> Self {
        Self {
            copied_from: bucket.to_owned(),
            ..self
        }
    }

    /// The service that the bucket is in.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The clock that times of objects are of.
    pub fn clock(&self) -> &Arc<StoreClock> {
        self.renewal.clock()
    }

    fn client(&self) -> Client {
        self.renewal.client()
    }

    /// Reads the AWS configuration anew; requests from now on use what it says.
    ///
    /// Errors: it names no credentials any more, in words; those of before stay.
    pub async fn reload_credentials(&self) -> Result<(), String> {
        self.renewal.reload().await
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        self.renewal.renewing(object::head(self, request)).await
    }

    async fn checksums(&self, key: Key) -> Result<ObjectChecksums, StoreError> {
        self.renewal.renewing(inspect::checksums(self, &key)).await
    }

    async fn get(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        self.renewal.renewing(object::get(self, request)).await
    }

    async fn tags(&self, key: Key) -> Result<Option<String>, StoreError> {
        self.renewal.renewing(object::tags(self, key)).await
    }

    async fn put(&self, request: PutRequest) -> Result<PutAnswer, StoreError> {
        self.renewal.renewing(object::put(self, request)).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        self.renewal.renewing(object::copy(self, request)).await
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        self.renewal
            .renewing(delete::delete_one(self, request))
            .await
    }

    async fn delete_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        self.renewal
            .renewing(delete::delete_many(self, requests))
            .await
    }

    async fn list(&self, request: ListRequest) -> Result<ListAnswer, StoreError> {
        self.renewal.renewing(list::list(self, request)).await
    }

    async fn create_multipart(
        &self,
        request: CreateMultipartRequest,
    ) -> Result<UploadId, StoreError> {
        self.renewal
            .renewing(multipart::create(self, request))
            .await
    }

    async fn upload_part(&self, request: UploadPartRequest) -> Result<CompletedPart, StoreError> {
        self.renewal
            .renewing(multipart::upload_part(self, request))
            .await
    }

    async fn upload_part_copy(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        self.renewal
            .renewing(multipart::copy_part(self, request))
            .await
    }

    async fn complete_multipart(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        self.renewal
            .renewing(multipart::complete(self, request))
            .await
    }

    async fn abort_multipart(&self, key: Key, upload: UploadId) -> Result<(), StoreError> {
        self.renewal
            .renewing(multipart::abort(self, key, upload))
            .await
    }

    async fn list_parts(&self, request: ListPartsRequest) -> Result<ListPartsAnswer, StoreError> {
        self.renewal
            .renewing(multipart::list_parts(self, request))
            .await
    }

    fn renew_connections(&self) {
        self.connections.renew();
    }
}
