//! Keys as they travel in headers and listings.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::store::UserMetadata;

/// Everything but what RFC 3986 leaves unreserved, and the `/` between segments.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `bucket/key` as `x-amz-copy-source` wants it, and the ARN of an access point with its
/// key. Source: S3 API `CopyObject`.
pub fn copy_source(bucket: &str, key: &str) -> String {
    let key = utf8_percent_encode(key, ENCODED);
    match bucket.split_once(":accesspoint:") {
        Some((arn, name)) => format!("{arn}:accesspoint/{name}/object/{key}"),
        None => format!("{bucket}/{key}"),
    }
}

/// A key out of a listing with `encoding-type=url`: `+` stands for a space.
///
/// None when it does not decode to UTF-8. Source: S3 API `ListObjectsV2`.
pub fn decode(listed: &str) -> Option<String> {
    let spaced = listed.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .ok()
        .map(|key| key.into_owned())
}

/// The same of a key that is not UTF-8, to be shown.
pub fn decode_lossy(listed: &str) -> String {
    let spaced = listed.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// An object's time in whole seconds: listings tell more digits than HEAD does.
pub fn whole_seconds(time: Option<&DateTime>) -> SystemTime {
    let seconds = time.map_or(0, DateTime::secs);
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// What an answer to HEAD or GET says is stored with the object.
macro_rules! headers_of {
    ($answer:expr) => {
        $crate::store::ObjectHeaders {
            content_type: $answer.content_type().map(str::to_owned),
            cache_control: $answer.cache_control().map(str::to_owned),
            content_disposition: $answer.content_disposition().map(str::to_owned),
            content_encoding: $answer.content_encoding().map(str::to_owned),
            content_language: $answer.content_language().map(str::to_owned),
            expires: $crate::store::s3::encoding::http_date($answer.expires_string()),
            website_redirect: $answer.website_redirect_location().map(str::to_owned),
            placement: $crate::store::Placement {
                // The default, which some stores name.
                storage_class: $answer
                    .storage_class()
                    .map(|class| class.as_str().to_owned())
                    .filter(|class| class != "STANDARD"),
                encryption: $answer.server_side_encryption().map(|algorithm| {
                    $crate::store::Encryption {
                        algorithm: algorithm.as_str().to_owned(),
                        kms_key: $answer.ssekms_key_id().map(str::to_owned),
                        bucket_key: $answer.bucket_key_enabled(),
                    }
                }),
            },
            tags: None,
            user_metadata: $crate::store::s3::encoding::metadata($answer.metadata()),
        }
    };
}

/// Adds to a request how the object is to be stored.
macro_rules! with_placement {
    ($request:expr, $placement:expr) => {{
        let placement: $crate::store::Placement = $placement;
        let encryption = placement.encryption;
        $request
            .set_storage_class(placement.storage_class.as_deref().map(Into::into))
            .set_server_side_encryption(
                encryption
                    .as_ref()
                    .map(|encryption| encryption.algorithm.as_str().into()),
            )
            .set_bucket_key_enabled(
                encryption
                    .as_ref()
                    .and_then(|encryption| encryption.bucket_key),
            )
            .set_ssekms_key_id(encryption.and_then(|encryption| encryption.kms_key))
    }};
}

/// Adds to a request what it stores with the object.
macro_rules! with_headers {
    ($request:expr, $headers:expr) => {{
        let headers = $headers;
        $request
            .set_content_type(headers.content_type)
            .set_cache_control(headers.cache_control)
            .set_content_disposition(headers.content_disposition)
            .set_content_encoding(headers.content_encoding)
            .set_content_language(headers.content_language)
            .set_expires(headers.expires.map(aws_smithy_types::DateTime::from_secs))
            .set_website_redirect_location(headers.website_redirect)
            .set_metadata(Some(headers.user_metadata.into_iter().collect()))
    }};
}

pub(super) use {headers_of, with_headers, with_placement};

/// A date in seconds since 1970; None if invalid.
pub(super) fn http_date(text: Option<&str>) -> Option<i64> {
    let date = DateTime::from_str(text?, Format::HttpDate).ok()?;
    Some(date.secs())
}

/// Tags as in the query of a URL. Source: S3 API `PutObject`, `x-amz-tagging`.
pub(super) fn tagging<'a>(tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let pairs: Vec<String> = tags
        .into_iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

pub(super) fn metadata(
    headers: Option<&std::collections::HashMap<String, String>>,
) -> UserMetadata {
    headers
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_lowercase(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_a_listing() {
        assert_eq!(decode("a+b%2Bc/%0A%E2%82%AC%25").unwrap(), "a b+c/\n€%");
        assert_eq!(decode("%ff"), None);
    }

    #[test]
    fn tags_are_written_as_a_query() {
        assert_eq!(tagging([]), None);
        let tags = [("team", "a b"), ("k&", "=")];
        assert_eq!(tagging(tags).unwrap(), "team=a%20b&k%26=%3D");
    }

    #[test]
    fn copy_sources_are_encoded_but_for_slashes() {
        assert_eq!(
            copy_source("b", "p/a b+c?#%ü"),
            "b/p/a%20b%2Bc%3F%23%25%C3%BC"
        );
        assert_eq!(
            copy_source("arn:aws:s3:eu-west-1:123456789012:accesspoint:ap", "p/a b"),
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/object/p/a%20b"
        );
    }
}
