//! What requests carry beside what they are about, and which of it goes together.

use std::path::PathBuf;

use super::{AclConfig, Options, SseConfig, Wrong};

/// Objects of these classes are read only after a restore that takes hours.
/// Source: S3 User Guide, "Storage classes for infrequently accessed objects".
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];
const STORAGE_CLASS_LIMIT: usize = 64;
const HEADER_LIMIT: usize = 1024;
/// Digits of the number of an AWS account.
const ACCOUNT_DIGITS: usize = 12;

/// Which options the requests to S3 have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestConfig {
    pub storage_class: Option<String>,
    pub sse: Option<SseConfig>,
    pub sse_kms_key_id: Option<String>,
    pub sse_customer_key_file: Option<PathBuf>,
    pub acl: Option<AclConfig>,
    pub cache_control: Option<String>,
    pub requester_pays: bool,
    pub expected_bucket_owner: Option<String>,
    /// They are not signed.
    pub anonymous: bool,
    pub dual_stack: bool,
    pub fips: bool,
    pub accelerate: bool,
}

impl RequestConfig {
    pub(super) fn resolve(options: &Options) -> Result<Self, Wrong> {
        let is_set = |option: Option<bool>| option.unwrap_or(false);
        let config = Self {
            storage_class: options.storage_class.clone(),
            sse: options.sse,
            sse_kms_key_id: options.sse_kms_key_id.clone(),
            sse_customer_key_file: options.sse_customer_key_file.clone(),
            acl: options.acl,
            cache_control: options.cache_control.clone(),
            requester_pays: is_set(options.requester_pays),
            expected_bucket_owner: options.expected_bucket_owner.clone(),
            anonymous: is_set(options.anonymous),
            dual_stack: is_set(options.dual_stack),
            fips: is_set(options.fips),
            accelerate: is_set(options.accelerate),
        };
        config.check_values()?;
        config.check_encryption()?;
        config.check_identity(options)?;
        config.check_endpoint(options)?;
        Ok(config)
    }

    fn check_values(&self) -> Result<(), Wrong> {
        if let Some(class) = &self.storage_class {
            if ARCHIVES.contains(&class.as_str()) {
                return Err((
                    "storage-class",
                    format!(
                        "{class} keeps objects where nobody can read them before a restore: GLACIER_IR is as cheap and can be read; a lifecycle rule moves old objects"
                    ),
                ));
            }
            let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if class.is_empty() || class.len() > STORAGE_CLASS_LIMIT || !class.chars().all(is_word)
            {
                return Err((
                    "storage-class",
                    format!("{class:?} is not a storage class: STANDARD_IA is one"),
                ));
            }
        }
        let headers = [
            ("cache-control", &self.cache_control),
            ("sse-kms-key-id", &self.sse_kms_key_id),
        ];
        for (key, value) in headers {
            let fits = |value: &String| {
                (1..=HEADER_LIMIT).contains(&value.len())
                    && value.chars().all(|c| c.is_ascii_graphic() || c == ' ')
            };
            if value.as_ref().is_some_and(|value| !fits(value)) {
                return Err((key, "must be printable ASCII, and not empty".to_owned()));
            }
        }
        let is_account = |owner: &String| {
            owner.len() == ACCOUNT_DIGITS && owner.chars().all(|c| c.is_ascii_digit())
        };
        if self
            .expected_bucket_owner
            .as_ref()
            .is_some_and(|it| !is_account(it))
        {
            return Err((
                "expected-bucket-owner",
                "must be the 12 digits of an AWS account".to_owned(),
            ));
        }
        Ok(())
    }

    fn check_encryption(&self) -> Result<(), Wrong> {
        if self.sse_customer_key_file.is_some()
            && (self.sse.is_some() || self.sse_kms_key_id.is_some())
        {
            return Err((
                "sse-customer-key-file",
                "an object is encrypted with a key of yours or with one of the store's: leave out sse and sse-kms-key-id, or this".to_owned(),
            ));
        }
        let is_kms = matches!(self.sse, Some(SseConfig::Kms | SseConfig::KmsDsse));
        if self.sse_kms_key_id.is_some() && !is_kms {
            return Err((
                "sse-kms-key-id",
                "takes sse = \"aws:kms\" or \"aws:kms:dsse\"".to_owned(),
            ));
        }
        Ok(())
    }

    fn check_identity(&self, options: &Options) -> Result<(), Wrong> {
        if !self.anonymous {
            return Ok(());
        }
        let named = [
            ("profile", options.profile.is_some()),
            ("credentials-file", options.credentials_file.is_some()),
        ];
        if let Some((name, _)) = named.into_iter().find(|(_, is_given)| *is_given) {
            return Err((
                "anonymous",
                format!(
                    "sends requests without credentials, and {name} names some: leave out one of them"
                ),
            ));
        }
        if self.requester_pays {
            return Err((
                "anonymous",
                "has no account that requester-pays could bill: leave out one of them".to_owned(),
            ));
        }
        Ok(())
    }

