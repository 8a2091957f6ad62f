//! What can be read of a mount, by programs and in a browser: at the control socket
//! and at the address of `--metrics`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::future::join_all;
use tokio::time::timeout;

use super::answers::{Health, HealthState, MountStatus, Status};
use super::client::{self, AskError};
use super::{Served, json, page, place, prometheus, refused};

/// Other mounts of this user that a page shows.
const OTHERS_LIMIT: usize = 50;
/// One that has not answered by then is shown without numbers.
const OTHER_SAYS_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for others who look at the spool.
const TURN_WITHIN: Duration = Duration::from_secs(5);
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Nothing here changes anything.
pub fn router(served: Arc<Served>) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/metrics", get(scrape))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/status", get(status))
        .route("/api/mounts", get(mounts))
        .fallback(nothing_here)
        .method_not_allowed_fallback(another_method)
        .layer(map_response(guarded))
        .with_state(served)
}

/// No other page reads or embeds the answer, and nothing keeps it.
async fn guarded(mut response: Response) -> Response {
    const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CORP, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn nothing_here() -> Response {
    let why = "nothing is served here: see 'mediafs help status'";
    refused(StatusCode::NOT_FOUND, why.to_owned())
}

pub async fn another_method() -> Response {
    let why = "this takes another method: see 'mediafs help status'";
    refused(StatusCode::METHOD_NOT_ALLOWED, why.to_owned())
}

pub async fn status(State(served): State<Arc<Served>>) -> Response {
    match own_status(&served).await {
        Ok(status) => json(StatusCode::OK, &status),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

async fn mounts(State(served): State<Arc<Served>>) -> Response {
    json(StatusCode::OK, &all(&served).await)
}

async fn show(State(served): State<Arc<Served>>) -> Response {
    let page = page::html(&all(&served).await);
    let headers = [
        (CONTENT_TYPE, HTML),
        (CONTENT_SECURITY_POLICY, page::policy()),
    ];
    (headers, page).into_response()
}

async fn scrape(State(served): State<Arc<Served>>) -> Response {
    let text = match own_status(&served).await {
        Ok(status) => prometheus::text(status).map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match text {
        Ok(text) => ([(CONTENT_TYPE, prometheus::CONTENT_TYPE)], text).into_response(),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// Whether the daemon and its mount answer; S3 plays no part.
async fn healthz(State(served): State<Arc<Served>>) -> Response {
    let health = served.look().await;
    let code = match health.state {
        HealthState::Alive | HealthState::Degraded => StatusCode::OK,
        HealthState::Unknown | HealthState::Stuck => StatusCode::SERVICE_UNAVAILABLE,
    };
    plain_reply(code, health.state.as_str(), &health.reasons)
}

/// Whether files can be read and written that are not here.
async fn readyz(State(served): State<Arc<Served>>) -> Response {
    let health = served.look().await;
    let mut reasons = Vec::new();
    if health.state == HealthState::Stuck {
        reasons.extend(health.reasons);
    }
    let outage = served.running.health.outage();
    reasons.extend(outage.map(|outage| outage.to_string()));
    if reasons.is_empty() {
        plain_reply(StatusCode::OK, "ready", &[])
    } else {
        plain_reply(StatusCode::SERVICE_UNAVAILABLE, "not ready", &reasons)
    }
}

fn plain_reply(code: StatusCode, word: &str, reasons: &[String]) -> Response {
    let reasons = reasons.iter().map(|why| format!(": {why}"));
    let text = format!("{word}{}\n", reasons.collect::<String>());
    (code, [(CONTENT_TYPE, TEXT)], text).into_response()
}

/// Errors: it panicked, or the disk of the spool hangs.
pub async fn own_status(served: &Arc<Served>) -> Result<Status, String> {
    let health = served.look().await;
    status_with(served, health).await
}

/// The same where it is known how the mount is.
pub async fn status_with(served: &Arc<Served>, health: Health) -> Result<Status, String> {
    let turn = timeout(TURN_WITHIN, served.looking.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err("the disk of the spool does not answer".to_owned());
    };
    let served = served.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        served.status(health)
    });
    looked.await.map_err(|error| error.to_string())
}

/// This mount, and then the others of its user.
async fn all(served: &Arc<Served>) -> Vec<MountStatus> {
    let own_socket = place::socket_of(&served.running.mounted).ok().flatten();
    let mut others = place::own_sockets();
    others.retain(|socket| Some(socket) != own_socket.as_ref());
    others.truncate(OTHERS_LIMIT);
    let (own, others) = tokio::join!(
        own_status(served),
        join_all(others.into_iter().map(of_other))
    );
    let own = MountStatus::new(own_socket, own);
    [own].into_iter().chain(others).collect()
}

async fn of_other(socket: PathBuf) -> MountStatus {
    let asked = timeout(OTHER_SAYS_WITHIN, client::status(&socket)).await;
    let status = asked.unwrap_or(Err(AskError::Silent(OTHER_SAYS_WITHIN)));
    MountStatus::new(Some(socket), status.map_err(|error| error.to_string()))
}
