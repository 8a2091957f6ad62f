//! The composition root: what a mount is made of, and the order of its start and end.
//!
//! Start: mountpoint checked, spool locked and its place compared, bucket answered, spool opened, mounted, kernel
//! agreed, the service manager's questions answered, ready. End: unmounted (so
//! that no request comes any more), requests drained, stages kept.

mod app_folder;
mod background;
mod client;
mod compose;
pub mod control;
mod early_signals;
mod explain;
mod lease;
mod log_filter;
mod mount;
mod notifier;
mod otlp;
mod overlay;
mod prepare;
mod privileges;
mod probe;
mod reading;
mod reload;
mod sd_notify;
mod stop_request;
pub mod systemctl;
mod systemd_job;
mod takeover;
mod watchdog;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fuser::Session;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::fuse::{Adapter, InFlight, forward_invalidations, interrupt_killed};
use crate::namespace::{Invalidation, Invalidations};
use crate::ops::{self, OpenFor, Ops};
use crate::session_state::SessionLog;
use crate::store::RequestCounters;
use crate::task::kept_up;
use crate::telemetry;
pub use app_folder::AppFolder;
pub use client::{proxy, s3};
use control::SocketPlace;
pub use early_signals::{EarlySignals, UnheardStop};
pub use explain::{in_words, no_credentials, of_listing as explain_listing};
pub use log_filter::at_start as log_filter_at_start;
pub use mount::FS_TYPE;
pub use mount::bare::{BareDirectory, is_read_only, told_hidden};
pub use mount::bind::{bind, enter_mounts_of, unbind};
use mount::busy::holders;
pub use mount::elsewhere::elsewhere;
pub use mount::inside::{AttachPoint, Attachable, InsideError, MountTree};
pub use mount::left_behind::LeftBehind;
pub use mount::mountinfo::{MountEntry, mount_at, mounts_of};
pub use mount::mountpoint::{MountpointError, broken_at, dead_at};
pub use mount::places::places_of;
pub use mount::probe::{Answer, ask, probe};
pub use mount::processes;
pub use mount::remount::{Remount, RemountError};
pub use mount::replace::{Replaced, TakenPlace, is_seen_at, take_place, uncover};
pub use mount::{MountError, Unmounted, open_device};
use mount::{Mounted, UnmountMode};
use notifier::Notifier;
pub use notifier::serve as notify;
pub use otlp::Otlp;
pub use overlay::check as check_overlay;
use prepare::Prepared;
pub use prepare::{Waiter, check_mountpoint};
pub use privileges::close_others;
pub use probe::{SCRATCH_NAME as PROBE_SCRATCH_NAME, abilities};
pub use reload::Reload;
use stop_request::StopRequest;
pub use systemd_job::{StopKind, stop_kind};
pub use takeover::fd_store::has_some as has_predecessor;
use takeover::fuse_session::{self, PredecessorSession};
pub use takeover::supervisor::{Life, supervise};

/// Pause between attempts to unmount what is still in use.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// How often to look whether the mount is still in its place.
const DETACHED_POLL: Duration = Duration::from_secs(1);
/// A file system that nobody else has ends sooner after its unmount.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// Exit code of a daemon that is to be started again, and does not unmount.
/// Source: sysexits.h, `EX_TEMPFAIL`.
const HAND_OVER_CODE: i32 = 75;

/// Mounts and serves until unmounted or told to stop. `early` are signals that came before.
///
/// Errors: whatever keeps it from mounting, with what to do about it.
pub fn run(
    config: Config,
    (reload, otlp): (Reload, Otlp),
    early: &EarlySignals,
    waiter: &dyn Waiter,
) -> anyhow::Result<()> {
    let Prepared {
        config,
        asked,
        runtime,
        s3,
        place,
        inherited,
        old,
    } = Prepared::new(config, waiter)?;
    let (otlp, counters) = (otlp.start(&runtime), Arc::<RequestCounters>::default());
    let asking = compose::connect(&config, s3, counters.clone(), inherited.asking());
    let connected = runtime.block_on(asking)?;
    let (invalidations, to_kernel) = Invalidations::channel();
    let (inherited, device) = inherited.open(&config.mountpoint)?;
    let session_log = inherited.session_log.clone();
    let before = device.zip(PredecessorSession::of(&inherited.saved));
    log_filter::begin(&config, before.as_ref());
    let composing = compose::compose(&config, &connected, invalidations, (inherited, old));
    let (ops, overlay) = runtime.block_on(composing)?;
    // Before there is a mount: one that appears has somebody who takes it away.
    let stop = runtime.block_on(async { StopSignals::listen() })?;
    let tasks = TaskTracker::new();
    let adapter = adapter(&runtime, &ops, &tasks, &session_log);
    let watched_adapter = adapter.watched();
    let asked = fuse_session::MountRequest {
        place: &place,
        mountpoint: &asked,
        abilities: connected.late.abilities().get(),
        mounted_at: ops.controls().mounted_at(),
    };
    let kernel = fuse_session::start(&config, asked, &session_log, before, adapter)?;
    let (mounted, notifier) = (kernel.mounted, kernel.notifier);
    let serving = take_requests(kernel.session, to_kernel, notifier.clone())?;
    background::start(&runtime, (&ops, overlay.as_ref()), &connected, &config);
    let running = Arc::new(watchdog::RunningMount {
        ops: ops.clone(),
        overlay,
        health: connected.health,
        s3: connected.s3,
        adapter: watched_adapter,
        takeovers: kernel.takeovers,
        notifier: notifier.clone(),
        agreed: kernel.agreed,
        mounted: config.clone(),
        reload,
        reloading: Mutex::default(),
        otlp: otlp.clone(),
    });
    let served = control::Served::new(running.clone(), counters.clone(), stop.asked.clone());
    let watched = watchdog::start(runtime.handle(), running).context("cannot handle signals")?;
    let socket = runtime.block_on(control::start(&config, served));
    ready(waiter, early);
    let (ending, deadline) =
        runtime.block_on(serve(&ops, &mounted, serving, stop, config.drain_timeout));
    if matches!(ending, Ok(Ending::HandOver)) {
        hand_over(&runtime, &otlp, &counters);
    }
    runtime.block_on(drain(&ops, &tasks, &otlp, deadline));
    tracing::info!(requests = %counters, "stopped");
    end(&config, &notifier, watched, socket);
    drop(ops);
    runtime.shutdown_timeout(Duration::from_secs(1));
    ending.map(drop)
}

