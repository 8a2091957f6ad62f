//! The metrics as the text that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::answers::{LatencyStatus, Status};
use super::metric_sink::{Kind, Metrics};
use super::metrics;

pub use prometheus_text::CONTENT_TYPE;

/// What a scrape is answered with.
pub fn text(status: Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(status)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Status);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        metrics::write(&mut Encoder(encoder), &self.0)
    }
}

/// Counters get their `_total` there.
struct Encoder<'a>(DescriptorEncoder<'a>);

impl Encoder<'_> {
    fn describe<'s>(
        &'s mut self,
        name: &'s str,
        help: &'s str,
        of_type: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, of_type)
    }
}

fn of_type(kind: Kind) -> MetricType {
    match kind {
        Kind::Gauge => MetricType::Gauge,
        Kind::Counter => MetricType::Counter,
    }
}

fn encode(kind: Kind, mut metric: MetricEncoder<'_>, value: u64) -> fmt::Result {
    match kind {
        Kind::Gauge => metric.encode_gauge(&value),
        Kind::Counter => metric.encode_counter::<NoLabelSet, _, f64>(&value, None),
    }
}

impl Metrics for Encoder<'_> {
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        let mut metric = self.describe(name, help, MetricType::Info)?;
        metric.encode_info(&labels)
    }

    fn number(&mut self, kind: Kind, name: &str, help: &str, value: u64) -> fmt::Result {
        encode(kind, self.describe(name, help, of_type(kind))?, value)
    }

    fn numbers<'v>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.describe(name, help, of_type(kind))?;
        for (of, value) in values {
            encode(kind, metric.encode_family(&[(label, of)])?, value)?;
        }
        Ok(())
    }

    fn sum(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.describe(name, help, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        bounds: &[f64],
        values: &BTreeMap<String, LatencyStatus>,
    ) -> fmt::Result {
        if values.is_empty() {
            return Ok(());
        }
        let mut metric = self.describe(name, help, MetricType::Histogram)?;
        let bounds = || bounds.iter().copied().chain([f64::INFINITY]);
        for (of, latency) in values {
            let buckets: Vec<(f64, u64)> = bounds().zip(latency.buckets.iter().copied()).collect();
            let labels = [(label, of.as_str())];
            let mut metric = metric.encode_family(&labels)?;
            let (sum, count) = (latency.seconds, latency.count);
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}
