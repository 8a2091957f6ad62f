//! The export of spans and metrics to a collector, by the protocol of OpenTelemetry (OTLP).
//!
//! Owns: what waits to be sent, who sends it, and what is counted of that.
//! Must not know: what a metric means; that is `control`.
//!
//! Nobody waits for a collector: a span goes into a queue with a bound, and what the queue
//! does not hold, or the collector does not take, is dropped and counted. The client of the
//! export makes no spans of its own.

mod counters;
#[cfg(feature = "otlp")]
mod export;
#[cfg(any(test, not(feature = "otlp")))]
#[cfg_attr(feature = "otlp", allow(dead_code))]
mod none;
#[cfg(feature = "otlp")]
mod queue;
#[cfg(feature = "otlp")]
mod sender;

pub use counters::ExportCounters;
#[cfg(feature = "otlp")]
pub use export::{Otlp, Report};
#[cfg(not(feature = "otlp"))]
pub use none::Otlp;
#[cfg(feature = "otlp")]
pub use sender::Sender;
