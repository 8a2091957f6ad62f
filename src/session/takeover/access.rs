//! Who refuses changes: the kernel by a flag of the mount, which a remount changes, or
//! the daemon, where its configuration became read-only under a mount that was not.

use crate::config::Config;
use crate::ops::Access;
use crate::session_state::{SavedAccess, SavedSession};

pub fn configured(config: &Config) -> Access {
    if config.read_only {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    }
}

/// For a session of this configuration; `predecessor` is where it resumes one.
pub fn of(config: &Config, predecessor: Option<&SavedSession>) -> SavedAccess {
    let before = predecessor.map(|session| session.access);
    match (configured(config), before) {
        (Access::ReadWrite, _) => SavedAccess::Writable,
        // The flag of the mount may have been taken away since, which stands.
        (Access::ReadOnly, None | Some(Some(SavedAccess::ReadOnly))) => SavedAccess::ReadOnly,
        (Access::ReadOnly, Some(None | Some(SavedAccess::Writable | SavedAccess::Refused))) => {
            SavedAccess::Refused
        }
    }
}
