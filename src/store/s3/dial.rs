//! How a connection is made: straight or through a proxy, with TLS where the URL says
//! so, and with a kernel that finds out when nobody is at its other end any more.
//!
//! An attempt has a few seconds and what its bytes take: hours for the longest part,
//! minutes for a copy inside S3. A peer that has gone meanwhile is noticed by the kernel:
//! what was sent must be acknowledged within `USER_TIMEOUT`, and where nothing is sent,
//! keepalive probes must.
//! Source: tcp(7), TCP_USER_TIMEOUT and TCP_KEEPIDLE.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

/// From when on a peer that sends nothing is asked whether it is there, and how often.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for so long, or reads nothing, is gone. A store whose
/// disks are slow, or a link that is away, may pause an upload for a minute.
const USER_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
#[error("no connection within {}", humantime::format_duration(*.0))]
pub struct LateConnection(Duration);

/// Makes connections.
#[derive(Clone)]
pub struct Dial {
    direct: HttpsConnector<HttpConnector>,
    /// A tunnel is asked for with HTTP/1.1.
    to_proxy: HttpsConnector<HttpConnector>,
    tls: Arc<ClientConfig>,
    proxy_tls: Arc<ClientConfig>,
    proxy: Option<Arc<Matcher>>,
    limit: Option<Duration>,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").finish_non_exhaustive()
    }
}

impl Dial {
    pub fn new(tls: ClientConfig, proxy: Option<Matcher>) -> Self {
        let mut proxy_tls = tls.clone();
        proxy_tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (tls, proxy_tls) = (Arc::new(tls), Arc::new(proxy_tls));
        Self {
            direct: HttpsConnector::from((tcp(None), tls.clone())),
            to_proxy: HttpsConnector::from((tcp(None), proxy_tls.clone())),
            tls,
            proxy_tls,
            proxy: proxy.map(Arc::new),
            limit: None,
        }
    }

    /// The same, with a limit for the time that a connection takes until it can be used.
    pub fn within(&self, limit: Option<Duration>) -> Self {
        Self {
            direct: HttpsConnector::from((tcp(limit), self.tls.clone())),
            to_proxy: HttpsConnector::from((tcp(limit), self.proxy_tls.clone())),
            limit,
            ..self.clone()
        }
    }

    /// What a proxy wants of each request that it passes on; one that makes a tunnel is
    /// told as it makes it.
    pub fn forward_authorization(&self, to: &Uri) -> Option<HeaderValue> {
        if is_https(to) {
            return None;
        }
        let proxy = self.proxy.as_ref()?.intercept(to)?;
        proxy.basic_auth().cloned()
    }

    async fn connect(mut self, to: Uri) -> Result<Conn, BoxError> {
        let proxy = self.proxy.and_then(|proxy| proxy.intercept(&to));
        let Some(proxy) = proxy else {
            let stream = self.direct.call(to).await?;
            return Ok(Conn::new(MaybeHttpsStream::Http(stream)));
        };
        if !is_https(&to) {
            let stream = self.to_proxy.call(proxy.uri().clone()).await?;
            return Ok(Conn {
                stream: MaybeHttpsStream::Http(stream),
                is_forwarded: true,
            });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy);
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let stream = HttpsConnector::from((tunnel, self.tls)).call(to).await?;
        Ok(Conn::new(stream))
    }
}

impl Service<Uri> for Dial {
    type Response = Conn;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Conn, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let limit = self.limit;
        let connection = self.clone().connect(to);
        Box::pin(async move {
            match limit {
                Some(limit) => timeout(limit, connection)
                    .await
                    .unwrap_or_else(|_| Err(LateConnection(limit).into())),
                None => connection.await,
            }
        })
    }
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// The limit is shared out among the addresses of a host, so that one that does not answer
/// leaves time for the others.
fn tcp(limit: Option<Duration>) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(limit);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE_IDLE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
    tcp
}

/// TLS or none to the server, over TLS or none to a proxy.
type Stream = MaybeHttpsStream<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// A connection.
pub struct Conn {
    stream: Stream,
    /// A proxy reads each request, and wants the whole URL.
    is_forwarded: bool,
}

impl Conn {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            is_forwarded: false,
        }
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").finish_non_exhaustive()
    }
}

impl Connection for Conn {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.is_forwarded)
    }
}

impl Read for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::sockopt;
    use rustls::RootCertStore;

    use super::*;

    #[tokio::test]
    async fn the_kernel_watches_over_each_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = format!("http://{}", listener.local_addr().unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut dial = Dial::new(tls, None).within(Some(USER_TIMEOUT));
        let conn = dial.call(to.parse().unwrap()).await.unwrap();
        let MaybeHttpsStream::Http(MaybeHttpsStream::Http(stream)) = &conn.stream else {
            panic!("TLS for {to}");
        };
        let socket = stream.inner();
        assert!(sockopt::socket_keepalive(socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(socket).unwrap(), KEEPALIVE_IDLE);
        assert_eq!(sockopt::tcp_keepintvl(socket).unwrap(), KEEPALIVE_INTERVAL);
        let limit_ms = sockopt::tcp_user_timeout(socket).unwrap();
        assert_eq!(Duration::from_millis(limit_ms.into()), USER_TIMEOUT);
    }
}
