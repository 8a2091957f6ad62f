//! What the daemon tells about itself.

mod logs;

pub use logs::{LogFilter, start_logs};
