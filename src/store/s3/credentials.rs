//! Credentials that are replaced under a running mount, and the region of its bucket.
//!
//! The SDK reads files of the AWS configuration once a client, and goes on with
//! what they said: new credentials take a new client.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Region, SharedHttpClient};
use parking_lot::RwLock;
use tokio::time::Instant;

use super::client::{Route, client, credentials_of, shared_config};
use super::s3_settings::{Identity, S3Settings};
use crate::store::{StoreClock, StoreError, StoreErrorKind};

/// The chain may ask other services: not more often than this.
const RENEW_PAUSE: Duration = Duration::from_secs(1);

/// The client, and what makes a new one.
#[derive(Debug)]
pub(super) struct Renewal {
    settings: S3Settings,
    http: SharedHttpClient,
    route: Route,
    clock: Arc<StoreClock>,
    /// Of the bucket, where the store has named another one than the route's.
    of_bucket: OnceLock<Region>,
    current: RwLock<Current>,
    /// When the configuration was last read anew.
    turn: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Current {
    client: Client,
    /// Grows with each client.
    generation: u64,
}

impl Renewal {
    /// Connects with what the AWS configuration says now.
    pub async fn new(settings: S3Settings, http: SharedHttpClient) -> Self {
        let clock = Arc::default();
        let shared = shared_config(&settings, http.clone()).await;
        let (client, route) = client(&settings, &shared, None, None, &clock);
        Self {
            settings,
            http,
            route,
            clock,
            of_bucket: OnceLock::new(),
            current: RwLock::new(Current {
                client,
                generation: 0,
            }),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// What a client is made of.
    pub fn parts(&self) -> (&S3Settings, SharedHttpClient) {
        (&self.settings, self.http.clone())
    }

    /// Errors: it names no credentials any more, in words; those of before stay.
    async fn read_anew(&self) -> Result<(), String> {
        let shared = shared_config(&self.settings, self.http.clone()).await;
        if self.settings.identity != Identity::Anonymous {
            credentials_of(&shared).await?;
        }
        let (route, bucket, clock) = (Some(&self.route), self.of_bucket.get(), &self.clock);
        let (client, _) = client(&self.settings, &shared, route, bucket, clock);
        let mut current = self.current.write();
        current.client = client;
        current.generation += 1;
        Ok(())
    }

    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The store's, as every client has learned it.
    pub fn clock(&self) -> &Arc<StoreClock> {
        &self.clock
    }

    pub fn client(&self) -> Client {
        self.current.read().client.clone()
    }

    /// Of the client: it has grown once credentials were read anew.
    pub fn generation(&self) -> u64 {
        self.current.read().generation
    }

    /// Reads the AWS configuration anew; requests from now on use what it says.
    ///
    /// Errors: it names no credentials any more, in words; those of before stay.
    pub async fn reload(&self) -> Result<(), String> {
        let mut turn = self.turn.lock().await;
        *turn = Some(Instant::now());
        let read = self.read_anew().await;
        match &read {
            Ok(()) => tracing::info!("credentials reloaded"),
            Err(error) => {
                tracing::error!(%error, "no credentials found any more: the previous ones stay in use")
            }
        }
        read
    }

    /// Sends a request. Where its credentials are refused, the next attempt has
    /// those that the AWS configuration names by then; where the store names another
    /// region, it goes there.
    pub async fn renewing<T>(
        &self,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        // The request takes its client when it is first polled, which is later.
        let sent_with = self.generation();
        let mut outcome = request.await;
        if let Err(error) = &mut outcome {
            match error.kind {
                StoreErrorKind::Credentials => error.retry_after = self.renew(sent_with).await,
                StoreErrorKind::WrongRegion => {
                    error.retry_after = self.follow(sent_with, error).await
                }
                _ => (),
            }
        }
        outcome
    }

    /// When to send a request again that the store wants in another region; none where
    /// that was not named, or is followed already: a second one would be a loop.
    async fn follow(&self, refused: u64, error: &StoreError) -> Option<Duration> {
        let region = error.region.as_deref()?;
        let _turn = self.turn.lock().await;
        if self.generation() > refused {
            return Some(Duration::ZERO);
        }
        if !self.route.may_move_to(region) {
            return None;
        }
        self.of_bucket.set(Region::new(region.to_owned())).ok()?;
        self.read_anew().await.ok()?;
        tracing::warn!(
            %region,
            "the bucket is in region {region}, not the configured one: requests go there from now on (set --region {region})"
        );
        Some(Duration::ZERO)
    }

    /// When to send what was refused again; none where nothing is new.
    async fn renew(&self, refused: u64) -> Option<Duration> {
        let mut turn = self.turn.lock().await;
        // Another request that was refused was first.
        if self.generation() > refused {
            return Some(Duration::ZERO);
        }
        if turn.is_some_and(|at| at.elapsed() < RENEW_PAUSE) {
            return None;
        }
        *turn = Some(Instant::now());
        if let Err(error) = self.read_anew().await {
            tracing::debug!(%error, "credentials refused, and no others found");
            return None;
        }
        tracing::debug!("credentials refused: read again");
        Some(Duration::ZERO)
    }
}
