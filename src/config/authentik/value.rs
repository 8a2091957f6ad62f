//! Values as authentik types them, by their keys.

use std::collections::BTreeMap;

/// What a key of authentik's configuration stands for.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Bool(bool),
    /// A number: as it is written.
    Number(String),
    Text(String),
    /// A list, or an object within one variable: no setting of the storage is one.
    Other,
}

/// A value, and where it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    pub value: Value,
    /// A file, or the name of a variable.
    pub origin: String,
}

/// Values by their key, such as `storage.s3.region`. Secrets are among them: it has no Debug.
#[derive(Clone, Default)]
pub struct Values(BTreeMap<String, Found>);

impl Values {
    /// Replaces what the key had, and what stood below it.
    pub fn set(&mut self, key: String, found: Found) {
        let below = format!("{key}.");
        self.0.retain(|other, _| !other.starts_with(&below));
        self.0.insert(key, found);
    }

    pub fn get(&self, key: &str) -> Option<&Found> {
        self.0.get(key)
    }
}

impl Value {
    /// The value of a variable: authentik reads it as JSON where it is that.
    pub fn of_variable(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(serde_json::Value::Null) => Self::Null,
            Ok(serde_json::Value::Bool(value)) => Self::Bool(value),
            Ok(serde_json::Value::Number(_)) => Self::Number(text.trim().to_owned()),
            Ok(serde_json::Value::String(text)) => Self::Text(text),
            Ok(serde_json::Value::Array(_) | serde_json::Value::Object(_)) => Self::Other,
            Err(_) => Self::Text(text.to_owned()),
        }
    }

    /// As authentik reads a setting that is yes or no: only `true` is yes.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Bool(value) => *value,
            Self::Text(text) => text.eq_ignore_ascii_case("true"),
            Self::Null | Self::Number(_) | Self::Other => false,
        }
    }
}
