//! Answers that are none of S3's: what they are instead, as far as they tell.

use std::time::SystemTime;

use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::date_time::{DateTime, Format};

/// Most of a page that is repeated.
const SHOWN_LIMIT_CHARS: usize = 80;
/// A title that begins later is not looked for.
const SEARCHED_LIMIT_BYTES: usize = 16 << 10;

/// The answer's document is not what was asked for, or ends before its root element does.
///
/// The SDK takes what it has read until then for all there is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoDocument(String);

impl NoDocument {
    pub fn of(status: u16, headers: &Headers, body: &[u8]) -> Self {
        Self(if body.is_empty() {
            format!("the answer is empty (HTTP {status})")
        } else if let Some(what) = described(headers, body) {
            format!("the answer is {what}")
        } else {
            "the answer is cut off".to_owned()
        })
    }
}

/// What a body is that is no document of S3's; none where it looks like one, or is empty.
pub fn described(headers: &Headers, body: &[u8]) -> Option<String> {
    let encoding = headers.get("content-encoding").unwrap_or_default().trim();
    if body.starts_with(&[0x1f, 0x8b]) {
        return Some("compressed (gzip), which nobody asked for: by a proxy?".to_owned());
    }
    if !matches!(encoding, "" | "identity" | "aws-chunked") {
        return Some(format!(
            "compressed ({encoding}), which nobody asked for: by a proxy?"
        ));
    }
    let searched = body.get(..SEARCHED_LIMIT_BYTES).unwrap_or(body);
    let text = String::from_utf8_lossy(searched);
    let lower = text.to_ascii_lowercase();
    if lower.contains("<html") || lower.contains("<!doctype html") {
        let title = title(&text, &lower).map(|title| format!(" {title:?}"));
        return Some(format!(
            "an HTML page{}: of a proxy?",
            title.unwrap_or_default()
        ));
    }
    let words = shown(&text);
    (!words.is_empty() && !words.starts_with('<')).then(|| format!("no document of S3: {words:?}"))
}

fn title(text: &str, lower: &str) -> Option<String> {
    let begin = lower.find("<title")?;
    let begin = begin + lower.get(begin..)?.find('>')? + 1;
    let end = begin + lower.get(begin..)?.find("</title")?;
    let title = shown(text.get(begin..end)?);
    (!title.is_empty()).then_some(title)
}

fn shown(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(SHOWN_LIMIT_CHARS).collect()
}

/// A time in the form that listings have, in the form that a header is to have.
pub fn as_http_date(time: &str) -> Option<String> {
    if DateTime::from_str(time, Format::HttpDate).is_ok() {
        return None;
    }
    let time = DateTime::from_str(time.trim(), Format::DateTimeWithOffset).ok()?;
    // A fraction has no place there.
    let whole = DateTime::from_secs(time.secs());
    SystemTime::try_from(whole).ok()?;
    whole.fmt(Format::HttpDate).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_document_of_s3_is_told_by_what_it_is() {
        let none = Headers::new();
        let mut packed = Headers::new();
        packed.insert("content-encoding", "br");
        for (headers, body, told) in [
            (&none, "", "the answer is empty (HTTP 200)"),
            (&none, "<ListBucketResult><Key>k", "the answer is cut off"),
            (
                &none,
                "<!DOCTYPE html><HTML><Title>\n Sign  in</Title></HTML>",
                "the answer is an HTML page \"Sign in\": of a proxy?",
            ),
            (
                &none,
                "<html></html>",
                "the answer is an HTML page: of a proxy?",
            ),
            (
                &none,
                "moved away\n",
                "the answer is no document of S3: \"moved away\"",
            ),
            (
                &packed,
                "x",
                "the answer is compressed (br), which nobody asked for: by a proxy?",
            ),
        ] {
            let is = NoDocument::of(200, headers, body.as_bytes());
            assert_eq!(is.to_string(), told);
        }
        let gzip = NoDocument::of(200, &none, &[0x1f, 0x8b, 8]);
        assert!(gzip.to_string().contains("gzip"));
    }

    #[test]
    fn a_time_in_the_form_of_listings_is_one_of_headers() {
        let date = |time| as_http_date(time);
        let expected = Some("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(date("2015-10-21T07:28:00.123Z").as_deref(), expected);
        assert_eq!(date("2015-10-21T09:28:00+02:00").as_deref(), expected);
        assert_eq!(date("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(date("yesterday"), None);
    }
}
