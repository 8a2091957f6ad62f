//! Which service a bucket is in, so that two spellings of one service are the same.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::{ParseError, Url};

/// Partitions of AWS other than its first, by how the names of their regions begin.
/// Source: AWS SDKs, `partitions.json`.
const PARTITIONS: [(&str, &str); 7] = [
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("eu-isoe-", "aws-iso-e"),
    ("us-isof-", "aws-iso-f"),
    ("eusc-", "aws-eusc"),
];
const AWS: &str = "aws";
const PORT: &str = "must have a port from 1 to 65535 behind the colon, or neither";
const AWS_DOMAINS: [&str; 2] = [".amazonaws.com", ".amazonaws.com.cn"];

/// An S3 service: a partition of AWS, in all of which a bucket's name is unique, by
/// its name; any other by its URL. It holds no credentials.
///
/// Source: S3 User Guide, "General purpose bucket naming rules".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Endpoint(String);

impl Endpoint {
    /// What a client uses that has this configuration.
    pub fn of(url: Option<&str>, region: &str) -> Self {
        match url {
            Some(url) => Self::of_url(url),
            None => Self(partition_of(region).to_owned()),
        }
    }

    /// Either form, as a person writes it.
    pub fn parse(text: &str) -> Self {
        let is_partition = |(_, partition): &(&str, &str)| *partition == text;
        if text == AWS || PARTITIONS.iter().any(is_partition) {
            Self(text.to_owned())
        } else {
            Self::of_url(text)
        }
    }

    /// Refuses what is no URL, and credentials in one, without repeating them.
    pub fn check_url(url: &str) -> Result<(), &'static str> {
        let is_http = |scheme: &str| ["http", "https"].contains(&&*scheme.to_ascii_lowercase());
        let parts = url.split_once("://");
        let rest = parts.filter(|(scheme, _)| is_http(scheme));
        let rest = rest.map(|(_, rest)| rest);
        let authority = rest
            .and_then(|rest| rest.split('/').next())
            .unwrap_or_default();
        if authority.contains('@') {
            return Err(
                "must not hold credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            );
        }
        let authority = authority.split(['?', '#']).next().unwrap_or_default();
        if authority.is_empty() {
            return Err("must begin with http:// or https:// and a host");
        }
        let url = Url::parse(url.trim()).map_err(|error| match error {
            ParseError::InvalidPort => PORT,
            _ => "must have the name or address of a host behind http:// or https://",
        })?;
        if authority.ends_with(':') || url.port() == Some(0) {
            return Err(PORT);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must end with its host, port or path: leave out what begins with ? or #");
        }
        Ok(())
    }

    /// Whether the host of a URL is one of AWS.
    pub fn is_of_aws(url: &str) -> bool {
        let url = Url::parse(url.trim()).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        let host = host.trim_end_matches('.');
        AWS_DOMAINS.iter().any(|domain| host.ends_with(domain))
    }

    /// The URL to configure for it; none for AWS, where the region says it.
    pub fn url(&self) -> Option<&str> {
        self.0.contains("://").then_some(self.0.as_str())
    }

    /// Its host, where that is a name, before which a bucket's name can stand.
    pub fn host(&self) -> Option<String> {
        let url = Url::parse(self.url()?).ok()?;
        url.domain().map(str::to_owned)
    }

