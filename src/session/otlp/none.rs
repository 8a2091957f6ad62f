//! In a program that was built without the export: nothing is exported.

use std::sync::Arc;

use tokio::runtime::Runtime;

use super::ExportCounters;
use crate::config::Config;
use crate::telemetry::SpanLayer;

/// The configuration refuses an endpoint.
#[derive(Debug, Default)]
pub struct Otlp;

impl Otlp {
    pub fn new(_: &Config) -> (Self, Option<SpanLayer>) {
        (Self, None)
    }

    pub fn start(self, _: &Runtime) -> Arc<Self> {
        Arc::new(self)
    }

    pub fn counters(&self) -> Option<&ExportCounters> {
        None
    }

    pub async fn end(&self) {}

    pub async fn end_quickly(&self) {}
}
