//! Sends to a collector: protocol buffers in HTTP requests.
//!
//! Source: OpenTelemetry specification, "OTLP/HTTP", and "OTLP exporter" for the variables.

use std::env;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT,
};
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource as ResourceMessage;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use percent_encoding::percent_decode_str;
use prost::Message;
use tokio::time::timeout;

use super::ExportCounters;
use crate::store::s3::{Dial, dial};

/// Of one request. Source: OTEL_EXPORTER_OTLP_TIMEOUT, its default.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
const IDLE_LIMIT: Duration = Duration::from_secs(90);
/// A longer answer is none of a collector's.
const ANSWER_LIMIT_BYTES: usize = 64 << 10;
/// May hold a key: they are never shown.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const TRACES: &str = "/v1/traces";
const METRICS: &str = "/v1/metrics";

type Http = Client<Dial, Full<Bytes>>;

/// One collector.
pub struct Sender {
    endpoint: String,
    began: SystemTime,
    resource: ResourceAttributesWithSchema,
    headers: HeaderMap,
    counters: Arc<ExportCounters>,
    /// Made with the first request: it reads certificates. Or why it cannot be made.
    client: OnceLock<Result<(Http, Dial), String>>,
    is_failing: AtomicBool,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sender({})", self.endpoint)
    }
}

impl Sender {
    pub fn new(endpoint: &str, resource: &Resource, counters: Arc<ExportCounters>) -> Self {
        let mut headers = headers(&env::var(HEADERS).unwrap_or_default());
        let agent = concat!("mediafs/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        headers.insert(CONTENT_TYPE, protobuf);
        Self {
            endpoint: endpoint.to_owned(),
            began: SystemTime::now(),
            resource: resource.into(),
            headers,
            counters,
            client: OnceLock::new(),
            is_failing: AtomicBool::new(false),
        }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Since when what it sends is counted.
    pub fn began(&self) -> SystemTime {
        self.began
    }

    pub fn counters(&self) -> &ExportCounters {
        &self.counters
    }

    /// Whether the last request was not taken.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    pub async fn send_spans(&self, spans: Vec<SpanData>) {
        let count = spans.len();
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(spans, &self.resource),
        };
        let rejected = match self.send(TRACES, request.encode_to_vec()).await {
            None => count,
            Some(answer) => {
                // What cannot be read says nothing of spans that were rejected.
                let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
                let rejected = answer.partial_success.map_or(0, |it| it.rejected_spans);
                usize::try_from(rejected).unwrap_or(0).min(count)
            }
        };
        self.counters.exported(count - rejected);
        self.counters.dropped(rejected);
    }

    pub async fn send_metrics(&self, metrics: Vec<Metric>) {
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(ResourceMessage {
                    attributes: self.resource.attributes.0.clone(),
                    ..Default::default()
                }),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(InstrumentationScope {
                        name: env!("CARGO_PKG_NAME").to_owned(),
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                        ..Default::default()
                    }),
                    metrics,
                    ..Default::default()
                }],
                ..Default::default()
            }],
        };
        self.send(METRICS, request.encode_to_vec()).await;
    }

    /// The answer; none where the collector does not take it, which is told once.
    async fn send(&self, path: &str, body: Vec<u8>) -> Option<Bytes> {
        let sent = timeout(ANSWERED_WITHIN, self.post(path, body.into())).await;
        let late = |_| {
            Err(format!(
                "no answer within {}",
                humantime::format_duration(ANSWERED_WITHIN)
            ))
        };
        let endpoint = self.endpoint();
        match sent.unwrap_or_else(late) {
            Ok(answer) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    let dropped = self.counters.spans_dropped();
                    tracing::info!(
                        endpoint,
                        dropped,
                        "the collector takes spans and metrics again"
                    );
                }
                Some(answer)
            }
            Err(error) => {
                self.counters.fail();
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        endpoint,
                        error,
                        "the collector does not take what is exported: spans are dropped until it does, and the mount goes on"
                    );
                }
                None
            }
        }
    }

    /// Errors: in words, without headers and bodies.
    async fn post(&self, path: &str, body: Bytes) -> Result<Bytes, String> {
        let client = self.client.get_or_init(|| client(&self.endpoint)).as_ref();
        let (client, dial) = client.map_err(Clone::clone)?;
        let uri: Uri = format!("{}{path}", self.endpoint)
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?;
        let mut request = Request::post(&uri)
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        request.headers_mut().extend(self.headers.clone());
        if let Some(authorization) = dial.forward_authorization(&uri) {
            request
                .headers_mut()
                .insert(PROXY_AUTHORIZATION, authorization);
        }
        let answer = client.request(request).await;
        let answer = answer.map_err(|error| last_cause(&error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("it answers {status}"));
        }
        let body = Limited::new(answer.into_body(), ANSWER_LIMIT_BYTES);
        let body = body.collect().await.map_err(|error| error.to_string())?;
        Ok(body.to_bytes())
    }
}

/// Errors: in words.
fn client(endpoint: &str) -> Result<(Http, Dial), String> {
    let certificates = env::var_os(CERTIFICATE).filter(|it| !it.is_empty());
    let dial = dial(endpoint, certificates.as_ref().map(Path::new));
    let dial = dial.map_err(|error| error.to_string())?;
    let dial = dial.within(Some(CONNECTED_WITHIN));
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .build(dial.clone());
    Ok((client, dial))
}

fn last_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// `name=value,name=value`, values percent-encoded. What is no header is left out.
fn headers(text: &str) -> HeaderMap {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let headers = pairs.filter_map(|(name, value)| {
        let name: HeaderName = name.trim().parse().ok()?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    });
    headers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_variable_are_decoded_and_never_shown() {
        let read = headers("Authorization=Bearer%20geheim, x-team = a=b ,nonsense,b ad=1");
        assert_eq!(read.len(), 2, "{read:?}");
        assert_eq!(read["authorization"], "Bearer geheim");
        assert_eq!(read["x-team"], "a=b");
        assert!(!format!("{read:?}").contains("geheim"), "{read:?}");
    }
}
