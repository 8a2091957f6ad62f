//! The HTTP client of S3 and of the services that credentials come from: whose
//! certificates it trusts, and which proxy it goes through.

use std::borrow::Cow;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_types::os_shim_internal::{Env, Fs};
use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::connections::IDLE_LIMIT;
use super::s3_settings::S3Settings;
use crate::store::ProxyUrl;

/// Variables that name proxies, as curl and the AWS SDKs read them.
const PROXY_VARIABLES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];
/// Where machines and containers get credentials from: never behind a proxy.
/// Sources: EC2 User Guide, "Instance metadata"; ECS and EKS, "container credentials".
const LINK_LOCAL: &str = "169.254.0.0/16,fd00:ec2::254,fd00:ec2::23";

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("the certificates of {from}, {path}, cannot be used: {why}")]
    CaBundle {
        /// Which setting names it.
        from: &'static str,
        path: PathBuf,
        why: String,
    },
    #[error("{0}")]
    Proxy(String),
    #[error("sse-customer-key-file {path}: {why}")]
    CustomerKey { path: PathBuf, why: String },
    /// What the endpoint cannot do, and what to change.
    #[error("{0}")]
    Endpoint(String),
}

/// What to do about settings of the network that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnNetworkError {
    Refuse,
    /// Go on without them: programs have files open.
    Ignore,
}

/// Makes clients for every service. Errors: a bundle of certificates, or a proxy, that cannot be used.
pub(super) async fn clients(
    settings: &S3Settings,
    files: &EnvConfigFiles,
    on_error: OnNetworkError,
) -> Result<impl Fn() -> SharedHttpClient + Send + Sync + 'static, NetworkError> {
    let kept = |error: NetworkError| match on_error {
        OnNetworkError::Refuse => Err(error),
        OnNetworkError::Ignore => {
            tracing::error!(%error, "going on without it");
            Ok(None)
        }
    };
    let trust = trust(settings, files).await.or_else(kept)?;
    let proxy = proxy(settings.proxy.as_ref()).or_else(|error| kept(error).map(|_| None))?;
    // One that holds certificates which were checked is always built.
    let tls = TlsContext::builder()
        .with_trust_store(trust.unwrap_or_default())
        .build()
        .unwrap_or_default();
    let connector = move |settings: Option<&HttpConnectorSettings>,
                          components: Option<&RuntimeComponents>| {
        let mut builder = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(tls.clone())
            .pool_idle_timeout(IDLE_LIMIT);
        builder.set_proxy_config(proxy.clone());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.build()
    };
    Ok(move || Builder::new().build_with_connector_fn(connector.clone()))
}

/// Certificates in place of the system's, where a setting names some.
///
/// Source: AWS SDKs and Tools Reference Guide, `ca_bundle`.
async fn trust(
    settings: &S3Settings,
    files: &EnvConfigFiles,
) -> Result<Option<TrustStore>, NetworkError> {
    let by_variable = || env::var_os("AWS_CA_BUNDLE").filter(|value| !value.is_empty());
    let (from, path) = if let Some(path) = &settings.ca_bundle {
        ("--ca-bundle", path.clone())
    } else if let Some(path) = by_variable() {
        ("AWS_CA_BUNDLE", PathBuf::from(path))
    } else if let Some(path) = of_profile(settings, files).await {
        ("ca_bundle of the AWS profile", path)
    } else {
        return Ok(None);
    };
    let pem = certificates(&path).map_err(|why| NetworkError::CaBundle {
        from,
        path: path.clone(),
        why,
    })?;
    tracing::info!(from, path = %path.display(), "only these certificates are trusted");
    Ok(Some(TrustStore::empty().with_pem_certificate(pem)))
}

/// What the profile says. A configuration that cannot be read is told by whoever needs it.
async fn of_profile(settings: &S3Settings, files: &EnvConfigFiles) -> Option<PathBuf> {
    let named = settings.profile_now().map(Cow::Owned);
    let profiles = aws_config::profile::load(&Fs::real(), &Env::real(), files, named).await;
    let profiles = profiles.ok()?;
    profiles.get("ca_bundle").map(PathBuf::from)
}

