//! Panics are logged where all else is.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

use super::queue::LogQueue;

/// The process may be about to abort.
const WRITTEN_WITHIN: Duration = Duration::from_millis(100);

/// Logs every panic from now on.
///
/// Not through `tracing`, in which it may have come about; nor on standard error,
/// which may be a pipe that nobody reads.
pub fn log_to(queue: Arc<LogQueue>) {
    std::panic::set_hook(Box::new(move |panic| {
        for line in describe(panic).lines() {
            queue.say(Level::ERROR, line);
        }
        queue.flush(WRITTEN_WITHIN);
    }));
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(ToString::to_string);
    let place = place.unwrap_or_default();
    let mut text = format!("panic in thread {thread} at {place}: {message}");
    // Where RUST_BACKTRACE asks for one.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("\n{backtrace}"));
    }
    text
}
