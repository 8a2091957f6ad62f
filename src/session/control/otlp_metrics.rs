//! The metrics as a collector of OpenTelemetry reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyOf;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
    metric::Data, number_data_point::Value,
};

use super::answers::{LatencyStatus, Status};
use super::metric_sink::{Kind, Metrics};
use super::{Served, metrics, web};
use crate::session::otlp::{Report, Sender};

/// Sends the metrics as they are now.
pub async fn send(served: Arc<Served>, sender: Arc<Sender>, report: Report) {
    let status = match report {
        Report::Regular => web::own_status(&served).await,
        // A mount that was taken away answers nobody; nothing is wrong with it.
        Report::Last => web::status_with(&served, served.assumed_health()).await,
    };
    let metrics = match status {
        Ok(status) => messages(&status, sender.began()).map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match metrics {
        Ok(metrics) => sender.send_metrics(metrics).await,
        Err(error) => tracing::debug!(error, "no metrics to export"),
    }
}

fn messages(status: &Status, began: SystemTime) -> Result<Vec<Metric>, fmt::Error> {
    let mut messages = Messages {
        began_ns: unix_ns(began),
        now_ns: unix_ns(SystemTime::now()),
        metrics: Vec::new(),
    };
    metrics::write(&mut messages, status)?;
    Ok(messages.metrics)
}

fn unix_ns(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

struct Messages {
    /// Since when counters count.
    began_ns: u64,
    now_ns: u64,
    metrics: Vec<Metric>,
}

impl Messages {
    fn push(&mut self, name: impl Into<String>, help: &str, data: Data) -> fmt::Result {
        self.metrics.push(Metric {
            name: name.into(),
            description: help.to_owned(),
            data: Some(data),
            ..Default::default()
        });
        Ok(())
    }

    fn point(&self, labels: &[(&str, &str)], value: Value) -> NumberDataPoint {
        NumberDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: self.began_ns,
            time_unix_nano: self.now_ns,
            value: Some(value),
            ..Default::default()
        }
    }

    fn push_numbers(
        &mut self,
        kind: Kind,
        name: impl Into<String>,
        help: &str,
        data_points: Vec<NumberDataPoint>,
    ) -> fmt::Result {
        let data = match kind {
            Kind::Gauge => Data::Gauge(Gauge { data_points }),
            Kind::Counter => Data::Sum(Sum {
                data_points,
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            }),
        };
        self.push(name, help, data)
    }
}

/// The protocol has no unsigned numbers.
fn whole(value: u64) -> Value {
    Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX))
}

fn attributes(labels: &[(&str, &str)]) -> Vec<KeyValue> {
    let labels = labels.iter().map(|(key, value)| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue {
            value: Some(AnyOf::StringValue((*value).to_owned())),
        }),
        ..Default::default()
    });
    labels.collect()
}

impl Metrics for Messages {
    /// Named as Prometheus names it.
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        let point = self.point(labels, whole(1));
        self.push_numbers(Kind::Gauge, format!("{name}_info"), help, vec![point])
    }

    fn number(&mut self, kind: Kind, name: &str, help: &str, value: u64) -> fmt::Result {
        let point = self.point(&[], whole(value));
        self.push_numbers(kind, name, help, vec![point])
    }

    fn numbers<'v>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter();
        let points = values.map(|(of, value)| self.point(&[(label, of)], whole(value)));
        let points: Vec<NumberDataPoint> = points.collect();
        if points.is_empty() {
            return Ok(());
        }
        self.push_numbers(kind, name, help, points)
    }

    fn sum(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let point = self.point(&[], Value::AsDouble(value));
        self.push_numbers(Kind::Counter, name, help, vec![point])
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
        let points = values.iter().map(|(of, latency)| HistogramDataPoint {
            attributes: attributes(&[(label, of)]),
            start_time_unix_nano: self.began_ns,
            time_unix_nano: self.now_ns,
            count: latency.buckets.iter().sum(),
            sum: Some(latency.seconds),
            bucket_counts: latency.buckets.clone(),
            explicit_bounds: bounds.to_vec(),
            ..Default::default()
        });
        let histogram = Histogram {
            data_points: points.collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        };
        self.push(name, help, Data::Histogram(histogram))
    }
}
