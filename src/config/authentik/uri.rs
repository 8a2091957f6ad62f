//! Values that say where the value is: `file:///path?default`, `env://NAME?default`.

use std::fs;

use super::dotenv::Variables;

/// What the value stands for. Errors: a file that cannot be read and has no default.
pub fn resolve(value: &str, variables: &Variables) -> Result<String, String> {
    let Some((scheme, rest)) = value.split_once(':') else {
        return Ok(value.to_owned());
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (place, default) = rest.split_once('?').unwrap_or((rest, ""));
    let place = place.strip_prefix("//").unwrap_or_default();
    let (host, path) = match place.find('/') {
        Some(at) => place.split_at(at),
        None => (place, ""),
    };
    match scheme.to_ascii_lowercase().as_str() {
        "env" => {
            let found = variables.get(host).map(String::as_str);
            Ok(found.unwrap_or(default).to_owned())
        }
        "file" => match fs::read_to_string(path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(_) if !default.is_empty() => Ok(default.to_owned()),
            Err(error) => Err(format!(
                "{path} cannot be read: {error}: it is looked for on this host, not in authentik's container"
            )),
        },
        _ => Ok(value.to_owned()),
    }
}
