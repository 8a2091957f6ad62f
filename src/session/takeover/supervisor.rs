//! The supervisor: keeps the kernel's descriptor where there is no systemd, and
//! starts the daemon again when it ends without having unmounted.
//!
//! It speaks systemd's protocol on a socket of its own (sd_notify(3): `READY=1`,
//! `FDSTORE=1`, `FDSTOREREMOVE=1`, `WATCHDOG=1`), and ends when the mount does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_dumpable_behavior,
};

use crate::backoff::Backoff;
use crate::session::takeover::fd_store::KeptDescriptor;
use crate::session::takeover::supervisor_watchdog::{Sign, Watchdog};
use crate::write_path::is_beyond_return;

/// After a daemon that served for less than this another one is started after a pause.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// The pause grows as long as none comes to serve.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at the daemon.
const TICK: Duration = Duration::from_secs(1);
/// A daemon that was killed ends within milliseconds, or waits in the kernel.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// Marks the end of the messages.
const BARRIER: &str = "BARRIER=1";
const MESSAGE_LIMIT_BYTES: usize = 4096;

/// Whether the daemon has said that it serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Readiness {
    #[default]
    Never,
    /// In an earlier life.
    Before,
    /// In this life.
    Now,
}

/// What the daemon has said so far.
#[derive(Debug, Default)]
struct DaemonState {
    readiness: Readiness,
    /// Since the watchdog's last look.
    alive: bool,
    /// By their names.
    kept: BTreeMap<String, OwnedFd>,
}

impl DaemonState {
    /// How far the life came that has just ended.
    fn end_life(&mut self) -> Readiness {
        let reached = self.readiness;
        if reached == Readiness::Now {
            self.readiness = Readiness::Before;
        }
        reached
    }
}

/// Which life of the daemon begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    First,
    Later,
}

/// Runs the program with these arguments until it has unmounted, and returns how
/// it ended. `prepare` is told which of its lives begins. Once it is ready it has to
/// say that it is alive within `watchdog`, or it is replaced.
///
/// Errors: when the socket cannot be made or the program not be started.
pub fn supervise(
    program: &Path,
    args: &[OsString],
    socket: &Path,
    watchdog: Option<Duration>,
    prepare: impl Fn(&mut Command, Life),
) -> anyhow::Result<ExitStatus> {
    // Its environment holds the credentials of the daemon. What it starts is not bound by it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    ignore_hangup();
    // Its own: another supervisor's must not take its place.
    let socket = socket.with_extension(std::process::id().to_string());
    let ours = Socket::bind(&socket)?;
    let said = Arc::new(Mutex::new(DaemonState::default()));
    let (heard, caught_up) = mpsc::sync_channel(1);
    let listener = (ours.socket.try_clone()?, said.clone());
    std::thread::spawn(move || listen(&listener.0, &listener.1, &heard));
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LIMIT);
    let mut life = Life::First;
    let mut stop = None;
    loop {
        let began = Instant::now();
        let mut command = Command::new(program);
        command.args(args).env("NOTIFY_SOCKET", &socket);
        // Another supervisor's, whose daemon this would not be.
        command
            .env_remove("WATCHDOG_PID")
            .env_remove("WATCHDOG_USEC");
        if let Some(limit) = watchdog {
            command.env("WATCHDOG_USEC", limit.as_micros().to_string());
        }
        prepare(&mut command, life);
        let lived = live(&mut command, &said, watchdog.map(Watchdog::new), &mut stop);
        drain_messages(&socket, &caught_up);
        let readiness = said.lock().end_life();
        // Before it was ready it has told whoever waits why it is not.
        let unmounted = lived.as_ref().is_ok_and(ExitStatus::success);
        if unmounted || readiness == Readiness::Never {
            return lived;
        }
        tracing::warn!(
            ?lived,
            "the daemon ended without having unmounted: starting it again"
        );
        // One that serves does not die of it.
        stop = lived.as_ref().ok().and_then(stop_of).or(stop);
        if readiness == Readiness::Now {
            backoff.reset();
        }
        if lived.is_err() || (life == Life::Later && began.elapsed() < SETTLED_AFTER) {
            std::thread::sleep(backoff.next_pause());
        }
        life = Life::Later;
    }
}

/// A hangup is for the daemon, which reads its configuration again: with
/// `pkill -HUP mediafs` it comes to all. What is started begins by ignoring it too.
fn ignore_hangup() {
    // SAFETY: no handler is installed, and nobody else sets what this signal does.
    let before = unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        tracing::warn!("cannot ignore SIGHUP");
    }
}

/// The signal to stop that the daemon died of.
fn stop_of(status: &ExitStatus) -> Option<Signal> {
    let stops = [Signal::TERM, Signal::INT];
    stops
        .into_iter()
        .find(|stop| status.signal() == Some(stop.as_raw()))
}

/// One life of the daemon. It is told to `stop` once it is ready.
fn live(
    command: &mut Command,
    said: &Mutex<DaemonState>,
    watchdog: Option<Watchdog>,
    stop: &mut Option<Signal>,
) -> anyhow::Result<ExitStatus> {
    let mut daemon = start(command, said)?;
    // Whoever waits at a pipe there sees its end once the daemon closes it.
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    match watch(&daemon, said, watchdog, stop).context("the daemon cannot be watched")? {
        End::Whole => Ok(daemon.wait()?),
        End::Stuck => {
            // It ends when its successor has answered what it waits for.
            let pid = daemon.id();
            std::thread::spawn(move || daemon.wait());
            Err(anyhow!(
                "process {pid} is dead, and a thread of it waits in the kernel"
            ))
        }
    }
}

