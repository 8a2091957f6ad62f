//! The control socket: HTTP on a Unix socket, for whoever runs the mount; and what can
//! be read of it, also at the address of `--metrics`.
//!
//! Owns: where sockets are, who is answered, what is told and what can be asked for.
//! Must not know: how it is shown; that is `cli`.
//!
//! A mount without its socket is a mount all the same: what fails here is a warning.
//! Nothing here holds a lock of the file system for longer than a look takes, so that
//! it answers while S3 does not.

pub mod answers;
mod barrier;
pub mod client;
pub mod commands;
mod cost;
mod flush;
mod listener;
mod metric_sink;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp_metrics;
mod page;
pub mod place;
mod prometheus;
mod socket;
mod status;
mod web;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::config::{Config, MetricsAddress};
use crate::error::FsError;
use crate::ops::OpenFor;
use crate::session::stop_request::StopRequest;
use crate::session::systemd_job;
use crate::session::watchdog::RunningMount;
use crate::store::{ProxyUrl, RequestCounters};
use crate::task::caught;
use answers::{Health, HealthState};
use client::Refusal;
use commands::{LogFilter, Opener, PathRequest, Refreshed, StopWithin, Unmounting};
use socket::Socket;
pub use socket::SocketPlace;

/// How long a flush waits that does not say.
const FLUSH_WITHIN: Duration = Duration::from_secs(30);
const FLUSH_LIMIT: Duration = Duration::from_secs(3600);
/// How long a refresh waits for the kernel.
const REFRESH_WITHIN: Duration = Duration::from_secs(10);
/// A mount that has not answered a stat by then is stuck.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1000);
/// A thread that has been at one request for so long is stuck.
const THREAD_LIMIT: Duration = Duration::from_secs(30);

/// A mount that can be asked.
#[derive(Debug)]
pub struct Served {
    pub running: Arc<RunningMount>,
    pub counters: Arc<RequestCounters>,
    /// Told when the mount is to end.
    pub stop: Arc<StopRequest>,
    barrier: barrier::Barrier,
    /// One at a time looks at the spool: its disk may hang, and each look holds a thread.
    looking: Arc<Semaphore>,
    name: String,
    unit: Option<String>,
    started_at: Instant,
}

impl Served {
    pub fn new(
        running: Arc<RunningMount>,
        counters: Arc<RequestCounters>,
        stop: Arc<StopRequest>,
    ) -> Self {
        Self {
            name: place::name_of(&running.mounted),
            barrier: barrier::Barrier::default(),
            looking: Arc::new(Semaphore::new(1)),
            unit: systemd_job::unit(),
            started_at: Instant::now(),
            running,
            counters,
            stop,
        }
    }

    /// Forgets a file, or all below a directory. Errors: of finding the path.
    async fn refresh(&self, path: &str) -> Result<Refreshed, FsError> {
        let controls = self.running.ops.controls();
        let deadline = tokio::time::Instant::now() + REFRESH_WITHIN;
        let inode = controls.find(path).await?;
        Ok(Refreshed {
            forgotten: controls.refresh(inode, deadline).await,
            kernel_told: self.running.notifier.tells_kernel(),
        })
    }

    /// Whether the kernel gets its answers.
    async fn look(&self) -> Health {
        match self.running.answers(ANSWERS_WITHIN, THREAD_LIMIT).await {
            Err(why) => self.health(HealthState::Stuck, vec![why]),
            Ok(()) => self.assumed_health(),
        }
    }

    /// The same of a mount that answers.
    fn assumed_health(&self) -> Health {
        let problems = self.problems();
        let state = if problems.is_empty() {
            HealthState::Alive
        } else {
            HealthState::Degraded
        };
        self.health(state, problems)
    }
}

/// Listens at the mount's socket, and at the address for metrics, as long as the run
/// time lasts; no socket where it is to have none, or cannot, which is told.
pub async fn start(config: &Config, served: Served) -> Option<SocketPlace> {
    let served = Arc::new(served);
    if let Some(MetricsAddress(address)) = config.metrics {
        let serve = listener::serve(address, web::router(served.clone()));
        tokio::spawn(caught("metrics", serve));
    }
    #[cfg(feature = "otlp")]
    served.running.otlp.report({
        let served = served.clone();
        move |sender, report| otlp_metrics::send(served.clone(), sender, report)
    });
    let outcome = listen(config, served).await;
    outcome.unwrap_or_else(|error| {
        tracing::warn!(%error, "no control socket: 'mediafs status' does not show this mount");
        None
    })
}

async fn listen(config: &Config, served: Arc<Served>) -> io::Result<Option<SocketPlace>> {
    let Some(path) = place::socket_of(config)? else {
        return Ok(None);
    };
    let socket = Socket::bind(&path, &config.mountpoint).await?;
    let place = socket.place.clone();
    let router = router(served);
    tokio::spawn(caught("control socket", socket.serve(router)));
    Ok(Some(place))
}

