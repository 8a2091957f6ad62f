//! The helper process itself.
//!
//! Threads: some that write notifications, one that makes the stats, and the first
//! one, which waits for neither and so sees the daemon's end.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recv, recvmsg, send,
};
use rustix::thread::CapabilitySet;

use crate::session::mount::connection::Connection;
use crate::session::privileges::confine_to;
use crate::telemetry::write_logs;

/// So many notifications may wait before the next one does.
const WRITERS: usize = 4;
/// Longest notification: of a name of 255 bytes.
const NOTIFICATION_LIMIT_BYTES: usize = 512;
/// A number, and a path.
const CHECK_LIMIT_BYTES: usize = 8 + 4096;
/// What waits when the daemon ends goes on at once, unless somebody has to answer first.
const SETTLED_WITHIN: Duration = Duration::from_millis(200);
/// How often it is looked whether a successor serves.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// After the connection is aborted nothing waits any more.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Serves the daemon whose sockets are standard input (notifications) and standard
/// output (checks), and ends after it.
///
/// Errors: they are no such sockets; privileges cannot be given up.
pub fn serve(mountpoint: &Path, abort_after: Duration) -> anyhow::Result<()> {
    // It was started as /proc/self/exe.
    rustix::thread::set_name(c"mediafs-notify")?;
    // A stat of a mountpoint below another user's directory takes it.
    confine_to(CapabilitySet::DAC_READ_SEARCH).context("privileges cannot be given up")?;
    write_logs();
    let notifications = Arc::new(rustix::io::dup(rustix::stdio::stdin())?);
    let checks = Arc::new(rustix::io::dup(rustix::stdio::stdout())?);
    let (device, connection) = receive(&notifications).context("no device came")?;
    let writers = Writers::start(&notifications, device)?;
    let checker = Checker::start(checks.clone())?;
    let mut mountpoint = mountpoint.to_owned();
    let mut request = [0; CHECK_LIMIT_BYTES];
    while let Some((number, at)) = next_check(&checks, &mut request) {
        mountpoint = at;
        checker.ask(number, &mountpoint);
    }
    outlive(&writers, &checker, &connection, abort_after, &mountpoint);
    Ok(())
}

/// Number of the next check, and where the mount is; none once the daemon has ended.
fn next_check(checks: &OwnedFd, request: &mut [u8]) -> Option<(u64, PathBuf)> {
    let (len, _) = recv(checks, &mut *request, RecvFlags::empty()).ok()?;
    let (number, mountpoint) = request.get(..len)?.split_first_chunk()?;
    let mountpoint = OsStr::from_bytes(mountpoint);
    Some((u64::from_ne_bytes(*number), mountpoint.into()))
}

/// The daemon has ended: what applications ask is a successor's to answer. Without one
/// they would wait for ever, also where one is started again and again and cannot
/// serve: the connection is aborted then.
fn outlive(
    writers: &Writers,
    checker: &Checker,
    connection: &Connection,
    abort_after: Duration,
    mountpoint: &Path,
) {
    let mut answered_at = Instant::now();
    let mut pause = SETTLED_WITHIN;
    loop {
        let notifications = writers.wait_for_all(pause);
        // Nobody keeps the device: its last copy ends the connection.
        if notifications == PendingWork::No && abort_after.is_zero() {
            return;
        }
        if answered_at.elapsed() >= abort_after {
            tracing::error!(path = %mountpoint.display(), "the daemon is dead, and none has taken its place: the connection is aborted, applications get ENOTCONN");
            connection.abort();
            writers.wait_for_all(ENDS_WITHIN);
            return;
        }
        pause = CHECK_EVERY.min(abort_after);
        match (checker.answer_within(mountpoint, pause), notifications) {
            // Somebody serves, or nothing is mounted any more.
            (Some(_), PendingWork::No) => return,
            (Some(0), PendingWork::Yes) => answered_at = Instant::now(),
            (Some(_) | None, _) => {}
        }
        if notifications == PendingWork::No {
            std::thread::sleep(pause);
        }
    }
}

/// Whether a notification waits in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PendingWork {
    No,
    Yes,
}

