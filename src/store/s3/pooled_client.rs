//! The HTTP client that the SDK sends its requests with: hyper's, whose connections
//! `Dial` makes and whose idle ones are kept for the next request.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use hyper::header::PROXY_AUTHORIZATION;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::connections::IDLE_LIMIT;
use super::dial::{Dial, LateConnection};
use super::error::{cause, has_cause};

type Pool = Client<Dial, SdkBody>;

/// A client without connections at first.
#[derive(Debug)]
pub struct PooledClient {
    dial: Dial,
    /// By the time that a connection may take. S3 and each source of credentials has one
    /// of its own.
    pools: Mutex<HashMap<Option<Duration>, Pool>>,
}

impl PooledClient {
    pub fn shared(dial: Dial) -> SharedHttpClient {
        SharedHttpClient::new(Self {
            dial,
            pools: Mutex::default(),
        })
    }
}

impl HttpClient for PooledClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let limit = settings.connect_timeout();
        let make = || {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_LIMIT)
                .build(self.dial.within(limit))
        };
        SharedHttpConnector::new(Connector {
            dial: self.dial.clone(),
            pool: self.pools.lock().entry(limit).or_insert_with(make).clone(),
            read_timeout: settings.read_timeout(),
        })
    }
}

#[derive(Debug, Clone)]
struct Connector {
    dial: Dial,
    pool: Pool,
    /// Until the head of the answer has come.
    read_timeout: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().send(request))
    }
}

impl Connector {
    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = request.try_into_http1x();
        let mut request = request.map_err(|error| ConnectorError::user(error.into()))?;
        if let Some(authorization) = self.dial.forward_authorization(request.uri()) {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        let connection = capture_connection(&mut request);
        if let Some(sdk) = request.extensions().get::<CaptureSmithyConnection>() {
            sdk.set_connection_retriever(move || told(&connection));
        }
        let answer = self.pool.request(request);
        let answer = match self.read_timeout {
            Some(limit) => {
                let answer = timeout(limit, answer).await;
                answer.map_err(|late| ConnectorError::timeout(late.into()))?
            }
            None => answer.await,
        };
        let answer = answer.map_err(failure)?.map(SdkBody::from_body_1_x);
        HttpResponse::try_from(answer).map_err(|error| ConnectorError::other(error.into(), None))
    }
}

/// What the SDK may do with the connection of a request: see that it has no other one.
fn told(connection: &CaptureConnection) -> Option<ConnectionMetadata> {
    let is_proxied = connection.connection_metadata().as_ref()?.is_proxied();
    let connection = connection.clone();
    let give_up = move || {
        if let Some(connected) = connection.connection_metadata().as_ref() {
            connected.poison();
        }
    };
    let metadata = ConnectionMetadata::builder().proxied(is_proxied);
    Some(metadata.poison_fn(give_up).build())
}

fn failure(error: Error) -> ConnectorError {
    let of_hyper = cause::<hyper::Error>(&error);
    if has_cause::<LateConnection>(&error) || of_hyper.is_some_and(hyper::Error::is_timeout) {
        ConnectorError::timeout(error.into())
    } else if of_hyper.is_some_and(hyper::Error::is_user) {
        ConnectorError::user(error.into())
    } else {
        ConnectorError::io(error.into())
    }
}
