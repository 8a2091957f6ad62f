//! What the metrics of a mount are written to, whatever its form.

use std::collections::BTreeMap;
use std::fmt;

use super::answers::LatencyStatus;

/// How a number goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Up and down.
    Gauge,
    /// Up alone. Its name is without what the form may add, as `_total`.
    Counter,
}

/// Takes metrics.
pub trait Metrics {
    /// One whose labels are what it tells.
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result;

    fn number(&mut self, kind: Kind, name: &str, help: &str, value: u64) -> fmt::Result;

    /// One for each value of a label; none where there is no value yet.
    fn numbers<'v>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result;

    /// A counter of what comes in fractions.
    fn sum(&mut self, name: &str, help: &str, value: f64) -> fmt::Result;

    /// One for each value of a label; none where nothing is counted yet.
    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        bounds: &[f64],
        values: &BTreeMap<String, LatencyStatus>,
    ) -> fmt::Result;

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.number(Kind::Gauge, name, help, value)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.number(Kind::Counter, name, help, value)
    }
}
