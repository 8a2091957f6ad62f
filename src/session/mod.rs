//! The composition root: what a mount is made of, and the order of its start and end.
//!
//! Start: mountpoint checked, bucket answered, spool opened, mounted, kernel
//! agreed, ready. End: unmounted (so that no request comes any more), requests
//! drained, stages kept.

mod fusermount;
mod holders;
mod mount;
mod mountinfo;
mod mountpoint;
mod probe;
mod startup;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fuser::{Session, SessionACL};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::fuse::{Adapter, pass_on};
use crate::namespace::Invalidations;
use crate::ops::Ops;
use crate::store::RequestCounters;
use holders::holders;
use mount::{MountSettings, Mounted, Sharing, UnmountMode, Unmounted};
pub use mountinfo::{MountEntry, mount_at};
use mountpoint::NonEmpty;
use startup::Connected;

/// Pause between attempts to unmount what is still in use.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// How often to look whether the mount is still in its place.
const DETACHED_POLL: Duration = Duration::from_secs(1);

/// Mounts and serves until unmounted or told to stop; `ready` is called once the mount serves.
///
/// Errors: whatever keeps it from mounting, with what to do about it.
pub fn run(config: Config, ready: Box<dyn FnOnce() + Send>) -> anyhow::Result<()> {
    let non_empty = if config.allow_non_empty {
        NonEmpty::Allow
    } else {
        NonEmpty::Refuse
    };
    let config = Config {
        mountpoint: mountpoint::check(&config.mountpoint, non_empty)?,
        ..config
    };
    let runtime = Runtime::new().context("cannot start the run time")?;
    let counters = Arc::new(RequestCounters::default());
    let connected = runtime.block_on(startup::connect(&config, counters.clone()))?;
    let (invalidations, to_kernel) = Invalidations::channel();
    let (ops, queued) = startup::compose(&config, &connected, invalidations)?;
    let ops = Arc::new(ops);
    let settings = MountSettings {
        source: format!("mediafs:{}/{}", config.bucket, config.prefix),
        sharing: if config.allow_other {
            Sharing::AllUsers
        } else {
            Sharing::OwnerOnly
        },
        access: startup::access(&config),
    };
    let (device, mounted) = mount::mount(&config.mountpoint, &settings)?;
    let tasks = TaskTracker::new();
    let adapter = Adapter::new(ops.clone(), runtime.handle().clone(), tasks.clone());
    let mut fuse_config = fuser::Config::default();
    fuse_config.n_threads = Some(config.fuse_threads);
    // The kernel itself refuses other users unless told `allow_other`.
    let session = Session::from_fd(adapter, device, SessionACL::All, fuse_config);
    let session = session
        .inspect_err(|_| give_back(&mounted))
        .context("the kernel refused the mount")?;
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
    let Connected { store, health } = connected;
    runtime.spawn(health.watch(store, config.prefix.clone()));
    tracing::info!(mountpoint = %config.mountpoint.display(), bucket = config.bucket, prefix = config.prefix, "serving");
    ready();
    let (outcome, deadline) = runtime.block_on(serve(&mounted, serving, config.drain_timeout));
    runtime.block_on(drain(&ops, &tasks, deadline));
    tracing::info!(requests = %counters, "stopped");
    drop(ops);
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(notifying);
    outcome
}

type Serving = oneshot::Receiver<std::io::Result<()>>;

/// Serves until the mount is gone, by umount(8) or by a signal; returns also
/// when all that is left to do must be over.
async fn serve(
    mounted: &Mounted,
    mut serving: Serving,
    drain_timeout: Duration,
) -> (anyhow::Result<()>, Instant) {
    let ended = tokio::select! {
        outcome = &mut serving => Some(finished(outcome)),
        outcome = told_to_stop() => outcome.err().map(Err),
        never = tell_when_detached(mounted) => match never {},
    };
    let deadline = Instant::now() + drain_timeout;
    let outcome = match ended {
        Some(outcome) => outcome,
        None => unmount(mounted, serving, deadline).await,
    };
    (outcome, deadline)
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: unmounting"),
        _ = interrupt.recv() => tracing::info!("SIGINT: unmounting"),
    }
    Ok(())
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
async fn unmount(mounted: &Mounted, serving: Serving, deadline: Instant) -> anyhow::Result<()> {
    let path = mounted.path();
    let mut told = false;
    while mounted.unmount(UnmountMode::Plain)? == Unmounted::Busy {
        if Instant::now() >= deadline {
            let holders = holders(path);
            tracing::warn!(path = %path.display(), "still held by {holders}: detached; what is still open loses the mount");
            mounted.unmount(UnmountMode::Lazy)?;
            return Ok(());
        }
        if !told {
            let holders = holders(path);
            tracing::warn!(path = %path.display(), "busy: held by {holders}: waiting for it to be closed");
            told = true;
        }
        sleep(BUSY_PAUSE).await;
    }
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
async fn drain(ops: &Ops, tasks: &TaskTracker, deadline: Instant) {
    tasks.close();
    if timeout_at(deadline, tasks.wait()).await.is_err() {
        tracing::warn!(
            requests = tasks.len(),
            "given up waiting for requests under way"
        );
    }
    if timeout_at(deadline, ops.uploads_settled()).await.is_err() {
        tracing::warn!("uploads are left in the spool: the next mount goes on with them");
    }
    if timeout_at(deadline, ops.shutdown()).await.is_err() {
        tracing::warn!("given up waiting for reads under way");
    }
}

fn give_back(mounted: &Mounted) {
    if let Err(error) = mounted.unmount(UnmountMode::Lazy) {
        tracing::warn!(%error, "mountpoint not given back");
    }
}
