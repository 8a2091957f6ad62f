//! What an operator wants requests to carry beside what they are about: storage class,
//! encryption, ACL, who pays, whose bucket it is. Added in one place, by operation, before
//! a request is signed.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::http::Headers;

use super::answer::operation;
use super::customer_key::CustomerKey;

const STORAGE_CLASS: &str = "x-amz-storage-class";
const ENCRYPTION: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const CUSTOMER: &str = "x-amz-server-side-encryption-customer-";
const SOURCE_CUSTOMER: &str = "x-amz-copy-source-server-side-encryption-customer-";
const CACHE_CONTROL: &str = "cache-control";

/// How the store encrypts what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEncryption {
    /// With keys of the store's.
    Managed {
        /// `AES256`, `aws:kms` or `aws:kms:dsse`.
        algorithm: &'static str,
        kms_key: Option<String>,
    },
    /// With a key that each request brings.
    Customer(CustomerKey),
}

/// Of every request; what is absent is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestOptions {
    /// Of objects that have none of their own.
    pub storage_class: Option<String>,
    pub encryption: Option<ServerEncryption>,
    pub acl: Option<&'static str>,
    /// Of objects that have none of their own.
    pub cache_control: Option<String>,
    pub requester_pays: bool,
    /// Account that the bucket must belong to.
    pub bucket_owner: Option<String>,
}

/// What an operation takes. Source: Amazon S3 API Reference, "Actions".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Takes {
    /// It makes an object, or begins one.
    placement: bool,
    customer_key: bool,
    source: bool,
    payer: bool,
}

impl Takes {
    fn of(operation: &str) -> Self {
        let object = Self {
            payer: true,
            ..Self::default()
        };
        match operation {
            "PutObject" | "CreateMultipartUpload" => Self {
                placement: true,
                customer_key: true,
                ..object
            },
            "CopyObject" => Self {
                placement: true,
                customer_key: true,
                source: true,
                ..object
            },
            "UploadPartCopy" => Self {
                customer_key: true,
                source: true,
                ..object
            },
            "GetObject" | "HeadObject" | "UploadPart" | "CompleteMultipartUpload" | "ListParts" => {
                Self {
                    customer_key: true,
                    ..object
                }
            }
            "DeleteObject"
            | "DeleteObjects"
            | "AbortMultipartUpload"
            | "ListObjects"
            | "ListObjectsV2"
            | "ListMultipartUploads"
            | "GetObjectTagging" => object,
            // Of the bucket itself.
            _ => Self::default(),
        }
    }
}

impl RequestOptions {
    fn add_to(&self, operation: &str, request: &mut HttpRequest) {
        let takes = Takes::of(operation);
        let headers = request.headers_mut();
        if takes.placement {
            self.place(operation, headers);
        }
        if let Some(ServerEncryption::Customer(key)) = &self.encryption {
            let mut add = |begin: &str| {
                for (end, value) in key.headers() {
                    headers.insert(format!("{begin}{end}"), value);
                }
            };
            if takes.customer_key {
                add(CUSTOMER);
            }
            if takes.source {
                add(SOURCE_CUSTOMER);
            }
        }
        if takes.payer && self.requester_pays {
            headers.insert("x-amz-request-payer", "requester");
        }
        // A bucket that is made, or asked for, has no owner yet that could be compared.
        if let Some(owner) = &self.bucket_owner
            && operation != "CreateBucket"
        {
            headers.insert("x-amz-expected-bucket-owner", owner.clone());
            if takes.source {
                headers.insert("x-amz-source-expected-bucket-owner", owner.clone());
            }
        }
    }

