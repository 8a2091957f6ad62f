//! The address that `--metrics` names. Who asks there reads, and changes nothing.
//!
//! A web page can have a browser send requests to loopback under the page's own host
//! name, and read the answer (DNS rebinding). So on loopback only IP addresses and
//! `localhost` are taken for a host name.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::socket::{ACCEPT_PAUSE, CONNECTIONS_LIMIT, answer};
use crate::backoff::Backoff;

/// Between two attempts to listen: a predecessor may be about to end.
const BIND_PAUSE_FIRST: Duration = Duration::from_millis(100);
const BIND_PAUSE_LIMIT: Duration = Duration::from_secs(10);
/// A page that is not read by then is read by nobody.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// Answers until the run time ends, from when the address can be had.
pub async fn serve(address: SocketAddr, router: Router) {
    let listener = bind(address).await;
    let of_loopback = router.clone().layer(from_fn(refuse_other_names));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    loop {
        // It is never closed.
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let is_loopback = is_loopback(&stream);
                let router = if is_loopback { &of_loopback } else { &router };
                tokio::spawn(answer(stream, router.clone(), slot, ANSWERED_WITHIN));
            }
            Err(error) => {
                tracing::debug!(%error, "metrics: no connection accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    let mut pauses = Backoff::new(BIND_PAUSE_FIRST, BIND_PAUSE_LIMIT);
    let mut is_told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                tracing::info!("metrics and status page: http://{address}/");
                return listener;
            }
            Err(error) => {
                let why = reason(&error);
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(
                        "no metrics at {address}: {why}: the mount goes on, and tries again"
                    );
                }
            }
        }
        sleep(pauses.next_pause()).await;
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there, name another port with --metrics".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "mediafs may not listen below port 1024: name a higher one".to_owned()
        }
        _ => error.to_string(),
    }
}

fn is_loopback(stream: &TcpStream) -> bool {
    let local = stream.local_addr();
    local.is_ok_and(|local| local.ip().to_canonical().is_loopback())
}

async fn refuse_other_names(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST);
    let host = host.and_then(|host| host.to_str().ok());
    if host.is_some_and(is_own_name) {
        return next.run(request).await;
    }
    let why = "use the IP address or localhost as host name\n";
    (StatusCode::MISDIRECTED_REQUEST, why).into_response()
}

fn is_own_name(host: &str) -> bool {
    let Ok(host) = host.parse::<Authority>() else {
        return false;
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_name_does_not_read_what_is_on_loopback() {
        for host in [
            "localhost",
            "LocalHost:9750",
            "127.0.0.1:9750",
            "[::1]:9750",
        ] {
            assert!(is_own_name(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9750",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "a@b c",
        ] {
            assert!(!is_own_name(host), "{host}");
        }
    }
}
