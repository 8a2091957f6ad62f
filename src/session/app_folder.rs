//! The folder that authentik 2025.12.0 and 2025.12.1 want to find before they take an
//! upload: `public`, of its only tenant, in what is mounted.

use crate::config::{Config, DirMarkersConfig};
use crate::session::probe::Probed;
use crate::store::{
    FoldDirectories, Key, ListRequest, MarkerKeys, ObjectHeaders, ObjectStore, PutRequest,
    StoreError,
};

/// Name of authentik's only tenant. Source: authentik, `postgresql.default_schema`.
const TENANT: &str = "public";

/// The folder's marker, where authentik's settings are the mount's.
#[derive(Debug)]
pub struct AppFolder(Key);

impl AppFolder {
    pub fn of(config: &Config) -> Option<Self> {
        let wanted = config.s3.authentik.is_some()
            && !config.read_only
            && config.dir_markers != DirMarkersConfig::Never;
        wanted.then(|| Self(Key::new(format!("{}{TENANT}/", config.prefix))))
    }

    pub fn marker(&self) -> &Key {
        &self.0
    }

    /// Whether something is in it.
    pub async fn is_there(&self, store: &dyn ObjectStore) -> Result<bool, StoreError> {
        let listing = ListRequest {
            prefix: self.0.as_str().to_owned(),
            fold_directories: FoldDirectories::No,
            token: None,
            max_keys: 1,
        };
        let found = store.list(listing).await?;
        Ok(!found.objects.is_empty())
    }

    pub async fn make(&self, store: &dyn ObjectStore) -> Result<(), StoreError> {
        let marker = PutRequest::marker(self.0.clone(), ObjectHeaders::default());
        store.put(marker).await.map(drop)
    }
}

/// Makes it where nothing is in it, unless the store has just not taken an object or keeps
/// no markers. Its lack is told, and no reason not to mount.
pub async fn provide(store: &dyn ObjectStore, config: &Config, probed: &Probed) {
    let Some(folder) = AppFolder::of(config) else {
        return;
    };
    let has_markers = probed.abilities.marker_keys != MarkerKeys::Refused;
    let made = match (folder.is_there(store).await, probed.unserved()) {
        (Ok(true), _) => Ok(()),
        (Ok(false), Some(error)) => Err(error.to_string()),
        (Ok(false), None) if has_markers => {
            let made = folder.make(store).await;
            made.map_err(|error| error.to_string())
        }
        (Ok(false), None) => Err("the store keeps no empty directories".to_owned()),
        (Err(error), _) => Err(error.to_string()),
    };
    if let Err(error) = made {
        tracing::warn!(error, key = %folder.marker(), "authentik's folder cannot be made");
    }
}
