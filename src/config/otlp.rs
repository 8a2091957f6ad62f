//! Where spans and metrics are exported to, by the protocol of OpenTelemetry (OTLP).
//!
//! Source: OpenTelemetry specification, "OTLP exporter" and "Environment variables".

use std::env;

use url::Url;

use super::ratio::Ratio;
use super::{Options, Wrong};

/// Where the setting is not given.
pub(super) const ENDPOINT: [&str; 1] = ["OTEL_EXPORTER_OTLP_ENDPOINT"];
const DISABLED: &str = "OTEL_SDK_DISABLED";
const NOT_BUILT: &str = "this program was built without the export: that of the package and of scripts/install has it, or 'cargo build --release --features otlp'";

/// A collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Without a slash at its end; paths of what is sent follow.
    pub endpoint: String,
    /// None: as the variables of OpenTelemetry say.
    pub sample_ratio: Option<Ratio>,
}

/// What the program can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Build {
    WithExport,
    WithoutExport,
}

impl Build {
    const THIS: Self = match cfg!(feature = "otlp") {
        true => Self::WithExport,
        false => Self::WithoutExport,
    };
}

impl OtlpConfig {
    /// None where nothing is exported. Errors: settings that cannot be used.
    pub(super) fn resolve(options: &Options) -> Result<Option<Self>, Wrong> {
        Self::of(options, Build::THIS, |name| env::var(name).ok())
    }

    fn of(
        options: &Options,
        build: Build,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, Wrong> {
        let given = options.otlp_endpoint.as_deref();
        if build == Build::WithoutExport {
            // The variables are of other programs too.
            return match given {
                Some(_) => Err(("otlp-endpoint", NOT_BUILT.to_owned())),
                None => Ok(None),
            };
        }
        let endpoint = given.map(checked).transpose();
        let endpoint = endpoint.map_err(|why| ("otlp-endpoint", why))?;
        let of_variable = || checked(&ENDPOINT.iter().find_map(|name| variable(name))?).ok();
        let is_disabled = variable(DISABLED).is_some_and(|it| it.eq_ignore_ascii_case("true"));
        let endpoint = endpoint.or_else(of_variable).filter(|_| !is_disabled);
        Ok(endpoint.map(|endpoint| Self {
            endpoint,
            sample_ratio: options.otlp_sample_ratio,
        }))
    }
}

/// What the operator should know of variables that are not used.
pub(super) fn notes(options: &Options) -> Vec<String> {
    let is_used = Build::THIS == Build::WithExport && options.otlp_endpoint.is_none();
    let wrong = ENDPOINT.iter().filter(|_| is_used).find_map(|name| {
        let why = checked(&env::var(name).ok()?).err()?;
        Some(format!("{name} {why}: nothing is exported"))
    });
    wrong.into_iter().collect()
}

/// Errors: why the text is no endpoint, without repeating it.
fn checked(url: &str) -> Result<String, String> {
    const FORM: &str = "must be like http://HOST:4318";
    let parsed = Url::parse(url.trim()).map_err(|_| FORM)?;
    if !["http", "https"].contains(&parsed.scheme()) || !parsed.has_host() {
        return Err(FORM.to_owned());
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        let why = "must not hold credentials: set OTEL_EXPORTER_OTLP_HEADERS";
        return Err(why.to_owned());
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(FORM.to_owned());
    }
    Ok(parsed.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoint: Option<&str>) -> Options {
        Options {
            otlp_endpoint: endpoint.map(str::to_owned),
            ..Options::default()
        }
    }

    fn endpoint(given: Option<&str>, build: Build, of_variable: &str) -> Result<String, String> {
        let variable = |name: &str| (name == ENDPOINT[0]).then(|| of_variable.to_owned());
        let config = OtlpConfig::of(&options(given), build, variable);
        config
            .map(|it| it.map_or_else(|| "none".to_owned(), |it| it.endpoint))
            .map_err(|(name, why)| format!("{name} {why}"))
    }

    #[test]
    fn a_program_without_the_export_refuses_the_setting_and_says_which_has_it() {
        let told = endpoint(Some("http://c:4318"), Build::WithoutExport, "").unwrap_err();
        for part in ["otlp-endpoint", "package", "--features otlp"] {
            assert!(told.contains(part), "{told}");
        }
        let of_others = endpoint(None, Build::WithoutExport, "http://c:4318");
        assert_eq!(of_others.unwrap(), "none");
    }

    #[test]
    fn the_setting_comes_before_the_variable_and_a_wrong_variable_stops_no_mount() {
        let of = |given, variable| endpoint(given, Build::WithExport, variable).unwrap();
        assert_eq!(of(Some("https://a/"), "http://b:4318"), "https://a");
        assert_eq!(of(None, "http://b:4318/of/me/"), "http://b:4318/of/me");
        assert_eq!(of(None, "nonsense"), "none");
        let disabled = OtlpConfig::of(&options(Some("http://a")), Build::WithExport, |name| {
            (name == DISABLED).then(|| "true".to_owned())
        });
        assert_eq!(disabled.unwrap(), None);
    }

    #[test]
    fn what_is_no_endpoint_is_refused_without_repeating_it() {
        for bad in [
            "",
            "c:4318",
            "ftp://c",
            "http://ann:geheim@c",
            "http://c?key=geheim",
        ] {
            let told = endpoint(Some(bad), Build::WithExport, "").unwrap_err();
            assert!(told.contains("must ") && !told.contains("geheim"), "{told}");
        }
    }
}
