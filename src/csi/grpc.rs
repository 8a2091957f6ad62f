//! The calls as gRPC on a Unix socket: routes, and who serves them.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use axum::routing::{MethodRouter, post};
use futures::future::BoxFuture;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prost::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tonic::Status;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use super::driver::Driver;

/// Connections that are served at once: kubelet, registrar and liveness probe have one each.
const CONNECTIONS_LIMIT: usize = 64;
/// Calls of one connection that are answered at once.
const CALLS_LIMIT: u32 = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens at a path, in the place of a driver that is gone. Errors: it is no socket.
pub fn listen(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path)?,
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers until the run time ends.
pub async fn serve(listener: UnixListener, driver: Arc<Driver>) {
    let router = router(&driver);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(stream, router.clone(), slot));
            }
            Err(error) => {
                tracing::warn!(%error, "no connection accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, router: Router, _slot: OwnedSemaphorePermit) {
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .max_concurrent_streams(CALLS_LIMIT);
    let service = TowerToHyperService::new(router);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection broke off");
    }
}

fn router(driver: &Arc<Driver>) -> Router {
    let identity = Router::new()
        .route("/GetPluginInfo", call(driver, Driver::info))
        .route(
            "/GetPluginCapabilities",
            call(driver, Driver::plugin_capabilities),
        )
        .route("/Probe", call(driver, Driver::probe));
    let node = Router::new()
        .route("/NodePublishVolume", call(driver, Driver::publish))
        .route("/NodeUnpublishVolume", call(driver, Driver::unpublish))
        .route("/NodeGetCapabilities", call(driver, Driver::capabilities))
        .route("/NodeGetInfo", call(driver, Driver::node));
    Router::new()
        .nest("/csi.v1.Identity", identity)
        .nest("/csi.v1.Node", node)
        .fallback(async || Status::unimplemented("not a call of this driver").into_http::<Body>())
}

type Method<Q, A> = fn(&Driver, Q) -> Result<A, Status>;

/// A call with one request and one answer.
fn call<Q, A>(driver: &Arc<Driver>, method: Method<Q, A>) -> MethodRouter
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    let driver = driver.clone();
    post(move |request: Request| async move {
        let mut grpc = Grpc::new(ProstCodec::<A, Q>::default());
        let path = request.uri().path().to_owned();
        let call = Call {
            driver,
            method,
            path,
        };
        let answer: Response<tonic::body::Body> = grpc.unary(call, request).await;
        answer.map(Body::new)
    })
}

struct Call<Q, A> {
    driver: Arc<Driver>,
    method: Method<Q, A>,
    path: String,
}

impl<Q, A> fmt::Debug for Call<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl<Q: Send + 'static, A: Send + 'static> UnaryService<Q> for Call<Q, A> {
    type Response = A;
    type Future = BoxFuture<'static, Result<tonic::Response<A>, Status>>;

    /// Runs to its end when the client disconnects: its next call finds the result.
    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let (driver, method, path) = (self.driver.clone(), self.method, self.path.clone());
        Box::pin(async move {
            let calls = driver.calls.clone();
            let done = calls.spawn_blocking(move || method(&driver, request.into_inner()));
            let done = done.await;
            let answer = done.unwrap_or_else(|_| {
                Err(Status::internal("the call panicked: see the driver's log"))
            });
            if let Err(error) = &answer {
                tell(&path, error);
            }
            answer.map(tonic::Response::new)
        })
    }
}

fn tell(path: &str, error: &Status) {
    let code = error.code();
    tracing::warn!(call = path, ?code, "refused: {}", error.message());
}
