//! A client of the SDK for one bucket, from the standard AWS credential and region chain.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Region, ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_types::SdkConfig;
use aws_types::os_shim_internal::{Env, Fs};
use aws_types::service_config::ServiceConfigKey;
use url::{Host, Url};

use super::answer::AnswerCheck;
use super::checksum::Transport;
use super::error::chain;
use super::http::NetworkError;
use super::profile;
use super::request_options::ServerEncryption;
use super::s3_settings::{Addressing, Identity, S3Settings};
use crate::store::{Endpoint, GivenKeys, KeySource, StoreClock};

/// What a profile says that has credentials. Source: AWS SDKs and Tools Reference Guide,
/// "Standardized credential providers".
const CREDENTIALS_OF_PROFILES: [&str; 7] = [
    "aws_access_key_id",
    "role_arn",
    "credential_process",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
    "login_session",
];
/// A connection that is not up by then is tried anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Region named to services that have none of their own.
const REGION_OF_OTHER_SERVICES: &str = "us-east-1";

/// Where requests go. It stays as it was at first when the AWS configuration is read
/// anew for its credentials: what waits for one endpoint is not for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    endpoint_url: Option<String>,
    region: Region,
}

/// A variable or a profile has it, for S3 or for all services.
const WHERE_ENDPOINTS_ARE: &str =
    "AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or endpoint_url of the AWS configuration";

impl Route {
    /// Source: AWS SDKs and Tools Reference Guide, "Service-specific endpoints".
    fn of(settings: &S3Settings, shared: &SdkConfig) -> Self {
        let for_s3 = || {
            let key = ServiceConfigKey::builder()
                .service_id("S3")
                .env("AWS_ENDPOINT_URL")
                .profile("endpoint_url")
                .build();
            shared.service_config()?.load_config(key.ok()?)
        };
        let for_all = || shared.endpoint_url().map(str::to_owned);
        let region = shared.region().cloned();
        Self {
            endpoint_url: settings
                .endpoint_url
                .clone()
                .or_else(for_s3)
                .or_else(for_all),
            region: region.unwrap_or_else(|| Region::new(REGION_OF_OTHER_SERVICES)),
        }
    }

    /// Errors: options that this endpoint cannot have, and a key that it would get in the
    /// clear.
    pub fn check(&self, settings: &S3Settings) -> Result<(), NetworkError> {
        let refused = |why: String| Err(NetworkError::Endpoint(why));
        if let Some(url) = &self.endpoint_url {
            let variants = settings.variants.names();
            if !variants.is_empty() {
                let variants = variants.join(" and ");
                return refused(format!(
                    "{variants} choose an endpoint of AWS, and {url} is set: leave out one of them"
                ));
            }
            if settings.bucket.starts_with("arn:") {
                return refused(format!(
                    "the ARN of an access point has an endpoint of its own, and {url} is set: leave out one of them, or name the access point by its alias (it ends in -s3alias)"
                ));
            }
        }
        let brings_key = matches!(
            settings.requests.encryption,
            Some(ServerEncryption::Customer(_))
        );
        if brings_key && self.transport() == Transport::Plain && !self.is_on_this_host() {
            return refused(
                "sse-customer-key-file takes an endpoint with https: over http everybody on the way can read the key".to_owned(),
            );
        }
        Ok(())
    }

    /// Errors: an endpoint of the AWS configuration that no setting could name.
    pub fn check_url(&self) -> Result<(), NetworkError> {
        let checked = self
            .endpoint_url
            .as_deref()
            .map_or(Ok(()), Endpoint::check_url);
        checked.map_err(|why| NetworkError::Endpoint(format!("{WHERE_ENDPOINTS_ARE} {why}")))
    }

    fn is_on_this_host(&self) -> bool {
        let url = self.endpoint_url.as_deref();
        let url = url.and_then(|url| Url::parse(url).ok());
        match url.as_ref().and_then(Url::host) {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Whether requests may be signed for another region of the same service: what waits
    /// for one partition of AWS is not for another, nor are its credentials.
    pub fn may_move_to(&self, region: &str) -> bool {
        let there = Endpoint::of(self.endpoint_url.as_deref(), region);
        self.region.as_ref() != region && there == self.endpoint()
    }

    pub fn transport(&self) -> Transport {
        let scheme = self.endpoint_url.as_ref().map(|url| url.split_once("://"));
        match scheme {
            // AWS, by its name.
            None => Transport::Tls,
            Some(Some((scheme, _))) if scheme.eq_ignore_ascii_case("https") => Transport::Tls,
            Some(_) => Transport::Plain,
        }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::of(self.endpoint_url.as_deref(), self.region.as_ref())
    }
}

/// Credentials of another program, read when they are needed.
#[derive(Debug)]
struct SourceCredentials(Arc<dyn KeySource>);

impl ProvideCredentials for SourceCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.credentials())
    }
}

