//! `mediafs csi`: volumes of Kubernetes, by the Container Storage Interface (CSI).
//!
//! Owns: the calls of a driver on a node, what they ask for, and a daemon for each volume,
//! which the host's systemd supervises. Must not know: how a command line is read; `cli`
//! hands that over.
//!
//! ```text
//! kubelet ── grpc ── driver ── request      checked: place, options, credentials, target
//!                       └───── volume       daemon and bind mounts, read from mountinfo
//!                                └── host   mount namespace, systemctl;  unit
//! ```
//!
//! The driver keeps nothing in memory that counts: all of it can be killed at any time,
//! and every call can be made again.

mod driver;
mod grpc;
mod host;
pub mod messages;
mod request;
mod retention;
mod settings;
mod unit;
mod volume;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use driver::Driver;
pub use settings::{ReadOptions, Settings, not_of_a_volume, resolve as settings_of};

/// Calls that are under way have so long at a stop.
const ENDED_WITHIN: Duration = Duration::from_secs(20);

/// A driver, and where it is asked.
#[derive(Debug)]
pub struct DriverSettings {
    pub socket: PathBuf,
    pub name: String,
    pub node_id: String,
    /// Of the host, for the program that its daemons run.
    pub program_folder: PathBuf,
    pub read_options: ReadOptions,
}

/// Serves until SIGTERM or SIGINT. To be called before there are threads.
///
/// Errors: no socket; it is not on a host where it could mount.
pub fn serve(settings: DriverSettings) -> anyhow::Result<()> {
    // The socket's path is one of the pod, all others are of the host.
    let listener = grpc::listen(&settings.socket);
    let listener = listener.with_context(|| format!("{}", settings.socket.display()))?;
    host::enter(&settings.program_folder)?;
    crate::telemetry::write_logs();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let calls = TaskTracker::new();
    let driver = Arc::new(Driver {
        name: settings.name,
        node_id: settings.node_id,
        read_options: settings.read_options,
        calls: calls.clone(),
    });
    runtime.block_on(async move {
        let listener = UnixListener::from_std(listener).context("cannot listen on the socket")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle signals")?;
        tracing::info!(driver = driver.name, node = driver.node_id, "serving");
        tokio::select! {
            () = grpc::serve(listener, driver) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        calls.close();
        if timeout(ENDED_WITHIN, calls.wait()).await.is_err() {
            tracing::warn!(
                calls = calls.len(),
                "ended in the middle of calls: they can be made again"
            );
        }
        anyhow::Ok(())
    })?;
    // Threads of calls that are not over do not hold the process up.
    runtime.shutdown_background();
    Ok(())
}
