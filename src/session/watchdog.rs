//! What goes on beside serving: telling the service manager how things are,
//! showing it that the mount is alive, and reading the configuration again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, interval_at};

use super::Reload;
use super::control::commands::{LogFilter, Reloaded};
use super::log_filter;
use crate::config::Config;
use crate::fuse::{Agreement, WatchedAdapter};
use crate::ops::{Ops, PendingWork};
use crate::overlay::Overlay;
use crate::session::explain;
use crate::session::notifier::Notifier;
use crate::session::otlp::Otlp;
use crate::session::sd_notify;
use crate::store::StoreHealth;
use crate::store::s3::S3Store;
use crate::task::{caught, kept_up};

/// How often the status is looked at; it is sent when it has changed.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// What an end takes beyond its drain.
const END_RESERVE: Duration = Duration::from_secs(30);

/// A mount that serves.
#[derive(Debug)]
pub struct RunningMount {
    pub ops: Arc<Ops>,
    pub adapter: WatchedAdapter,
    pub overlay: Option<Arc<Overlay>>,
    /// Daemons that have resumed the session, this one included.
    pub takeovers: u64,
    /// Makes the stats that show whether the mount answers.
    pub notifier: Arc<Notifier>,
    pub s3: Arc<S3Store>,
    pub health: StoreHealth,
    /// With the kernel, when the mount began.
    pub agreed: Option<Agreement>,
    /// What it was mounted with.
    pub mounted: Config,
    pub reload: Reload,
    /// Held while the configuration is read again.
    pub reloading: Mutex<()>,
    pub otlp: Arc<Otlp>,
}

impl RunningMount {
    /// Reads the configuration and the credentials again.
    ///
    /// Errors: a configuration that is wrong, which changes nothing; credentials that are
    /// not found any more, where those of before stay.
    pub async fn reload(&self) -> Result<Reloaded, String> {
        let _turn = self.reloading.lock().await;
        let reload = async {
            let reloaded = self.reload.run(&self.mounted, &self.ops);
            let reloaded = reloaded.map_err(|error| error.to_string())?;
            let found = self.s3.reload_credentials().await;
            found.map_err(|error| {
                format!("no credentials found any more, the previous ones stay in use: {error}")
            })?;
            Ok(reloaded)
        };
        let outcome = caught("reload", reload).await;
        outcome.unwrap_or_else(|panicked| Err(panicked.to_string()))
    }

    /// What is logged.
    pub fn log_filter(&self) -> LogFilter {
        LogFilter {
            filter: self.reload.logs.filter(),
            unkept: None,
        }
    }

    /// Logs by another filter, as successors will. Errors: a filter that is none.
    pub async fn set_log_filter(&self, filter: &str) -> Result<LogFilter, String> {
        let _turn = self.reloading.lock().await;
        let set = self.reload.logs.set_filter(filter);
        set.map_err(|error| explain::in_words(&error))?;
        let kept = log_filter::keep(&self.mounted, filter);
        tracing::info!(filter, "the log filter was changed");
        Ok(LogFilter {
            filter: filter.to_owned(),
            unkept: kept.err().map(|error| error.to_string()),
        })
    }

    /// A stat by another process through the kernel and back within `limit`, and no thread
    /// that has been at one request for longer than `thread_limit`. Errors: why not.
    pub async fn answers(&self, limit: Duration, thread_limit: Duration) -> Result<(), String> {
        let stuck = self.adapter.threads.stuck(thread_limit);
        if stuck > 0 {
            return Err(format!("{stuck} threads are stuck in a request"));
        }
        let notifier = self.notifier.clone();
        match tokio::task::spawn_blocking(move || notifier.check(limit)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                Err("the mount does not answer a stat".to_owned())
            }
            Ok(Err(error)) => Err(format!("the mount answers a stat with: {error}")),
            Err(error) => Err(format!("the stat broke off: {error}")),
        }
    }
}

