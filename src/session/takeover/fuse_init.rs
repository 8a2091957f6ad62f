//! The beginning of a kernel session, and the resuming of one.
//!
//! The kernel sends FUSE_INIT once in the life of a mount, and fuser insists on
//! it. So the request is read here, and fuser gets it through a socket pair; the
//! successor's fuser gets the same bytes again. Once it has answered, the
//! kernel's descriptor takes the socket's place.

use std::collections::BTreeSet;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, ensure};
use fuser::{Filesystem, Session, SessionACL};
use rustix::io::{DupFlags, Errno};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// Longest FUSE_INIT, and least buffer that the kernel reads requests into.
/// Source: linux/fuse.h, `FUSE_MIN_READ_BUFFER`.
const REQUEST_LIMIT_BYTES: usize = 8192;
/// `FUSE_NOTIFY_RESEND`: an answer to no request, that has the kernel send again
/// what nobody has answered. Source: linux/fuse.h, `fuse_out_header` and `fuse_notify_code`.
const RESEND_CODE: i32 = 7;

/// What kernel and daemon said to each other at the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    pub init: Vec<u8>,
    pub answer: Vec<u8>,
}

/// Whether requests of a dead daemon come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resent {
    Yes,
    /// The kernel is older than 6.9.
    NotByThisKernel,
}

/// Begins a session on a descriptor that was just mounted.
///
/// Errors: the kernel's, fuser's.
pub fn begin<F: Filesystem>(
    device: &OwnedFd,
    filesystem: F,
    config: fuser::Config,
) -> anyhow::Result<(Session<F>, Handshake)> {
    let mut init = read_init(device).context("no FUSE_INIT came")?;
    if as_an_old_kernel() {
        forget_resend(&mut init);
    }
    let (session, answer) = agree(device, &init, filesystem, config)?;
    let written = rustix::io::write(device, &answer).context("FUSE_INIT not answered")?;
    ensure!(written == answer.len(), "FUSE_INIT answered in part");
    Ok((session, Handshake { init, answer }))
}

/// Resumes the session of a predecessor.
///
/// Errors: fuser's.
pub fn resume<F: Filesystem>(
    device: &OwnedFd,
    predecessor: &Handshake,
    filesystem: F,
    config: fuser::Config,
) -> anyhow::Result<Session<F>> {
    let (session, answer) = agree(device, &predecessor.init, filesystem, config)?;
    if answer != predecessor.answer {
        tracing::warn!(
            "this version would negotiate other kernel features: those of the first mount stay until the next mount"
        );
    }
    Ok(session)
}

/// Has the kernel send again what the predecessor took and did not answer.
///
/// Source: Linux 6.9, fs/fuse/dev.c, `fuse_notify_resend`. Errors: the kernel's.
pub fn resend(device: &OwnedFd) -> io::Result<Resent> {
    if as_an_old_kernel() {
        return Ok(Resent::NotByThisKernel);
    }
    let mut notification = Vec::with_capacity(16);
    notification.extend(16_u32.to_ne_bytes());
    notification.extend(RESEND_CODE.to_ne_bytes());
    notification.extend(0_u64.to_ne_bytes());
    match rustix::io::write(device, &notification) {
        Ok(_) => Ok(Resent::Yes),
        Err(Errno::INVAL) => Ok(Resent::NotByThisKernel),
        Err(error) => Err(error.into()),
    }
}

/// Has calls return with EINTR that a predecessor took and did not answer.
///
/// Errors: the kernel's, but for requests that it knows nothing of any more.
pub fn interrupt(device: &OwnedFd, requests: &BTreeSet<u64>) -> io::Result<()> {
    for request in requests {
        let mut answer = Vec::with_capacity(16);
        answer.extend(16_u32.to_ne_bytes());
        answer.extend((-Errno::INTR.raw_os_error()).to_ne_bytes());
        answer.extend(request.to_ne_bytes());
        match rustix::io::write(device, &answer) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn read_init(device: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; REQUEST_LIMIT_BYTES];
    loop {
        match rustix::io::read(device, &mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            // Source: fuse(4): the request was interrupted, another read follows.
            Err(Errno::INTR | Errno::NOENT | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets fuser answer FUSE_INIT, and then talk to the kernel.
fn agree<F: Filesystem>(
    device: &OwnedFd,
    init: &[u8],
    filesystem: F,
    config: fuser::Config,
) -> anyhow::Result<(Session<F>, Vec<u8>)> {
    let (theirs, ours) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::write(&ours, init)?;
    // The kernel itself refuses other users unless told `allow_other`.
    let session = Session::from_fd(filesystem, theirs, SessionACL::All, config)
        .context("FUSE_INIT was not understood")?;
    let mut answer = vec![0; REQUEST_LIMIT_BYTES];
    let len = rustix::io::read(&ours, &mut answer)?;
    answer.truncate(len);
    let number = session.as_fd().as_raw_fd();
    // SAFETY: the descriptor is the session's, open, and stays the session's: it
    // is only replaced by dup3, and never closed here.
    let mut socket = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    rustix::io::dup3(device, &mut socket, DupFlags::CLOEXEC)?;
    Ok((session, answer))
}

/// For tests of what is done where the kernel does not send requests again.
fn as_an_old_kernel() -> bool {
    std::env::var_os("_MEDIAFS_WITHOUT_RESEND").is_some()
}

/// Source: linux/fuse.h: `fuse_in_header` has 40 bytes, `flags2` of `fuse_init_in`
/// follows four numbers of 32 bits, and `FUSE_HAS_RESEND` is bit 39 of all flags.
fn forget_resend(init: &mut [u8]) {
    const FLAGS2_AT: usize = 40 + 4 * 4;
    if let Some(flags) = init.get_mut(FLAGS2_AT) {
        *flags &= !(1 << (39 - 32));
    }
}
