//! Whether S3 serves us at all: known in one place, told once.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::request::{FoldDirectories, ListRequest};
use super::{ObjectStore, StoreError, StoreErrorKind, StoreOp, log_failure};

/// So many requests in a row without an answer are an outage: one is lost now and then.
const OUTAGE_FROM_FAILURES: u32 = 3;
/// Pause between questions whether an outage is over.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// A question that takes longer is asked again: its connection may be the one that hangs.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// Why S3 does not serve us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutageCause {
    /// It does not answer, or with nothing but failures of its own.
    Unreachable,
    /// It refuses the credentials.
    Credentials,
    /// It refuses the time of this machine's clock.
    ClockSkew,
}

/// A time in which S3 does not serve us, so far without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    pub cause: OutageCause,
    pub since: SystemTime,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.cause {
            OutageCause::Unreachable => "S3 unreachable",
            OutageCause::Credentials => "S3 refuses the credentials",
            OutageCause::ClockSkew => "S3 refuses this machine's clock",
        };
        let since = humantime::format_rfc3339_seconds(self.since);
        write!(f, "{what} since {since}")
    }
}

/// A request by which S3 did not serve us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFailure {
    pub at: SystemTime,
    pub text: String,
}

impl StoreFailure {
    fn of(error: &StoreError) -> Self {
        Self {
            at: SystemTime::now(),
            text: error.to_string(),
        }
    }
}

/// What the requests of a mount tell of S3's health; shared by whoever shows or uses it.
#[derive(Debug, Clone, Default)]
pub struct StoreHealth(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    has_served: bool,
    /// Failures since the last answer, and when the first of them was.
    failures: u32,
    since: Option<SystemTime>,
    outage: Option<Outage>,
    last_failure: Option<StoreFailure>,
    /// Changes in a row that failed by a fault of the server.
    failed_changes: u32,
}

impl StoreHealth {
    /// The outage that there is now, if there is one.
    pub fn outage(&self) -> Option<Outage> {
        self.0.borrow().outage
    }

    /// The last request that S3 did not serve, however long ago.
    pub fn last_failure(&self) -> Option<StoreFailure> {
        self.0.borrow().last_failure.clone()
    }

    /// How many changes in a row have failed by a fault of the server; none while they are
    /// so few that it may be that of one object.
    pub fn failed_changes(&self) -> Option<u32> {
        let failed = self.0.borrow().failed_changes;
        (failed >= OUTAGE_FROM_FAILURES).then_some(failed)
    }

    /// Whether S3 has ever answered a request of this mount as it should.
    pub fn has_served(&self) -> bool {
        self.0.borrow().has_served
    }

    /// Returns once there is an outage.
    pub async fn unserved(&self) {
        self.wait(|state| state.outage.is_some()).await;
    }

    /// Returns once S3 has served a request, and there is no outage.
    pub async fn served(&self) {
        self.wait(|state| state.has_served && state.outage.is_none())
            .await;
    }

