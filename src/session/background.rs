//! What a mount does beside answering the kernel.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::compose::Connected;
use super::mount::elsewhere::Seen;
use super::mount::still_seen::CoveredDirectory;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::ops::Ops;
use crate::overlay::Overlay;
use crate::store::StoreHealth;
use crate::task::kept_up;

/// Pauses between looks at who sees the old directory.
const LOOK_FIRST: Duration = Duration::from_secs(1);
const LOOK_LIMIT: Duration = Duration::from_secs(5);
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// The kernel may be slow to take what it is told.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

/// Starts uploads, deletes, the watch over S3 and the import of an overlay, and says
/// that the mount serves.
pub fn start(
    runtime: &Runtime,
    (ops, overlay): (&Arc<Ops>, Option<&Arc<Overlay>>),
    connected: &Connected,
    config: &Config,
) {
    runtime.spawn(ops.clone().run_in_background());
    runtime.spawn(watch_s3(connected, config));
    runtime.spawn(retry_after_outages(ops.clone(), connected.health.clone()));
    let is_imported = |overlay: &Arc<Overlay>| {
        let is_ended = overlay.progress().now().is_ended;
        !config.read_only && !is_ended
    };
    if let Some(overlay) = overlay.cloned().filter(is_imported) {
        let mountpoint = config.mountpoint.clone();
        let covered = super::overlay::covered(config, &overlay);
        let ops = ops.clone();
        let import = move || {
            import(
                ops.clone(),
                overlay.clone(),
                covered.clone(),
                mountpoint.clone(),
            )
        };
        runtime.spawn(kept_up("import", import));
    }
    tracing::info!(mountpoint = %config.mountpoint.display(), bucket = config.bucket, prefix = config.prefix, "serving");
}

/// What a container writes into the old directory after it was sent stays there alone: the
/// import waits until each sees the mount. Then all that they changed is asked for again.
async fn import(
    ops: Arc<Ops>,
    overlay: Arc<Overlay>,
    covered: Option<CoveredDirectory>,
    mountpoint: PathBuf,
) {
    let mut backoff = Backoff::new(LOOK_FIRST, LOOK_LIMIT);
    let mut told = Vec::new();
    while let Some(directory) = covered.clone() {
        // What cannot be looked at is not waited for.
        let places = spawn_blocking(move || directory.seen()).await;
        let places = places.unwrap_or_default();
        let places = places.iter().map(|seen| attach_to(seen, &mountpoint));
        let places: Vec<String> = places.collect();
        overlay.progress().waits_for(places.clone());
        if places.is_empty() {
            break;
        }
        if told != places {
            let who = places.join("; ");
            tracing::warn!(
                "the import waits for containers that still see the old directory: {who}"
            );
            told = places;
        }
        sleep(backoff.next_pause()).await;
    }
    if !told.is_empty() {
        // Calls that had found their file in the old directory.
        sleep(SETTLED_AFTER).await;
        forget_all(&ops).await;
    }
    let _watch = overlay.run().await;
    // Who changes the old directory later is told of, too.
    std::future::pending().await
}

async fn forget_all(ops: &Ops) {
    let controls = ops.controls();
    match controls.find("").await {
        Ok(root) => drop(controls.refresh(root, Instant::now() + TOLD_WITHIN).await),
        Err(error) => {
            tracing::warn!(%error, "refresh failed: changes of the old directory show late")
        }
    }
}

/// What shows the mount there.
fn attach_to(seen: &Seen, mountpoint: &Path) -> String {
    let path = seen.entry.mountpoint.display();
    match &seen.process {
        Some(process) => format!(
            "{process}: 'mediafs attach --pid {} {} {path}'",
            process.pid,
            mountpoint.display()
        ),
        None => path.to_string(),
    }
}

/// Asks S3 during an outage until it answers.
/// Changes that failed in an outage are sent at its end, and not after the pause that had
/// grown with it.
async fn retry_after_outages(ops: Arc<Ops>, health: StoreHealth) {
    loop {
        health.unserved().await;
        health.served().await;
        ops.controls().retry_now();
    }
}

fn watch_s3(connected: &Connected, config: &Config) -> impl Future<Output = ()> + use<> {
    let (health, store) = (connected.health.clone(), connected.store.clone());
    let prefix = config.prefix.clone();
    let watch = move || health.clone().watch(store.clone(), prefix.clone());
    kept_up("watch S3", watch)
}
