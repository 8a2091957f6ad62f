//! What variables and profiles of the AWS tools, and variables of proxies set, where no
//! setting of mediafs does.

use std::env;

use super::{Config, otlp};
use crate::store::Endpoint;
use crate::store::s3::{ProfileSettings, proxy_of};

const CA_BUNDLE: [&str; 1] = ["AWS_CA_BUNDLE"];
/// Source: AWS SDKs and Tools Reference Guide, "Service-specific endpoints".
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
const PROFILE: [&str; 1] = ["AWS_PROFILE"];
/// Source: AWS SDKs and Tools Reference Guide, "AWS Region".
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// A value, and the variable that has it. A URL may have credentials.
pub type FromVariable = (String, &'static str);

/// The value of a setting that no file and no flag sets.
pub fn of_environment(config: &Config, name: &str) -> Option<FromVariable> {
    match name {
        "ca-bundle" => first(&CA_BUNDLE),
        "endpoint-url" => first(&ENDPOINTS),
        "otlp-endpoint" => otlp_endpoint(config),
        "profile" => first(&PROFILE),
        "proxy" => proxy(config),
        "region" => first(&REGIONS),
        _ => None,
    }
}

/// The value of a setting that no variable has either.
pub fn of_profile(profile: &ProfileSettings, name: &str) -> Option<String> {
    match name {
        "ca-bundle" => profile.ca_bundle.clone(),
        "endpoint-url" => profile.endpoint_url.clone(),
        "region" => profile.region.clone(),
        _ => None,
    }
}

/// The first that is set: an empty one is as good as none, and hides the others.
fn first(names: &[&'static str]) -> Option<FromVariable> {
    let mut set = names
        .iter()
        .filter_map(|name| Some((env::var(name).ok()?, *name)));
    set.next().filter(|(value, _)| !value.is_empty())
}

/// One that can be used.
fn endpoint() -> Option<FromVariable> {
    first(&ENDPOINTS).filter(|(url, _)| Endpoint::check_url(url).is_ok())
}

/// One that is used.
fn otlp_endpoint(config: &Config) -> Option<FromVariable> {
    first(&otlp::ENDPOINT).filter(|_| config.otlp.is_some())
}

fn proxy(config: &Config) -> Option<FromVariable> {
    let of_variable = endpoint().map(|(url, _)| url);
    let url = config.s3.endpoint_url.as_deref().or(of_variable.as_deref());
    let proxy = proxy_of(None, url)?;
    Some((proxy.url.with_credentials().to_owned(), proxy.named_by))
}
