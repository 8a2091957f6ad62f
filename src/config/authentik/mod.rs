//! authentik's own settings: where its files and variables are, and what they say.
//!
//! Owns: the order and the typing in which authentik reads them. Must not know: what
//! a mount does with them.

mod dotenv;
mod storage;
#[cfg(test)]
mod tests;
mod uri;
mod value;
mod yaml;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

pub use dotenv::Variables;
pub use storage::{Setting, SettingValue, Usage};

use crate::store::{GivenKeys, KeySource};
use storage::Storage;
use value::{Found, Value, Values};

/// Where a package or a container has authentik's files.
const ETC: &str = "/etc/authentik";
const PREFIX: &str = "AUTHENTIK";

/// Where authentik's settings are read from, in its order: `config.yml` and `config.d` of its
/// folder, then files that were named, then variables.
#[derive(Debug, Clone)]
pub struct AuthentikSource {
    etc: PathBuf,
    /// YAML by their ending; files of variables otherwise.
    files: Vec<PathBuf>,
    usage: Usage,
}

/// What authentik's settings say of a mount.
#[derive(Debug)]
pub struct AuthentikSettings {
    pub settings: Vec<Setting>,
    /// For the operator, a line each.
    pub notes: Vec<String>,
}

/// Everything that was read. It holds secrets, and has no Debug.
struct Read {
    values: Values,
    variables: Variables,
    /// For the operator.
    notes: Vec<String>,
}

impl AuthentikSource {
    pub fn new(files: Vec<PathBuf>, usage: Usage) -> Self {
        let etc = PathBuf::from(ETC);
        Self { etc, files, usage }
    }

    /// Those that were named; absolute.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Errors: files that cannot be read, settings that cannot be used, in words.
    pub fn settings(&self) -> Result<AuthentikSettings, String> {
        let read = self.read(environment())?;
        let storage = self.storage(&read);
        let settings = storage.settings()?;
        storage.access_keys()?;
        if !settings.iter().any(|setting| setting.name == "bucket") {
            return Err(storage.empty("bucket_name").unwrap_or_else(|| {
                format!(
                    "storage.s3.bucket_name is not set{}: name the file that has AUTHENTIK_STORAGE__S3__BUCKET_NAME, as in --from-authentik=/opt/authentik/.env",
                    self.looked_in()
                )
            }));
        }
        let notes = read.notes.iter().cloned().chain(storage.notes());
        Ok(AuthentikSettings {
            settings,
            notes: notes.collect(),
        })
    }

    /// Where the credentials stand that it has, or the name of their profile: a key of
    /// authentik's, and its place. None where it has none, or cannot be read.
    pub fn origin_of_keys(&self) -> Option<String> {
        let read = self.read(environment()).ok()?;
        self.storage(&read).origin_of_keys().ok()?
    }

    fn storage<'a>(&self, read: &'a Read) -> Storage<'a> {
        Storage {
            values: &read.values,
            variables: &read.variables,
            usage: self.usage,
        }
    }

    fn looked_in(&self) -> String {
        let files: Vec<String> = self
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        match files.as_slice() {
            [] => format!(" (looked in {} and the environment)", self.etc.display()),
            files => format!(" (looked in {})", files.join(", ")),
        }
    }

    fn read(&self, environment: Variables) -> Result<Read, String> {
        let mut values = Values::default();
        let (yaml, dotenv): (Vec<_>, Vec<_>) =
            self.files.iter().cloned().partition(|file| is_yaml(file));
        for file in self.standard_files().into_iter().chain(yaml) {
            let text = read_text(&file)?;
            let origin = file.display().to_string();
            yaml::add(&text, &origin, &mut values).map_err(|why| format!("{origin}: {why}"))?;
        }
        let mut variables = environment.clone();
        let mut notes = Vec::new();
        for file in dotenv {
            let origin = file.display().to_string();
            let found = dotenv::parse(&read_text(&file)?, &environment)
                .map_err(|why| format!("{origin}: {why}"))?;
            let line_of = |name: &str| found.lines.get(name).copied().unwrap_or_default();
            notes.extend(found.cut.iter().map(|name| {
                format!(
                    "{origin}:{}: a $ in the value of {name} names a variable that is not set, and nothing stands there then, as docker compose has it: write $$ for a $ of the value, or put the value in single quotes",
                    line_of(name)
                )
            }));
            let place = |name: &str| match found.lines.contains_key(name) {
                true => format!(" of {origin}:{}", line_of(name)),
                // The environment has it.
                false => String::new(),
            };
            add_variables(&found.variables, place, &mut values);
            variables.extend(found.variables);
        }
        add_variables(&environment, |_| String::new(), &mut values);
        Ok(Read {
            values,
            variables,
            notes,
        })
    }

    /// Those that are there, in authentik's order.
    fn standard_files(&self) -> Vec<PathBuf> {
        let mut parts: Vec<PathBuf> = fs::read_dir(self.etc.join("config.d"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.extension().is_some_and(|ending| ending == "yml"))
            .collect();
        parts.sort();
        let first = self.etc.join("config.yml");
        first
            .is_file()
            .then_some(first)
            .into_iter()
            .chain(parts)
            .collect()
    }
}

impl KeySource for AuthentikSource {
    fn read(&self) -> Result<GivenKeys, String> {
        let read = self.read(environment())?;
        self.storage(&read).access_keys()
    }
}

fn is_yaml(file: &Path) -> bool {
    let ending = file.extension();
    ending.is_some_and(|ending| ending == "yml" || ending == "yaml")
}

fn read_text(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file);
    text.map_err(|error| format!("{}: name a file that can be read: {error}", file.display()))
}

/// This process's variables, as far as they are text.
fn environment() -> Variables {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// `AUTHENTIK_STORAGE__S3__REGION` is `storage.s3.region`.
fn add_variables(variables: &Variables, of: impl Fn(&str) -> String, values: &mut Values) {
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let key = rest.strip_prefix('_').unwrap_or(rest);
        let found = Found {
            value: Value::of_variable(text),
            origin: format!("{name}{}", of(name)),
        };
        values.set(key.replace("__", ".").to_lowercase(), found);
    }
}
