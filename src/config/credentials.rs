//! Where a mount's credentials come from, without what they are.

use std::env;
use std::path::PathBuf;

use super::Config;
use crate::store::{GivenKeys, KeySource};

/// Source: AWS SDKs and Tools Reference Guide, "AWS access keys".
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const PROFILE: &str = "AWS_PROFILE";

/// In the order in which they are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialsOrigin {
    /// Requests are not signed.
    Nobody,
    /// A key of authentik's, and where it stands.
    Authentik(String),
    /// The profile that authentik's settings name, and where they do.
    AuthentikProfile(String, String),
    /// A profile of the AWS configuration, a file in place of its own, or both.
    Profile(Option<String>, Option<PathBuf>),
    /// `AWS_ACCESS_KEY_ID`, with the others of its kind.
    Variable(&'static str),
    /// The AWS configuration's own, or those of the machine.
    Chain,
}

/// As the settings say it now: files are read again.
pub fn credentials_origin(config: &Config) -> CredentialsOrigin {
    if config.s3.requests.anonymous {
        return CredentialsOrigin::Nobody;
    }
    let of_authentik = config.s3.authentik.as_ref();
    let origin = of_authentik.and_then(|source| source.origin_of_keys());
    let (profile, file) = (
        config.s3.profile.clone(),
        config.s3.credentials_file.clone(),
    );
    let is_set = |name: &str| env::var_os(name).is_some_and(|it| !it.is_empty());
    match (of_authentik.map(KeySource::read), origin) {
        (Some(Ok(GivenKeys::Keys(_))), Some(origin)) => CredentialsOrigin::Authentik(origin),
        (Some(Ok(GivenKeys::Profile(name))), Some(origin)) if profile.is_none() => {
            CredentialsOrigin::AuthentikProfile(name, origin)
        }
        _ if profile.is_some() || file.is_some() => CredentialsOrigin::Profile(profile, file),
        _ if is_set(ACCESS_KEY) => CredentialsOrigin::Variable(ACCESS_KEY),
        _ if is_set(PROFILE) => CredentialsOrigin::Profile(env::var(PROFILE).ok(), None),
        _ => CredentialsOrigin::Chain,
    }
}
