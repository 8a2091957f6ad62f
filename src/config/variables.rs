//! Settings of the environment: `MEDIAFS_TTL` is `ttl`.

use figment::providers::Env;
use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};

use super::{ENV_PREFIX, Options};

/// A setting that is a file, a list of them, or `true`: what can be read as one of the
/// latter is meant so.
const FILES_OR_TRUE: &str = "from-authentik";

/// Variables by the name of their setting. Those that a setting takes as text are text:
/// an account, a bucket or a profile may have digits alone. A proxy's password may be
/// among them: it has no Debug.
pub struct Variables(Vec<(String, String)>);

impl Variables {
    /// Those of this process.
    pub fn of_process() -> Self {
        let named = Env::prefixed(ENV_PREFIX);
        let setting = |name: &str| name.replace('_', "-").to_lowercase();
        let all = named.iter();
        Self::new(all.map(|(name, text)| (setting(name.as_str()), text)))
    }

    pub fn new(by_setting: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(by_setting.into_iter().collect())
    }
}

impl Provider for Variables {
    fn metadata(&self) -> Metadata {
        Env::prefixed(ENV_PREFIX).metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let values = self.0.iter();
        let values = values.map(|(name, text)| (name.clone(), value(name, text)));
        Ok(Profile::Default.collect(values.collect()))
    }
}

/// What a text is for its setting. One that takes it in no way gets it as it reads: who
/// takes the setting then says what is wrong with it.
fn value(name: &str, text: &str) -> Value {
    let Ok(read) = text.parse::<Value>();
    let is_text = matches!(read, Value::String(..));
    let prefers_text = name != FILES_OR_TRUE || !takes(name, &read);
    let as_text = Value::from(text);
    if !is_text && prefers_text && takes(name, &as_text) {
        as_text
    } else {
        read
    }
}

/// A text that stands for a setting: the number or truth value that it is to the setting.
pub(super) fn typed(name: &str, text: String) -> serde_json::Value {
    let settings = Dict::from([(name.to_owned(), value(name, &text))]);
    let options = Value::from(settings).deserialize::<Options>();
    let written = options.ok().and_then(|it| it.by_name().remove(name));
    written
        .filter(|it| !it.is_string())
        .unwrap_or_else(|| text.into())
}

fn takes(name: &str, value: &Value) -> bool {
    let settings = Dict::from([(name.to_owned(), value.clone())]);
    Value::from(settings).deserialize::<Options>().is_ok()
}
