//! What the daemon tells about itself.
//!
//! Owns: the lines of the log, from who logs to the file or the journal: an event becomes a
//! `Record` in `lines`, `repeats` counts what is said again and again, `form` writes it, and
//! `queue` hands it to the thread that has the `target`.
//! Must not know: what they are about.
//!
//! A log that takes nothing ends no daemon and makes nobody wait.

mod file;
mod form;
mod journal;
mod lines;
mod logs;
mod panics;
mod queue;
mod recent;
mod record;
mod repeats;
mod target;

pub use file::LogFileSettings;
pub use form::LogFormat;
pub use logs::{
    LogArgs, LogOutput, Logs, SpanLayer, check_filter, flush_logs, log_output, start_logs,
    start_logs_with_spans, tell_user, write_logs,
};
pub use recent::{RecentLine, recent_lines};
pub use target::LogIs;

/// Target of the spans of calls and of requests to S3.
pub const SPANS: &str = "mediafs::requests";
