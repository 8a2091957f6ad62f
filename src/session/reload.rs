//! SIGHUP: the configuration is read again.

use super::control::commands::Reloaded;
use super::log_filter;
use crate::config::{Config, ConfigError, ConfigSource};
use crate::namespace::Coherence;
use crate::ops::{Ops, RuntimeLimits};
use crate::telemetry::Logs;

/// Settings that hold from the moment they are read; the others say how the mount was made.
const LIVE: [&str; 6] = [
    "log",
    "max-rename-objects",
    "negative-ttl",
    "spool-size",
    "stale-ttl",
    "ttl",
];

/// What a reload reads, and the logs that it sets.
#[derive(Debug)]
pub struct Reload {
    pub source: ConfigSource,
    pub logs: Logs,
}

impl Reload {
    /// Makes live what can be, and says what of the rest waits for a new mount.
    /// A configuration that is wrong changes nothing.
    ///
    /// Errors: that of the configuration.
    pub fn run(&self, mounted: &Config, ops: &Ops) -> Result<Reloaded, ConfigError> {
        self.logs.reopen();
        let config = self.source.load().inspect_err(|error| {
            tracing::error!(%error, "reload failed: every setting stays as it was");
        })?;
        if let Err(error) = self.logs.set_filter(&config.log) {
            tracing::error!("{error:#}: the log filter stays as it was");
        }
        log_filter::forget(mounted);
        ops.controls().tune(runtime_limits(&config));
        let differ = mounted.differences(&config);
        let (changed, waiting): (Vec<_>, Vec<_>) = differ
            .into_iter()
            .partition(|name| LIVE.contains(&name.as_str()));
        tracing::info!(changed = changed.join(" "), "reloaded");
        if !waiting.is_empty() {
            tracing::warn!(
                settings = waiting.join(" "),
                "these settings need a new mount: restart the daemon"
            );
        }
        Ok(Reloaded { changed, waiting })
    }
}

fn runtime_limits(config: &Config) -> RuntimeLimits {
    RuntimeLimits {
        coherence: Coherence {
            ttl: config.ttl,
            negative_ttl: config.negative_ttl,
            stale_ttl: config.stale_ttl,
        },
        max_rename_objects: config.max_rename_objects,
        spool_limit_bytes: config.spool_limit_bytes,
    }
}