    /// How the object is stored. What an object has already is kept through edits and
    /// renames, but for its encryption: a policy may refuse every other one.
    fn place(&self, operation: &str, headers: &mut Headers) {
        if let Some(class) = &self.storage_class
            && headers.get(STORAGE_CLASS).is_none()
        {
            headers.insert(STORAGE_CLASS, class.clone());
        }
        if self.encryption.is_some() {
            for name in [ENCRYPTION, KMS_KEY, BUCKET_KEY] {
                headers.remove(name);
            }
        }
        if let Some(ServerEncryption::Managed { algorithm, kms_key }) = &self.encryption {
            headers.insert(ENCRYPTION, *algorithm);
            if let Some(key) = kms_key {
                headers.insert(KMS_KEY, key.clone());
            }
        }
        if let Some(acl) = self.acl {
            headers.insert("x-amz-acl", acl);
        }
        let replaces = headers
            .get("x-amz-metadata-directive")
            .is_some_and(|it| it.eq_ignore_ascii_case("REPLACE"));
        // A copy without it keeps what its source has.
        if let Some(value) = &self.cache_control
            && headers.get(CACHE_CONTROL).is_none()
            && (operation != "CopyObject" || replaces)
        {
            headers.insert(CACHE_CONTROL, value.clone());
        }
    }
}

impl Intercept for RequestOptions {
    fn name(&self) -> &'static str {
        "RequestOptions"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.add_to(operation(config), context.request_mut());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(options: &RequestOptions, operation: &str, given: &[(&'static str, &str)]) -> Headers {
        let mut request = HttpRequest::empty();
        for (name, value) in given {
            request.headers_mut().insert(*name, (*value).to_owned());
        }
        options.add_to(operation, &mut request);
        request.headers().clone()
    }

    #[test]
    fn what_an_object_has_is_kept_but_for_its_encryption() {
        let options = RequestOptions {
            storage_class: Some("STANDARD_IA".to_owned()),
            cache_control: Some("max-age=60".to_owned()),
            encryption: Some(ServerEncryption::Managed {
                algorithm: "AES256",
                kms_key: None,
            }),
            ..RequestOptions::default()
        };
        let own = [
            (STORAGE_CLASS, "GLACIER_IR"),
            (CACHE_CONTROL, "no-store"),
            (ENCRYPTION, "aws:kms"),
            (KMS_KEY, "k"),
            (BUCKET_KEY, "true"),
        ];
        let edited = sent(&options, "PutObject", &own);
        assert_eq!(edited.get(STORAGE_CLASS), Some("GLACIER_IR"));
        assert_eq!(edited.get(CACHE_CONTROL), Some("no-store"));
        assert_eq!(edited.get(ENCRYPTION), Some("AES256"));
        assert_eq!(edited.get(KMS_KEY), None);
        assert_eq!(edited.get(BUCKET_KEY), None);
        let fresh = sent(&options, "CreateMultipartUpload", &[]);
        assert_eq!(fresh.get(STORAGE_CLASS), Some("STANDARD_IA"));
        assert_eq!(fresh.get(CACHE_CONTROL), Some("max-age=60"));
        assert_eq!(
            sent(&options, "CopyObject", &[]).get(CACHE_CONTROL),
            None,
            "a plain copy keeps its source's headers"
        );
        let replace = [("x-amz-metadata-directive", "REPLACE")];
        let replaced = sent(&options, "CopyObject", &replace);
        assert_eq!(replaced.get(CACHE_CONTROL), Some("max-age=60"));
        assert_eq!(sent(&options, "UploadPart", &[]).iter().count(), 0);
    }

    #[test]
    fn requests_of_the_bucket_itself_carry_its_owner_alone() {
        let options = RequestOptions {
            requester_pays: true,
            bucket_owner: Some("123456789012".to_owned()),
            ..RequestOptions::default()
        };
        let names = |operation| {
            let headers = sent(&options, operation, &[]);
            let mut names: Vec<String> = headers.iter().map(|(name, _)| name.to_owned()).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(names("CreateBucket"), "");
        assert_eq!(names("GetBucketCors"), "x-amz-expected-bucket-owner");
        assert_eq!(
            names("ListObjectsV2"),
            "x-amz-expected-bucket-owner x-amz-request-payer"
        );
        assert_eq!(
            names("UploadPartCopy"),
            "x-amz-expected-bucket-owner x-amz-request-payer x-amz-source-expected-bucket-owner"
        );
    }
}
