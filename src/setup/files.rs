//! The configuration and the credentials beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use async_trait::async_trait;
use serde_json::Value;
use toml_edit::{DocumentMut, Item};

use super::plan::{Found, Task};
use crate::config::{settings_of_file, shown_setting};
use crate::private;
use crate::store::AccessKeys;

const HEADER: &str = "# Written by 'mediafs setup'. 'mediafs help' explains each setting.\n";
const OTHERS: u32 = 0o077;

/// The settings of the mount, in TOML.
#[derive(Debug)]
pub struct ConfigFile {
    pub path: PathBuf,
    pub wanted: BTreeMap<String, Value>,
    /// Set once it was written: who reads it has to read it again.
    pub is_new: Arc<AtomicBool>,
}

/// The file with this setting, and all else as its operator wrote it.
fn set(document: &mut DocumentMut, name: &str, value: &Value) {
    let Some(mut value) = toml(value) else {
        return;
    };
    match document.get_mut(name).and_then(Item::as_value_mut) {
        Some(present) => {
            // The comment behind it.
            *value.decor_mut() = present.decor().clone();
            *present = value;
        }
        None => {
            document.insert(name, Item::Value(value));
        }
    }
}

/// A value as TOML has it; none of what it has not.
fn toml(value: &Value) -> Option<toml_edit::Value> {
    Some(match value {
        Value::Bool(value) => (*value).into(),
        Value::String(text) => text.as_str().into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64()?.into(),
        },
        Value::Array(values) => values.iter().filter_map(toml).collect(),
        Value::Null | Value::Object(_) => return None,
    })
}

/// The folder of a file, made for its owner alone where there is none.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)
}

impl ConfigFile {
    /// None where there is no file.
    fn present(&self) -> anyhow::Result<Option<BTreeMap<String, Value>>> {
        if fs::symlink_metadata(&self.path).is_err() {
            return Ok(None);
        }
        Ok(Some(settings_of_file(&self.path)?))
    }
}

/// Whether two values of a setting are one: slashes at the ends of a prefix say nothing.
fn is_same(name: &str, a: &Value, b: &Value) -> bool {
    let prefix = |value: &Value| Some(value.as_str()?.trim_matches('/').to_owned());
    a == b || name == "prefix" && prefix(a).is_some() && prefix(a) == prefix(b)
}

#[async_trait(?Send)]
impl Task for ConfigFile {
    fn name(&self) -> &'static str {
        "configuration"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        let path = self.path.display();
        let Some(present) = self.present()? else {
            return Ok(Found::ToDo(format!("write {path}")));
        };
        let mut lines = Vec::new();
        for (name, value) in &self.wanted {
            let is = present.get(name);
            if is.is_some_and(|is| is_same(name, is, value)) {
                continue;
            }
            let shown = |value: &Value| match shown_setting(name, value.clone()) {
                Value::String(text) => text,
                value => value.to_string(),
            };
            lines.extend(is.map(|is| format!("- {name} = {}", shown(is))));
            lines.push(format!("+ {name} = {}", shown(value)));
        }
        Ok(if lines.is_empty() {
            Found::Done(format!("{path} says it"))
        } else {
            Found::Conflict(format!("{path} says otherwise"), lines)
        })
    }

    async fn change(&self) -> anyhow::Result<()> {
        let path = self.path.display();
        let present = self.present()?;
        let text = match &present {
            Some(_) => {
                fs::read_to_string(&self.path).with_context(|| format!("{path} cannot be read"))?
            }
            None => HEADER.to_owned(),
        };
        let document = text.parse::<DocumentMut>();
        let mut document = document.with_context(|| format!("{path} cannot be understood"))?;
        let present = present.unwrap_or_default();
        for (name, value) in &self.wanted {
            if present.get(name).is_none_or(|is| !is_same(name, is, value)) {
                set(&mut document, name, value);
            }
        }
        make_folder(&self.path)?;
        private::replace(&self.path, document.to_string().as_bytes())
            .with_context(|| format!("{path} cannot be written"))?;
        self.is_new.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn is_needed(&self) -> bool {
        true
    }
}