impl SourceCredentials {
    fn credentials(&self) -> provider::Result {
        let keys = self.0.read();
        let keys = keys.map_err(CredentialsError::invalid_configuration)?;
        let GivenKeys::Keys(keys) = keys else {
            return Err(CredentialsError::not_loaded("no access key is set"));
        };
        Ok(Credentials::new(
            keys.access_key,
            keys.secret_key,
            keys.session_token,
            None,
            "settings of another program",
        ))
    }
}

/// A client with what the AWS configuration says now, and its route, unless one is
/// given; its connections are those of `http`, its region that of the bucket where the
/// store has named it, and its answers set the clock.
pub(super) fn client(
    settings: &S3Settings,
    shared: &SdkConfig,
    route: Option<&Route>,
    of_bucket: Option<&Region>,
    clock: &Arc<StoreClock>,
) -> (Client, Route) {
    let named = Route::of(settings, shared);
    if route.is_some_and(|route| *route != named) {
        tracing::warn!(
            endpoint = %named.endpoint(), region = %named.region,
            "the AWS configuration names another endpoint or region by now: that takes a new mount"
        );
    }
    let route = route.cloned().unwrap_or(named);
    let mut config = aws_sdk_s3::config::Builder::from(shared)
        .force_path_style(settings.addressing == Addressing::Path)
        .interceptor(AnswerCheck {
            clock: clock.clone(),
        })
        .interceptor(settings.requests.clone())
        // The ARN of an access point says its region.
        .use_arn_region(true)
        .region(of_bucket.unwrap_or(&route.region).clone());
    // What is not asked for here, the AWS configuration may ask for.
    let variants = settings.variants;
    if variants.dual_stack {
        config = config.use_dual_stack(true);
    }
    if variants.fips {
        config = config.use_fips(true);
    }
    if variants.accelerate {
        config = config.accelerate(true);
    }
    config.set_endpoint_url(route.endpoint_url.clone());
    // Each request says itself which one it has, and whether an answer is compared.
    config.set_response_checksum_validation(Some(ResponseChecksumValidation::WhenRequired));
    (Client::from_conf(config.build()), route)
}

/// Credentials of a named profile or file: the chain would take the environment's
/// before them. Source: `aws help configvars`, "--profile", which does the same.
///
/// None of a profile that is there and says nothing of credentials.
async fn named_credentials(
    settings: &S3Settings,
    http: SharedHttpClient,
) -> Option<ProfileFileCredentialsProvider> {
    let profile = settings.profile_now();
    if profile.is_none() && settings.credentials_file.is_none() {
        return None;
    }
    let named = profile.clone().map(Cow::Owned);
    let files = profile::files(settings.credentials_file.as_deref());
    if let Ok(all) = aws_config::profile::load(&Fs::real(), &Env::real(), &files, named).await
        && let Some(found) = all.get_profile(all.selected_profile())
        && CREDENTIALS_OF_PROFILES
            .iter()
            .all(|it| found.get(it).is_none())
    {
        return None;
    }
    let region = settings.region.clone().map(Region::new);
    let configuration = ProviderConfig::without_region()
        .with_region(region)
        .with_http_client(http);
    let mut named = ProfileFileCredentialsProvider::builder()
        .configure(&configuration)
        .profile_files(files);
    if let Some(profile) = profile {
        named = named.profile_name(profile);
    }
    Some(named.build())
}

/// What requests are signed with by now. Errors: no credentials, in words.
pub(super) async fn credentials_of(shared: &SdkConfig) -> Result<Credentials, String> {
    let provider = shared.credentials_provider();
    let provider = provider.ok_or("no credentials are configured")?;
    let found = provider.provide_credentials().await;
    found.map_err(|error| chain(&error))
}

/// What the AWS configuration says now.
pub(super) async fn shared_config(settings: &S3Settings, http: SharedHttpClient) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        // Retries and deadlines are the decorator's; two of a kind multiply.
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .build(),
        )
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    loader = loader.profile_files(profile::files(settings.credentials_file.as_deref()));
    if let Some(profile) = settings.profile_now() {
        loader = loader.profile_name(profile);
    }
    if settings.identity == Identity::Anonymous {
        loader = loader.no_credentials();
    } else if let Some(keys) = &settings.keys
        && matches!(keys.read(), Ok(GivenKeys::Keys(_)) | Err(_))
    {
        loader = loader.credentials_provider(SourceCredentials(keys.clone()));
    } else if let Some(of_profile) = named_credentials(settings, http).await {
        loader = loader.credentials_provider(of_profile);
    }
    if let Some(url) = &settings.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    loader.load().await
}
