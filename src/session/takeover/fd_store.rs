//! Where the kernel's descriptor outlives the daemon: systemd's file-descriptor
//! store, or a supervisor that speaks the same protocol.
//!
//! Source: sd_notify(3), `FDSTORE=1`; sd_listen_fds(3).

use std::env;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::FdFlags;
use sd_notify::NotifyState;

/// Name of the descriptor in the store.
const NAME: &str = "mediafs-device";
/// The number of the descriptor, from a supervisor.
pub(super) const DEVICE_VARIABLE: &str = "_MEDIAFS_DEVICE";
const NOTIFY_VARIABLE: &str = "NOTIFY_SOCKET";
/// Of systemd. Source: sd_listen_fds(3).
const LISTED_VARIABLE: &str = "LISTEN_FDS";

/// Whether there is a store.
pub fn is_present() -> bool {
    env::var_os(NOTIFY_VARIABLE).is_some()
}

/// Whether a predecessor has handed descriptors on.
pub fn has_some() -> bool {
    env::var_os(DEVICE_VARIABLE).is_some() || env::var_os(LISTED_VARIABLE).is_some()
}

/// Hands a copy of the descriptor to the store. Errors: the socket's.
pub fn keep(device: &impl AsFd) -> io::Result<()> {
    let states = [NotifyState::FdStore, NotifyState::FdName(NAME)];
    sd_notify::notify_with_fds(&states, &[device.as_fd()])
}

/// The session is over: the store is to close its copy.
pub fn forget() {
    let states = [NotifyState::FdStoreRemove, NotifyState::FdName(NAME)];
    if let Err(error) = sd_notify::notify(&states) {
        tracing::debug!(%error, "the descriptor store was not told of the end");
    }
}

/// The descriptor that a predecessor handed to the store.
///
/// To be called once, before other threads use the environment.
pub fn inherited() -> Option<OwnedFd> {
    let held = env::var(DEVICE_VARIABLE).ok();
    let number = match held.and_then(|number| number.parse().ok()) {
        Some(number) => number,
        None => listed()?,
    };
    // A descriptor that is not open is nobody's.
    // SAFETY: the number is only borrowed for the question whether it is open.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: the number was passed to this process for it to own, and nothing
    // else in it knows the number.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

fn listed() -> Option<RawFd> {
    let mut descriptors = sd_notify::listen_fds_with_names().ok()?;
    descriptors
        .find(|(_, name)| name == NAME)
        .map(|(number, _)| number)
}
