//! An S3 client of the tests' own, to see the bucket as other programs see it.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use tokio::runtime::Runtime;

use super::bucket_removal::remove_at_end;
use super::servers::{Credentials, Server};

const CONNECTED_WITHIN: Duration = Duration::from_secs(60);
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

/// Every call blocks; failures panic unless the name starts with `try_`.
#[derive(Debug)]
pub struct Client {
    s3: aws_sdk_s3::Client,
    runtime: Runtime,
    /// Whether the server is there when the tests have ended.
    server_stays: bool,
}

/// What HEAD says of an object.
#[derive(Debug)]
pub struct Head {
    pub size_bytes: u64,
    pub content_type: Option<String>,
    pub etag: String,
    /// Seconds since 1970.
    pub last_modified: i64,
    pub metadata: BTreeMap<String, String>,
}

impl Client {
    /// A client with every right.
    pub fn new(server: &Server) -> Self {
        Self::with(server, &server.owner)
    }

    pub fn with(server: &Server, credentials: &Credentials) -> Self {
        Self::connect(&server.endpoint, server, credentials)
    }

    /// A client with every right that reaches the server by another address.
    pub fn at(endpoint: &str, server: &Server) -> Self {
        Self::connect(endpoint, server, &server.owner)
    }

    fn connect(endpoint: &str, server: &Server, credentials: &Credentials) -> Self {
        let credentials = aws_sdk_s3::config::Credentials::new(
            credentials.access_key.clone(),
            credentials.secret_key.clone(),
            None,
            None,
            "tests",
        );
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECTED_WITHIN)
            .operation_attempt_timeout(ANSWERED_WITHIN)
            .build();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new(server.region))
            .credentials_provider(credentials)
            .force_path_style(true)
            // moto answers a multipart object with a checksum that is not the object's.
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            // A server may stand still for seconds on a busy machine.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(timeouts)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Self {
            s3: aws_sdk_s3::Client::from_conf(config),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            server_stays: server.outlives_the_run(),
        }
    }

    /// With all that is in it, where the server allows this, as SeaweedFS does.
    pub fn try_delete_bucket(&self, bucket: &str) -> bool {
        let request = self.s3.delete_bucket().bucket(bucket).send();
        self.runtime.block_on(request).is_ok()
    }

    pub fn try_create_bucket(&self, bucket: &str) -> bool {
        if self.server_stays {
            remove_at_end(bucket);
        }
        let request = self.s3.create_bucket().bucket(bucket).send();
        match self.runtime.block_on(request) {
            Ok(_) => true,
            Err(error) => error
                .as_service_error()
                .is_some_and(|e| e.is_bucket_already_owned_by_you()),
        }
    }

    #[track_caller]
    pub fn create_bucket(&self, bucket: &str) {
        // A request that is sent again finds what the first one made.
        assert!(self.try_create_bucket(bucket), "no bucket {bucket}");
    }

    pub fn try_put(&self, bucket: &str, key: &str, body: &[u8]) -> bool {
        let request = self
            .s3
            .put_object()
            .bucket(bucket)
            .key(key)
            .body(ByteStream::from(body.to_vec()))
            .send();
        self.runtime.block_on(request).is_ok()
    }

    /// Puts an object and hangs up without an answer once `is_there` says so.
    #[track_caller]
    pub fn put_until(&self, is_there: impl Fn() -> bool, bucket: &str, key: &str, body: &[u8]) {
        let request = self.s3.put_object().bucket(bucket).key(key);
        let request = request.body(ByteStream::from(body.to_vec()));
        let there = async {
            while !is_there() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                answer = request.send() => panic!("answered: {answer:?}"),
                () = there => {}
            }
        });
    }

    /// Sends what the other methods do not know.
    pub fn call<T, R: Future<Output = T>>(
        &self,
        request: impl FnOnce(aws_sdk_s3::Client) -> R,
    ) -> T {
        self.runtime.block_on(request(self.s3.clone()))
    }

    #[track_caller]
    pub fn put(&self, bucket: &str, key: &str, body: &[u8]) {
        self.put_with(bucket, key, body, None, &[]);
    }

    /// Puts an object with a Content-Type and user metadata.
    #[track_caller]
    pub fn put_with(
        &self,
        bucket: &str,
        key: &str,
        body: &[u8],
        content_type: Option<&str>,
        metadata: &[(&str, &str)],
    ) {
        let mut request = self
            .s3
            .put_object()
            .bucket(bucket)
            .key(key)
            .set_content_type(content_type.map(str::to_owned))
            .body(ByteStream::from(body.to_vec()));
        for (name, value) in metadata {
            request = request.metadata(*name, *value);
        }
        self.runtime.block_on(request.send()).unwrap();
    }

    /// Puts many small objects, some at a time.
    pub fn put_many(&self, bucket: &str, objects: impl IntoIterator<Item = (String, Vec<u8>)>) {
        use futures::stream::{self, StreamExt};
        let uploads = objects.into_iter().map(|(key, body)| {
            let request = self.s3.put_object().bucket(bucket).key(key);
            async move { request.body(ByteStream::from(body)).send().await }
        });
        self.runtime.block_on(async {
            let mut answers = stream::iter(uploads).buffer_unordered(16);
            while let Some(answer) = answers.next().await {
                answer.unwrap();
            }
        });
    }

    /// The object's bytes, or nothing when there is none.
    #[track_caller]
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        match self.try_get(bucket, key) {
            Ok(found) => found,
            Err(error) => panic!("GET {key}: {error}"),
        }
    }

    pub fn try_get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
        self.runtime.block_on(async {
            let answer = self.s3.get_object().bucket(bucket).key(key).send().await;
            match answer {
                Ok(answer) => match answer.body.collect().await {
                    Ok(body) => Ok(Some(body.into_bytes().into())),
                    Err(error) => Err(format!("{error:?}")),
                },
                Err(error) if error.as_service_error().is_some_and(|e| e.is_no_such_key()) => {
                    Ok(None)
                }
                Err(error) => Err(format!("{error:?}")),
            }
        })
    }

    #[track_caller]
    pub fn head(&self, bucket: &str, key: &str) -> Option<Head> {
        let request = self.s3.head_object().bucket(bucket).key(key).send();
        match self.runtime.block_on(request) {
            Ok(answer) => Some(Head {
                size_bytes: u64::try_from(answer.content_length().unwrap()).unwrap(),
                content_type: answer.content_type().map(str::to_owned),
                etag: answer.e_tag().unwrap_or_default().to_owned(),
                last_modified: answer.last_modified().unwrap().secs(),
                metadata: answer
                    .metadata()
                    .cloned()
                    .unwrap_or_default()
                    .into_iter()
                    .collect(),
            }),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_not_found()) => None,
            Err(error) => panic!("HEAD {key}: {error:?}"),
        }
    }

    /// The CRC-64/NVME that is stored with an object, in base64.
    #[track_caller]
    pub fn crc64nvme(&self, bucket: &str, key: &str) -> Option<String> {
        let request = self.s3.head_object().bucket(bucket).key(key);
        let request = request.checksum_mode(aws_sdk_s3::types::ChecksumMode::Enabled);
        let answer = self.runtime.block_on(request.send()).unwrap();
        answer.checksum_crc64_nvme().map(str::to_owned)
    }

    /// Every key that starts with `prefix`, in order, with its size.
    #[track_caller]
    pub fn list(&self, bucket: &str, prefix: &str) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        self.runtime.block_on(async {
            let mut pages = self
                .s3
                .list_objects_v2()
                .bucket(bucket)
                .prefix(prefix)
                .into_paginator()
                .send();
            while let Some(page) = pages.next().await {
                for object in page.unwrap().contents() {
                    let size = u64::try_from(object.size().unwrap_or(0)).unwrap();
                    found.push((object.key().unwrap().to_owned(), size));
                }
            }
        });
        found
    }

    #[track_caller]
    pub fn delete(&self, bucket: &str, key: &str) {
        let request = self.s3.delete_object().bucket(bucket).key(key).send();
        self.runtime.block_on(request).unwrap();
    }

    /// Uploads an object as the only part of one.
    #[track_caller]
    pub fn put_in_a_part(&self, bucket: &str, key: &str, body: &[u8]) {
        let (s3, body) = (&self.s3, ByteStream::from(body.to_vec()));
        self.runtime.block_on(async {
            let begun = s3.create_multipart_upload().bucket(bucket).key(key);
            let upload = begun.send().await.unwrap().upload_id.unwrap();
            let part = s3.upload_part().bucket(bucket).key(key).upload_id(&upload);
            let part = part.part_number(1).body(body).send().await.unwrap();
            let part = CompletedPart::builder()
                .part_number(1)
                .set_e_tag(part.e_tag);
            let parts = CompletedMultipartUpload::builder().parts(part.build());
            let end = s3.complete_multipart_upload().bucket(bucket).key(key);
            let end = end.upload_id(&upload).multipart_upload(parts.build());
            end.send().await.unwrap();
        });
    }

    /// Begins a multipart upload that nobody ends.
    #[track_caller]
    pub fn begin_upload(&self, bucket: &str, key: &str) {
        let request = self.s3.create_multipart_upload().bucket(bucket).key(key);
        self.runtime.block_on(request.send()).unwrap();
    }

    /// Keys of multipart uploads that were neither completed nor aborted and have parts.
    #[track_caller]
    pub fn unfinished_parts(&self, bucket: &str) -> Vec<String> {
        let request = self.s3.list_multipart_uploads().bucket(bucket).send();
        let answer = self.runtime.block_on(request).unwrap();
        let mut found = Vec::new();
        for upload in answer.uploads() {
            let request = self
                .s3
                .list_parts()
                .bucket(bucket)
                .set_key(upload.key.clone())
                .set_upload_id(upload.upload_id.clone());
            // One that is aborted meanwhile has none.
            let parts = self.runtime.block_on(request.send());
            if parts.is_ok_and(|answer| !answer.parts().is_empty()) {
                found.extend(upload.key.clone());
            }
        }
        found
    }

    /// Puts a part into the only multipart upload of a key.
    #[track_caller]
    pub fn put_part(&self, bucket: &str, key: &str, number: i32, body: &[u8]) {
        let (_, upload) = self.uploads(bucket).remove(0);
        let request = self.s3.upload_part().bucket(bucket).key(key);
        let request = request.upload_id(upload).part_number(number);
        let request = request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
        let request = request.body(ByteStream::from(body.to_vec()));
        self.runtime.block_on(request.send()).unwrap();
    }

    /// Aborts every multipart upload.
    #[track_caller]
    pub fn abort_uploads(&self, bucket: &str) {
        for (key, upload) in self.uploads(bucket) {
            let request = self.s3.abort_multipart_upload().bucket(bucket).key(key);
            self.runtime
                .block_on(request.upload_id(upload).send())
                .unwrap();
        }
    }

    /// Keys of multipart uploads that were begun and neither completed nor aborted.
    #[track_caller]
    pub fn unfinished_uploads(&self, bucket: &str) -> Vec<String> {
        let uploads = self.uploads(bucket).into_iter();
        uploads.map(|(key, _)| key).collect()
    }

    /// Key and id of each.
    #[track_caller]
    pub fn uploads(&self, bucket: &str) -> Vec<(String, String)> {
        let request = self.s3.list_multipart_uploads().bucket(bucket).send();
        let answer = self.runtime.block_on(request).unwrap();
        let uploads = answer.uploads().iter();
        let named = uploads.map(|u| {
            let key = u.key().unwrap_or_default().to_owned();
            (key, u.upload_id().unwrap_or_default().to_owned())
        });
        named.collect()
    }
}
