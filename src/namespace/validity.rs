//! How long what the store said counts, and while S3 does not serve: what it said before
//! goes on. No answer is never taken for the answer that there is nothing.

use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use crate::error::FsError;
use crate::store::StoreHealth;

/// How long what the store said counts as true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coherence {
    /// Of an object or a directory that is there.
    pub ttl: Duration,
    /// Of a name that is not there.
    pub negative_ttl: Duration,
    /// How much longer, while the store says nothing.
    pub stale_ttl: Duration,
}

/// Whether what the store said then still counts.
#[derive(Debug)]
pub struct Validity {
    coherence: RwLock<Coherence>,
    health: StoreHealth,
}

impl Validity {
    pub fn new(coherence: Coherence, health: StoreHealth) -> Self {
        Self {
            coherence: RwLock::new(coherence),
            health,
        }
    }

    pub fn coherence(&self) -> Coherence {
        *self.coherence.read()
    }

    pub fn set_coherence(&self, coherence: Coherence) {
        *self.coherence.write() = coherence;
    }

    /// What the store says to `asked`, or what is `known` where it does not
    /// serve: at once in an outage that is known of.
    pub async fn or_last_known<T>(
        &self,
        asked: impl Future<Output = Result<T, FsError>>,
        known: impl Fn() -> Option<Result<T, FsError>>,
    ) -> Result<T, FsError> {
        let unserved = async {
            self.health.unserved().await;
            known()
        };
        let outcome = tokio::select! {
            biased;
            Some(known) = unserved => return known,
            outcome = asked => outcome,
        };
        match outcome {
            Err(error) if error.is_no_answer() => known().unwrap_or(Err(error)),
            outcome => outcome,
        }
    }

    /// Whether what S3 said then still counts while it says nothing.
    pub fn is_usable(&self, said_at: Instant) -> bool {
        said_at.elapsed()
            < self
                .coherence()
                .ttl
                .saturating_add(self.coherence().stale_ttl)
    }

    /// Whether what S3 said then counts now.
    pub fn is_current(&self, said_at: Instant) -> bool {
        said_at.elapsed() < self.coherence().ttl
            || (self.health.outage().is_some() && self.is_usable(said_at))
    }
}