/// The mount serves, and whoever acts on signals listens.
fn ready(waiter: &dyn Waiter, early: &EarlySignals) {
    sd_notify::ready();
    waiter.ready();
    early.send_again();
}

/// Ends as by a kill: what is under way comes again to the successor.
fn hand_over(runtime: &Runtime, otlp: &Otlp, counters: &RequestCounters) -> ! {
    runtime.block_on(otlp.end_quickly());
    tracing::info!(requests = %counters, "handing over to the successor");
    telemetry::flush_logs();
    std::process::exit(HAND_OVER_CODE)
}

/// Answers the kernel's requests with operations, and interrupts those of who is killed.
fn adapter(
    runtime: &Runtime,
    ops: &Arc<Ops>,
    tasks: &TaskTracker,
    session_log: &Arc<SessionLog>,
) -> Adapter {
    let in_flight = Arc::new(InFlight::new(session_log.clone()));
    let watched = in_flight.clone();
    let interrupt = move || interrupt_killed(watched.clone());
    runtime.spawn(kept_up("interrupt calls", interrupt));
    let runtime = runtime.handle().clone();
    Adapter::new(ops.clone(), runtime, tasks.clone(), in_flight)
}

/// The last that is done for the session, while the spool is still this daemon's: the
/// next one keeps its own session there.
fn end(config: &Config, notifier: &Notifier, watched: JoinHandle<()>, socket: Option<SocketPlace>) {
    watched.abort();
    fuse_session::forget(config);
    notifier.end();
    if let Some(socket) = socket {
        socket.remove();
    }
}

/// Starts the threads that talk with the kernel. They end with the session, and the answer tells how.
fn take_requests(
    session: Session<Adapter>,
    to_kernel: Receiver<Invalidation>,
    notifier: Arc<Notifier>,
) -> anyhow::Result<Serving> {
    let notifying = std::thread::Builder::new().name("notify".to_owned());
    let send = move |saved: &[u8], may_wait| notifier.send(saved, may_wait);
    let forward = move || forward_invalidations(to_kernel, send);
    notifying.spawn(forward).context("no thread")?;
    let (ended, serving) = oneshot::channel();
    let threads = std::thread::Builder::new().name("fuse".to_owned());
    let spawned = threads.spawn(move || {
        let outcome = session.run();
        // Nobody listens any more when the mount was aborted.
        drop(ended.send(outcome));
    });
    spawned.context("no thread")?;
    Ok(serving)
}

/// How serving came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Unmounted,
    /// The mount stays, for a daemon that is about to be started.
    HandOver,
}

type Serving = oneshot::Receiver<std::io::Result<()>>;

/// Signals that end the mount; one that comes before anybody waits is not lost.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
    /// By whoever asks at the control socket.
    asked: Arc<StopRequest>,
}

impl StopSignals {
    fn listen() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hand_over: on(SignalKind::user_defined2())?,
            asked: Arc::default(),
        })
    }

    /// Returns how the mount is to end once one comes.
    async fn wait(mut self) -> Ending {
        tokio::select! {
            _ = self.terminate.recv() => {
                if takeover::fd_store::is_present() && is_restarted().await {
                    return Ending::HandOver;
                }
                tracing::info!("SIGTERM: unmounting");
            }
            _ = self.interrupt.recv() => tracing::info!("SIGINT: unmounting"),
            () = self.asked.asked() => tracing::info!("asked at the control socket: unmounting"),
            _ = self.hand_over.recv(), if takeover::fd_store::is_present() => return Ending::HandOver,
        }
        Ending::Unmounted
    }
}

