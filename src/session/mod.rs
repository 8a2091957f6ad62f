//! The composition root: what a mount is made of, and the order of its start and end.
//!
//! Start: mountpoint checked, bucket answered, spool opened, mounted, kernel
//! agreed, ready. End: unmounted (so that no request comes any more), requests
//! drained, stages kept.

mod fusermount;
mod mount;
mod mountinfo;
mod mountpoint;
mod probe;
mod startup;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fuser::{Session, SessionACL};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::fuse::{Adapter, pass_on};
use crate::namespace::Invalidations;
use crate::ops::Ops;
use crate::store::RequestCounters;
use mount::{MountSettings, Mounted, Sharing, UnmountMode, Unmounted};
pub use mountinfo::{MountEntry, mount_at};
use mountpoint::NonEmpty;

/// Pause between attempts to unmount what is still in use.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

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
    let store = runtime.block_on(startup::connect(&config, counters.clone()))?;
    let (invalidations, to_kernel) = Invalidations::channel();
    let (ops, queued) = runtime.block_on(startup::compose(&config, store, invalidations))?;
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
    tracing::info!(mountpoint = %config.mountpoint.display(), bucket = config.bucket, prefix = config.prefix, "serving");
    ready();
    let outcome = runtime.block_on(serve(&mounted, serving, config.drain_timeout));
    runtime.block_on(drain(&ops, &tasks, config.drain_timeout));
    tracing::info!(requests = %counters, "stopped");
    drop(ops);
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(notifying);
    outcome
}

/// Serves until the mount is gone, by umount(8) or by a signal.
async fn serve(
    mounted: &Mounted,
    mut serving: oneshot::Receiver<std::io::Result<()>>,
    drain_timeout: Duration,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    tokio::select! {
        outcome = &mut serving => return finished(outcome),
        _ = terminate.recv() => tracing::info!("SIGTERM: unmounting"),
        _ = interrupt.recv() => tracing::info!("SIGINT: unmounting"),
    }
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

fn give_back(mounted: &Mounted) {
    if let Err(error) = mounted.unmount(UnmountMode::Lazy) {
        tracing::warn!(%error, "mountpoint not given back");
    }
}
