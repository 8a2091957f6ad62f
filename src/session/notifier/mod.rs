//! The notifier: a helper process for whatever may wait in the kernel for an
//! answer of this daemon.
//!
//! A notification waits for a directory that an application has locked in a call,
//! and the watchdog's stat for this daemon's own answer; neither wait ends by
//! SIGKILL. A thread that waits so keeps its process, with all that it has open,
//! from ending. So it is a process of its own that waits: one that nobody waits
//! for, and that has nothing open but the device, its sockets and the log. It
//! learns by the end of its sockets that the daemon is dead.

mod process;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, send, sendmsg, socketpair, sockopt,
};

use crate::fuse::MayWait;
use crate::session::mount::Mounted;
use crate::session::mount::connection::Connection;
use crate::telemetry::log_output;
pub use process::serve;

/// The binary that runs, also where another one has its name by now.
const PROGRAM: &str = "/proc/self/exe";
/// A notifier that dies is started again, not more often than this. It is short
/// beside a watchdog: the death of the one is not to be the end of the daemon.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// How long the daemon waits for the notifier at its own end.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
const POLL_EVERY: Duration = Duration::from_millis(5);

/// The daemon's side. Locks: its own, held while a process is started.
#[derive(Debug)]
pub struct Notifier {
    device: OwnedFd,
    connection: Connection,
    mounted: Arc<Mounted>,
    abort_after: Duration,
    delivery: Delivery,
    running: Mutex<Option<Running>>,
    checks: AtomicU64,
    /// Held from a question to its answer: two would take each other's.
    checking: Mutex<()>,
}

/// Whether the kernel is told what it may make wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Notify,
    /// Nobody could end a wait that this daemon leaves behind: the ttl does instead.
    LeftToTtl,
}

#[derive(Debug)]
struct Running {
    child: Child,
    sockets: Arc<Sockets>,
    started_at: Instant,
}

#[derive(Debug)]
struct Sockets {
    notifications: OwnedFd,
    checks: OwnedFd,
    /// The other ends are gone.
    lost: AtomicBool,
}

impl Notifier {
    /// Starts it for a session. When the daemon is dead, no successor has served
    /// for `abort_after` and a notification still waits, it aborts the connection.
    ///
    /// Errors: the machine has no process for it.
    pub fn start(
        device: OwnedFd,
        connection: Connection,
        mounted: Arc<Mounted>,
        abort_after: Duration,
    ) -> io::Result<Self> {
        let cannot_end = abort_after.is_zero() && !connection.can_be_aborted();
        let notifier = Self {
            device,
            connection,
            mounted,
            abort_after,
            delivery: if cannot_end || in_container() {
                Delivery::LeftToTtl
            } else {
                Delivery::Notify
            },
            running: Mutex::default(),
            checks: AtomicU64::new(0),
            checking: Mutex::default(),
        };
        *notifier.running.lock() = Some(notifier.spawn()?);
        Ok(notifier)
    }

    /// Hands over a notification, as the kernel reads it. Waits while the notifier does.
    ///
    /// Errors: the notifier is dead, and not yet started again.
    pub fn send(&self, notification: &[u8], may_wait: MayWait) -> io::Result<()> {
        if (self.delivery, may_wait) == (Delivery::LeftToTtl, MayWait::Yes) {
            return Ok(());
        }
        let sockets = self.sockets()?;
        let sent = send(&sockets.notifications, notification, SendFlags::NOSIGNAL);
        sent.map(drop).map_err(|error| self.lost(&sockets, error))
    }

    /// Asks for a stat of the mountpoint that this daemon has to answer, and blocks
    /// until it is answered. A notifier that has died since the last one is replaced.
    ///
    /// Errors: of the stat; `TimedOut`; the notifier is dead, and not yet started again.
    pub fn check(&self, within: Duration) -> io::Result<()> {
        let deadline = Instant::now() + within;
        let turn = self.checking.try_lock_until(deadline);
        let Some(_turn) = turn else {
            return Err(io::ErrorKind::TimedOut.into());
        };
        match self.check_until(deadline) {
            Err(_) if self.restart_pause().is_some_and(|pause| pause < within) => {
                std::thread::sleep(self.restart_pause().unwrap_or_default());
                self.check_until(deadline)
            }
            outcome => outcome,
        }
    }

    /// Where the mount is, or was last.
    pub fn mountpoint(&self) -> PathBuf {
        self.mounted.path()
    }

    /// Whether the kernel is told of what it is to forget; else that ends with its ttl.
    pub fn tells_kernel(&self) -> bool {
        self.delivery == Delivery::Notify
    }

