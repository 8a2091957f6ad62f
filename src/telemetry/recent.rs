//! The last warnings and errors that were logged, for whoever asks how a mount is.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::time::SystemTime;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const LINES_LIMIT: usize = 20;
/// What a line has beyond is cut off.
const TEXT_LIMIT_BYTES: usize = 1000;

/// Of this process, as the subscriber of `tracing` is.
static RECENT: Mutex<VecDeque<RecentLine>> = Mutex::new(VecDeque::new());

/// A warning or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentLine {
    pub at: SystemTime,
    /// In capitals.
    pub level: &'static str,
    pub text: String,
}

/// The last of them, oldest first.
pub fn recent_lines() -> Vec<RecentLine> {
    RECENT.lock().iter().cloned().collect()
}

/// Keeps what the filter of the logs lets through.
#[derive(Debug)]
pub(super) struct Recent;

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::WARN {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let mut recent = RECENT.lock();
        if recent.len() == LINES_LIMIT {
            recent.pop_front();
        }
        recent.push_back(RecentLine {
            at: SystemTime::now(),
            level: level.as_str(),
            text: line.whole(),
        });
    }
}

/// As the log writes it: the message, then each field.
#[derive(Debug, Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn whole(mut self) -> String {
        self.message.push_str(&self.fields);
        if self.message.len() > TEXT_LIMIT_BYTES {
            let end = self.message.floor_char_boundary(TEXT_LIMIT_BYTES);
            self.message.truncate(end);
            self.message.push_str(" ...");
        }
        self.message
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        // A value that cannot be shown is left out.
        if written.is_err() {
            self.fields.push_str(" ...");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_last_warnings_are_kept_with_their_fields_and_no_more_than_the_limit() {
        let subscriber = tracing_subscriber::registry().with(Recent);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("not kept");
            for number in 0..LINES_LIMIT + 3 {
                tracing::warn!(number, key = %"k", "something is odd");
            }
            tracing::error!(text = "x".repeat(5000), "long");
        });
        let lines = recent_lines();
        assert_eq!(lines.len(), LINES_LIMIT);
        assert_eq!(lines[0].text, "something is odd number=4 key=k");
        assert_eq!(lines[0].level, "WARN");
        let last = &lines[LINES_LIMIT - 1];
        assert!(last.level == "ERROR" && last.text.len() < 1100, "{last:?}");
    }
}