fn router(served: Arc<Served>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/status", get(web::status))
        .route("/flush", post(flush))
        .route("/refresh", post(refresh))
        .route("/unmount", post(unmount))
        .route("/stop-within", post(stop_within))
        .route("/reload", post(reload))
        .route("/log", get(log_filter).post(set_log_filter))
        .route("/settings", get(settings))
        .route("/barrier", post(hold))
        .route("/release", post(release))
        .method_not_allowed_fallback(web::another_method)
        .with_state(served.clone())
        .merge(web::router(served))
}

async fn health(State(served): State<Arc<Served>>) -> Response {
    json(StatusCode::OK, &served.look().await)
}

async fn flush(State(served): State<Arc<Served>>, body: Bytes) -> Response {
    let request = match path_request(&body) {
        Ok(request) => request,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why),
    };
    let within = request
        .timeout_ms
        .map_or(FLUSH_WITHIN, Duration::from_millis);
    let flushed = flush::flush(&served, &request.path, within.min(FLUSH_LIMIT)).await;
    of_path(&request.path, flushed)
}

async fn refresh(State(served): State<Arc<Served>>, body: Bytes) -> Response {
    let request = match path_request(&body) {
        Ok(request) => request,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why),
    };
    of_path(&request.path, served.refresh(&request.path).await)
}

async fn unmount(State(served): State<Arc<Served>>) -> Response {
    if let Some(unit) = &served.unit {
        let why = format!("it is the service of {unit}: 'systemctl stop {unit}' unmounts it");
        return refused(StatusCode::CONFLICT, why);
    }
    let controls = served.running.ops.controls();
    let openers = controls.openers(OpenFor::Anything).into_iter();
    let unmounting = Unmounting {
        pid: std::process::id(),
        spool: served.running.mounted.spool_dir.display().to_string(),
        drain_timeout_seconds: served.running.mounted.drain_timeout.as_secs(),
        openers: openers.map(Opener::from).collect(),
    };
    served.stop.ask();
    json(StatusCode::ACCEPTED, &unmounting)
}

/// Whoever stops it next waits no longer.
async fn stop_within(State(served): State<Arc<Served>>, body: Bytes) -> Response {
    match serde_json::from_slice::<StopWithin>(&body) {
        Ok(asked) => {
            served.stop.announce(Duration::from_millis(asked.within_ms));
            json(StatusCode::OK, &())
        }
        Err(error) => refused(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

/// What it was mounted with. Errors: a password of the proxy is part of it, which is told
/// to nobody; no other setting has one.
async fn settings(State(served): State<Arc<Served>>) -> Response {
    let mounted = &served.running.mounted;
    let proxy = mounted.s3.proxy.as_ref();
    if proxy.is_some_and(ProxyUrl::has_credentials) {
        let why = "the password of the mount's proxy is not told to another command: use 'mediafs export', and unmount";
        return refused(StatusCode::CONFLICT, why.to_owned());
    }
    json(StatusCode::OK, &mounted.given)
}

async fn hold(State(served): State<Arc<Served>>, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(request) => match barrier::hold(&served, request).await {
            Ok(answer) => json(StatusCode::OK, &answer),
            Err(why) => refused(StatusCode::CONFLICT, why),
        },
        Err(error) => refused(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

async fn release(State(served): State<Arc<Served>>, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(request) => match served.barrier.end(&served, request) {
            Ok(()) => json(StatusCode::OK, &()),
            Err(why) => refused(StatusCode::CONFLICT, why),
        },
        Err(error) => refused(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

async fn reload(State(served): State<Arc<Served>>) -> Response {
    match served.running.reload().await {
        Ok(reloaded) => json(StatusCode::OK, &reloaded),
        Err(error) => refused(StatusCode::UNPROCESSABLE_ENTITY, error),
    }
}

async fn log_filter(State(served): State<Arc<Served>>) -> Response {
    json(StatusCode::OK, &served.running.log_filter())
}

async fn set_log_filter(State(served): State<Arc<Served>>, body: Bytes) -> Response {
    let wanted = match serde_json::from_slice::<LogFilter>(&body) {
        Ok(wanted) => wanted,
        Err(error) => return refused(StatusCode::BAD_REQUEST, error.to_string()),
    };
    match served.running.set_log_filter(&wanted.filter).await {
        Ok(set) => json(StatusCode::OK, &set),
        Err(error) => refused(StatusCode::UNPROCESSABLE_ENTITY, error),
    }
}

/// An empty body asks for the whole mount. Errors: what is wrong with it.
fn path_request(body: &[u8]) -> Result<PathRequest, String> {
    if body.is_empty() || body == b"null" {
        return Ok(PathRequest::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| format!("the body is no such object ({error}): see 'mediafs help status'"))
}

/// What came of a request about a path, which may not be there.
fn of_path(path: &str, outcome: Result<impl Serialize, FsError>) -> Response {
    match outcome {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(error) => {
            let code = match &error {
                FsError::NotFound(_) | FsError::InvalidArgument => StatusCode::NOT_FOUND,
                // S3 was asked for it, and did not say.
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            refused(code, format!("{path:?}: {error}"))
        }
    }
}

fn refused(status: StatusCode, error: String) -> Response {
    json(status, &Refusal { error })
}

fn json(status: StatusCode, answer: &impl Serialize) -> Response {
    match serde_json::to_vec(answer) {
        Ok(body) => (status, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
