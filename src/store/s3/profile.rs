//! What a profile of the AWS configuration sets, besides credentials.

use std::borrow::Cow;
use std::path::Path;

use aws_config::profile;
use aws_runtime::env_config::EnvConfigValue;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_runtime::env_config::section::EnvConfigSections;
use aws_types::os_shim_internal::{Env, Fs};

/// Source: AWS SDKs and Tools Reference Guide, "Settings reference".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileSettings {
    pub profile: String,
    pub region: Option<String>,
    /// Of S3, else of all services.
    pub endpoint_url: Option<String>,
    pub ca_bundle: Option<String>,
}

impl ProfileSettings {
    /// Of the profile of this name, else of the one that the environment names. None where
    /// the files cannot be read: that is told by whoever needs them.
    ///
    /// Not for a thread that runs tasks.
    pub fn read_blocking(name: Option<&str>, credentials_file: Option<&Path>) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
        let files = files(credentials_file);
        runtime.block_on(Self::read(name.map(str::to_owned), &files))
    }

    /// Whether the named profile, or the default one of the named file, is missing:
    /// no credentials come from it then. None is where nothing is named.
    ///
    /// Not for a thread that runs tasks.
    pub fn is_missing_blocking(name: Option<&str>, credentials_file: Option<&Path>) -> bool {
        if name.is_none() && credentials_file.is_none() {
            return false;
        }
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else {
            return false;
        };
        let named = name.map(|name| Cow::Owned(name.to_owned()));
        let files = files(credentials_file);
        let profiles = async { profile::load(&Fs::real(), &Env::real(), &files, named).await };
        let profiles = runtime.block_on(profiles);
        profiles.is_ok_and(|all| all.get_profile(all.selected_profile()).is_none())
    }

    pub(super) async fn read(name: Option<String>, files: &EnvConfigFiles) -> Option<Self> {
        let named = name.map(Cow::Owned);
        let profiles = profile::load(&Fs::real(), &Env::real(), files, named).await;
        Some(Self::of(&profiles.ok()?))
    }

    fn of(profiles: &EnvConfigSections) -> Self {
        let text = |key: &str| profiles.get(key).map(str::to_owned);
        // Without the environment, which counts before a profile.
        let none = Env::from_slice(&[]);
        let endpoint = EnvConfigValue::new()
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .service_id("S3");
        let endpoint = endpoint.load(&none, Some(profiles));
        Self {
            profile: profiles.selected_profile().to_owned(),
            region: text("region"),
            endpoint_url: endpoint.map(|(url, _)| url.into_owned()),
            ca_bundle: text("ca_bundle"),
        }
    }
}

/// The files of the AWS configuration, with one in place of `~/.aws/credentials`.
pub(super) fn files(credentials_file: Option<&Path>) -> EnvConfigFiles {
    let Some(file) = credentials_file else {
        return EnvConfigFiles::default();
    };
    EnvConfigFiles::builder()
        .include_default_config_file(true)
        .with_file(EnvConfigFileKind::Credentials, file)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_endpoint_of_s3_counts_before_that_of_all_services() {
        let files = EnvConfigFiles::builder()
            .with_contents(
                EnvConfigFileKind::Config,
                "[default]\nregion = eu-west-1\n[profile media]\nservices = here\nendpoint_url = http://all\n\
                 ca_bundle = /ca.pem\n[services here]\ns3 =\n  endpoint_url = http://s3\n",
            )
            .build();
        let read = async |name: &str| ProfileSettings::read(Some(name.to_owned()), &files).await;
        let media = read("media").await.unwrap();
        assert_eq!(media.endpoint_url.as_deref(), Some("http://s3"));
        assert_eq!(media.ca_bundle.as_deref(), Some("/ca.pem"));
        assert_eq!(media.region, None);
        let default = read("default").await.unwrap();
        assert_eq!(default.profile, "default");
        assert_eq!(default.region.as_deref(), Some("eu-west-1"));
        assert_eq!(default.endpoint_url, None);
    }
}