/// How a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// Killed, but not gone: a thread waits in the kernel for what a daemon answers.
    Stuck,
}

/// Returns when the daemon has ended, which it is made to when it is silent for too long.
fn watch(
    daemon: &Child,
    said: &Mutex<DaemonState>,
    mut watchdog: Option<Watchdog>,
    stop: &mut Option<Signal>,
) -> io::Result<End> {
    let pid = daemon.id().to_string();
    let daemon = pidfd_open(Pid::from_child(daemon), PidfdFlags::empty())?;
    let mut dead_since = None;
    loop {
        let began = Instant::now();
        let tick = watchdog.as_ref().map_or(TICK, Watchdog::tick);
        let tick = Timespec::try_from(tick).map_err(io::Error::other)?;
        let mut ended = [PollFd::new(&daemon, PollFlags::IN)];
        match poll(&mut ended, Some(&tick)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(End::Whole),
            Err(error) => return Err(error.into()),
        }
        if !is_beyond_return(&pid) {
            dead_since = None;
        } else if dead_since.get_or_insert(began).elapsed() >= ENDS_WITHIN {
            return Ok(End::Stuck);
        }
        let is_ready = said.lock().readiness == Readiness::Now;
        if let Some(signal) = stop.take_if(|_| is_ready) {
            tracing::info!(
                ?signal,
                "the predecessor ended by this signal: sending it to the successor"
            );
            end(&daemon, signal);
        }
        let Some(watchdog) = &mut watchdog else {
            continue;
        };
        let sign = {
            let mut said = said.lock();
            match (said.readiness, std::mem::take(&mut said.alive)) {
                (Readiness::Never | Readiness::Before, _) => Sign::Starting,
                (Readiness::Now, true) => Sign::Alive,
                (Readiness::Now, false) => Sign::Silent,
            }
        };
        if let Some(signal) = watchdog.look(sign, began.elapsed()) {
            tracing::error!(
                ?signal,
                "watchdog: no health report from the daemon: replacing it"
            );
            end(&daemon, signal);
        }
    }
}

fn end(daemon: &OwnedFd, signal: Signal) {
    if let Err(error) = pidfd_send_signal(daemon, signal) {
        tracing::warn!(%error, "the daemon cannot be ended");
    }
}

/// Returns once every message of the dead daemon was read.
fn drain_messages(socket: &Path, caught_up: &mpsc::Receiver<()>) {
    let asked = UnixDatagram::unbound()
        .and_then(|barrier| barrier.send_to(BARRIER.as_bytes(), socket))
        .map(|_| caught_up.recv_timeout(HEARD_WITHIN));
    if !matches!(asked, Ok(Ok(()))) {
        tracing::warn!("cannot read the rest of the daemon's output");
    }
}

/// The daemon's copies of the descriptors are inherited; the supervisor's own never are.
fn start(command: &mut Command, said: &Mutex<DaemonState>) -> anyhow::Result<Child> {
    let mut copies = Vec::new();
    for kept in KeptDescriptor::ALL {
        if let Some(descriptor) = said.lock().kept.get(kept.name()) {
            let copy = rustix::io::dup(descriptor)?;
            rustix::io::fcntl_setfd(&copy, FdFlags::empty())?;
            command.env(kept.variable(), copy.as_raw_fd().to_string());
            copies.push(copy);
        }
    }
    command.spawn().context("cannot start the daemon")
}

fn listen(socket: &UnixDatagram, said: &Mutex<DaemonState>, heard: &mpsc::SyncSender<()>) {
    loop {
        match receive(socket) {
            Ok((message, _)) if message == BARRIER => {
                // One that nobody waited for says the same.
                if let Err(mpsc::TrySendError::Disconnected(())) = heard.try_send(()) {
                    return;
                }
            }
            Ok((message, descriptor)) => note(&message, descriptor, &mut said.lock()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::error!(%error, "lost the daemon's status messages");
                return;
            }
        }
    }
}

fn note(message: &str, descriptor: Option<OwnedFd>, said: &mut DaemonState) {
    let name = message
        .lines()
        .find_map(|line| line.strip_prefix("FDNAME="));
    let name = name.unwrap_or(KeptDescriptor::Device.name());
    for line in message.lines() {
        match line {
            "READY=1" => said.readiness = Readiness::Now,
            "WATCHDOG=1" => said.alive = true,
            "FDSTOREREMOVE=1" => drop(said.kept.remove(name)),
            _ => {}
        }
    }
    if let Some(descriptor) = descriptor
        && message.lines().any(|line| line == "FDSTORE=1")
    {
        said.kept.insert(name.to_owned(), descriptor);
    }
}

fn receive(socket: &UnixDatagram) -> io::Result<(String, Option<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_LIMIT_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let len = recvmsg(socket.as_fd(), &mut buffers, &mut ancillary, flags)?.bytes;
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            descriptor = descriptors.next();
        }
    }
    bytes.truncate(len);
    Ok((String::from_utf8_lossy(&bytes).into_owned(), descriptor))
}

/// A socket in the file system, removed with the supervisor.
#[derive(Debug)]
struct Socket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Socket {
    fn bind(path: &Path) -> anyhow::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace {}", path.display()));
            }
            _ => {}
        }
        let socket = UnixDatagram::bind(path);
        Ok(Self {
            socket: socket.with_context(|| format!("cannot make {}", path.display()))?,
            path: path.to_owned(),
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the supervisor's socket stays");
        }
    }
}
