//! Connections that are kept for the next request, and given up all together where
//! they may be dead: after a request without an answer, and after a suspend.
//!
//! The kernel watches over those in use (`dial`); an idle one has `IDLE_LIMIT`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};
use parking_lot::Mutex;
use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::time::Instant;

/// A connection that nobody has used for so long is closed: firewalls and load
/// balancers forget theirs without a word.
pub const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// Not given up more often than this: each time a connection has to be made.
const RENEW_PAUSE: Duration = Duration::from_secs(1);
/// A longer sleep of the machine is a suspend.
const SUSPENDED_FROM: Duration = Duration::from_secs(2);

/// The HTTP client of a store.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    build: Box<dyn Fn() -> SharedHttpClient + Send + Sync>,
    current: Mutex<Current>,
}

struct Current {
    http: SharedHttpClient,
    renewed_at: Option<Instant>,
    /// How long the machine has slept since it was started, when the last request went.
    slept: Duration,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl Connections {
    /// `build` makes a client without connections.
    pub fn new(build: impl Fn() -> SharedHttpClient + Send + Sync + 'static) -> Self {
        let current = Current {
            http: build(),
            renewed_at: None,
            slept: slept(),
        };
        Self(Arc::new(Inner {
            build: Box::new(build),
            current: Mutex::new(current),
        }))
    }

    /// The next request makes a connection; those of requests under way go with them.
    pub fn renew(&self) {
        let mut current = self.0.current.lock();
        let is_new = |at: Instant| at.elapsed() < RENEW_PAUSE;
        if !current.renewed_at.is_some_and(is_new) {
            current.http = (self.0.build)();
            current.renewed_at = Some(Instant::now());
        }
    }

    fn http(&self) -> SharedHttpClient {
        let mut current = self.0.current.lock();
        let slept = slept();
        if slept > current.slept + SUSPENDED_FROM {
            tracing::info!("the machine was suspended: connecting to S3 again");
            current.http = (self.0.build)();
        }
        current.slept = slept;
        current.http.clone()
    }
}

impl HttpClient for Connections {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.http().http_connector(settings, components)
    }
}

/// How long the machine has slept: the one clock stands still then.
fn slept() -> Duration {
    let awake = since(clock_gettime(ClockId::Monotonic));
    since(clock_gettime(ClockId::Boottime)).saturating_sub(awake)
}

fn since(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_smithy_runtime_api::client::http::http_client_fn;

    use super::*;

    fn counted() -> (Arc<AtomicUsize>, Connections) {
        let count = Arc::new(AtomicUsize::new(0));
        let built = count.clone();
        let connections = Connections::new(move || {
            built.fetch_add(1, Ordering::Relaxed);
            http_client_fn(|_, _| unreachable!("no request is sent"))
        });
        (count, connections)
    }

    #[tokio::test(start_paused = true)]
    async fn many_requests_without_an_answer_give_up_the_connections_once() {
        let (built, connections) = counted();
        for _ in 0..100 {
            connections.renew();
        }
        assert_eq!(built.load(Ordering::Relaxed), 2);
        tokio::time::advance(RENEW_PAUSE).await;
        connections.renew();
        assert_eq!(built.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_suspend_gives_up_the_connections() {
        let (built, connections) = counted();
        drop(connections.http());
        assert_eq!(built.load(Ordering::Relaxed), 1);
        let mut current = connections.0.current.lock();
        current.slept = current.slept.saturating_sub(SUSPENDED_FROM * 2);
        let has_room = current.slept + SUSPENDED_FROM < slept();
        drop(current);
        drop(connections.http());
        let want = if has_room { 2 } else { 1 };
        assert_eq!(built.load(Ordering::Relaxed), want);
    }
}
