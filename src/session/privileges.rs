//! What a daemon that serves does not need, it gives up before it starts.
//!
//! Capabilities belong to threads and go on to those that are made later: this
//! runs while there is one thread only.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// `SYS_ADMIN` to mount and unmount; `DAC_READ_SEARCH` to reach a mountpoint
/// below another user's directory, and credentials that are renewed in a file of one.
const KEPT: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::DAC_READ_SEARCH);

/// Gives up core dumps, which would hold credentials and file contents, and with
/// them the right of this user's other programs to look into the process. As
/// root also every capability but those kept, and ever having more of them.
///
/// A user other than root keeps the way to new privileges: fusermount3, which
/// unmounts for it, is setuid.
pub fn confine() -> Result<(), rustix::io::Errno> {
    confine_to(KEPT)
}

/// The same of a mount over an old directory: `LEASE`, to see who still writes another
/// user's file there.
pub fn confine_over_a_directory() -> Result<(), rustix::io::Errno> {
    confine_to(KEPT | CapabilitySet::LEASE)
}

/// The same, with other capabilities that are kept.
pub fn confine_to(kept: CapabilitySet) -> Result<(), rustix::io::Errno> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let held = rustix::thread::capabilities(None)?;
    // Source: capabilities(7), "Capability bounding set".
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for given_up in held.permitted.difference(kept) {
            rustix::thread::remove_capability_from_bounding_set(given_up)?;
        }
    }
    let kept = CapabilitySets {
        effective: held.effective & kept,
        permitted: held.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, kept)?;
    rustix::thread::set_no_new_privs(true)
}

/// Open files as many as this process may have (`RLIMIT_NOFILE`): the soft limit is
/// 1,024 for the sake of select(2), which nothing here calls.
///
/// Source: getrlimit(2); systemd.exec(5), "LimitNOFILE=".
pub fn raise_open_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// Closes every descriptor but the standard ones, whoever left them open.
///
/// To be called before the process opens any.
pub fn close_others() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: nothing in the process owns one of these descriptors yet.
    match unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
