//! Asking a mount over its control socket.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::answers::{Health, Status};

/// A longer answer is none of mediafs's.
const ANSWER_LIMIT_BYTES: usize = 4 << 20;

/// Why a mount gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens: its daemon is dead.
    #[error("no daemon listens: mount it again, or remove the socket")]
    Dead,
    #[error("it belongs to another user: only that user and root are answered")]
    Refused,
    #[error("the connection was closed: the daemon ends, or belongs to another user")]
    Closed,
    #[error("its daemon does not answer within {}", humantime::format_duration(*.0))]
    Silent(Duration),
    /// An answer that says why not.
    #[error("{1}")]
    Denied(StatusCode, String),
    #[error("its answer cannot be read: {0}")]
    Broken(String),
    /// Anybody can claim to serve anything.
    #[error("user {0} answers for a mount that is not that user's")]
    Unproved(u32),
}

/// An answer, and the user whose process gave it: the kernel says which.
#[derive(Debug)]
pub struct Answer<T> {
    pub value: T,
    pub uid: u32,
}

impl AskError {
    /// Whether the daemon that was asked is dead or dies, so that a successor may follow.
    pub fn is_of_a_dead_daemon(&self) -> bool {
        matches!(self, Self::Dead | Self::Closed)
    }
}

/// What a refused request is answered with.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
}

/// Which mount answers at a socket, and how it is.
pub async fn identity(socket: &Path) -> Result<Health, AskError> {
    let answer = ask(socket, Method::GET, "/health", &()).await;
    answer.map(|answer| answer.value)
}

/// How the mount is that answers at a socket.
pub async fn status(socket: &Path) -> Result<Status, AskError> {
    let answer = ask(socket, Method::GET, "/status", &()).await;
    answer.map(|answer| answer.value)
}

/// Sends a request and reads its answer, and waits no longer than that. For a process
/// without a run time.
pub fn ask_within<T: DeserializeOwned>(
    socket: &Path,
    asked: (Method, &str),
    request: &impl Serialize,
    within: Duration,
) -> Result<T, AskError> {
    answer_within(socket, asked, request, within).map(|answer| answer.value)
}

/// The same, with the user who answered.
pub fn answer_within<T: DeserializeOwned>(
    socket: &Path,
    (method, path): (Method, &str),
    request: &impl Serialize,
    within: Duration,
) -> Result<Answer<T>, AskError> {
    let broken = |error: io::Error| AskError::Broken(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(broken)?;
    let asking = async { timeout(within, ask(socket, method, path, request)).await };
    runtime
        .block_on(asking)
        .unwrap_or(Err(AskError::Silent(within)))
}

async fn ask<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    request: &impl Serialize,
) -> Result<Answer<T>, AskError> {
    let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
    let uid = stream.peer_cred().map_err(unreachable)?.uid();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let body = serde_json::to_vec(request).map_err(|error| AskError::Broken(error.to_string()))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| AskError::Broken(error.to_string()))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_LIMIT_BYTES);
    let body = body.collect().await.map_err(cut_short)?;
    connection.abort();
    let bytes = body.to_bytes();
    let broken = |error: serde_json::Error| AskError::Broken(error.to_string());
    if status.is_success() {
        let value = serde_json::from_slice(&bytes).map_err(broken)?;
        return Ok(Answer { value, uid });
    }
    let refusal = serde_json::from_slice::<Refusal>(&bytes).map_err(broken)?;
    Err(AskError::Denied(status, refusal.error))
}

fn unreachable(error: io::Error) -> AskError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => AskError::Dead,
        io::ErrorKind::PermissionDenied => AskError::Refused,
        io::ErrorKind::ConnectionReset => AskError::Closed,
        _ => AskError::Broken(error.to_string()),
    }
}

fn cut_short(error: Box<dyn Error + Send + Sync>) -> AskError {
    match error.downcast::<hyper::Error>() {
        Ok(cut) => AskError::from(*cut),
        Err(error) => AskError::Broken(error.to_string()),
    }
}

impl From<hyper::Error> for AskError {
    fn from(error: hyper::Error) -> Self {
        // Of a daemon that dies the connection is closed, or reset where it had read nothing.
        let is_reset = error.source().is_some_and(<dyn Error>::is::<io::Error>);
        if is_reset || error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            Self::Closed
        } else {
            Self::Broken(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// What is heard of a daemon that dies once it has said so much.
    async fn heard_of(said: &str) -> AskError {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let dying = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = stream.read(&mut [0; 1024]).await.unwrap();
            assert_ne!(request, 0);
            stream.write_all(said.as_bytes()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(identity(&socket), dying);
        answer.unwrap_err()
    }

    #[tokio::test]
    async fn a_daemon_that_dies_before_the_end_of_its_answer_may_have_a_successor() {
        for said in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{",
        ] {
            let error = heard_of(said).await;
            assert!(error.is_of_a_dead_daemon(), "{said:?}: {error:?}");
        }
    }
}
