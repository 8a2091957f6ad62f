//! Which proxy a request goes through: that of the option, else one of the environment.
//!
//! Variables are read as curl reads them: lower case first, and an empty one is unset.
//! Unlike with curl, HTTP_PROXY counts too, as the AWS SDKs have it. curl leaves it out
//! because a web server sets it for its CGI programs from a header of the client: where
//! this may be one of those, it does not count.
//!
//! Sources: curl(1), "Environment"; AWS SDKs and Tools Reference Guide, "HTTP proxy";
//! RFC 3875, REQUEST_METHOD.

use std::env;

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::store::ProxyUrl;

const HTTPS: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
const HTTP: [&str; 2] = ["http_proxy", "HTTP_PROXY"];
const ALL: [&str; 2] = ["all_proxy", "ALL_PROXY"];
const EXCEPT: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// What AWS's endpoints have in common, for those who except them from a proxy.
const AWS_URL: &str = "https://s3.amazonaws.com";
/// Every CGI program has it.
const CGI: &str = "REQUEST_METHOD";
/// Where machines and containers get credentials from: never behind a proxy.
/// Sources: EC2 User Guide, "Instance metadata"; ECS and EKS, "container credentials".
const LINK_LOCAL: &str = "169.254.0.0/16,fd00:ec2::254,fd00:ec2::23";

/// A proxy, and what names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedProxy {
    pub url: ProxyUrl,
    /// An option or a variable.
    pub named_by: &'static str,
}

/// The proxies of the environment.
#[derive(Debug, Default)]
struct Proxies {
    https: Option<NamedProxy>,
    http: Option<NamedProxy>,
    /// What is reached without one.
    except: String,
}

/// The proxy of the option, else those of the environment. Errors: one that cannot be
/// used, in words.
pub fn proxy(named: Option<&ProxyUrl>) -> Result<Option<Matcher>, String> {
    let Some(url) = named else {
        let proxies = Proxies::read(variable)?;
        proxies.tell();
        return Ok(proxies.matcher());
    };
    let Some(except) = exceptions(variable) else {
        return Ok(None);
    };
    tracing::info!(proxy = %url, except, "requests go through a proxy");
    Ok(Some(matcher(url, &format!("{except},{LINK_LOCAL}"))))
}