    fn of_url(text: &str) -> Self {
        // Scheme and host in lower case, and no port that is the scheme's own.
        let Ok(url) = Url::parse(text.trim()) else {
            return Self(text.trim().trim_end_matches('/').to_owned());
        };
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        let path = url.path().trim_end_matches('/');
        let port = url.port();
        if let Some(region) = region_of(host).filter(|_| path.is_empty() && port.is_none()) {
            return Self(partition_of(region).to_owned());
        }
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Self(format!("{}://{host}{port}{path}", url.scheme()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn partition_of(region: &str) -> &'static str {
    let known = PARTITIONS.iter();
    let mut known = known.filter(|(begin, _)| region.starts_with(begin));
    known.next().map_or(AWS, |(_, partition)| partition)
}

/// The region of a host of S3 itself on AWS, any for one that serves all.
///
/// Source: AWS General Reference, "Amazon S3 endpoints and quotas"; AWS PrivateLink
/// Guide, "AWS PrivateLink for Amazon S3".
fn region_of(host: &str) -> Option<&str> {
    const ANY: &str = "us-east-1";
    let mut domains = AWS_DOMAINS.iter();
    let labels = domains.find_map(|domain| host.strip_suffix(domain))?;
    let labels: Vec<&str> = labels.split('.').collect();
    match *labels.as_slice() {
        ["s3" | "s3-accelerate" | "s3-external-1"] | ["s3-accelerate", "dualstack"] => Some(ANY),
        ["s3" | "s3-fips", region] | ["s3" | "s3-fips", "dualstack", region] => Some(region),
        ["bucket", vpce, "s3", region, "vpce"] if vpce.starts_with("vpce-") => Some(region),
        [older] => older
            .strip_prefix("s3-")
            .filter(|it| it.find('-') == Some(2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(url: &str) -> String {
        Endpoint::parse(url).to_string()
    }

    #[test]
    fn spellings_of_one_service_are_one() {
        for (spelling, expected) in [
            ("https://s3.example.com", "https://s3.example.com"),
            ("https://s3.example.com/", "https://s3.example.com"),
            ("https://s3.example.com:443", "https://s3.example.com"),
            ("HTTPS://S3.Example.COM:443//", "https://s3.example.com"),
            ("https://s3.example.com./", "https://s3.example.com"),
            (" https://s3.example.com\n", "https://s3.example.com"),
            ("http://minio:80/", "http://minio"),
            ("http://minio:9000/", "http://minio:9000"),
            ("http://minio:09000", "http://minio:9000"),
            ("http://Minio:443", "http://minio:443"),
            ("https://gate/S3/", "https://gate/S3"),
            ("http://[0:0::1]:8333/", "http://[::1]:8333"),
            ("http://127.1:8333", "http://127.0.0.1:8333"),
            ("https://Bücher.example", "https://xn--bcher-kva.example"),
            ("https://user:secret@host/?token=1#x", "https://host"),
            ("no url/", "no url"),
            ("", ""),
        ] {
            assert_eq!(form(spelling), expected, "{spelling:?}");
        }
    }

    #[test]
    fn what_no_request_could_go_to_is_refused_in_words() {
        for (url, expected) in [
            ("http://h:99999", "port from 1 to 65535"),
            ("http://h:", "port from 1 to 65535"),
            ("http://h:/path", "port from 1 to 65535"),
            ("http://h:0", "port from 1 to 65535"),
            ("http://h:x", "port from 1 to 65535"),
            ("http://h/path?x", "begins with ? or #"),
            ("http://h?x", "begins with ? or #"),
            ("http://h#x", "begins with ? or #"),
            ("http://a b", "name or address of a host"),
            ("http://[::1", "name or address of a host"),
            ("http://300.1.2.3", "name or address of a host"),
            ("http://?x", "begin with"),
            ("ftp://h", "begin with"),
            ("http://me:word@h", "credentials"),
        ] {
            let told = Endpoint::check_url(url).unwrap_err();
            assert!(told.contains(expected), "{url}: {told}");
        }
        for url in [
            "http://h",
            "HTTPS://h:9000/a/",
            "http://[::1]:1",
            "http://h:80",
            "http://127.1",
        ] {
            assert_eq!(Endpoint::check_url(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn a_host_of_aws_ends_like_one() {
        for (url, expected) in [
            ("https://s3.eu-west-1.amazonaws.com", true),
            ("https://S3.AmazonAWS.com./", true),
            ("https://s3.cn-north-1.amazonaws.com.cn:443", true),
            ("https://s3.amazonaws.com.example.org", false),
            ("https://gate.example/s3.amazonaws.com", false),
            ("https://amazonaws.com", false),
        ] {
            assert_eq!(Endpoint::is_of_aws(url), expected, "{url}");
        }
    }

    #[test]
    fn a_canonical_form_stays_as_it_is_in_every_spelling_of_it() {
        for scheme in ["http", "https"] {
            for host in ["a.example", "10.1.2.3", "[::2]", "a"] {
                for port in ["", ":1", ":9000", ":65535"] {
                    for path in ["", "/a", "/a/B", "/%7e"] {
                        let canonical = format!("{scheme}://{host}{port}{path}");
                        assert_eq!(form(&canonical), canonical);
                        let upper = host.to_ascii_uppercase();
                        for spelling in [
                            format!("{scheme}://{upper}{port}{path}/"),
                            format!("{}://{host}{port}{path}//", scheme.to_uppercase()),
                        ] {
                            assert_eq!(form(&spelling), canonical, "{spelling}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_way_to_one_partition_of_aws_is_one_and_no_other_service_is_taken_for_it() {
        let of_region = |region| Endpoint::of(None, region).to_string();
        for region in ["us-east-1", "eu-central-1", "mx-central-1", "aws-global"] {
            assert_eq!(of_region(region), "aws");
        }
        assert_eq!(of_region("cn-north-1"), "aws-cn");
        assert_eq!(of_region("us-gov-west-1"), "aws-us-gov");
        assert_eq!(of_region("us-isob-east-1"), "aws-iso-b");
        for (url, expected) in [
            ("https://s3.amazonaws.com", "aws"),
            ("http://S3.AmazonAWS.com:80/", "aws"),
            ("https://s3.eu-central-1.amazonaws.com/", "aws"),
            ("https://s3-eu-west-1.amazonaws.com", "aws"),
            ("https://s3-fips.us-east-2.amazonaws.com", "aws"),
            ("https://s3.dualstack.us-east-2.amazonaws.com", "aws"),
            ("https://s3-accelerate.dualstack.amazonaws.com", "aws"),
            ("https://s3-external-1.amazonaws.com", "aws"),
            (
                "https://bucket.vpce-1a-2b.s3.us-east-1.vpce.amazonaws.com",
                "aws",
            ),
            ("https://s3.cn-north-1.amazonaws.com.cn", "aws-cn"),
            ("https://s3.us-gov-east-1.amazonaws.com", "aws-us-gov"),
            ("https://s3-us-gov-west-1.amazonaws.com", "aws-us-gov"),
            ("aws", "aws"),
            ("aws-cn", "aws-cn"),
            (
                "https://s3.amazonaws.com:8443",
                "https://s3.amazonaws.com:8443",
            ),
            ("https://s3.amazonaws.com/x", "https://s3.amazonaws.com/x"),
            (
                "https://s3.amazonaws.com.evil.example",
                "https://s3.amazonaws.com.evil.example",
            ),
            ("https://xs3.amazonaws.com", "https://xs3.amazonaws.com"),
            (
                "https://s3-website-us-east-1.amazonaws.com",
                "https://s3-website-us-east-1.amazonaws.com",
            ),
            (
                "https://s3.eu-west-1.example.com",
                "https://s3.eu-west-1.example.com",
            ),
            (
                "https://op-1.s3-outposts.us-east-1.amazonaws.com",
                "https://op-1.s3-outposts.us-east-1.amazonaws.com",
            ),
        ] {
            assert_eq!(form(url), expected, "{url}");
            assert_eq!(
                Endpoint::of(Some(url), "x").url().is_some(),
                expected.contains("://")
            );
        }
    }
}