/// Who signs the requests of the mount.
#[derive(Debug)]
pub enum Keys {
    /// Nobody.
    Anonymous,
    /// A file that the operator keeps.
    Named(PathBuf),
    /// They end, and whoever renews them knows this machine.
    Temporary,
    /// They are kept for the mount.
    Lasting(AccessKeys),
}

/// An AWS credentials file.
#[derive(Debug)]
pub struct CredentialsFile {
    pub path: PathBuf,
    pub keys: Keys,
}

impl CredentialsFile {
    fn text(keys: &AccessKeys) -> String {
        format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            keys.access_key, keys.secret_key
        )
    }

    /// What differs, without a secret.
    fn differences(text: &str, keys: &AccessKeys) -> Vec<String> {
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let found = lines.find(|(key, _)| key.trim() == name);
            found.map_or("", |(_, value)| value.trim())
        };
        let id = value("aws_access_key_id");
        if id != keys.access_key {
            return vec![
                format!("- access key {id}"),
                format!("+ access key {}", keys.access_key),
            ];
        }
        if value("aws_secret_access_key") != keys.secret_key {
            return vec![format!("+ another secret of access key {id}")];
        }
        Vec::new()
    }
}

#[async_trait(?Send)]
impl Task for CredentialsFile {
    fn name(&self) -> &'static str {
        "credentials"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        let path = self.path.display();
        let keys = match &self.keys {
            Keys::Anonymous => return Ok(Found::Done("none: requests are not signed".to_owned())),
            Keys::Named(path) => return Ok(Found::Done(format!("in {}", path.display()))),
            Keys::Temporary => {
                return Ok(Found::Skipped(
                    "they are temporary: the mount reads them where they are renewed (authentik's settings, profile, role, web identity)"
                        .to_owned(),
                ));
            }
            Keys::Lasting(keys) => keys,
        };
        let present = match private::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = &keys.access_key;
                return Ok(Found::ToDo(format!("write access key {id} to {path}")));
            }
            Err(error) => return Err(error).with_context(|| format!("{path}")),
        };
        let text = String::from_utf8_lossy(&present);
        let differences = Self::differences(&text, keys);
        if !differences.is_empty() {
            return Ok(Found::Conflict(format!("{path} has others"), differences));
        }
        let mode = fs::symlink_metadata(&self.path)?.mode() & 0o7777;
        Ok(if mode & OTHERS != 0 {
            Found::ToDo(format!("close {path} to other users (mode {mode:04o})"))
        } else {
            Found::Done(format!("in {path}"))
        })
    }

    async fn change(&self) -> anyhow::Result<()> {
        let Keys::Lasting(keys) = &self.keys else {
            return Ok(());
        };
        make_folder(&self.path)?;
        let text = private::read(&self.path).unwrap_or_default();
        if !text.is_empty() && Self::differences(&String::from_utf8_lossy(&text), keys).is_empty() {
            return Ok(fs::set_permissions(
                &self.path,
                fs::Permissions::from_mode(0o600),
            )?);
        }
        private::replace(&self.path, Self::text(keys).as_bytes())
            .with_context(|| format!("{} cannot be written", self.path.display()))
    }

    fn is_needed(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_prefix_is_the_same_with_and_without_slashes_at_its_ends() {
        assert!(is_same("prefix", &json!("h/"), &json!("h")));
        assert!(!is_same("prefix", &json!("h/"), &json!("g")));
        assert!(!is_same("bucket", &json!("h/"), &json!("h")));
    }

    #[test]
    fn a_setting_is_set_and_the_rest_of_the_file_stays() {
        let text = "# Of the media.\nttl = '5s' # short\n\n# Where:\nregion = \"a\"\n# The end.\n";
        let mut document: DocumentMut = text.parse().unwrap();
        set(&mut document, "ttl", &json!("1m"));
        set(&mut document, "fuse-threads", &json!(4));
        set(&mut document, "from-authentik", &json!(["a", "b"]));
        set(&mut document, "allow-other", &json!(true));
        let expected = "# Of the media.\nttl = \"1m\" # short\n\n# Where:\nregion = \"a\"\n\
                        fuse-threads = 4\nfrom-authentik = [\"a\", \"b\"]\nallow-other = true\n# The end.\n";
        assert_eq!(document.to_string(), expected);
    }
}
