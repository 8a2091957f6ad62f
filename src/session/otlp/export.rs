//! The export of a daemon, from the start of its log to its end.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Metadata;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;

use super::ExportCounters;
use super::queue::{Queue, batch};
use super::sender::Sender;
use crate::config::{Config, OtlpConfig};
use crate::task::caught;
use crate::telemetry::{SPANS, SpanLayer};

/// Of calls, where nothing else is said: a mount answers tens of thousands a second.
const SAMPLE_RATIO: f64 = 0.01;
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
/// Longest time that a span waits for others. Source: OpenTelemetry specification, the
/// default of the variable.
const SPANS_EVERY: (&str, Duration) = ("OTEL_BSP_SCHEDULE_DELAY", Duration::from_secs(5));
const METRICS_EVERY: (&str, Duration) = ("OTEL_METRIC_EXPORT_INTERVAL", Duration::from_secs(60));
/// What is left when the daemon ends.
const EXPORTED_WITHIN: Duration = Duration::from_secs(2);
const EXPORTED_QUICKLY_WITHIN: Duration = Duration::from_millis(300);
const SCOPE: &str = env!("CARGO_PKG_NAME");

/// The export, where there is one.
#[derive(Debug, Default)]
pub struct Otlp(Option<Export>);

/// Which metrics are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Regular,
    /// When the mount has ended.
    Last,
}

#[derive(Debug)]
struct Export {
    sender: Arc<Sender>,
    /// Until somebody sends them.
    spans: Mutex<Option<Receiver<SpanData>>>,
    ending: CancellationToken,
    tasks: TaskTracker,
}

impl Otlp {
    /// For a daemon that is about to start its log, which gets the layer.
    pub fn new(config: &Config) -> (Self, Option<SpanLayer>) {
        let Some(otlp) = &config.otlp else {
            return (Self::default(), None);
        };
        let resource = resource(config);
        let counters = Arc::<ExportCounters>::default();
        let (queue, spans) = Queue::new(counters.clone());
        let provider = provider(otlp, resource.clone(), queue);
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(SCOPE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false);
        let is_exported = |of: &Metadata<'_>| of.is_span() && of.target() == SPANS;
        let export = Export {
            sender: Arc::new(Sender::new(&otlp.endpoint, &resource, counters)),
            spans: Mutex::new(Some(spans)),
            ending: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let layer = layer.with_filter(filter_fn(is_exported)).boxed();
        (Self(Some(export)), Some(layer))
    }

    /// Sends spans as they come.
    pub fn start(self, runtime: &Runtime) -> Arc<Self> {
        let this = Arc::new(self);
        let Some(export) = &this.0 else { return this };
        let Some(spans) = export.spans.lock().take() else {
            return this;
        };
        let endpoint = export.sender.endpoint();
        tracing::info!(endpoint, "spans and metrics are exported");
        let sending = send_spans(spans, export.sender.clone(), export.ending.clone());
        export
            .tasks
            .spawn_on(caught("export of spans", sending), runtime.handle());
        this
    }

    /// Has somebody send metrics, again and again, and once more at the end.
    pub fn report<F: Future<Output = ()> + Send + 'static>(
        &self,
        report: impl Fn(Arc<Sender>, Report) -> F + Send + 'static,
    ) {
        let Some(export) = &self.0 else { return };
        let (sender, ending) = (export.sender.clone(), export.ending.clone());
        let every = period(METRICS_EVERY);
        let reporting = async move {
            // An interval that ends early has been told to.
            while timeout(every, ending.cancelled()).await.is_err() {
                report(sender.clone(), Report::Regular).await;
            }
            report(sender, Report::Last).await;
        };
        export.tasks.spawn(caught("export of metrics", reporting));
    }

    pub fn counters(&self) -> Option<&ExportCounters> {
        self.0.as_ref().map(|export| export.sender.counters())
    }

    /// Sends what is left; what is late is lost.
    pub async fn end(&self) {
        self.end_within(EXPORTED_WITHIN).await;
    }

    /// The same while calls wait for a successor.
    pub async fn end_quickly(&self) {
        self.end_within(EXPORTED_QUICKLY_WITHIN).await;
    }

    /// A collector that did not take the last request is not waited for.
    async fn end_within(&self, within: Duration) {
        let Some(export) = &self.0 else { return };
        export.ending.cancel();
        export.tasks.close();
        if !export.sender.is_failing() {
            // What is late is lost with the process.
            drop(timeout(within, export.tasks.wait()).await);
        }
    }
}

async fn send_spans(mut spans: Receiver<SpanData>, sender: Arc<Sender>, ending: CancellationToken) {
    let every = period(SPANS_EVERY);
    loop {
        let is_last = ending.is_cancelled();
        let batch = batch(&mut spans, every, &ending).await;
        if is_last && batch.is_empty() {
            return;
        }
        if !batch.is_empty() {
            sender.send_spans(batch).await;
        }
    }
}

/// A setting wins over the variable, which the SDK reads.
fn provider(config: &OtlpConfig, resource: Resource, queue: Queue) -> SdkTracerProvider {
    let mut provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_processor(queue);
    let ratio = config.sample_ratio.map(|it| it.get());
    let is_said = env::var_os(SAMPLER).is_some_and(|it| !it.is_empty());
    if let Some(ratio) = ratio.or((!is_said).then_some(SAMPLE_RATIO)) {
        let of_calls = Sampler::TraceIdRatioBased(ratio);
        provider = provider.with_sampler(Sampler::ParentBased(Box::new(of_calls)));
    }
    provider.build()
}

/// What all that is exported is of. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES add to
/// it, and name the service otherwise.
fn resource(config: &Config) -> Resource {
    let own = |key: &'static str, value: String| KeyValue::new(key, value);
    let mountpoint = config.mountpoint.display().to_string();
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    let own = [
        own("service.name", SCOPE.to_owned()),
        own("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        own("service.instance.id", format!("{host}:{mountpoint}")),
        own("host.name", host),
        own("mediafs.mountpoint", mountpoint),
        own("mediafs.bucket", config.bucket.clone()),
        own("mediafs.prefix", config.prefix.clone()),
    ];
    let given = Resource::builder().build();
    let unknown = |value: &str| value.starts_with("unknown_service");
    let given = given
        .iter()
        .filter(|(key, value)| key.as_str() != "service.name" || !unknown(&value.as_str()));
    let given = given.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let all = own.into_iter().chain(given);
    Resource::builder_empty().with_attributes(all).build()
}

fn period((name, default): (&str, Duration)) -> Duration {
    let given = env::var(name).ok().and_then(|text| text.parse().ok());
    let given = given.filter(|ms| *ms > 0);
    given.map_or(default, Duration::from_millis)
}
