//! What the daemon tells about itself.

mod logs;

pub use logs::start_logs;
