//! The protocol of a service manager; without one nothing is sent.
//!
//! Source: sd_notify(3).

use std::time::Duration;

use sd_notify::NotifyState;

/// The mount serves.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// One line about how things are.
pub fn status(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// The configuration is read again; `ready` says when that is done.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot read the monotonic clock"),
    }
}

/// The end has begun, and may take this long.
pub fn stopping(within: Duration) {
    let usec = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    notify(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(usec),
        NotifyState::Status("stopping: uploading what waits"),
    ]);
}

/// All is well, for another period of the watchdog.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often the service manager wants to hear that all is well, if at all.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot send a status to the service manager");
    }
}
