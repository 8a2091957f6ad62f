//! The composition root: what a mount is made of, and the order of its start and end.
//!
//! Start: mountpoint checked, bucket answered, spool opened, mounted, kernel
//! agreed, the service manager's questions answered, ready. End: unmounted (so
//! that no request comes any more), requests drained, stages kept.

mod confine;
mod descriptor_store;
mod fusermount;
mod handshake;
mod holder;
mod inheritance;
mod kernel_session;
mod mount;
mod mountinfo;
mod mountpoint;
mod probe;
mod reload;
mod service_manager;
mod startup;
mod stop_kind;
mod tending;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::config::{Config, HardeningConfig};
use crate::fuse::{Adapter, pass_on};
use crate::namespace::Invalidations;
use crate::ops::Ops;
use crate::store::RequestCounters;
pub use holder::{Life, hold};
use kernel_session::KernelSession;
use mount::{Mounted, UnmountMode, Unmounted};
pub use mountinfo::{MountEntry, mount_at};
use mountpoint::NonEmpty;
pub use reload::Reload;
pub use stop_kind::{StopKind, stop_kind};

/// Pause between attempts to unmount what is still in use.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Exit code of a daemon that is to be started again, and does not unmount.
/// Source: sysexits.h, `EX_TEMPFAIL`.
const HAND_OVER_CODE: i32 = 75;

/// Mounts and serves until unmounted or told to stop; `ready` is called once the mount serves.
///
/// Errors: whatever keeps it from mounting, with what to do about it.
pub fn run(config: Config, reload: Reload, ready: Box<dyn FnOnce() + Send>) -> anyhow::Result<()> {
    let non_empty = if config.allow_non_empty {
        NonEmpty::Allow
    } else {
        NonEmpty::Refuse
    };
    let heritage = inheritance::find(&config)?;
    let mountpoint = match heritage.mountpoint() {
        Some(mountpoint) => mountpoint.to_owned(),
        None => {
            if stop_kind::unit().is_some() {
                mountpoint::clear_dead(&config.mountpoint)
                    .context("a dead mount cannot be cleared")?;
            }
            mountpoint::check(&config.mountpoint, non_empty)?
        }
    };
    let asked = std::path::absolute(&config.mountpoint)?;
    let config = Config {
        mountpoint,
        ..config
    };
    if config.hardening == HardeningConfig::On {
        confine::confine().context("privileges cannot be given up")?;
    }
    let runtime = Runtime::new().context("cannot start the run time")?;
    let counters = Arc::new(RequestCounters::default());
    let asking = startup::connect(&config, counters.clone(), heritage.asking());
    let store = runtime.block_on(asking)?;
    let (invalidations, to_kernel) = Invalidations::channel();
    let (heritage, device) = heritage.open(&config)?;
    let ledger = heritage.ledger.clone();
    let earlier = heritage.told.session.clone();
    let (ops, queued) = startup::compose(&config, store, invalidations, heritage)?;
    let ops = Arc::new(ops);
    // Before there is a mount: one that appears has somebody who takes it away.
    let stop = {
        let _runtime = runtime.enter();
        StopSignals::listen().context("no signal handler")?
    };
    let tasks = TaskTracker::new();
    let adapter = Adapter::new(ops.clone(), runtime.handle().clone(), tasks.clone());
    let loops = adapter.loops().clone();
    let kernel = match device.zip(earlier) {
        Some((device, session)) => kernel_session::go_on(&config, device, &session, adapter)?,
        None => kernel_session::begin(&config, &asked, &ledger, adapter)?,
    };
    let KernelSession { mounted, session } = kernel;
    let notifier = session.notifier();
    let notifying = std::thread::Builder::new().name("notify".to_owned());
    let notifying = notifying
        .spawn(move || pass_on(to_kernel, &notifier))
        .context("no thread")?;
    let (ended, serving) = oneshot::channel();
    let threads = std::thread::Builder::new()
        .name("fuse".to_owned())
        .spawn(move || {
            let outcome = session.run();
            // Nobody listens any more when the mount was abandoned.
            drop(ended.send(outcome));
        });
    threads.context("no thread")?;
    runtime.spawn(ops.clone().upload_in_background(queued));
    tracing::info!(mountpoint = %config.mountpoint.display(), bucket = config.bucket, prefix = config.prefix, "serving");
    let tended = tending::Tended {
        ops: ops.clone(),
        loops,
        mounted: config.clone(),
        reload,
    };
    let signals = {
        let _runtime = runtime.enter();
        tending::Signals::new().context("no signal handler")?
    };
    let tending = runtime.spawn(tending::tend(tended, signals));
    service_manager::ready();
    ready();
    let ending = runtime.block_on(serve(&mounted, serving, stop, config.drain_timeout));
    if matches!(ending, Ok(Ending::HandOver)) {
        // As after a kill: what is under way comes again to the next daemon.
        tracing::info!(requests = %counters, "handing over to the next daemon");
        std::process::exit(HAND_OVER_CODE);
    }
    runtime.block_on(drain(&ops, &tasks, config.drain_timeout));
    tracing::info!(requests = %counters, "stopped");
    tending.abort();
    drop(ops);
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(notifying);
    kernel_session::forget(&config);
    ending.map(drop)
}

