//! Keys as they travel in headers and listings.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_types::DateTime;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but what RFC 3986 leaves unreserved, and the `/` between segments.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `bucket/key` as `x-amz-copy-source` wants it. Source: S3 API `CopyObject`.
pub fn copy_source(bucket: &str, key: &str) -> String {
    format!("{bucket}/{}", utf8_percent_encode(key, ENCODED))
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

/// An object's time in whole seconds: listings tell more digits than HEAD does.
pub fn whole_seconds(time: Option<&DateTime>) -> SystemTime {
    let seconds = time.map_or(0, DateTime::secs);
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
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
    fn copy_sources_are_encoded_but_for_slashes() {
        assert_eq!(
            copy_source("b", "p/a b+c?#%ü"),
            "b/p/a%20b%2Bc%3F%23%25%C3%BC"
        );
    }
}
