//! What a mount does beside answering the kernel.

use std::sync::Arc;

use tokio::runtime::Runtime;

use super::compose::Connected;
use crate::config::Config;
use crate::ops::Ops;
use crate::overlay::Overlay;
use crate::task::kept_up;

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
    if let Some(overlay) = overlay.cloned().filter(|_| !config.read_only) {
        runtime.spawn(kept_up("import", move || overlay.clone().run()));
    }
    tracing::info!(mountpoint = %config.mountpoint.display(), bucket = config.bucket, prefix = config.prefix, "serving");
}

/// Asks S3 during an outage until it answers.
fn watch_s3(connected: &Connected, config: &Config) -> impl Future<Output = ()> + use<> {
    let (health, store) = (connected.health.clone(), connected.store.clone());
    let prefix = config.prefix.clone();
    let watch = move || health.clone().watch(store.clone(), prefix.clone());
    kept_up("watch S3", watch)
}
