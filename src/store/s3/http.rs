//! The HTTP client of S3 and of the services that credentials come from: whose
//! certificates it trusts, and which proxy it goes through.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_s3::config::SharedHttpClient;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::dial::Dial;
use super::pooled_client::PooledClient;
use super::profile::ProfileSettings;
use super::proxies::proxy;
use super::s3_settings::S3Settings;

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
    #[error("TLS cannot be used: {0}")]
    Tls(#[from] rustls::Error),
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
            tracing::error!(%error, "setting ignored");
            Ok(())
        }
    };
    let trusted = trusted(settings, files)
        .await
        .or_else(|error| kept(error).map(|()| None))?;
    let proxy = proxy(settings.proxy.as_ref()).map_err(NetworkError::Proxy);
    let proxy = proxy.or_else(|error| kept(error).map(|()| None))?;
    let dial = Dial::new(tls(trusted.unwrap_or_else(of_system))?, proxy);
    Ok(move || PooledClient::shared(dial.clone()))
}

/// Connections to another service than S3; these certificates are trusted, or the system's.
///
/// Errors: certificates, or a proxy of the environment, that cannot be used.
pub fn dial(url: &str, certificates_of: Option<&Path>) -> Result<Dial, NetworkError> {
    let trusted = certificates_of.map(|path| {
        certificates(path).map_err(|why| NetworkError::CaBundle {
            from: "OTEL_EXPORTER_OTLP_CERTIFICATE",
            path: path.to_owned(),
            why,
        })
    });
    let without = || match url.starts_with("https:") {
        true => of_system(),
        false => RootCertStore::empty(),
    };
    let trusted = trusted.transpose()?.unwrap_or_else(without);
    let proxy = proxy(None).map_err(NetworkError::Proxy)?;
    Ok(Dial::new(tls(trusted)?, proxy))
}

/// Over which HTTP/2 is spoken where the server wants it.
fn tls(trusted: RootCertStore) -> Result<ClientConfig, NetworkError> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted);
    let mut tls = tls.with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// The certificates that this machine trusts.
fn of_system() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate that this machine trusts cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (usable, unusable) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        tracing::warn!(
            unusable,
            "this machine trusts no certificates: https needs ca-certificates or --ca-bundle"
        );
    }
    roots
}

/// Certificates in place of the system's, where a setting names some.
///
/// Source: AWS SDKs and Tools Reference Guide, `ca_bundle`.
async fn trusted(
    settings: &S3Settings,
    files: &EnvConfigFiles,
) -> Result<Option<RootCertStore>, NetworkError> {
    let by_variable = || env::var_os("AWS_CA_BUNDLE").filter(|value| !value.is_empty());
    let (from, path) = if let Some(path) = &settings.ca_bundle {
        ("--ca-bundle", path.clone())
    } else if let Some(path) = by_variable() {
        ("AWS_CA_BUNDLE", PathBuf::from(path))
    } else if let Some(of_profile) = ProfileSettings::read(settings.profile_now(), files).await
        && let Some(path) = of_profile.ca_bundle
    {
        ("ca_bundle of the AWS profile", PathBuf::from(path))
    } else {
        return Ok(None);
    };
    let roots = certificates(&path).map_err(|why| NetworkError::CaBundle {
        from,
        path: path.clone(),
        why,
    })?;
    tracing::info!(from, path = %path.display(), "only these certificates are trusted");
    Ok(Some(roots))
}

/// Reads a file of certificates. Errors: one that is not readable, holds none, or none that can be a root.
fn certificates(path: &Path) -> Result<RootCertStore, String> {
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
    Ok(roots)
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
