//! Mounting without root: fusermount3 mounts and sends the descriptor back.

use std::io;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};

use crate::ops::Access;
use crate::session::mount::selinux;
use crate::session::mount::{Execution, MountError, MountSettings, Sharing};

/// Names the socket on which fusermount3 sends the descriptor. Source: fusermount3, `_FUSE_COMMFD`.
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

pub fn mount(mountpoint: &Path, settings: &MountSettings) -> Result<OwnedFd, MountError> {
    let failed = |error: io::Error| MountError::Fusermount(error.to_string());
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::empty(),
        None,
    )
    .map_err(|error| failed(error.into()))?;
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC)
        .map_err(|error| failed(error.into()))?;
    let output = Command::new("fusermount3")
        .arg("-o")
        .arg(options(settings))
        .arg("--")
        .arg(mountpoint)
        .env(SOCKET_VARIABLE, theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .output();
    drop(theirs);
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(MountError::NoFusermount);
        }
        Err(error) => return Err(failed(error)),
    };
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        if told.contains("user_allow_other") {
            return Err(MountError::AllowOtherNotPermitted);
        }
        return Err(MountError::Fusermount(told.trim().to_owned()));
    }
    receive(&ours).map_err(failed)
}

fn options(settings: &MountSettings) -> String {
    // Commas and backslashes separate options. Source: fusermount3(1).
    let source = settings.source.replace('\\', "\\\\").replace(',', "\\,");
    let mut options = format!("fsname={source},subtype=mediafs,default_permissions,nosuid,nodev");
    if settings.sharing == Sharing::AllUsers {
        options.push_str(",allow_other");
    }
    if settings.access == Access::ReadOnly {
        options.push_str(",ro");
    }
    if settings.execution == Execution::Refused {
        options.push_str(",noexec");
    }
    if let Some(context) = &settings.context {
        let option = selinux::option(context).replace(',', "\\,");
        options.push_str(&format!(",{option}"));
    }
    options
}

fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            return Ok(descriptor);
        }
    }
    Err(io::Error::other("no descriptor came back"))
}
