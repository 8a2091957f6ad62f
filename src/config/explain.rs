//! Why a configuration cannot be used, in words: what, where it stands, and what was meant.

use figment::Source;
use figment::error::{Actual, Kind};

use super::{AUTHENTIK_LAYER, ConfigError, ENV_PREFIX};

/// An unknown name this similar to a known one is taken for a slip (Jaro-Winkler, 0 to 1).
const SUGGEST_FROM: f64 = 0.8;

/// What is wrong with the layers.
pub(super) fn explain(error: Option<figment::Error>) -> ConfigError {
    let Some(error) = error else {
        return ConfigError("unreadable configuration".to_owned());
    };
    let of = |key: &str| {
        let metadata = error.metadata.as_ref();
        metadata.map(|it| origin(key, it)).unwrap_or_default()
    };
    if let Kind::UnknownField(key, known) = &error.kind {
        let hint = nearest(key, known.iter().copied())
            .map_or_else(String::new, |known| format!(": did you mean {known:?}?"));
        return ConfigError(format!("unknown setting {key:?}{}{hint}", of(key)));
    }
    let key = error.path.join(".");
    let told = error.kind.to_string();
    let layer = error.metadata.as_ref().map(in_figments_words);
    let told = layer.map_or(told.as_str(), |layer| told.trim_end_matches(&layer));
    let why = without_source_lines(told);
    let why = match &error.kind {
        Kind::InvalidType(
            Actual::Bool(_) | Actual::Signed(_) | Actual::Unsigned(_) | Actual::Float(_),
            expected,
        ) if expected == "a string" => {
            format!("{why}: put it in quotes")
        }
        _ => why,
    };
    let subject = match key.as_str() {
        "" => "configuration",
        key => key,
    };
    ConfigError(format!("{subject}{}: {why}", of(&key)))
}

/// How a message ends that one of its kind holds. The origin says the same.
/// Source: figment, `impl Display for Error`.
fn in_figments_words(metadata: &figment::Metadata) -> String {
    match &metadata.source {
        Some(source) => format!(" in {source} {}", metadata.name),
        None => format!(" in {}", metadata.name),
    }
}

/// What a parser says of a text, without the lines that it shows of it: a password may
/// stand there. They begin with their number, or nothing, and a bar.
fn without_source_lines(told: &str) -> String {
    let is_source = |line: &&str| {
        let line = line.trim_start();
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
        rest.trim_start().starts_with('|')
    };
    let lines: Vec<&str> = told.lines().filter(|line| !is_source(line)).collect();
    lines.join(": ")
}

/// Where a setting was written.
pub(super) fn origin(key: &str, metadata: &figment::Metadata) -> String {
    match (metadata.name.as_ref(), &metadata.source) {
        (_, Some(Source::File(path))) => format!(" (from {})", path.display()),
        (name, _) if name.starts_with(AUTHENTIK_LAYER) => {
            let of = name.trim_start_matches(AUTHENTIK_LAYER);
            format!(" (from {of})")
        }
        (name, _) if name.contains("environment") => {
            let name = key.replace('-', "_").to_uppercase();
            format!(" (from {ENV_PREFIX}{name})")
        }
        // These are arguments without a name.
        _ if ["bucket", "prefix", "mountpoint"].contains(&key) => {
            " (from the command line)".to_owned()
        }
        _ => format!(" (from --{key})"),
    }
}

/// The known name that a misspelt one most likely stands for.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike = known.into_iter().map(|known| {
        let likeness = strsim::jaro_winkler(given, known);
        (likeness, known)
    });
    let nearest = alike
        .filter(|(likeness, _)| *likeness >= SUGGEST_FROM)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    nearest.map(|(_, known)| known)
}
