//! What the daemon tells about itself.
//!
//! Owns: the lines of the log, from who logs to the file.
//! Must not know: what they are about.
//!
//! A log that takes nothing ends no daemon and makes nobody wait.

mod file;
mod logs;
mod panics;
mod queue;
mod recent;

pub use file::{LogFileArgs, LogFileSettings};
pub use logs::{LogFileIs, Logs, flush_logs, log_file, start_logs, tell_user, write_logs};
pub use recent::{RecentLine, recent_lines};
