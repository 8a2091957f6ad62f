//! `mediafs setup`: from credentials to a running mount, by steps that are looked at, told
//! and only then done.
//!
//! Owns: the steps and their order, what is kept of others' settings, the IAM policy.
//! Each step is looked at again right before it is done, so that a setup that was killed
//! goes on where it was. Must not know: how a plan is printed, and who agrees to it.

mod app_folder;
mod bucket;
mod encryption;
mod files;
mod host;
mod plan;
mod policy;
mod provider;
mod service;

pub use plan::{OnConflict, Step, StepState, Task, carry_out, look};
pub use policy::policy;
pub use provider::Provider;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::FlockOperation;
use serde_json::Value;
use url::Url;

use crate::config::Config;
use crate::session::{self, AppFolder, mount_at};
use crate::store::s3::inspect;
use crate::store::s3::settings::Encryption;
use crate::store::s3::{OnNetworkError, S3Store};
use crate::store::{Metered, Retry, StoreHealth};
use bucket::Bucket;
use files::{ConfigFile, CredentialsFile, Keys};
use plan::{Found, Notice};

/// An operator waits: a request is not repeated for longer.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Settings of the command that the mount does not have, and credentials, which get a file.
const NOT_KEPT: [&str; 5] = [
    "from-authentik",
    "usage",
    "profile",
    "foreground",
    "credentials-file",
];

/// What is wanted beside the mount's own settings.
#[derive(Debug, Clone)]
pub struct SetupOptions {
    pub config_file: PathBuf,
    /// Of the mount and its service.
    pub name: String,
    pub versioning: bool,
    pub encryption: Option<Encryption>,
    /// As `origin` has them.
    pub cors_origins: Vec<String>,
    pub guard: bool,
}

/// Every step, in its order. Errors: settings, certificates or credentials that cannot be used.
pub async fn tasks(config: &Config, options: &SetupOptions) -> anyhow::Result<Vec<Box<dyn Task>>> {
    let mut config = Config {
        mountpoint: canonical(&config.mountpoint),
        ..config.clone()
    };
    // What an earlier setup has written is compared with the keys of this one.
    let own = credentials_path(options);
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some() {
        config.s3.credentials_file.take_if(|file| *file == own);
    }
    let config = &config;
    let s3 = Arc::new(session::s3(config, OnNetworkError::Refuse).await?);
    let keys = keys(config, options, &s3).await?;
    let proxy = session::proxy(config, s3.endpoint());
    let mut wanted = wanted(config, options, &keys, &s3);
    if let (None, Some(proxy)) = (&config.given.proxy, &proxy) {
        // The service does not have the variable.
        let url = proxy.url.with_credentials().to_owned();
        wanted.insert("proxy".to_owned(), url.into());
    }
    let metered = Arc::new(Metered::new(s3.clone(), Arc::default()));
    let max_wait = config.s3.request_timeout.min(MAX_WAIT);
    let bucket = Arc::new(Bucket {
        s3,
        store: Arc::new(Retry::new(metered, max_wait, StoreHealth::default())),
        config: config.clone(),
    });
    let mut tasks: Vec<Box<dyn Task>> = Vec::new();
    if let Some(proxy) = proxy {
        let found = Found::Done(format!("{} ({})", proxy.url, proxy.named_by));
        let name = "proxy";
        tasks.push(Box::new(Notice { name, found }));
    }
    tasks.extend(of_bucket(&bucket, options));
    tasks.extend(of_host(config, options, keys, wanted));
    Ok(tasks)
}

/// The directory that a symlink leads to. What is mounted is not asked: it may not answer.
fn canonical(path: &Path) -> PathBuf {
    match mount_at(path) {
        Ok(None) => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        _ => path.to_owned(),
    }
}

fn of_bucket(bucket: &Arc<Bucket>, options: &SetupOptions) -> Vec<Box<dyn Task>> {
    let of = || bucket.clone();
    // A mount that changes nothing has a bucket that others look after.
    if bucket.config.read_only {
        return vec![Box::new(bucket::Create(of()))];
    }
    let mut tasks: Vec<Box<dyn Task>> = vec![
        Box::new(bucket::Create(of())),
        Box::new(bucket::PublicAccess(of())),
        Box::new(bucket::PrivateAcl(of())),
    ];
    if options.versioning {
        tasks.push(Box::new(bucket::KeepVersions(of())));
    }
    if let Some(encryption) = &options.encryption {
        tasks.push(Box::new(encryption::DefaultEncryption(
            of(),
            encryption.clone(),
        )));
    }
    tasks.push(Box::new(bucket::AbortUploads(of())));
    if !options.cors_origins.is_empty() {
        let origins = options.cors_origins.clone();
        tasks.push(Box::new(bucket::Cors(of(), origins)));
    }
    if let Some(folder) = AppFolder::of(&bucket.config) {
        let bucket = of();
        tasks.push(Box::new(app_folder::MakeAppFolder { bucket, folder }));
    }
    tasks
}

