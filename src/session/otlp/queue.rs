//! Spans that wait to be sent.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ExportCounters;

/// Of all that wait. Source: OpenTelemetry specification, OTEL_BSP_MAX_QUEUE_SIZE.
const QUEUE_LIMIT: usize = 2048;
/// Of one request. Source: the same, OTEL_BSP_MAX_EXPORT_BATCH_SIZE.
const BATCH_LIMIT: usize = 512;
/// On a span of a call whose answer comes under another one.
const DISCARDED: &str = "discarded";

/// Where spans end; whoever ends one waits for nothing.
#[derive(Debug)]
pub struct Queue {
    spans: Sender<SpanData>,
    counters: Arc<ExportCounters>,
}

impl Queue {
    pub fn new(counters: Arc<ExportCounters>) -> (Self, Receiver<SpanData>) {
        let (spans, receiver) = channel(QUEUE_LIMIT);
        (Self { spans, counters }, receiver)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let is_discarded = || {
            span.attributes
                .iter()
                .any(|it| it.key.as_str() == DISCARDED)
        };
        if !span.span_context.is_sampled() || is_discarded() {
            return;
        }
        if self.spans.try_send(span).is_err() {
            self.counters.dropped(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Up to so many spans as one request has: those that come in time, and once it ends those
/// that are there.
pub async fn batch(
    spans: &mut Receiver<SpanData>,
    within: Duration,
    ending: &CancellationToken,
) -> Vec<SpanData> {
    let mut batch = Vec::new();
    let coming = async {
        while batch.len() < BATCH_LIMIT
            && let Some(span) = spans.recv().await
        {
            batch.push(span);
        }
    };
    tokio::select! {
        biased;
        () = ending.cancelled() => {}
        _ = timeout(within, coming) => return batch,
    }
    while batch.len() < BATCH_LIMIT
        && let Ok(span) = spans.try_recv()
    {
        batch.push(span);
    }
    batch
}

#[cfg(test)]
mod tests {
    use opentelemetry::KeyValue;
    use opentelemetry::trace::{Span as _, Tracer, TracerProvider};
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

    use super::*;

    fn made(sampler: Sampler, spans: usize) -> (Arc<ExportCounters>, Receiver<SpanData>) {
        let counters = Arc::<ExportCounters>::default();
        let (queue, receiver) = Queue::new(counters.clone());
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_span_processor(queue)
            .build();
        let tracer = provider.tracer("test");
        for number in 0..spans {
            let mut span = tracer.start(number.to_string());
            if number == 1 {
                span.set_attribute(KeyValue::new(DISCARDED, true));
            }
        }
        (counters, receiver)
    }

    #[test]
    fn what_the_queue_does_not_hold_is_dropped_and_counted() {
        let (counters, receiver) = made(Sampler::AlwaysOn, QUEUE_LIMIT + 10);
        assert_eq!(receiver.len(), QUEUE_LIMIT);
        assert_eq!(counters.spans_dropped(), 9, "one was discarded");
        let (counters, receiver) = made(Sampler::AlwaysOff, 3);
        assert_eq!((receiver.len(), counters.spans_dropped()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn spans_go_together_as_many_as_fit_and_at_the_end_those_that_are_there() {
        let (_, mut spans) = made(Sampler::AlwaysOn, BATCH_LIMIT + 10);
        let (ending, within) = (CancellationToken::new(), Duration::from_secs(5));
        assert_eq!(batch(&mut spans, within, &ending).await.len(), BATCH_LIMIT);
        assert_eq!(batch(&mut spans, within, &ending).await.len(), 9);
        let (_, mut spans) = made(Sampler::AlwaysOn, BATCH_LIMIT + 10);
        ending.cancel();
        assert_eq!(batch(&mut spans, within, &ending).await.len(), BATCH_LIMIT);
        assert_eq!(batch(&mut spans, within, &ending).await.len(), 9);
        assert!(batch(&mut spans, within, &ending).await.is_empty());
    }
}
