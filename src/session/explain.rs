//! What to say when the bucket cannot be used.

use anyhow::anyhow;

use super::client::proxy;
use crate::config::{Config, CredentialsOrigin, credentials_origin};
use crate::store::s3::NamedProxy;
use crate::store::{Endpoint, StoreError, StoreErrorKind};

/// In the words of rustls, `CertificateError::NotValidForNameContext`.
const WRONG_NAME: &str = "not valid for name";
/// The same, `Error::InvalidMessage`: what answers is no TLS.
const NO_TLS: &str = "received corrupt message of type";
/// What comes of plain HTTP where TLS is expected: in the words of Linux and of hyper.
const NO_HTTP: [&str; 3] = [
    "Connection reset by peer",
    "invalid HTTP version parsed",
    "connection closed before message completed",
];

/// An error with its causes, each once: some say theirs themselves.
pub fn in_words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// What failed, why, and what to do next.
pub fn of_listing(error: &StoreError, config: &Config, service: &Endpoint) -> anyhow::Error {
    let bucket = &config.bucket;
    let endpoint = service.url().unwrap_or("the AWS endpoint of the region");
    let advice = match error.kind {
        StoreErrorKind::NoSuchBucket | StoreErrorKind::NotFound => {
            format!("there is no bucket {bucket:?} at {endpoint}: create it, or check its name and --endpoint-url")
        }
        StoreErrorKind::AccessDenied => format!(
            "access to bucket {bucket:?} is denied: the credentials need s3:ListBucket on it, and s3:GetObject, s3:PutObject and s3:DeleteObject on its objects"
        ),
        StoreErrorKind::Credentials => no_credentials(config),
        StoreErrorKind::ClockSkew => {
            "this machine's clock differs too much from the server's: set it (for example 'timedatectl set-ntp true')"
                .to_owned()
        }
        StoreErrorKind::WrongRegion => another_region(error, bucket, service),
        StoreErrorKind::Unreachable | StoreErrorKind::TimedOut => {
            let by_another = another_scheme(&error.detail, service);
            by_another.unwrap_or_else(|| unreachable(config, service))
        }
        StoreErrorKind::Untrusted if error.detail.contains(WRONG_NAME) => format!(
            "the certificate of {endpoint} is for another name: name the host as its certificate does with --endpoint-url, or have a certificate made for this one"
        ),
        StoreErrorKind::Untrusted => format!(
            "the certificate of {endpoint} is not trusted: where a CA of your own has issued it, name the file of that CA with --ca-bundle, or in AWS_CA_BUNDLE"
        ),
        StoreErrorKind::PreconditionFailed
        | StoreErrorKind::Conflict
        | StoreErrorKind::NoSuchUpload
        | StoreErrorKind::InvalidRange
        | StoreErrorKind::Archived
        | StoreErrorKind::TooLarge
        | StoreErrorKind::Quota
        | StoreErrorKind::Full
        | StoreErrorKind::Corrupt
        | StoreErrorKind::Unsupported
        | StoreErrorKind::Throttled
        | StoreErrorKind::Server
        | StoreErrorKind::Malformed
        | StoreErrorKind::Rejected => format!("bucket {bucket:?} cannot be listed"),
    };
    anyhow!("{}", error.detail).context(advice)
}

/// That there are none, or none that the store takes, where they are looked for.
pub fn no_credentials(config: &Config) -> String {
    let why = match credentials_origin(config) {
        CredentialsOrigin::Authentik(origin) => {
            format!("in authentik's settings ({origin}): correct them there")
        }
        CredentialsOrigin::AuthentikProfile(name, origin) => format!(
            "of profile {name:?}, which authentik's settings name ({origin}): check its name and what it says in the AWS configuration"
        ),
        CredentialsOrigin::Profile(Some(profile), file) => {
            let file = file.map_or_else(String::new, |it| format!(" in {}", it.display()));
            format!("of profile {profile:?}{file}: check its name and what it says")
        }
        CredentialsOrigin::Profile(None, Some(file)) => {
            format!("in {}: check that file", file.display())
        }
        CredentialsOrigin::Variable(name) => format!(
            "in {name} and AWS_SECRET_ACCESS_KEY: correct these variables, with AWS_SESSION_TOKEN if there is one, or name a profile with --profile"
        ),
        CredentialsOrigin::Profile(None, None)
        | CredentialsOrigin::Chain
        | CredentialsOrigin::Nobody => {
            return "no usable credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with --profile".to_owned();
        }
    };
    format!("no usable credentials {why}")
}

/// Where requests did not come to the region that the store names, if it names one.
fn another_region(error: &StoreError, bucket: &str, service: &Endpoint) -> String {
    let of_region = match service.url() {
        Some(_) => ", and the URL of that region with --endpoint-url",
        None => "",
    };
    match &error.region {
        Some(region) => {
            format!("bucket {bucket:?} is in region {region}: use --region {region}{of_region}")
        }
        None => format!("bucket {bucket:?} is in another region: name it with --region{of_region}"),
    }
}

/// Where the port that is asked speaks TLS and the URL does not, or the other way round.
fn another_scheme(detail: &str, service: &Endpoint) -> Option<String> {
    let endpoint = service.url()?;
    if let Some(rest) = endpoint.strip_prefix("https://")
        && detail.contains(NO_TLS)
    {
        return Some(format!(
            "{endpoint} does not answer with TLS: if it serves plain HTTP, use --endpoint-url http://{rest}"
        ));
    }
    let rest = endpoint.strip_prefix("http://")?;
    let is_cut = NO_HTTP.iter().any(|words| detail.contains(words));
    is_cut.then(|| {
        format!(
            "{endpoint} ends connections without an answer: if it serves HTTPS, use --endpoint-url https://{rest}; else check the network, and the server's own log"
        )
    })
}

/// Why no connection comes to be, as far as it can be told.
fn unreachable(config: &Config, service: &Endpoint) -> String {
    let endpoint = service.url().unwrap_or("the AWS endpoint of the region");
    if let Some(NamedProxy { url, named_by }) = proxy(config, service) {
        return format!(
            "{endpoint} cannot be reached through the proxy {url}: check {named_by}, NO_PROXY and the network"
        );
    }
    let host = service.host().filter(|_| !config.s3.force_path_style);
    match host.map(|host| format!("{}.{host}", config.bucket)) {
        Some(host) => format!(
            "{host} of {endpoint} cannot be reached: if {host} has no address, name the bucket in the path of the URL with --force-path-style, as most services other than AWS need it; else check --endpoint-url, the network and DNS"
        ),
        None => format!("{endpoint} cannot be reached: check --endpoint-url, the network and DNS"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("spool /s: {source}")]
    struct SaysItsCause {
        source: io::Error,
    }

    #[test]
    fn a_cause_is_told_once() {
        let source = io::Error::from_raw_os_error(20);
        let error = Err::<(), _>(SaysItsCause { source }).context("no mount");
        let told = in_words(&error.unwrap_err());
        assert_eq!(told, "no mount: spool /s: Not a directory (os error 20)");
    }
}
