//! What is counted of an export.

use std::sync::atomic::{AtomicU64, Ordering};

/// Since the daemon was started.
#[derive(Debug, Default)]
pub struct ExportCounters {
    spans_exported: AtomicU64,
    spans_dropped: AtomicU64,
    failed: AtomicU64,
}

impl ExportCounters {
    /// Spans that the collector took.
    pub fn spans_exported(&self) -> u64 {
        self.spans_exported.load(Ordering::Relaxed)
    }

    /// Spans that did not fit into the queue, or that the collector did not take.
    pub fn spans_dropped(&self) -> u64 {
        self.spans_dropped.load(Ordering::Relaxed)
    }

    /// Requests that the collector did not take, of spans and of metrics.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

#[cfg(feature = "otlp")]
impl ExportCounters {
    pub(super) fn exported(&self, spans: usize) {
        self.spans_exported
            .fetch_add(spans as u64, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, spans: usize) {
        self.spans_dropped
            .fetch_add(spans as u64, Ordering::Relaxed);
    }

    pub(super) fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}
