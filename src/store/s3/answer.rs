//! What an answer must be before anything of it is believed: short enough to
//! hold in memory, and whole.

use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_s3::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextMut,
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use aws_smithy_types::date_time::{DateTime, Format};
use http_body_util::Limited;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::malformed::{NoDocument, as_http_date};
use crate::store::StoreClock;

/// Longest answer that is held in memory whole: twice a listing's page of 1,000
/// keys of 1,024 bytes, each of them three bytes in its URL encoding.
pub const ANSWER_LIMIT_BYTES: usize = 8 << 20;

/// An answer of status 200 whose document is an error.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ErrorIn200 {
    pub code: String,
    message: String,
    pub request_id: Option<String>,
}

impl ErrorIn200 {
    pub fn parse(body: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(body);
        let (_, error) = text.split_once("<Error>")?;
        let element = |name: &str| {
            let (_, rest) = error.split_once(&format!("<{name}>"))?;
            let (text, _) = rest.split_once(&format!("</{name}>"))?;
            Some(text.to_owned())
        };
        Some(Self {
            code: element("Code")?,
            message: element("Message").unwrap_or_default(),
            request_id: element("RequestId"),
        })
    }
}

/// When a request was sent.
#[derive(Debug)]
struct Sent(Instant);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

/// Checks every answer of a client, and learns the store's time from it.
#[derive(Debug)]
pub struct AnswerCheck {
    pub clock: Arc<StoreClock>,
}

impl Intercept for AnswerCheck {
    fn name(&self) -> &'static str {
        "AnswerCheck"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let sent = Sent(Instant::now());
        config.interceptor_state().store_put(sent);
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        // A proxy on the way may answer an error, and has a clock of its own.
        if let Some(sent) = config
            .load::<Sent>()
            .filter(|_| answer.status().is_success())
        {
            // A store that tells no time is taken to have this host's.
            let date = date_of(answer.headers()).unwrap_or_else(SystemTime::now);
            self.clock.note(date, sent.0);
        }
        // Nobody needs them, and a store that sends them twice (SeaweedFS) would have the
        // SDK refuse the answer.
        for name in ["algorithm", "key-md5"] {
            let name = format!("x-amz-server-side-encryption-customer-{name}");
            answer.headers_mut().remove(&name);
        }
        // Some stores write it as listings have it, and the SDK would refuse the answer.
        let modified = answer.headers().get("last-modified");
        if let Some(date) = modified.and_then(as_http_date) {
            answer.headers_mut().insert("last-modified", date);
        }
        // An object's bytes are counted as they come: `collect`.
        if operation(config) == "GetObject" && answer.status().is_success() {
            return Ok(());
        }
        let body = answer.take_body();
        *answer.body_mut() = SdkBody::from_body_1_x(Limited::new(body, ANSWER_LIMIT_BYTES));
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Of the others nothing is missed that would not be an error: an ETag, or all.
        let root = match operation(config) {
            "ListObjectsV2" | "ListObjects" => "ListBucketResult",
            "DeleteObjects" => "DeleteResult",
            // What is missing of these would be lost when they are written again.
            "GetBucketLifecycleConfiguration" => "LifecycleConfiguration",
            "GetBucketCors" => "CORSConfiguration",
            _ => return Ok(()),
        };
        let answer = context.response();
        let body = answer.body().bytes().unwrap_or_default();
        if !answer.status().is_success() || is_whole(body, root) {
            return Ok(());
        }
        Err(match ErrorIn200::parse(body) {
            Some(error) => error.into(),
            None => NoDocument::of(answer.status().as_u16(), answer.headers(), body).into(),
        })
    }
}

pub(super) fn operation(config: &ConfigBag) -> &str {
    config.load::<Metadata>().map_or("", Metadata::name)
}

/// Keeps the time that an answer carries, which is the server's.
#[derive(Debug, Clone, Default)]
pub struct AnswerDate(Arc<Mutex<Option<SystemTime>>>);

impl AnswerDate {
    pub fn get(&self) -> Option<SystemTime> {
        *self.0.lock()
    }
}

impl Intercept for AnswerDate {
    fn name(&self) -> &'static str {
        "AnswerDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *self.0.lock() = date_of(context.response().headers());
        Ok(())
    }
}

fn date_of(headers: &Headers) -> Option<SystemTime> {
    let date = DateTime::from_str(headers.get("date")?, Format::HttpDate);
    SystemTime::try_from(date.ok()?).ok()
}

/// Whether an XML document goes to the end of its root element.
fn is_whole(body: &[u8], root: &str) -> bool {
    let text = body.trim_ascii_end();
    if text.ends_with(format!("</{root}>").as_bytes()) {
        return true;
    }
    // Without content it may be one tag.
    let start = text.iter().rposition(|byte| *byte == b'<').unwrap_or(0);
    let last = text.get(start..).unwrap_or_default();
    last.starts_with(format!("<{root}").as_bytes()) && last.ends_with(b"/>")
}

/// The name of the root element of an XML document that goes to its end.
pub fn root_of_whole(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let is_element = |tag: &&str| tag.starts_with(char::is_alphabetic);
    let root = text.split('<').skip(1).find(is_element)?;
    let root = root.split([' ', '>', '/', '\r', '\n', '\t']).next()?;
    is_whole(body, root).then_some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_200_tells_its_code() {
        let parsed = |text: &str| ErrorIn200::parse(text.as_bytes());
        let whole = "<?xml?>\n<Error><Code>NotImplemented</Code><Message>no</Message></Error>";
        assert_eq!(parsed(whole).unwrap().to_string(), "NotImplemented: no");
        assert!(parsed("<Error><Code>Cut").is_none());
        assert!(parsed("<DeleteResult><Deleted>").is_none());
    }

    #[test]
    fn the_root_of_a_document_is_known_when_it_is_whole() {
        let root = |text: &'static str| root_of_whole(text.as_bytes());
        let whole = "<?xml?><!-- x -->\n<Initiate xmlns=\"a\"><Key>k</Key></Initiate>\n";
        assert_eq!(root(whole), Some("Initiate"));
        assert_eq!(root("<Initiate/>"), Some("Initiate"));
        for text in [
            "",
            "<?xml?>",
            "<Initiate><Key>k</Key>",
            "<Initiate",
            "words",
        ] {
            assert_eq!(root(text), None, "{text}");
        }
    }

    #[test]
    fn a_document_is_whole_when_its_root_element_ends() {
        let whole = |text: &str| is_whole(text.as_bytes(), "DeleteResult");
        for text in [
            "<DeleteResult></DeleteResult>",
            "<?xml version=\"1.0\"?>\n<DeleteResult xmlns=\"a/\"><Error/></DeleteResult>\r\n",
            "<?xml version=\"1.0\"?><DeleteResult xmlns=\"a\"/>",
        ] {
            assert!(whole(text), "{text}");
        }
        for text in [
            "",
            "<DeleteResult>",
            "<DeleteResult><Error/>",
            "<DeleteResult><Error><Key>a</Key></Error>",
            "<DeleteResult></DeleteRes",
            "<html></html>",
        ] {
            assert!(!whole(text), "{text}");
        }
    }
}
