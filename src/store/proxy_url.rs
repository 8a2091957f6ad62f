//! The URL of an HTTP proxy, whose password nobody sees.

use std::fmt;

use url::Url;

/// `http://[USER:PASSWORD@]HOST[:PORT]`, or the same with `https`.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// With its credentials.
    url: Url,
}

impl ProxyUrl {
    /// Errors: why the text is none, without repeating it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be like http://HOST:PORT";
        let text = text.trim();
        let with_scheme = match text.split_once("://") {
            Some(_) => text.to_owned(),
            // As curl takes it.
            None => format!("http://{text}"),
        };
        let url = Url::parse(&with_scheme).map_err(|_| FORM)?;
        match url.scheme() {
            "http" | "https" if url.has_host() && url.port() != Some(0) => Ok(Self { url }),
            scheme if scheme.starts_with("socks") => {
                Err("names a SOCKS proxy: only HTTP proxies are supported")
            }
            _ => Err(FORM),
        }
    }

    pub fn has_credentials(&self) -> bool {
        !self.url.username().is_empty() || self.url.password().is_some()
    }

    /// For who connects; not for a log.
    pub fn with_credentials(&self) -> &str {
        self.url.as_str()
    }
}

/// Without credentials.
impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.url.scheme())?;
        let port = self.url.port();
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Without credentials.
impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_kept_and_not_shown() {
        let url = ProxyUrl::parse("http://ann:geheim%40@proxy:3128/x").unwrap();
        assert!(url.has_credentials());
        assert_eq!(url.with_credentials(), "http://ann:geheim%40@proxy:3128/x");
        assert_eq!(url.to_string(), "http://proxy:3128");
        assert_eq!(format!("{url:?}"), "http://proxy:3128");
        let plain = ProxyUrl::parse("proxy:3128").unwrap();
        assert_eq!(plain.to_string(), "http://proxy:3128");
        assert!(!plain.has_credentials());
    }

    #[test]
    fn what_is_no_http_proxy_is_refused_without_repeating_it() {
        for bad in ["", "ftp://ann:geheim@p", "http://", "http://ann:geheim@"] {
            let why = ProxyUrl::parse(bad).unwrap_err();
            assert!(why.contains("must be") && !why.contains("geheim"), "{bad}");
        }
        let why = ProxyUrl::parse("socks5h://ann:geheim@p:1080").unwrap_err();
        assert!(why.contains("SOCKS") && !why.contains("geheim"));
    }
}
