//! What is logged, where that was changed under the mount.
//!
//! A successor goes on with it; a mount that is made anew, and a reload, take what the
//! configuration says.

use std::io;
use std::path::PathBuf;

use crate::config::Config;
use crate::private;
use crate::session::takeover::fd_store;
use crate::telemetry::check_filter;

const NAME: &str = "log-filter";

fn place(config: &Config) -> PathBuf {
    config.state_dir().join(NAME)
}

/// What a daemon logs from its start.
pub fn at_start(config: &Config) -> String {
    let kept = fd_store::has_some().then(|| private::read(&place(config)).ok());
    let kept = kept.flatten().and_then(|kept| String::from_utf8(kept).ok());
    let usable = kept.filter(|kept| check_filter(kept).is_ok());
    usable.unwrap_or_else(|| config.log.clone())
}

/// A mount that resumes no session begins as the configuration says.
pub fn begin<S>(config: &Config, resumed: Option<&S>) {
    if resumed.is_none() {
        forget(config);
    }
}

/// Has successors log by this filter. Errors: the disk's.
pub fn keep(config: &Config, filter: &str) -> io::Result<()> {
    private::replace(&place(config), filter.as_bytes())
}

/// Has successors log as the configuration says.
pub fn forget(config: &Config) {
    match std::fs::remove_file(place(config)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "a successor may use an earlier log filter");
        }
        Ok(()) | Err(_) => {}
    }
}