/// Reads a file of certificates. Errors: one that is not readable, holds none, or none that can be a root.
fn certificates(path: &Path) -> Result<Vec<u8>, String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate.map_err(|error| error.to_string());
        let added = added.and_then(|it| roots.add(it).map_err(|error| error.to_string()));
        added.map_err(|why| format!("certificate {}: {why}", roots.len() + 1))?;
    }
    if roots.is_empty() {
        return Err("it has no certificate in PEM form".to_owned());
    }
    Ok(pem)
}

/// The proxy of the option, else those of the environment.
///
/// Source: AWS SDKs and Tools Reference Guide, "HTTP proxy"; curl(1), "Environment".
fn proxy(named: Option<&ProxyUrl>) -> Result<Option<ProxyConfig>, NetworkError> {
    let Some(except) = exceptions() else {
        return Ok(None);
    };
    let Some(url) = named else {
        return proxies_of_environment();
    };
    // The library's own words could repeat a password.
    let config = ProxyConfig::all(url.with_credentials());
    let config = config.map_err(|_| NetworkError::Proxy(format!("--proxy {url} is no URL")))?;
    tracing::info!(proxy = %url, except, "requests go through a proxy");
    Ok(Some(config.no_proxy(format!("{except},{LINK_LOCAL}"))))
}

/// What is reached without a proxy; none where that is everything.
fn exceptions() -> Option<String> {
    let except = ["NO_PROXY", "no_proxy"].map(env::var);
    let except = except.into_iter().find_map(Result::ok).unwrap_or_default();
    // The library has it mean every name, and no address.
    let is_all = except.split(',').any(|it| it.trim() == "*");
    (!is_all).then_some(except)
}

/// A proxy, and what names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedProxy {
    pub url: ProxyUrl,
    /// An option or a variable.
    pub named_by: &'static str,
}

/// The proxy that requests to this URL go through: that of the option, else those of the
/// environment.
pub fn proxy_of(named: Option<&ProxyUrl>, url: &str) -> Option<NamedProxy> {
    let uri: Uri = url.parse().ok()?;
    let except = exceptions()?;
    if let Some(named) = named {
        let matcher = Matcher::builder().all(named.with_credentials());
        matcher.no(except).build().intercept(&uri)?;
        return Some(NamedProxy {
            url: named.clone(),
            named_by: "--proxy",
        });
    }
    let found = Matcher::from_env().intercept(&uri)?;
    let found = ProxyUrl::parse(&found.uri().to_string()).ok()?;
    let begins = [uri.scheme_str()?, "all"];
    let is_of_scheme = |name: &&&'static str| {
        let name = name.to_ascii_lowercase();
        begins.iter().any(|begin| name == format!("{begin}_proxy"))
    };
    PROXY_VARIABLES
        .iter()
        .filter(is_of_scheme)
        .find_map(|name| {
            let url = ProxyUrl::parse(&env::var(name).ok()?).ok()?;
            (url.to_string() == found.to_string()).then_some(NamedProxy {
                url,
                named_by: name,
            })
        })
}

fn proxies_of_environment() -> Result<Option<ProxyConfig>, NetworkError> {
    let mut found = false;
    for name in PROXY_VARIABLES {
        let Some(text) = env::var(name).ok().filter(|text| !text.is_empty()) else {
            continue;
        };
        let url = ProxyUrl::parse(&text);
        let url = url.map_err(|why| NetworkError::Proxy(format!("{name} {why}")))?;
        tracing::info!(name, proxy = %url, "requests go through a proxy, except to hosts of NO_PROXY");
        found = true;
    }
    Ok(found.then(ProxyConfig::from_env))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_usable_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(certificates(&path).unwrap_err().contains("No such file"));
        fs::write(&path, "no certificate").unwrap();
        assert!(certificates(&path).unwrap_err().contains("no certificate"));
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(&path, bad).unwrap();
        assert!(certificates(&path).unwrap_err().contains("certificate 1"));
    }
}