    /// Asks S3 during an outage until it answers, as long as the run time lasts.
    ///
    /// `store` must be one whose requests are noted here.
    pub async fn watch(self, store: Arc<dyn ObjectStore>, prefix: String) {
        loop {
            self.unserved().await;
            let question = ListRequest {
                prefix: prefix.clone(),
                fold_directories: FoldDirectories::Yes,
                token: None,
                max_keys: 1,
            };
            let answer = timeout(PROBE_PATIENCE, store.list(question)).await;
            tracing::debug!(
                answered = matches!(answer, Ok(Ok(_))),
                "asked S3 during an outage"
            );
            sleep(PROBE_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    async fn wait(&self, holds: impl FnMut(&State) -> bool) {
        let mut state = self.0.subscribe();
        // The sender is in `self`.
        if state.wait_for(holds).await.is_err() {
            tracing::debug!("nothing tells of S3's health any more");
        }
    }

    /// Notes what came of one request.
    pub fn note<T>(&self, op: StoreOp, outcome: &Result<T, StoreError>) {
        match outcome {
            Ok(_) => {
                if !op.asks() {
                    self.changed();
                }
                self.answered(Served::Yes);
            }
            Err(error) => match meaning(op, error.kind) {
                Meaning::Answer => self.answered(Served::No),
                Meaning::FailedChange => self.change_failed(error),
                Meaning::Trouble(cause) => self.failed(cause, error),
            },
        }
    }

    fn changed(&self) {
        if self.0.borrow().failed_changes > 0 {
            self.0.send_modify(|state| state.failed_changes = 0);
        }
    }

    fn change_failed(&self, error: &StoreError) {
        self.0.send_modify(|state| {
            state.failed_changes = state.failed_changes.saturating_add(1);
            state.last_failure = Some(StoreFailure::of(error));
        });
    }

    fn answered(&self, served: Served) {
        let new = served == Served::Yes;
        {
            let state = self.0.borrow();
            if state.failures == 0 && (state.has_served || !new) {
                return;
            }
        }
        self.0.send_if_modified(|state| {
            let is_first = new && !state.has_served;
            state.has_served |= new;
            state.failures = 0;
            state.since = None;
            let Some(outage) = state.outage.take() else {
                return is_first;
            };
            let seconds = outage.since.elapsed().map_or(0, |span| span.as_secs());
            tracing::info!(seconds, "S3 serves again ({outage})");
            true
        });
    }

    fn failed(&self, cause: OutageCause, error: &StoreError) {
        self.0.send_if_modified(|state| {
            let failure = StoreFailure::of(error);
            let since = *state.since.get_or_insert(failure.at);
            state.last_failure = Some(failure);
            state.failures = state.failures.saturating_add(1);
            let enough = match cause {
                OutageCause::Unreachable | OutageCause::Credentials => OUTAGE_FROM_FAILURES,
                // It does not pass by itself, and no other request has another clock.
                OutageCause::ClockSkew => 1,
            };
            if state.failures < enough || state.outage.is_some_and(|outage| outage.cause == cause) {
                return false;
            }
            let outage = Outage { cause, since };
            state.outage = Some(outage);
            log_failure!(error, error, [], "{outage}: cached files stay readable");
            true
        });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    Yes,
    /// An answer, but a refusal.
    No,
}

/// What a failed request says of S3 as a whole.
enum Meaning {
    Answer,
    /// It may be the object's fault alone.
    FailedChange,
    Trouble(OutageCause),
}

fn meaning(op: StoreOp, kind: StoreErrorKind) -> Meaning {
    match kind {
        StoreErrorKind::Unreachable | StoreErrorKind::TimedOut => {
            Meaning::Trouble(OutageCause::Unreachable)
        }
        // A change can fail for reasons of its object; a question has none.
        StoreErrorKind::Server if op.asks() => Meaning::Trouble(OutageCause::Unreachable),
        StoreErrorKind::Server => Meaning::FailedChange,
        StoreErrorKind::Malformed if !op.asks() => Meaning::FailedChange,
        StoreErrorKind::Credentials => Meaning::Trouble(OutageCause::Credentials),
        StoreErrorKind::ClockSkew => Meaning::Trouble(OutageCause::ClockSkew),
        StoreErrorKind::Untrusted => Meaning::Trouble(OutageCause::Unreachable),
        _ => Meaning::Answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Key;

    fn failed(kind: StoreErrorKind) -> Result<(), StoreError> {
        Err(StoreError::new(kind, StoreOp::Get, Key::new("k"), "why"))
    }

    fn cause_after(health: &StoreHealth, kinds: &[StoreErrorKind]) -> Option<OutageCause> {
        for kind in kinds {
            health.note(StoreOp::Get, &failed(*kind));
        }
        health.outage().map(|outage| outage.cause)
    }

    #[test]
    fn a_row_of_failures_is_an_outage_and_any_answer_ends_it() {
        use StoreErrorKind as Kind;
        let health = StoreHealth::default();
        assert_eq!(
            cause_after(&health, &[Kind::TimedOut, Kind::Unreachable]),
            None
        );
        health.note(StoreOp::Get, &Ok(()));
        assert_eq!(
            cause_after(&health, &[Kind::TimedOut, Kind::Unreachable]),
            None
        );
        let third = cause_after(&health, &[Kind::Server]);
        assert_eq!(third, Some(OutageCause::Unreachable));
        assert_eq!(cause_after(&health, &[Kind::NotFound]), None);
    }

    #[test]
    fn a_change_that_fails_is_no_outage() {
        let health = StoreHealth::default();
        for _ in 0..10 {
            health.note(StoreOp::Copy, &failed(StoreErrorKind::Server));
        }
        assert_eq!(health.outage(), None);
    }

    #[test]
    fn changes_that_fail_in_a_row_are_counted_until_one_succeeds() {
        let health = StoreHealth::default();
        let fails = || health.note(StoreOp::Put, &failed(StoreErrorKind::Server));
        fails();
        fails();
        assert_eq!(health.failed_changes(), None);
        assert!(health.last_failure().is_some());
        fails();
        // That questions are answered tells nothing of changes.
        health.note(StoreOp::Get, &Ok::<(), StoreError>(()));
        assert_eq!(health.failed_changes(), Some(3));
        health.note(StoreOp::Delete, &Ok::<(), StoreError>(()));
        assert_eq!(health.failed_changes(), None);
    }

    #[test]
    fn refused_credentials_and_a_wrong_clock_are_told_apart() {
        let health = StoreHealth::default();
        let refused = cause_after(&health, &[StoreErrorKind::Credentials; 3]);
        assert_eq!(refused, Some(OutageCause::Credentials));
        let skewed = cause_after(&health, &[StoreErrorKind::ClockSkew]);
        assert_eq!(skewed, Some(OutageCause::ClockSkew));
        let text = health.outage().unwrap().to_string();
        assert!(
            text.starts_with("S3 refuses this machine's clock since 2"),
            "{text}"
        );
    }
}
