//! A bucket and a client that knows nothing of mediafs.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, ResponseChecksumValidation};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use tokio::runtime::Runtime;

use super::server::{ACCESS_KEY, SECRET_KEY, Server};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME
        .get_or_init(|| Runtime::new().unwrap())
        .block_on(future)
}

fn client(endpoint: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new();
    let http = http
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
        .force_path_style(true)
        // moto answers the whole of a multipart object with a checksum that is none of it.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}

/// A bucket of one test.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub name: String,
    pub endpoint: String,
    client: Client,
}

impl Bucket {
    /// A new empty bucket.
    pub fn new(server: &Server) -> Self {
        let name = format!(
            "test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let client = client(&server.endpoint);
        block_on(client.create_bucket().bucket(&name).send()).unwrap();
        Self {
            name,
            endpoint: server.endpoint.clone(),
            client,
        }
    }

    /// Whether the server takes buckets and objects yet.
    pub fn probe(server: &Server) -> bool {
        let client = client(&server.endpoint);
        block_on(async {
            client.create_bucket().bucket("probe").send().await.ok();
            let body = ByteStream::from_static(b"probe");
            client
                .put_object()
                .bucket("probe")
                .key("probe")
                .body(body)
                .send()
                .await
                .is_ok()
        })
    }

    pub fn put(&self, key: &str, bytes: &[u8]) {
        let body = ByteStream::from(bytes.to_vec());
        block_on(
            self.client
                .put_object()
                .bucket(&self.name)
                .key(key)
                .body(body)
                .send(),
        )
        .unwrap();
    }

    pub fn put_with_metadata(&self, key: &str, bytes: &[u8], metadata: &[(&str, &str)]) {
        let metadata: HashMap<_, _> = metadata
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        let put = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .set_metadata(Some(metadata));
        block_on(put.body(ByteStream::from(bytes.to_vec())).send()).unwrap();
    }

    pub fn get(&self, key: &str) -> Vec<u8> {
        self.try_get(key)
            .unwrap_or_else(|| panic!("no object {key:?}"))
    }

    pub fn try_get(&self, key: &str) -> Option<Vec<u8>> {
        block_on(async {
            let answer = self
                .client
                .get_object()
                .bucket(&self.name)
                .key(key)
                .send()
                .await
                .ok()?;
            Some(answer.body.collect().await.unwrap().to_vec())
        })
    }

    pub fn head(&self, key: &str) -> HeadObjectOutput {
        block_on(self.client.head_object().bucket(&self.name).key(key).send()).unwrap()
    }

    pub fn content_type(&self, key: &str) -> String {
        self.head(key).content_type().unwrap_or_default().to_owned()
    }

    pub fn delete(&self, key: &str) {
        block_on(
            self.client
                .delete_object()
                .bucket(&self.name)
                .key(key)
                .send(),
        )
        .unwrap();
    }

    /// Every key, in order.
    pub fn keys(&self) -> Vec<String> {
        block_on(async {
            let mut pages = self
                .client
                .list_objects_v2()
                .bucket(&self.name)
                .into_paginator()
                .send();
            let mut keys = Vec::new();
            while let Some(page) = pages.next().await {
                keys.extend(
                    page.unwrap()
                        .contents()
                        .iter()
                        .map(|object| object.key().unwrap().to_owned()),
                );
            }
            keys
        })
    }

    /// Removes the bucket with all that is in it.
    pub fn remove(&self) {
        for key in self.keys() {
            self.delete(&key);
        }
        block_on(self.client.delete_bucket().bucket(&self.name).send()).unwrap();
    }
}
