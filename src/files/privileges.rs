//! setuid and setgid: a file that somebody else changes is not run as its owner any more.
//!
//! The kernel leaves this to mediafs (FUSE_HANDLE_KILLPRIV_V2), and tells of a
//! write whether the writer may keep the bits. Of the other changes it tells only
//! who asks.

use std::fs;

use super::attr::{AttributeView, Caller, SET_GID};
use super::writers::Thread;
use crate::namespace::Pin;
use crate::vocabulary::Kind;

/// Bits that a change of owner or content takes away. Source: chown(2), inode(7).
const SET_UID: u16 = 0o4000;
const SET_GID_AND_GROUP_EXECUTE: u16 = 0o2010;
/// Number of the capability that keeps them. Source: capabilities(7), `CAP_FSETID`.
const CAP_FSETID: u32 = 4;

/// Whether a change took bits away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    Yes,
    No,
}

impl Caller {
    /// Whether its changes leave a file's setuid and setgid bits.
    pub fn keeps_privileges(&self) -> bool {
        self.uid == 0 && has_capability(self.thread, CAP_FSETID)
    }
}

/// True also where it cannot be told. Source: proc_pid_status(5), `CapEff`.
fn has_capability(thread: Thread, number: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", thread.0)).unwrap_or_default();
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_none_or(|effective| effective & (1 << number) != 0)
}

impl AttributeView {
    /// Before a change of a file's content, unless the caller may keep the bits.
    pub fn drop_privileges(&self, inode: &Pin, caller: Caller) -> Dropped {
        if !self.has_privileges(inode) || caller.keeps_privileges() {
            return Dropped::No;
        }
        self.take_privileges(inode)
    }

    /// Whether a change of content takes bits of the mode away.
    pub fn has_privileges(&self, inode: &Pin) -> bool {
        let (current, _) = self.attr(inode);
        inode.kind == Kind::File && unprivileged(current.mode) != current.mode
    }

    /// Takes the bits away, here and from what the kernel has remembered.
    pub fn take_privileges(&self, inode: &Pin) -> Dropped {
        let (current, _) = self.attr(inode);
        let left = unprivileged(current.mode);
        if inode.kind != Kind::File || left == current.mode {
            return Dropped::No;
        }
        inode.state().overrides.mode = Some(left);
        self.record_overrides(inode);
        self.namespace.attributes_changed(inode);
        Dropped::Yes
    }
}

/// What a mode is without the bits that run a file as its owner or group: setgid
/// without group execute is something else.
pub fn unprivileged(mode: u16) -> u16 {
    let without_uid = mode & !SET_UID;
    if mode & SET_GID_AND_GROUP_EXECUTE == SET_GID_AND_GROUP_EXECUTE {
        without_uid & !SET_GID
    } else {
        without_uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setgid_goes_only_with_group_execute() {
        for (before, after) in [
            (0o6777, 0o777),
            (0o6767, 0o2767),
            (0o2755, 0o755),
            (0o4644, 0o644),
            (0o1755, 0o1755),
        ] {
            assert_eq!(unprivileged(before), after, "{before:o}");
        }
    }
}