    /// How long it takes until another one may be started; none while one lives.
    fn restart_pause(&self) -> Option<Duration> {
        let running = self.running.lock();
        let lost = running.as_ref();
        let lost = lost.filter(|it| it.sockets.lost.load(Ordering::Relaxed))?;
        Some(RESTART_PAUSE.saturating_sub(lost.started_at.elapsed()))
    }

    fn check_until(&self, deadline: Instant) -> io::Result<()> {
        let sockets = self.sockets()?;
        let number = self.checks.fetch_add(1, Ordering::Relaxed);
        let mut request = number.to_ne_bytes().to_vec();
        request.extend(self.mountpoint().as_os_str().as_bytes());
        let asked = send(&sockets.checks, &request, SendFlags::NOSIGNAL);
        asked.map_err(|error| self.lost(&sockets, error))?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sockopt::set_socket_timeout(&sockets.checks, sockopt::Timeout::Recv, Some(left))?;
            let mut answer = [0; 12];
            let (len, _) = match recv(&sockets.checks, &mut answer, RecvFlags::empty()) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(self.lost(&sockets, error)),
                Ok(received) => received,
            };
            if len == 0 {
                return Err(self.lost(&sockets, rustix::io::Errno::PIPE));
            }
            let (of, errno) = answer.split_at(8);
            // An answer to an earlier check says nothing of now.
            if of == number.to_ne_bytes() {
                let errno = errno.try_into().map_or(0, i32::from_ne_bytes);
                return match errno {
                    0 => Ok(()),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                };
            }
        }
    }

    /// The session is over: nothing is to wait for it any more.
    pub fn end(&self) {
        self.connection.abort();
        let Some(running) = self.running.lock().take() else {
            return;
        };
        let Running {
            mut child, sockets, ..
        } = running;
        drop(sockets);
        let deadline = Instant::now() + ENDS_WITHIN;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(POLL_EVERY);
        }
    }

    fn sockets(&self) -> io::Result<Arc<Sockets>> {
        let mut running = self.running.lock();
        if let Some(running) = &*running {
            if !running.sockets.lost.load(Ordering::Relaxed) {
                return Ok(running.sockets.clone());
            }
            if running.started_at.elapsed() < RESTART_PAUSE {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        let started = self.spawn()?;
        let sockets = started.sockets.clone();
        if let Some(lost) = running.replace(started) {
            tracing::warn!("the notifier has ended: another one is started");
            reap(lost.child);
        }
        Ok(sockets)
    }

    /// What cannot be used any more is replaced by the next who needs it.
    fn lost(&self, sockets: &Sockets, error: rustix::io::Errno) -> io::Error {
        sockets.lost.store(true, Ordering::Relaxed);
        error.into()
    }

    fn spawn(&self) -> io::Result<Running> {
        let (notifications, their_notifications) = pair()?;
        let (checks, their_checks) = pair()?;
        let mut command = Command::new(PROGRAM);
        command
            .arg0("mediafs")
            .arg("notifier")
            .arg(self.mountpoint())
            .arg(self.abort_after.as_millis().to_string())
            .args(log_output().to_args())
            // The daemon's may hold credentials.
            .env_clear()
            .stdin(their_notifications)
            .stdout(their_checks)
            .current_dir("/")
            // The daemon's end is its end, not a signal of the terminal.
            .process_group(0);
        let child = command.spawn()?;
        let mut passed = vec![self.device.as_fd()];
        passed.extend(self.connection.as_fd());
        pass(&notifications, &passed)?;
        Ok(Running {
            child,
            sockets: Arc::new(Sockets {
                notifications,
                checks,
                lost: AtomicBool::new(false),
            }),
            started_at: Instant::now(),
        })
    }
}

/// Whether a container's end may be this process's: it kills the notifier too, which
/// then aborts nothing, and waits for it.
///
/// Source: linux/proc_ns.h, `PROC_PID_INIT_INO`: the PID namespace of the machine itself.
fn in_container() -> bool {
    const MACHINE: &str = "pid:[4026531836]";
    if std::env::var_os("_MEDIAFS_NOTIFY_IN_CONTAINER").is_some() {
        return false;
    }
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace != Path::new(MACHINE))
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((ours, theirs))
}

fn pass(socket: &OwnedFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    let flags = SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&[0])], &mut ancillary, flags)?;
    Ok(())
}

/// Has a process that was replaced end whenever it does.
fn reap(mut child: Child) {
    let reaping = std::thread::Builder::new().name("reap".to_owned());
    if let Err(error) = reaping.spawn(move || child.wait()) {
        tracing::debug!(%error, "a notifier that has ended stays in the process table");
    }
}