/// The signals that are heard here; two of them also by whoever ends the mount.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// Reloads the configuration, reports the status and feeds the watchdog until it is
/// aborted. From here on none of the signals kills the process.
pub fn start(runtime: &Handle, mount: Arc<RunningMount>) -> io::Result<JoinHandle<()>> {
    let _runtime = runtime.enter();
    let signals = Signals {
        hangup: signal(SignalKind::hangup())?,
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    Ok(runtime.spawn(watch(mount, signals)))
}

async fn watch(mount: Arc<RunningMount>, signals: Signals) {
    let Signals {
        mut hangup,
        terminate,
        interrupt,
    } = signals;
    let reloading = async {
        while hangup.recv().await.is_some() {
            sd_notify::reloading();
            // The log has it, if it failed.
            let (Ok(_) | Err(_)) = mount.reload().await;
            sd_notify::ready();
        }
    };
    let telling = caught("status", report_until_stopped(&mount, terminate, interrupt));
    let showing = kept_up("watchdog", || show_life(&mount));
    let ((), Ok(()) | Err(_), ()) = tokio::join!(reloading, telling, showing);
}

/// Sends the status whenever it has changed.
async fn report_until_stopped(mount: &RunningMount, mut terminate: Signal, mut interrupt: Signal) {
    let Config {
        bucket,
        prefix,
        mountpoint,
        ..
    } = &mount.mounted;
    let place = format!("{bucket}/{prefix} on {}", mountpoint.display());
    let mut doing = "serving";
    let mut saved = String::new();
    let mut ticks = interval(STATUS_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = terminate.recv(), if doing == "serving" => doing = "stopping",
            _ = interrupt.recv(), if doing == "serving" => doing = "stopping",
        }
        let waiting = what_waits(mount.ops.controls().waiting());
        let mut now = format!("{doing} {place}; {waiting}");
        if let Some(outage) = mount.health.outage() {
            now.push_str(&format!("; {outage}"));
        }
        if now == saved {
            continue;
        }
        if doing == "stopping" && saved.starts_with("serving") {
            sd_notify::stopping(mount.mounted.drain_timeout + END_RESERVE);
        }
        sd_notify::status(&now);
        saved = now;
    }
}

fn what_waits(waiting: PendingWork) -> String {
    let count = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{number} {what}s")),
    };
    let named = [
        count(waiting.files, "upload"),
        count(waiting.deletes, "delete"),
    ];
    let named: Vec<String> = named.into_iter().flatten().collect();
    let mut text = match waiting.files + waiting.deletes {
        0 => "nothing waits for S3".to_owned(),
        1 => format!("{} waits for S3", named.concat()),
        _ => format!("{} wait for S3", named.join(" and ")),
    };
    if waiting.staged_bytes > 0 {
        let staged = ByteSize(waiting.staged_bytes);
        text.push_str(&format!(", {staged} in the spool"));
    }
    text
}

/// Feeds the watchdog as long as the mount answers. S3 plays no part: an outage
/// is no reason to kill a daemon that holds what waits for its end.
async fn show_life(mount: &RunningMount) {
    let Some(period) = sd_notify::watchdog_period() else {
        return;
    };
    // Not at once: umount(8) fails while a stat is under way, and a script may mount and
    // unmount in a row.
    let mut ticks = interval_at(Instant::now() + period / 2, period / 2);
    loop {
        ticks.tick().await;
        match mount.answers(period / 2, period).await {
            Ok(()) => sd_notify::alive(),
            Err(why) => tracing::error!(why, "health check failed: not feeding the watchdog"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_told_in_words() {
        let waiting = |files, deletes, staged_bytes| {
            what_waits(PendingWork {
                files,
                deletes,
                staged_bytes,
            })
        };
        assert_eq!(waiting(0, 0, 0), "nothing waits for S3");
        assert_eq!(waiting(1, 0, 0), "1 upload waits for S3");
        assert_eq!(
            waiting(2, 1, 5 << 20),
            "2 uploads and 1 delete wait for S3, 5.0 MiB in the spool"
        );
    }
}
