//! While S3 does not serve: what it said before goes on. No answer is never
//! taken for the answer that there is nothing.

use tokio::time::Instant;

use super::Namespace;
use super::dir_entry::Entry;
use super::lookup::{LIST_FROM_TTL, StoreAnswer};
use super::name::Name;
use super::table::Pin;
use crate::error::FsError;

impl Namespace {
    /// What the store says to `asked`, or what is `known` where it does not
    /// serve: at once in an outage that is known of.
    pub(super) async fn or_last_known<T>(
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
    pub(super) fn is_usable(&self, said_at: Instant) -> bool {
        said_at.elapsed()
            < self
                .coherence()
                .ttl
                .saturating_add(self.coherence().stale_ttl)
    }

    /// Whether what S3 said then counts now.
    pub(super) fn is_current(&self, said_at: Instant) -> bool {
        said_at.elapsed() < self.coherence().ttl
            || (self.health.outage().is_some() && self.is_usable(said_at))
    }

    /// What was last known of a name, if that is still usable.
    pub(super) fn known_child(&self, parent: &Pin, name: &Name) -> Option<Result<Pin, FsError>> {
        if let Some(child) = self.table.child(parent.ino, name) {
            let last_confirmed_at = {
                let state = child.state();
                state.checked_at.or(state.last_confirmed_at)
            };
            if last_confirmed_at.is_some_and(|at| self.is_usable(at)) {
                return Some(Ok(child));
            }
        }
        let (asked_at, entry, seq) = {
            let state = parent.state();
            let listing = state.dir.last_listing()?;
            if state.dir.is_doubted(name) {
                return None;
            }
            let entry = listing.entries.get(name).cloned();
            (listing.asked_at, entry, state.dir.now())
        };
        // With a shorter ttl names are asked for one by one: a listing may be
        // older than what was last seen.
        let is_latest = self.coherence().ttl >= LIST_FROM_TTL;
        if !self.is_usable(asked_at) || (entry.is_none() && !is_latest) {
            return None;
        }
        let described = match &entry {
            Some(Entry::File(version)) if self.stores_attributes() => {
                Some(self.known_attributes(parent, name, version)?)
            }
            _ => None,
        };
        let answer = StoreAnswer {
            entry,
            described,
            asked_at,
            seq,
        };
        Some(self.reconcile(parent, name, &answer))
    }
}