/// How serving came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Unmounted,
    /// The mount stays, for a daemon that is about to be started.
    HandOver,
}

/// Signals that end the mount; one that comes before anybody waits is not lost.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
}

impl StopSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hand_over: signal(SignalKind::user_defined2())?,
        })
    }
}

/// Serves until the mount is gone, by umount(8) or by a signal.
async fn serve(
    mounted: &Mounted,
    mut serving: oneshot::Receiver<std::io::Result<()>>,
    mut stop: StopSignals,
    drain_timeout: Duration,
) -> anyhow::Result<Ending> {
    tokio::select! {
        outcome = &mut serving => return finished(outcome).map(|()| Ending::Unmounted),
        _ = stop.terminate.recv() => {
            if descriptor_store::is_present() && is_restarted().await {
                return Ok(Ending::HandOver);
            }
            tracing::info!("SIGTERM: unmounting");
        }
        _ = stop.interrupt.recv() => tracing::info!("SIGINT: unmounting"),
        _ = stop.hand_over.recv(), if descriptor_store::is_present() => return Ok(Ending::HandOver),
    }
    unmount(mounted, serving, drain_timeout).await?;
    Ok(Ending::Unmounted)
}

/// Whether the service manager starts another daemon after this one.
async fn is_restarted() -> bool {
    let asked = tokio::task::spawn_blocking(stop_kind).await;
    asked.is_ok_and(|kind| kind == StopKind::HandOver)
}

async fn unmount(
    mounted: &Mounted,
    serving: oneshot::Receiver<std::io::Result<()>>,
    drain_timeout: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + drain_timeout;
    let mut told = false;
    while mounted.unmount(UnmountMode::Plain)? == Unmounted::Busy {
        if !told {
            tracing::warn!(path = %mounted.path().display(), "busy: waiting for open files to be closed");
            told = true;
        }
        if Instant::now() >= deadline {
            tracing::warn!("still busy: detached; files that are still open lose the mount");
            mounted.unmount(UnmountMode::Lazy)?;
            return Ok(());
        }
        sleep(BUSY_PAUSE).await;
    }
    match timeout(drain_timeout, serving).await {
        Ok(outcome) => finished(outcome),
        // Another mount namespace still has the file system.
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
async fn drain(ops: &Ops, tasks: &TaskTracker, limit: Duration) {
    tasks.close();
    if timeout(limit, tasks.wait()).await.is_err() {
        tracing::warn!(
            requests = tasks.len(),
            "given up waiting for requests under way"
        );
    }
    if timeout(limit, ops.uploads_settled()).await.is_err() {
        tracing::warn!("uploads are left in the spool: the next mount goes on with them");
    }
    ops.shutdown().await;
}
