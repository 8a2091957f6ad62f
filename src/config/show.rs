//! Every setting with its value and where that comes from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use figment::{Metadata, Source};
use serde::Serialize;
use serde_json::Value;
use toml_edit::ImDocument;

use super::credentials::credentials_origin;
use super::environment::{of_environment, of_profile};
use super::variables::typed;
use super::{
    AUTHENTIK_LAYER, Config, ConfigError, ConfigSource, CredentialsOrigin, ENV_PREFIX, NO_PATH,
    Options,
};
use crate::store::ProxyUrl;
use crate::store::s3::ProfileSettings;

/// Settings that are arguments of `mediafs mount`.
const ARGUMENTS: [&str; 3] = ["bucket", "prefix", "mountpoint"];
/// What stands in the place of a value that nobody is to see.
const REDACTED: &str = "***";
/// No setting: whatever signs requests.
const CREDENTIALS: &str = "credentials";
const DEFAULT_BEGINS: &str = "[default: ";

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub name: String,
    /// None where nothing is set, and where the default is no single value.
    pub value: Option<Value>,
    /// A default that is no single value, in words.
    #[serde(skip)]
    pub default: Option<String>,
    pub origin: SettingOrigin,
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingOrigin {
    Default,
    File {
        path: PathBuf,
        line: Option<usize>,
    },
    Variable(String),
    /// Of the AWS configuration.
    Profile(String),
    Flag(String),
    /// An argument without a name.
    Argument,
    /// A key of authentik's, and where it stands.
    Authentik(String),
}

impl ConfigSource {
    /// Every setting, in the order of the help. What may hold a password is redacted.
    ///
    /// Errors: as `load`.
    pub fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let config = self.load()?;
        let merged = self.merged()?.figment;
        let mut given = config.given.by_name();
        let lines = self.file().map(lines_of).unwrap_or_default();
        let s3 = &config.s3;
        let (profile, file) = (s3.profile.as_deref(), s3.credentials_file.as_deref());
        let profile = ProfileSettings::read_blocking(profile, file).unwrap_or_default();
        let settings = names_and_defaults().into_iter().map(|(name, default)| {
            let Some(value) = given.remove(&name) else {
                return not_given(&config, &profile, name, default);
            };
            let metadata = merged.find_metadata(&name);
            Setting {
                value: Some(shown(&name, value)),
                default: None,
                origin: metadata.map_or(SettingOrigin::Default, |it| origin_of(&name, it, &lines)),
                name,
            }
        });
        Ok(settings.chain(credentials(&config)).collect())
    }
}

/// Where the credentials come from; nobody is to see them.
fn credentials(config: &Config) -> Option<Setting> {
    let chain = "those of the AWS configuration, or of this machine";
    let (is_known, origin) = match credentials_origin(config) {
        CredentialsOrigin::Nobody => return None,
        CredentialsOrigin::Authentik(origin) => (true, SettingOrigin::Authentik(origin)),
        CredentialsOrigin::AuthentikProfile(_, origin) => (true, SettingOrigin::Authentik(origin)),
        CredentialsOrigin::Profile(_, Some(path)) => {
            (true, SettingOrigin::File { path, line: None })
        }
        CredentialsOrigin::Profile(Some(name), None) => (true, SettingOrigin::Profile(name)),
        CredentialsOrigin::Variable(name) => (true, SettingOrigin::Variable(name.to_owned())),
        CredentialsOrigin::Profile(None, None) | CredentialsOrigin::Chain => {
            (false, SettingOrigin::Default)
        }
    };
    Some(Setting {
        name: CREDENTIALS.to_owned(),
        value: is_known.then(|| REDACTED.into()),
        default: (!is_known).then(|| chain.to_owned()),
        origin,
    })
}

/// A setting that no file, no variable of mediafs and no flag has.
fn not_given(
    config: &Config,
    profile: &ProfileSettings,
    name: String,
    default: Option<String>,
) -> Setting {
    let of_variable = of_environment(config, &name)
        .map(|(value, variable)| (value, SettingOrigin::Variable(variable.to_owned())));
    let elsewhere = of_variable.or_else(|| {
        let value = of_profile(profile, &name)?;
        Some((value, SettingOrigin::Profile(profile.profile.clone())))
    });
    if let Some((value, origin)) = elsewhere {
        return Setting {
            value: Some(shown(&name, typed(&name, value))),
            default: None,
            origin,
            name,
        };
    }
    let computed = computed(config, &name);
    // A value has no space, and words have one.
    let (words, value) = match default {
        Some(text) if text.contains(' ') => (Some(text), None),
        default => (None, default),
    };
    Setting {
        default: words.filter(|_| computed.is_none()),
        value: computed.or(value).map(|it| typed(&name, it)),
        origin: SettingOrigin::Default,
        name,
    }
}

