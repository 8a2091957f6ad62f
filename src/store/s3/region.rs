//! The region that a store names where a request came to another one.

use aws_sdk_s3::config::http::HttpResponse;

/// Longest label of a host name, as which a region is a part of one.
const REGION_LIMIT_BYTES: usize = 63;

/// The region of the bucket, by a header or by the document of an error.
///
/// Source: S3 API, "Error responses" (`PermanentRedirect`, `AuthorizationHeaderMalformed`).
pub(super) fn named(answer: &HttpResponse) -> Option<&str> {
    let header = answer.headers().get("x-amz-bucket-region");
    let in_body = || {
        let document = std::str::from_utf8(answer.body().bytes()?).ok()?;
        let (_, error) = document.split_once("<Error>")?;
        let (_, rest) = error.split_once("<Region>")?;
        Some(rest.split_once("</Region>")?.0)
    };
    header.or_else(in_body).filter(|region| is_region(region))
}

/// It becomes a part of host names and of signatures.
fn is_region(text: &str) -> bool {
    let is_of_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=REGION_LIMIT_BYTES).contains(&text.len())
        && text.bytes().all(is_of_label)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    fn answer(header: Option<&'static str>, body: &str) -> HttpResponse {
        let body = SdkBody::from(body);
        let mut answer = HttpResponse::new(301.try_into().unwrap(), body);
        if let Some(region) = header {
            answer.headers_mut().insert("x-amz-bucket-region", region);
        }
        answer
    }

    #[test]
    fn a_region_is_named_by_a_header_or_by_the_error() {
        let error =
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        assert_eq!(named(&answer(Some("eu-north-1"), "")), Some("eu-north-1"));
        assert_eq!(
            named(&answer(Some("eu-north-1"), error)),
            Some("eu-north-1")
        );
        assert_eq!(named(&answer(None, error)), Some("eu-west-1"));
        assert_eq!(named(&answer(None, "<Error></Error>")), None);
        assert_eq!(named(&answer(None, "")), None);
    }

    #[test]
    fn what_would_lead_to_another_host_is_no_region() {
        for text in ["", "example.com/", "a.b", "-a", "a b", "EU", "a\n"] {
            assert!(!is_region(text), "{text:?}");
        }
        assert!(is_region("us-gov-west-1"));
        // Of Garage and others.
        assert!(is_region("garage"));
    }
}