/// The proxy that requests to this URL go through; without one those to AWS.
pub fn proxy_of(named: Option<&ProxyUrl>, url: Option<&str>) -> Option<NamedProxy> {
    let uri: Uri = url.unwrap_or(AWS_URL).parse().ok()?;
    if let Some(named) = named {
        matcher(named, &exceptions(variable)?).intercept(&uri)?;
        return Some(NamedProxy {
            url: named.clone(),
            named_by: "--proxy",
        });
    }
    Proxies::read(variable).ok()?.of(&uri)
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

fn matcher(proxy: &ProxyUrl, except: &str) -> Matcher {
    let matcher = Matcher::builder().all(proxy.with_credentials());
    matcher.no(except).build()
}

/// What is reached without a proxy; none where that is everything.
fn exceptions(get: impl Fn(&str) -> Option<String>) -> Option<String> {
    let except = first(EXCEPT, &get).map(|(_, text)| text);
    let except = except.unwrap_or_default();
    // The library has it mean every name, and no address.
    let is_all = except.split(',').any(|it| it.trim() == "*");
    (!is_all).then_some(except)
}

/// The first that is set, and not empty.
fn first(
    names: [&'static str; 2],
    get: impl Fn(&str) -> Option<String>,
) -> Option<(&'static str, String)> {
    names
        .into_iter()
        .filter_map(|name| Some((name, get(name)?)))
        .find(|(_, text)| !text.is_empty())
}

impl Proxies {
    /// Errors: a proxy that cannot be used, in words.
    fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let Some(except) = exceptions(&get) else {
            return Ok(Self::default());
        };
        let is_cgi = get(CGI).is_some();
        let counts = |name: &str| !(is_cgi && name == "HTTP_PROXY");
        let get = |name: &str| get(name).filter(|_| counts(name));
        let all = named(first(ALL, get))?;
        Ok(Self {
            https: named(first(HTTPS, get))?.or_else(|| all.clone()),
            http: named(first(HTTP, get))?.or(all),
            except,
        })
    }

    fn tell(&self) {
        for (of, proxy) in [("https", &self.https), ("http", &self.http)] {
            if let Some(NamedProxy { url, named_by }) = proxy {
                tracing::info!(name = named_by, of, proxy = %url, "requests go through a proxy, except to hosts of NO_PROXY");
            }
        }
    }

    fn matcher(&self) -> Option<Matcher> {
        if self.https.is_none() && self.http.is_none() {
            return None;
        }
        let mut matcher = Matcher::builder();
        if let Some(proxy) = &self.https {
            matcher = matcher.https(proxy.url.with_credentials());
        }
        if let Some(proxy) = &self.http {
            matcher = matcher.http(proxy.url.with_credentials());
        }
        Some(matcher.no(&self.except).build())
    }

    fn of(&self, uri: &Uri) -> Option<NamedProxy> {
        self.matcher()?.intercept(uri)?;
        match uri.scheme_str() {
            Some("https") => self.https.clone(),
            _ => self.http.clone(),
        }
    }
}

fn named(found: Option<(&'static str, String)>) -> Result<Option<NamedProxy>, String> {
    let Some((named_by, text)) = found else {
        return Ok(None);
    };
    let url = ProxyUrl::parse(&text).map_err(|why| format!("{named_by} {why}"))?;
    Ok(Some(NamedProxy { url, named_by }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What names the proxy of a URL, and its host.
    fn chosen(variables: &[(&str, &str)], url: &str) -> String {
        let get = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, text)| (*text).to_owned())
        };
        let proxies = Proxies::read(get).unwrap();
        let found = proxies.of(&url.parse().unwrap());
        found.map_or_else(
            || "none".to_owned(),
            |it| format!("{} {}", it.named_by, it.url),
        )
    }

    #[test]
    fn lower_case_comes_first_and_an_empty_variable_is_unset() {
        for (variables, url, expected) in [
            (
                &[("https_proxy", "l:1"), ("HTTPS_PROXY", "u:1")][..],
                "https://s3",
                "https_proxy http://l:1",
            ),
            (
                &[("http_proxy", "l:1"), ("HTTP_PROXY", "u:1")],
                "http://s3",
                "http_proxy http://l:1",
            ),
            (
                &[("all_proxy", "l:1"), ("ALL_PROXY", "u:1")],
                "http://s3",
                "all_proxy http://l:1",
            ),
            (
                &[("https_proxy", ""), ("HTTPS_PROXY", "u:1")],
                "https://s3",
                "HTTPS_PROXY http://u:1",
            ),
            (
                &[("https_proxy", "l:1"), ("HTTPS_PROXY", "")],
                "https://s3",
                "https_proxy http://l:1",
            ),
            (
                &[
                    ("https_proxy", ""),
                    ("HTTPS_PROXY", ""),
                    ("ALL_PROXY", "a:1"),
                ],
                "https://s3",
                "ALL_PROXY http://a:1",
            ),
            (
                &[("HTTPS_PROXY", "u:1"), ("all_proxy", "a:1")],
                "https://s3",
                "HTTPS_PROXY http://u:1",
            ),
            (&[("HTTPS_PROXY", "u:1")], "http://s3", "none"),
            (&[("HTTP_PROXY", "u:1")], "https://s3", "none"),
            // What a client of a web server can set.
            (
                &[("HTTP_PROXY", "u:1"), ("REQUEST_METHOD", "GET")],
                "http://s3",
                "none",
            ),
        ] {
            assert_eq!(chosen(variables, url), expected, "{variables:?}");
        }
    }

    #[test]
    fn hosts_domains_addresses_and_networks_are_reached_without_a_proxy() {
        for (no_proxy, url, is_direct) in [
            ("s3.invalid", "http://s3.invalid:1", true),
            ("invalid", "http://s3.invalid:1", true),
            (".invalid", "http://b.s3.invalid:1", true),
            ("other, .INVALID", "http://s3.invalid:1", true),
            ("3.invalid", "http://s3.invalid:1", false),
            ("s3.invalid", "http://invalid:1", false),
            ("10.0.0.0/8", "http://10.1.2.3:1", true),
            ("10.0.0.0/8", "http://11.1.2.3:1", false),
            ("*", "http://10.1.2.3:1", true),
        ] {
            let expected = if is_direct {
                "none"
            } else {
                "ALL_PROXY http://a:1"
            };
            for name in EXCEPT {
                let variables = [("ALL_PROXY", "a:1"), (name, no_proxy)];
                assert_eq!(chosen(&variables, url), expected, "{no_proxy} {url}");
            }
        }
    }

    #[test]
    fn of_two_lists_of_exceptions_the_first_that_is_not_empty_counts() {
        let lists = |lower, upper| {
            let proxy = ("ALL_PROXY", "a:1");
            let variables = [proxy, ("no_proxy", lower), ("NO_PROXY", upper)];
            chosen(&variables, "http://s3.invalid")
        };
        assert_eq!(lists("", "invalid"), "none");
        assert_eq!(lists("invalid", ""), "none");
        assert_eq!(lists("other", "invalid"), "ALL_PROXY http://a:1");
    }

    #[test]
    fn what_is_no_http_proxy_is_told_with_its_variable_where_it_counts() {
        let read = |variables: &[(&str, &str)]| {
            Proxies::read(|name| {
                let found = variables.iter().find(|(other, _)| *other == name);
                found.map(|(_, text)| (*text).to_owned())
            })
        };
        let told = read(&[("ALL_PROXY", "socks5://p:1")]).unwrap_err();
        assert!(
            told.starts_with("ALL_PROXY ") && told.contains("SOCKS"),
            "{told}"
        );
        let hidden = [("http_proxy", "l:1"), ("HTTP_PROXY", "socks5://p:1")];
        assert!(read(&hidden).is_ok());
    }
}
