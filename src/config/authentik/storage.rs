//! authentik's settings of its S3 storage, and which settings of a mount they are.
//!
//! Source: authentik's documentation, "Configuration: storage settings", of 2024.2 to
//! 2025.12; boto3's, "Config: addressing_style".

use super::dotenv::Variables;
use super::uri;
use super::value::{Found, Value, Values};
use crate::store::{AccessKeys, Endpoint, GivenKeys};

/// Source: botocore, `Config`, "s3": "addressing_style".
const STYLES: [&str; 3] = ["auto", "virtual", "path"];

/// What a mount's place is called in authentik's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// `/media`, or `/data/media`
    Media,
    /// `/data/reports`
    Reports,
}

/// A setting of the mount, as authentik has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    pub value: SettingValue,
    /// authentik's key, and where it stands.
    pub origin: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    Text(String),
    Bool(bool),
}

/// authentik's values, seen from one usage.
pub struct Storage<'a> {
    pub values: &'a Values,
    /// What `env://` names.
    pub variables: &'a Variables,
    pub usage: Usage,
}

/// The text of a value, and where it stands.
struct Text {
    text: String,
    origin: String,
}

impl Usage {
    /// First part of its keys in the bucket, and in authentik's settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Reports => "reports",
        }
    }
}

impl Storage<'_> {
    /// The settings of a mount. Errors: what authentik itself could not use, in words.
    pub fn settings(&self) -> Result<Vec<Setting>, String> {
        self.check_signature()?;
        let mut settings = vec![Setting {
            name: "prefix",
            value: SettingValue::Text(self.usage.name().to_owned()),
            origin: "authentik's layout".to_owned(),
        }];
        for (name, key) in [
            ("bucket", "bucket_name"),
            ("region", "region"),
            ("profile", "session_profile"),
        ] {
            let found = self.text(key)?;
            settings.extend(found.map(|found| found.setting(name)));
        }
        if let Some(endpoint) = self.endpoint()? {
            settings.push(self.path_style(&endpoint)?);
            settings.push(endpoint.setting("endpoint-url"));
        } else if let Some(style) = self.style()? {
            settings.push(Setting {
                name: "force-path-style",
                value: SettingValue::Bool(style.text == "path"),
                origin: style.origin,
            });
        }
        Ok(settings)
    }

    /// Where the credentials stand, or the name of their profile. Errors: as `access_keys`.
    pub fn origin_of_keys(&self) -> Result<Option<String>, String> {
        let found = match self.text("session_profile")? {
            None => self.text("access_key")?,
            profile => profile,
        };
        Ok(found.map(|found| found.origin))
    }

    /// The credentials that authentik has in its settings. Read again each time: they may be
    /// in files that change.
    pub fn access_keys(&self) -> Result<GivenKeys, String> {
        if let Some(profile) = self.text("session_profile")? {
            return Ok(GivenKeys::Profile(profile.text));
        }
        let session_token = match self.text("session_token")? {
            None => self.text("security_token")?,
            token => token,
        };
        match (self.text("access_key")?, self.text("secret_key")?) {
            (None, None) => Ok(GivenKeys::None),
            (Some(access), Some(secret)) => Ok(GivenKeys::Keys(AccessKeys {
                access_key: access.text,
                secret_key: secret.text,
                session_token: session_token.map(|token| token.text),
            })),
            (Some(_), None) => Err(self.missing("secret_key")),
            (None, Some(_)) => Err(self.missing("access_key")),
        }
    }

    fn missing(&self, name: &str) -> String {
        let not_set = || format!("{} is not set", self.key(name));
        self.empty(name).unwrap_or_else(not_set)
    }

    /// That a key is there and has nothing, where it stands, and what it hides; none where
    /// it is not there.
    pub fn empty(&self, name: &str) -> Option<String> {
        let (key, found) = self.found(name)?;
        let of_all = self.key(name);
        let hidden = self.values.get(&of_all).filter(|_| key != of_all);
        let hides = hidden.map_or_else(String::new, |hidden| {
            format!(" and hides {of_all} ({})", hidden.origin)
        });
        Some(format!(
            "{key} ({}) is empty{hides}: give it a value, or remove it",
            found.origin
        ))
    }

    /// What a mount has no use for, or has otherwise, a line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.backend() == "s3" {
            notes.push(format!(
                "authentik itself is on its S3 backend ({}): set it to file when authentik begins to use the mount",
                self.origin_of_backend()
            ));
        }
        notes.extend(self.note_of_path());
        let of_urls = ["custom_domain", "secure_urls"];
        let of_urls: Vec<&str> = of_urls
            .into_iter()
            .filter(|key| self.found(key).is_some())
            .collect();
        if !of_urls.is_empty() {
            notes.push(format!(
                "authentik's {} has no meaning for a mount: the file backend makes its own URLs",
                of_urls.join(" and ")
            ));
        }
        if let Ok(Some(acl)) = self.text("object_acl")
            && acl.text != "private"
        {
            notes.push(format!(
                "authentik's object_acl = {}: objects of a mount have the ACL that the bucket gives them",
                acl.text
            ));
        }
        for key in ["bucket_name", "region", "access_key", "secret_key"] {
            if let Some((key, found)) = self.found(key)
                && matches!(found.value, Value::Number(_) | Value::Bool(_))
            {
                notes.push(format!(
                    "authentik reads {key} ({}) as a number or as true or false, and boto3 then refuses it: mediafs takes it as it is written",
                    found.origin
                ));
            }
        }
        notes
    }

    /// Where the file backend looks, if it is told. A path of all usages has a folder for
    /// each; one of media had none up to 2025.10.
    fn note_of_path(&self) -> Option<String> {
        let usage = self.usage.name();
        let own = format!("storage.{usage}.file.path");
        let keys = [own.clone(), "storage.file.path".to_owned()];
        let (key, found) = keys
            .into_iter()
            .find_map(|key| Some((key.clone(), self.values.get(&key)?)))?;
        let Text { text, origin } = self.text_of(&key, found).ok()??;
        let path = text.trim_end_matches('/');
        let before = match self.usage {
            Usage::Media if key == own => format!(", up to 2025.10 in {path} itself"),
            Usage::Media | Usage::Reports => String::new(),
        };
        Some(format!(
            "authentik's file backend has its {usage} in {path}/{usage} of the container{before} ({origin}): the mount has to be there"
        ))
    }

    /// A custom endpoint is asked by path, as boto3 does, unless told otherwise.
    fn path_style(&self, endpoint: &Text) -> Result<Setting, String> {
        let of_endpoint = || {
            (
                !Endpoint::is_of_aws(&endpoint.text),
                endpoint.origin.clone(),
            )
        };
        let (value, origin) = match self.style()? {
            Some(style) if style.text != "auto" => (style.text == "path", style.origin),
            Some(_) | None => of_endpoint(),
        };
        Ok(Setting {
            name: "force-path-style",
            value: SettingValue::Bool(value),
            origin,
        })
    }

    /// Errors: one that boto3 refuses.
    fn style(&self) -> Result<Option<Text>, String> {
        match self.text("addressing_style")? {
            Some(style) if !STYLES.contains(&style.text.as_str()) => Err(format!(
                "addressing_style = {:?} ({}) is not one of the styles that boto3 takes: {}",
                style.text,
                style.origin,
                STYLES.join(", ")
            )),
            style => Ok(style),
        }
    }

    fn endpoint(&self) -> Result<Option<Text>, String> {
        if let Some(endpoint) = self.text("endpoint")? {
            return Ok(Some(endpoint));
        }
        match self.found("use_ssl") {
            Some((key, found)) if !self.is_true(found)? => {
                let region = self.text("region")?.map(|region| region.text);
                let region = region.unwrap_or_else(|| "us-east-1".to_owned());
                Ok(Some(Text {
                    text: format!("http://s3.{region}.amazonaws.com"),
                    origin: format!("{key}, {}", found.origin),
                }))
            }
            _ => Ok(None),
        }
    }

    /// Source: AWS SDKs do not have signature version 2.
    fn check_signature(&self) -> Result<(), String> {
        match self.text("signature_version")? {
            Some(version) if !version.text.starts_with("s3v4") && version.text != "v4" => {
                Err(format!(
                    "signature_version = {:?} ({}) is not supported: the service has to take AWS Signature Version 4 (s3v4)",
                    version.text, version.origin
                ))
            }
            _ => Ok(()),
        }
    }

    fn backend(&self) -> String {
        let found = self.found_backend().map(|(_, found)| &found.value);
        match found {
            Some(Value::Text(backend)) => backend.clone(),
            _ => "file".to_owned(),
        }
    }

    fn origin_of_backend(&self) -> String {
        let found = self.found_backend();
        found.map_or_else(String::new, |(key, found)| {
            format!("{key}, {}", found.origin)
        })
    }

    fn found_backend(&self) -> Option<(String, &Found)> {
        let of_usage = format!("storage.{}.backend", self.usage.name());
        [of_usage, "storage.backend".to_owned()]
            .into_iter()
            .find_map(|key| Some((key.clone(), self.values.get(&key)?)))
    }

    /// The key of all usages.
    fn key(&self, name: &str) -> String {
        format!("storage.s3.{name}")
    }

    /// What this usage has of its own hides what all have, even where it is empty.
    fn found(&self, name: &str) -> Option<(String, &Found)> {
        let own = format!("storage.{}.s3.{name}", self.usage.name());
        [own, self.key(name)]
            .into_iter()
            .find_map(|key| Some((key.clone(), self.values.get(&key)?)))
    }

    fn text(&self, name: &str) -> Result<Option<Text>, String> {
        match self.found(name) {
            Some((key, found)) => self.text_of(&key, found),
            None => Ok(None),
        }
    }

    /// Empty counts as not given.
    fn text_of(&self, key: &str, found: &Found) -> Result<Option<Text>, String> {
        let text = match &found.value {
            Value::Null => return Ok(None),
            Value::Bool(value) => value.to_string(),
            Value::Number(text) => text.clone(),
            Value::Text(text) => uri::resolve(text, self.variables)
                .map_err(|why| format!("{key} ({}): {why}", found.origin))?,
            Value::Other => {
                return Err(format!("{key} ({}) is no text", found.origin));
            }
        };
        let origin = format!("{key}, {}", found.origin);
        Ok(Some(Text { text, origin }).filter(|found| !found.text.is_empty()))
    }

    fn is_true(&self, found: &Found) -> Result<bool, String> {
        match &found.value {
            Value::Text(text) => Ok(Value::Text(uri::resolve(text, self.variables)?).is_true()),
            value => Ok(value.is_true()),
        }
    }
}

impl Text {
    fn setting(self, name: &'static str) -> Setting {
        Setting {
            name,
            value: SettingValue::Text(self.text),
            origin: self.origin,
        }
    }
}
