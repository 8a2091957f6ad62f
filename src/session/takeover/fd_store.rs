//! Where the kernel's descriptor outlives the daemon: systemd's file-descriptor
//! store, or a supervisor that speaks the same protocol.
//!
//! Source: sd_notify(3), `FDSTORE=1`; sd_listen_fds(3).

use std::env;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::FdFlags;
use sd_notify::NotifyState;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptDescriptor {
    /// The kernel's descriptor of the mount.
    Device,
    /// The directory of an overlay, over which something may be mounted.
    OldDirectory,
}

impl KeptDescriptor {
    pub(super) const ALL: [Self; 2] = [Self::Device, Self::OldDirectory];

    /// Its name in the store.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Device => "mediafs-device",
            Self::OldDirectory => "mediafs-overlay",
        }
    }

    /// Has its number, from a supervisor.
    pub(super) fn variable(self) -> &'static str {
        match self {
            Self::Device => "_MEDIAFS_DEVICE",
            Self::OldDirectory => "_MEDIAFS_OVERLAY",
        }
    }
}

const NOTIFY_VARIABLE: &str = "NOTIFY_SOCKET";
/// Of systemd. Source: sd_listen_fds(3).
const LISTED_VARIABLE: &str = "LISTEN_FDS";

/// Whether there is a store.
pub fn is_present() -> bool {
    env::var_os(NOTIFY_VARIABLE).is_some()
}

/// Whether a predecessor has handed descriptors on.
pub fn has_some() -> bool {
    env::var_os(KeptDescriptor::Device.variable()).is_some()
        || env::var_os(LISTED_VARIABLE).is_some()
}

/// Hands a copy of a descriptor to the store. Errors: the socket's.
pub fn keep(what: KeptDescriptor, descriptor: &impl AsFd) -> io::Result<()> {
    let states = [NotifyState::FdStore, NotifyState::FdName(what.name())];
    sd_notify::notify_with_fds(&states, &[descriptor.as_fd()])
}

/// It is not needed any more: the store is to close its copy.
pub fn forget(what: KeptDescriptor) {
    let states = [NotifyState::FdStoreRemove, NotifyState::FdName(what.name())];
    if let Err(error) = sd_notify::notify(&states) {
        tracing::debug!(%error, "the descriptor store was not told of the end");
    }
}

/// The descriptor that a predecessor handed to the store.
///
/// To be called once for each, before other threads use the environment.
pub fn inherited(what: KeptDescriptor) -> Option<OwnedFd> {
    let held = env::var(what.variable()).ok();
    let number = match held.and_then(|number| number.parse().ok()) {
        Some(number) => number,
        None => listed(what)?,
    };
    // A descriptor that is not open is nobody's.
    // SAFETY: the number is only borrowed for the question whether it is open.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: the number was passed to this process for it to own, and nothing
    // else in it knows the number.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

fn listed(what: KeptDescriptor) -> Option<RawFd> {
    let mut descriptors = sd_notify::listen_fds_with_names().ok()?;
    descriptors
        .find(|(_, name)| name == what.name())
        .map(|(number, _)| number)
}