/// Every setting, and what its help says of its default.
pub(super) fn names_and_defaults() -> Vec<(String, Option<String>)> {
    let arguments = ARGUMENTS.map(|name| (name.to_owned(), None));
    let command = Options::augment_args(clap::Command::new(""));
    let flags = command.get_arguments().filter_map(|arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = help.rsplit_once(DEFAULT_BEGINS);
        let default = default.and_then(|(_, rest)| rest.strip_suffix(']'));
        Some((arg.get_long()?.to_owned(), default.map(str::to_owned)))
    });
    arguments.into_iter().chain(flags).collect()
}

/// What a default comes to on this machine.
fn computed(config: &Config, name: &str) -> Option<String> {
    match name {
        "spool" => Some(config.spool_dir.display().to_string()),
        "memory" => Some(mib(config.memory.limit_bytes)),
        "memory-cache" => Some(mib(config.memory.cache_bytes)),
        "upload-concurrency" => Some(config.memory.upload_concurrency.to_string()),
        "cache" => {
            let cache = config.disk_cache.as_ref();
            let dir = cache.map(|cache| cache.dir.display().to_string());
            dir.or_else(|| Some(NO_PATH.to_owned()))
        }
        "credentials-file" => {
            let file = config.s3.credentials_file.as_ref();
            file.map(|file| file.display().to_string())
        }
        "uid" => Some(config.attributes.uid.to_string()),
        "gid" => Some(config.attributes.gid.to_string()),
        "fsname" => Some(config.fsname.clone()),
        _ => None,
    }
}

fn mib(bytes: u64) -> String {
    format!("{}MiB", bytes >> 20)
}

/// A value as programs get it, without a password in it.
pub fn shown(name: &str, value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_password(name, text)),
        other => other,
    }
}

fn without_password(name: &str, text: String) -> String {
    match name {
        "proxy" => {}
        // Such a one is refused where it is used.
        "endpoint-url" | "otlp-endpoint" if text.contains('@') => {
            return without_credentials(&text).unwrap_or_else(|| REDACTED.to_owned());
        }
        _ => return text,
    }
    match ProxyUrl::parse(&text) {
        Ok(url) if url.has_credentials() => {
            format!("{url}").replacen("://", &format!("://{REDACTED}@"), 1)
        }
        Ok(url) => url.to_string(),
        Err(_) => REDACTED.to_owned(),
    }
}

/// None for what is no URL with credentials.
fn without_credentials(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (_, host) = authority.rsplit_once('@')?;
    Some(format!("{scheme}://{REDACTED}@{host}{path}"))
}

fn origin_of(name: &str, metadata: &Metadata, lines: &BTreeMap<String, usize>) -> SettingOrigin {
    if let Some(of) = metadata.name.strip_prefix(AUTHENTIK_LAYER) {
        return SettingOrigin::Authentik(of.to_owned());
    }
    match &metadata.source {
        Some(Source::File(path)) => SettingOrigin::File {
            path: path.clone(),
            line: lines.get(name).copied(),
        },
        _ if metadata.name.contains("environment") => {
            let variable = name.replace('-', "_").to_uppercase();
            SettingOrigin::Variable(format!("{ENV_PREFIX}{variable}"))
        }
        _ if ARGUMENTS.contains(&name) => SettingOrigin::Argument,
        _ => SettingOrigin::Flag(format!("--{name}")),
    }
}

/// In which line each key of a file stands.
fn lines_of(file: &Path) -> BTreeMap<String, usize> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let Ok(document) = ImDocument::parse(text.as_str()) else {
        return BTreeMap::new();
    };
    let line = |name: &str| {
        let (key, _) = document.get_key_value(name)?;
        let before = text.get(..key.span()?.start)?;
        Some(before.matches('\n').count() + 1)
    };
    let names = document.iter().map(|(name, _)| name);
    names
        .filter_map(|name| Some((name.to_owned(), line(name)?)))
        .collect()
}
