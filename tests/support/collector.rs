//! A collector of OpenTelemetry: takes spans and metrics, and keeps them. It reads them by
//! the project's own definitions of its protocol.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;

use super::plan::MountBuilder;
use super::programs::wait_until;

const WITHIN: Duration = Duration::from_secs(60);

/// What a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Takes,
    /// With an error.
    Fails,
    /// With nothing.
    Hangs,
}

#[derive(Debug, Default)]
pub struct Got {
    pub spans: Vec<Span>,
    /// Of the last request.
    pub metrics: Vec<Metric>,
    pub resource: Option<Resource>,
    /// Of the last request, with the names in lower case.
    pub headers: HeaderMap,
    /// All bodies, as they came.
    pub bodies: Vec<Bytes>,
    /// With those that were not taken.
    pub requests: usize,
}

#[derive(Debug)]
struct Shared {
    got: Mutex<Got>,
    mood: Mutex<Mood>,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Collector {
    pub endpoint: String,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Collector {
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            got: Mutex::default(),
            mood: Mutex::new(Mood::Takes),
        });
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .with_state(shared.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (told, address) = mpsc::channel();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper_util::service::TowerToHyperService::new(router.clone());
                let io = hyper_util::rt::TokioIo::new(stream);
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(io, service));
            }
        });
        let endpoint = format!("http://{}", address.recv().unwrap());
        Self {
            endpoint,
            shared,
            runtime: Some(runtime),
        }
    }

    /// Has a mount export all its calls, and soon.
    pub fn given(&self, plan: MountBuilder) -> MountBuilder {
        plan.args(["--otlp-endpoint", &self.endpoint])
            .args(["--otlp-sample-ratio", "1"])
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .env("OTEL_METRIC_EXPORT_INTERVAL", "200")
    }

    pub fn be(&self, mood: Mood) {
        *self.shared.mood.lock() = mood;
    }

    pub fn look<T>(&self, at: impl FnOnce(&Got) -> T) -> T {
        at(&self.shared.got.lock())
    }

    /// Waits for a span that is so.
    #[track_caller]
    pub fn wait_for_span(&self, what: &str, is: impl Fn(&Span) -> bool) -> Span {
        let mut found = None;
        wait_until(WITHIN, what, || {
            found = self.look(|got| got.spans.iter().find(|span| is(span)).cloned());
            found.is_some()
        });
        found.unwrap()
    }

    /// The value of a number among the metrics, which has this label.
    pub fn number(&self, name: &str, label: Option<(&str, &str)>) -> Option<f64> {
        self.look(|got| {
            let metric = got.metrics.iter().find(|it| it.name == name)?;
            let points = match metric.data.as_ref()? {
                Data::Gauge(gauge) => &gauge.data_points,
                Data::Sum(sum) => &sum.data_points,
                _ => return None,
            };
            let mut points = points.iter();
            let point = points.find(|point| {
                label.is_none_or(|(key, wanted)| text(&point.attributes, key) == wanted)
            })?;
            Some(match point.value? {
                number_data_point::Value::AsInt(value) => value as f64,
                number_data_point::Value::AsDouble(value) => value,
            })
        })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// The value of an attribute, numbers as text; empty where there is none.
pub fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|it| it.key == key);
    match found.and_then(|it| it.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(flag)) => flag.to_string(),
        _ => String::new(),
    }
}

async fn traces(shared: State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    answered(shared, headers, body, |got, body| {
        let sent = ExportTraceServiceRequest::decode(body).unwrap();
        for of_resource in sent.resource_spans {
            got.resource = of_resource.resource;
            let scopes = of_resource.scope_spans.into_iter();
            got.spans.extend(scopes.flat_map(|scope| scope.spans));
        }
    })
    .await
}

async fn metrics(shared: State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    answered(shared, headers, body, |got, body| {
        let sent = ExportMetricsServiceRequest::decode(body).unwrap();
        for of_resource in sent.resource_metrics {
            got.resource = of_resource.resource;
            let scopes = of_resource.scope_metrics.into_iter();
            got.metrics = scopes.flat_map(|scope| scope.metrics).collect();
        }
    })
    .await
}

async fn answered(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
    take: impl FnOnce(&mut Got, Bytes),
) -> Response {
    let mood = *shared.mood.lock();
    {
        let mut got = shared.got.lock();
        got.requests += 1;
        got.headers = headers;
        got.bodies.push(body.clone());
        if mood == Mood::Takes {
            take(&mut got, body);
        }
    }
    match mood {
        Mood::Takes => StatusCode::OK.into_response(),
        Mood::Fails => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Hangs => std::future::pending().await,
    }
}
