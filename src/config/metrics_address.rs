//! Where the metrics and the status page of a mount are.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// An address with a port: `127.0.0.1:9750`, `[::1]:9750`, `localhost:9750`; a port
/// alone is one of loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsAddress(pub SocketAddr);

/// What the operator should know of an address that others reach.
pub(super) fn notes(given: Option<MetricsAddress>) -> Vec<String> {
    let open = given.filter(|it| !it.0.ip().is_loopback());
    let notes = open.map(|address| {
        format!(
            "metrics = {address} is not a loopback address: whoever can reach it reads file names, bucket names and log warnings of every mount of this user"
        )
    });
    notes.into_iter().collect()
}

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let loopback = |port| Self((Ipv4Addr::LOCALHOST, port).into());
        let port = text.strip_prefix("localhost:").unwrap_or(text);
        let port = port.parse().map(loopback);
        port.or_else(|_| text.parse().map(Self)).map_err(|_| {
            format!("{text:?} is not an address: write it like 127.0.0.1:9750, or the port alone")
        })
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_loopback_and_another_address_is_told() {
        let read = |text: &str| text.parse::<MetricsAddress>();
        for text in ["9750", "localhost:9750", "127.0.0.1:9750"] {
            let address = read(text).unwrap();
            assert_eq!(address.to_string(), "127.0.0.1:9750");
            assert!(notes(Some(address)).is_empty());
        }
        assert!(notes(read("[::1]:9750").ok()).is_empty());
        let open = notes(read("0.0.0.0:9750").ok());
        assert!(open[0].contains("0.0.0.0:9750"), "{open:?}");
        for text in ["", ":9750", "host:9750", "127.0.0.1", "99999", "a b"] {
            let error = read(text).unwrap_err();
            assert!(error.contains("127.0.0.1:9750"), "{error}");
        }
    }
}