/// Serves until the mount is gone, by umount(8) or by a signal; returns also
/// when all that is left to do must be over.
async fn serve(
    ops: &Ops,
    mounted: &Mounted,
    mut serving: Serving,
    stop: StopSignals,
    drain_timeout: Duration,
) -> (anyhow::Result<Ending>, Instant) {
    let asked = stop.asked.clone();
    let ended = tokio::select! {
        outcome = &mut serving => Some(finished(outcome).map(|()| Ending::Unmounted)),
        // A mount that somebody took away is not handed over: who starts next mounts.
        saved = stop.wait() => (saved == Ending::HandOver && mounted.is_attached().unwrap_or(true))
            .then_some(Ok(saved)),
        never = tell_when_detached(mounted) => match never {},
    };
    let deadline = asked.deadline(drain_timeout);
    let outcome = match ended {
        Some(Ok(Ending::Unmounted)) if mounted.is_attached().unwrap_or(false) => clear(mounted),
        Some(outcome) => outcome,
        None => {
            let unmounted = unmount(ops, mounted, serving, deadline).await;
            unmounted.map(|()| Ending::Unmounted)
        }
    };
    (outcome, deadline)
}

/// Takes away a mount whose connection somebody has aborted ('umount -f' does it also
/// where it does not unmount): nothing but ENOTCONN comes from it any more.
fn clear(mounted: &Mounted) -> anyhow::Result<Ending> {
    mounted.unmount(UnmountMode::Lazy)?;
    Err(anyhow::anyhow!(
        "the kernel's connection was aborted by somebody: the mount on {} is taken away",
        mounted.path().display()
    ))
}

/// Whether the service manager starts another daemon after this one.
async fn is_restarted() -> bool {
    let asked = tokio::task::spawn_blocking(stop_kind).await;
    asked.is_ok_and(|kind| kind == StopKind::HandOver)
}

/// Says so when somebody takes the mount away from its place: it ends with the
/// last file that is open, and until then nothing new can be opened.
async fn tell_when_detached(mounted: &Mounted) -> Infallible {
    while mounted.is_attached().unwrap_or(true) {
        sleep(DETACHED_POLL).await;
    }
    tracing::warn!(path = %mounted.path().display(), "detached by somebody else: serving what is still open");
    pending().await
}

/// Takes the mount away once nobody uses it, at the deadline in any case.
async fn unmount(
    ops: &Ops,
    mounted: &Mounted,
    mut serving: Serving,
    deadline: Instant,
) -> anyhow::Result<()> {
    let path = mounted.path();
    let mut saved = false;
    while mounted.unmount(UnmountMode::Plain)? == Unmounted::Busy {
        if Instant::now() >= deadline {
            let holders = holders(&path, ops.controls().openers(OpenFor::Anything));
            tracing::warn!(path = %path.display(), "still held by {holders}: detached; what is still open loses the mount");
            mounted.unmount(UnmountMode::Lazy)?;
            return Ok(());
        }
        if !saved {
            let holders = holders(&path, ops.controls().openers(OpenFor::Anything));
            tracing::warn!(path = %path.display(), "busy: held by {holders}: waiting for it to be closed");
            saved = true;
        }
        sleep(BUSY_PAUSE).await;
    }
    let soon = deadline.min(Instant::now() + TOLD_AFTER);
    if let Ok(outcome) = timeout_at(soon, &mut serving).await {
        return finished(outcome);
    }
    let users = elsewhere(mounted.device().unwrap_or_default());
    tracing::warn!(path = %path.display(), "unmounted here, and still in use, for at most the drain timeout: {users}");
    match timeout_at(deadline, serving).await {
        Ok(outcome) => finished(outcome),
        // Another mount namespace, or a file that was open when it was detached, still has the file system.
        Err(_) => Ok(()),
    }
}

fn finished(outcome: Result<std::io::Result<()>, oneshot::error::RecvError>) -> anyhow::Result<()> {
    match outcome {
        Ok(outcome) => outcome.context("the FUSE session failed"),
        Err(_) => Err(anyhow::anyhow!("the FUSE session ended by a panic")),
    }
}

/// Lets the requests under way end, then keeps what S3 does not have.
async fn drain(ops: &Ops, tasks: &TaskTracker, otlp: &Otlp, deadline: Instant) {
    tasks.close();
    if timeout_at(deadline, tasks.wait()).await.is_err() {
        tracing::warn!(
            requests = tasks.len(),
            "stopped waiting for requests in progress"
        );
    }
    if timeout_at(deadline, ops.uploads_settled()).await.is_err() {
        tracing::warn!("uploads are left in the spool: the next mount resumes them");
    }
    if timeout_at(deadline, ops::shutdown(ops)).await.is_err() {
        tracing::warn!("stopped waiting for reads in progress");
    }
    otlp.end().await;
}