/// Threads that pass notifications on. They own the device: with the last of them
/// this process has no copy of it any more.
#[derive(Debug)]
struct Writers {
    /// Its end tells that all have ended.
    running: Receiver<()>,
}

impl Writers {
    fn start(notifications: &Arc<OwnedFd>, device: OwnedFd) -> io::Result<Self> {
        let device = Arc::new(device);
        let (ends, running) = sync_channel::<()>(0);
        for _ in 0..WRITERS {
            let own = (notifications.clone(), device.clone(), ends.clone());
            let thread = std::thread::Builder::new().name("notify".to_owned());
            thread.spawn(move || {
                let (notifications, device, _ends) = own;
                forward_notifications(&notifications, &device);
            })?;
        }
        // Standard input is another descriptor of the same socket: the end is the daemon's.
        Ok(Self { running })
    }

    fn wait_for_all(&self, within: Duration) -> PendingWork {
        match self.running.recv_timeout(within) {
            Err(RecvTimeoutError::Timeout) => PendingWork::Yes,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => PendingWork::No,
        }
    }
}

fn forward_notifications(notifications: &OwnedFd, device: &OwnedFd) {
    let mut notification = [0; NOTIFICATION_LIMIT_BYTES];
    loop {
        let len = match recv(notifications, &mut notification, RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) | Ok((0, _)) => return,
            Ok((len, _)) => len,
        };
        let saved = notification.get(..len).unwrap_or_default();
        // What the kernel does not know, or does not take, ends with its ttl.
        if let Err(error) = rustix::io::write(device, saved)
            && error != rustix::io::Errno::NOENT
        {
            tracing::debug!(%error, "kernel did not take a notification");
        }
    }
}

/// One thread that asks the mount for its root's attributes.
#[derive(Debug)]
struct Checker {
    requests: SyncSender<(u64, PathBuf)>,
    answers: Receiver<i32>,
}

impl Checker {
    fn start(checks: Arc<OwnedFd>) -> io::Result<Self> {
        let (requests, asked) = sync_channel::<(u64, PathBuf)>(1);
        let (answer, answers) = sync_channel::<i32>(1);
        let thread = std::thread::Builder::new().name("check".to_owned());
        thread.spawn(move || {
            while let Ok((number, mountpoint)) = asked.recv() {
                let errno =
                    stat_anew(&mountpoint).map_or_else(|error| error.raw_os_error(), |()| 0);
                let mut packet = number.to_ne_bytes().to_vec();
                packet.extend(errno.to_ne_bytes());
                // The daemon may be dead, and nobody may look at this one.
                let _sent = send(&checks, &packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
                let _seen = answer.try_send(errno);
            }
        })?;
        Ok(Self { requests, answers })
    }

    /// While an earlier stat waits there is nothing to ask: its answer is still to come.
    fn ask(&self, number: u64, mountpoint: &Path) {
        let _waits = self.requests.try_send((number, mountpoint.to_owned()));
    }

    /// The error number of a stat of the mountpoint, 0 for none; nothing where nobody
    /// answers.
    fn answer_within(&self, mountpoint: &Path, within: Duration) -> Option<i32> {
        while self.answers.try_recv().is_ok() {}
        self.ask(u64::MAX, mountpoint);
        self.answers.recv_timeout(within).ok()
    }
}

/// Not from the kernel's cache: the daemon itself has to answer.
fn stat_anew(path: &Path) -> Result<(), rustix::io::Errno> {
    let mask = StatxFlags::BASIC_STATS;
    statx(CWD, path, AtFlags::STATX_FORCE_SYNC, mask).map(drop)
}

/// The first message: the device and, where there is one, the way to abort its connection.
fn receive(socket: &OwnedFd) -> io::Result<(OwnedFd, Connection)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(socket.as_fd(), &mut buffers, &mut ancillary, flags)?;
    let mut passed = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors = passed.next().into_iter().flatten();
    let device = descriptors.next();
    let device = device.ok_or_else(|| io::Error::other("no descriptor in the first message"))?;
    Ok((device, Connection::of(descriptors.next())))
}