fn of_host(
    config: &Config,
    options: &SetupOptions,
    keys: Keys,
    wanted: BTreeMap<String, Value>,
) -> Vec<Box<dyn Task>> {
    let path = &config.mountpoint;
    let mut tasks: Vec<Box<dyn Task>> = vec![Box::new(host::Mountpoint {
        config: config.clone(),
    })];
    if options.guard {
        tasks.push(Box::new(host::Guard { path: path.clone() }));
    }
    let is_new = Arc::default();
    tasks.push(Box::new(CredentialsFile {
        path: credentials_path(options),
        keys,
    }));
    tasks.push(Box::new(ConfigFile {
        path: options.config_file.clone(),
        wanted,
        is_new: Arc::clone(&is_new),
    }));
    match service::why_no_service(&options.name, &options.config_file) {
        Some(why) => tasks.push(Box::new(Notice {
            name: "service",
            found: Found::Skipped(why),
        })),
        None => {
            tasks.push(Box::new(service::UnitFile));
            tasks.push(Box::new(service::Service {
                name: options.name.clone(),
                config_file: options.config_file.clone(),
                is_new,
            }));
        }
    }
    tasks
}

fn credentials_path(options: &SetupOptions) -> PathBuf {
    options.config_file.with_extension("credentials")
}

async fn keys(config: &Config, options: &SetupOptions, s3: &S3Store) -> anyhow::Result<Keys> {
    if config.s3.requests.anonymous {
        return Ok(Keys::Anonymous);
    }
    let own = credentials_path(options);
    if let Some(named) = config
        .given
        .credentials_file
        .as_ref()
        .filter(|it| **it != own)
    {
        return Ok(Keys::Named(named.clone()));
    }
    let found = inspect::credentials(s3).await.map_err(anyhow::Error::msg);
    let found = found.with_context(|| session::no_credentials(config))?;
    Ok(match found.session_token {
        Some(_) => Keys::Temporary,
        None => Keys::Lasting(found),
    })
}

/// What the configuration of the mount has to say, by its name.
fn wanted(
    config: &Config,
    options: &SetupOptions,
    keys: &Keys,
    s3: &S3Store,
) -> BTreeMap<String, Value> {
    let mut wanted = config.given.by_name();
    wanted.retain(|name, _| !NOT_KEPT.contains(&name.as_str()));
    let mut set = |name: &str, value: Value| {
        wanted.insert(name.to_owned(), value);
    };
    set("bucket", config.bucket.clone().into());
    set("prefix", config.prefix.trim_end_matches('/').into());
    set("mountpoint", path_value(&config.mountpoint));
    // The service does not have the variables and the profile of who sets it up.
    if let Some(region) = inspect::region(s3) {
        set("region", region.into());
    }
    if let (None, Some(url)) = (&config.given.endpoint_url, s3.endpoint().url()) {
        set("endpoint-url", url.into());
    }
    let bundle = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty());
    if let (None, Some(path)) = (&config.given.ca_bundle, bundle) {
        set("ca-bundle", path_value(Path::new(&path)));
    }
    let authentik = config.s3.authentik.as_ref();
    let authentik = authentik.filter(|source| !source.files().is_empty());
    // One that authentik's settings name is read there.
    let is_own = config.s3.profile.is_some() || authentik.is_none();
    match (keys, config.given.profile.as_ref().filter(|_| is_own)) {
        (Keys::Lasting(_), _) => set("credentials-file", path_value(&credentials_path(options))),
        (Keys::Named(path), _) => set("credentials-file", path_value(path)),
        (Keys::Temporary, Some(profile)) => set("profile", profile.as_str().into()),
        (Keys::Temporary, None) | (Keys::Anonymous, _) => {}
    }
    // Whoever renews them writes them where they are now.
    if let (Keys::Temporary, Some(source)) = (keys, authentik) {
        let files = source.files().iter().map(|file| path_value(file));
        set("from-authentik", Value::Array(files.collect()));
        if let Some(usage) = config.given.by_name().remove("usage") {
            set("usage", usage);
        }
    }
    // Applications run as other users than root.
    if rustix::process::geteuid().is_root() && config.given.allow_other.is_none() {
        set("allow-other", true.into());
    }
    wanted
}

fn path_value(path: &Path) -> Value {
    path.display().to_string().into()
}

/// An origin as browsers name it; a bare host is one with https.
///
/// Errors: what is none, in words. Source: RFC 6454, section 6.2.
pub fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let wrong = || format!("{text:?} is no origin: write it like https://auth.example.com");
    let url = Url::parse(&whole).map_err(|_| wrong())?;
    let is_origin = matches!(url.scheme(), "http" | "https")
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty();
    if !is_origin {
        return Err(wrong());
    }
    Ok(url.origin().ascii_serialization())
}

/// Held while things are changed.
#[derive(Debug)]
pub struct Lock {
    _folder: File,
}

impl Lock {
    /// Errors: another setup of this folder runs.
    pub fn take(options: &SetupOptions) -> anyhow::Result<Self> {
        files::make_folder(&options.config_file)?;
        let folder = options.config_file.parent().unwrap_or(Path::new("/"));
        let file = File::open(folder).with_context(|| format!("{}", folder.display()))?;
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        match locked.map_err(io::Error::from) {
            Ok(()) => Ok(Self { _folder: file }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                anyhow::bail!("another setup is at work here: wait for its end")
            }
            Err(error) => Err(error).context("the folder of the configuration cannot be locked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_host_is_an_origin_with_https() {
        for (text, want) in [
            ("auth.example.com", "https://auth.example.com"),
            ("https://Auth.example.com/", "https://auth.example.com"),
            ("http://localhost:9000", "http://localhost:9000"),
            ("auth.example.com:9443", "https://auth.example.com:9443"),
            ("*", "*"),
        ] {
            assert_eq!(origin(text).unwrap(), want);
        }
        for text in [
            "",
            "https://a/b",
            "ftp://a",
            "https://u@a",
            "a b",
            "https://a?x",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