    fn check_endpoint(&self, options: &Options) -> Result<(), Wrong> {
        let path_style = options.force_path_style.unwrap_or(false);
        let wrong = |key, why: &str| Err((key, why.to_owned()));
        if self.accelerate && path_style {
            return wrong(
                "accelerate",
                "takes the bucket's name in the host name: leave out force-path-style",
            );
        }
        if self.accelerate && self.fips {
            return wrong("accelerate", "has no FIPS endpoint: leave out fips");
        }
        let of_aws = [
            ("dual-stack", self.dual_stack),
            ("fips", self.fips),
            ("accelerate", self.accelerate),
        ];
        let chosen = of_aws.into_iter().find(|(_, is_set)| *is_set);
        if let (Some((key, _)), Some(url)) = (chosen, &options.endpoint_url) {
            return Err((
                key,
                format!(
                    "chooses an endpoint of AWS, and endpoint-url is {url}: leave out one of them"
                ),
            ));
        }
        let bucket = options.bucket.as_deref().unwrap_or_default();
        if self.accelerate && (bucket.contains('.') || bucket.starts_with("arn:")) {
            return wrong(
                "accelerate",
                "serves no bucket with a dot in its name, and no access point",
            );
        }
        if bucket.starts_with("arn:") && path_style {
            return wrong(
                "force-path-style",
                "the ARN of an access point stands in the host name: leave this out, or name the access point by its alias (it ends in -s3alias)",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which setting is refused, and why; none where nothing is.
    fn refused(change: impl FnOnce(&mut Options)) -> Option<Wrong> {
        let mut options = Options {
            bucket: Some("b".to_owned()),
            ..Options::default()
        };
        change(&mut options);
        RequestConfig::resolve(&options).err()
    }

    fn key_of(change: impl FnOnce(&mut Options)) -> Option<&'static str> {
        refused(change).map(|(key, _)| key)
    }

    #[test]
    fn storage_classes_that_can_be_read_at_once_are_taken() {
        for class in ["STANDARD_IA", "GLACIER_IR", "INTELLIGENT_TIERING", "cold-1"] {
            assert_eq!(key_of(|it| it.storage_class = Some(class.into())), None);
        }
        for class in [
            "GLACIER",
            "DEEP_ARCHIVE",
            "",
            "A B",
            "A\nB",
            &"A".repeat(65),
        ] {
            let key = key_of(|it| it.storage_class = Some(class.into()));
            assert_eq!(key, Some("storage-class"), "{class:?}");
        }
    }

    #[test]
    fn keys_of_the_store_and_keys_of_the_operator_do_not_go_together() {
        assert_eq!(key_of(|it| it.sse = Some(SseConfig::Aes256)), None);
        let kms = |it: &mut Options| {
            it.sse = Some(SseConfig::Kms);
            it.sse_kms_key_id = Some("arn:aws:kms:eu-west-1:1:key/k".into());
        };
        assert_eq!(key_of(kms), None);
        let without_kms = key_of(|it| {
            kms(it);
            it.sse = Some(SseConfig::Aes256);
        });
        assert_eq!(without_kms, Some("sse-kms-key-id"));
        let both = key_of(|it| {
            it.sse = Some(SseConfig::Aes256);
            it.sse_customer_key_file = Some("k".into());
        });
        assert_eq!(both, Some("sse-customer-key-file"));
    }

    #[test]
    fn what_would_break_a_request_is_refused() {
        for value in ["", "a\r\nx: y", "ü"] {
            let key = key_of(|it| it.cache_control = Some(value.into()));
            assert_eq!(key, Some("cache-control"), "{value:?}");
        }
        for owner in ["", "12345678901", "12345678901x"] {
            let key = key_of(|it| it.expected_bucket_owner = Some(owner.into()));
            assert_eq!(key, Some("expected-bucket-owner"), "{owner:?}");
        }
    }

    #[test]
    fn nobody_has_no_credentials_and_pays_nothing() {
        assert_eq!(key_of(|it| it.anonymous = Some(true)), None);
        let with: [fn(&mut Options); 3] = [
            |it| it.profile = Some("p".into()),
            |it| it.credentials_file = Some("f".into()),
            |it| it.requester_pays = Some(true),
        ];
        for with in with {
            let key = key_of(|it| {
                it.anonymous = Some(true);
                with(it);
            });
            assert_eq!(key, Some("anonymous"));
        }
    }

    #[test]
    fn acceleration_takes_a_bucket_that_it_serves() {
        let accelerated = |change: fn(&mut Options)| {
            key_of(|it| {
                it.accelerate = Some(true);
                change(it);
            })
        };
        assert_eq!(accelerated(|_| ()), None);
        assert_eq!(
            accelerated(|it| it.force_path_style = Some(true)),
            Some("accelerate")
        );
        assert_eq!(accelerated(|it| it.fips = Some(true)), Some("accelerate"));
        assert_eq!(
            accelerated(|it| it.bucket = Some("a.b".into())),
            Some("accelerate")
        );
    }
}
