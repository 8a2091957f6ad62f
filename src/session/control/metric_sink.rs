//! What the metrics of a mount are written to, whatever its form.

use std::collections::BTreeMap;
use std::fmt;

use super::answers::LatencyStatus;

/// Takes metrics. A counter has its name without what its form may add, as `_total`.
pub trait Metrics {
    /// One whose labels are what it tells.
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result;

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result;

    /// One for each value of a label.
    fn gauges<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result;

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result;

    /// A counter of what comes in fractions.
    fn sum(&mut self, name: &str, help: &str, value: f64) -> fmt::Result;

    /// One for each value of a label; none where there is no value yet.
    fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result;

    /// One for each value of a label; none where nothing is counted yet.
    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        bounds: &[f64],
        values: &BTreeMap<String, LatencyStatus>,
    ) -> fmt::Result;
}
