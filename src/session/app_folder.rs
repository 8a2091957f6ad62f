//! The folder that authentik 2025.12.0 and 2025.12.1 want to find before they take an
//! upload: `public`, of its only tenant, in what is mounted.

use crate::config::{Config, DirMarkersConfig};
use crate::store::{
    FoldDirectories, Key, ListRequest, ObjectHeaders, ObjectStore, PutRequest, StoreError,
};

/// Name of authentik's only tenant. Source: authentik, `postgresql.default_schema`.
const TENANT: &str = "public";

/// Makes it where authentik's settings are the mount's, and nothing is in it. Its lack is
/// told, and no reason not to mount.
pub async fn provide(store: &dyn ObjectStore, config: &Config) {
    let wanted = config.s3.authentik.is_some()
        && !config.read_only
        && config.dir_markers != DirMarkersConfig::Never;
    if !wanted {
        return;
    }
    let marker = format!("{}{TENANT}/", config.prefix);
    if let Err(error) = put_where_absent(store, &marker).await {
        tracing::warn!(%error, key = marker, "authentik's folder cannot be made");
    }
}

async fn put_where_absent(store: &dyn ObjectStore, marker: &str) -> Result<(), StoreError> {
    let listing = ListRequest {
        prefix: marker.to_owned(),
        fold_directories: FoldDirectories::No,
        token: None,
        max_keys: 1,
    };
    let found = store.list(listing).await?;
    if found.objects.is_empty() {
        let marker = PutRequest::marker(Key::new(marker), ObjectHeaders::default());
        store.put(marker).await?;
    }
    Ok(())
}
