//! From an event of `tracing` to a line in the queue.

use std::sync::Arc;
use std::time::Instant;

use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::form::Form;
use super::queue::LogQueue;
use super::recent;
use super::record::{Fields, Record};
use super::repeats::Repeats;

/// Writes what the filter of the logs lets through.
#[derive(Debug, Clone)]
pub struct Lines {
    queue: Arc<LogQueue>,
    repeats: Arc<Repeats>,
    form: Form,
}

impl Lines {
    pub fn new(queue: Arc<LogQueue>, form: Form) -> Self {
        Self {
            queue,
            repeats: Arc::default(),
            form,
        }
    }

    fn push(&self, record: &Record) {
        if record.level <= Level::WARN {
            recent::keep(record);
        }
        self.queue.push(&self.form.write(record));
    }

    /// Writes what stands for lines that were counted, a while after the first of them.
    pub fn sum_up_old(&self) {
        for record in self.repeats.due(Instant::now()) {
            self.push(&record);
        }
    }

    /// The same at once: the process is about to end.
    pub fn sum_up(&self) {
        for record in self.repeats.all() {
            self.push(&record);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !is_ours(attributes.metadata().target()) {
            return;
        }
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Fields::of(attributes));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if shows_secrets(event.metadata()) || is_duplicate(event.metadata()) {
            return;
        }
        let mut record = Record::of(event);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                record.fields.inherit(fields);
            }
        }
        let place = event.metadata().callsite();
        for record in self.repeats.admit(place, record, Instant::now()) {
            self.push(&record);
        }
    }
}

/// The signer shows every header below `info`, and one may be a key. A filter that names
/// its modules, or a call's span, goes before the directive that silences it.
fn shows_secrets(of: &Metadata<'_>) -> bool {
    of.target().starts_with("aws_sigv4") && *of.level() > Level::INFO
}

/// The SDK calls it an error of its own that one request has two errors, with a dump of the
/// first; the line about the request tells both.
fn is_duplicate(of: &Metadata<'_>) -> bool {
    of.target() == "aws_smithy_runtime_api::client::interceptors::context"
}

/// The fields of other crates' spans have names like ours, of something else.
fn is_ours(target: &str) -> bool {
    target.starts_with(env!("CARGO_PKG_NAME"))
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::recent::recent_lines;

    #[test]
    fn a_line_says_what_call_it_is_of_and_the_last_warnings_are_kept_with_their_fields() {
        let queue = Arc::<LogQueue>::default();
        let lines = Lines::new(queue.clone(), Form::Json);
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || {
            let call = tracing::info_span!("call", operation = "read", ino = 7);
            let _entered = call.enter();
            tracing::info!(key = %"k", ino = 8, "told");
            tracing::error!(text = "x".repeat(50_000), "long");
        });
        let [told, long] = &queue.waiting()[..] else {
            panic!("two lines");
        };
        let told: serde_json::Value = serde_json::from_str(told).unwrap();
        let shown = (&told["operation"], &told["key"], &told["ino"]);
        assert_eq!(shown, (&"read".into(), &"k".into(), &8.into()), "{told}");
        let long: serde_json::Value = serde_json::from_str(long).unwrap();
        assert!(long["text"].as_str().unwrap().ends_with("x ..."));
        let last = recent_lines().pop().unwrap();
        assert!(last.level == "ERROR" && last.text.len() < 1100, "{last:?}");
        assert!(last.text.starts_with("long text="), "{last:?}");
    }
}
