//! The bucket of a job.

use std::sync::Arc;

use anyhow::Context;

use crate::config::Config;
use crate::session;
use crate::store::s3::{OnNetworkError, S3Store};
use crate::store::{
    Ability, Conditional, KnownAbilities, LateChanges, Metered, ObjectStore, RequestCounters,
    Retry, StoreAbilities, StoreHealth,
};

/// As of a store that heeds none.
const NO_CONDITIONS: StoreAbilities = StoreAbilities {
    put: Ability::Missing,
    complete: Ability::Missing,
    ..StoreAbilities::ALL
};

#[derive(Debug, Clone)]
pub struct Bucket {
    pub store: Arc<dyn ObjectStore>,
    /// Sends conditions as they are, and looks at nothing before. It knows no
    /// abilities, so that no condition is left out, and late changes of its own alone.
    pub plain: Arc<dyn ObjectStore>,
    /// Looks right before each change, and sends no condition: for keys that a store says
    /// to be there and has not, such as SeaweedFS of what was a directory.
    pub looking: Arc<dyn ObjectStore>,
    pub s3: Arc<S3Store>,
    pub abilities: Arc<KnownAbilities>,
    pub counters: Arc<RequestCounters>,
}

/// A client that has asked nothing yet. What the store heeds is not known: no scratch
/// object is put into the bucket to find out.
pub async fn connect(config: &Config) -> anyhow::Result<Bucket> {
    connect_copying(config, &config.bucket).await
}

/// The same, where the sources of copies are keys of another bucket.
pub async fn connect_copying(config: &Config, copied_from: &str) -> anyhow::Result<Bucket> {
    let s3 = session::s3(config, OnNetworkError::Refuse).await;
    let s3 = s3.context("cannot use the network as it is configured")?;
    let s3 = Arc::new(s3.copying_from(copied_from));
    let counters = Arc::new(RequestCounters::default());
    let metered = Arc::new(Metered::new(s3.clone(), counters.clone()));
    let timeout = config.s3.request_timeout;
    let retry = || Retry::new(metered.clone(), timeout, StoreHealth::default());
    let abilities = Arc::new(KnownAbilities::new(StoreAbilities::default()));
    let (plain, looking) = (retry(), retry());
    let late = LateChanges::new(looking.unanswered().clone(), abilities.clone());
    let unconditional = retry();
    let none = Arc::new(KnownAbilities::new(NO_CONDITIONS));
    let none = LateChanges::new(unconditional.unanswered().clone(), none);
    Ok(Bucket {
        looking: Arc::new(Conditional::new(Arc::new(unconditional), none)),
        store: Arc::new(Conditional::new(Arc::new(looking), late)),
        plain: Arc::new(plain),
        s3,
        abilities,
        counters,
    })
}
