//! What a volume's daemon is configured with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::{ConfigSource, Options, Target};

/// Settings of `mediafs mount`, by their names.
pub type Settings = BTreeMap<String, Value>;
/// Flags of what is to be mounted: `BUCKET/PREFIX`, the mountpoint, and options as in
/// fstab. Nothing but these is read. Errors: in words.
pub type ReadOptions = fn(&str, &Path, &[String]) -> Result<Options, String>;

/// What a volume may choose; all else is the driver's, or names a file or address of the node.
const ALLOWED: [&str; 45] = [
    "accelerate",
    "acl",
    "allow-other",
    "anonymous",
    "attributes",
    "block-size",
    "cache-control",
    "cache-size",
    "context",
    "copy-part-size",
    "dir-markers",
    "dir-mode",
    "dual-stack",
    "durability",
    "endpoint-url",
    "exclusive-create",
    "expected-bucket-owner",
    "file-mode",
    "fips",
    "force-path-style",
    "fsname",
    "fuse-threads",
    "gid",
    "log",
    "log-format",
    "max-rename-objects",
    "memory",
    "memory-cache",
    "negative-ttl",
    "no-exec",
    "part-size",
    "proxy",
    "read-only",
    "region",
    "request-timeout",
    "requester-pays",
    "spool-size",
    "sse",
    "sse-kms-key-id",
    "stale-ttl",
    "storage-class",
    "ttl",
    "uid",
    "upload-checksum",
    "upload-concurrency",
];

/// The settings that flags and a place stand for, checked; neither a file nor the driver's
/// environment is read.
///
/// Errors: in words, a setting is not a volume's, or the configuration cannot be used.
pub fn resolve(place: &str, mountpoint: PathBuf, flags: Options) -> Result<Settings, String> {
    let given = flags.by_name();
    if let Some(name) = given.keys().find(|it| !ALLOWED.contains(&it.as_str())) {
        return Err(not_of_a_volume(name));
    }
    let target = Target::Place {
        bucket: place.to_owned(),
        mountpoint,
    };
    let source = ConfigSource::new(target, None, flags, PathBuf::from("/"));
    let config = source.and_then(|it| it.without_environment().load());
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.given.by_name())
}

pub fn not_of_a_volume(name: &str) -> String {
    format!(
        "{name} cannot be set by a volume: the driver sets it, or it names a file or address of the node"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Args;

    use super::*;

    const REFUSED: [&str; 27] = [
        "allow-non-empty",
        "bucket",
        "ca-bundle",
        "cache",
        "control-socket",
        "credentials-file",
        "data-root",
        "drain-timeout",
        "foreground",
        "from-authentik",
        "hardening",
        "log-file",
        "log-file-count",
        "log-file-size",
        "metrics",
        "mime",
        "mountpoint",
        "otlp-endpoint",
        "otlp-sample-ratio",
        "overlay",
        "prefix",
        "profile",
        "spool",
        "spool-moved-from",
        "sse-customer-key-file",
        "usage",
        "watchdog",
    ];

    #[test]
    fn every_setting_is_either_a_volumes_or_not() {
        let command = Options::augment_args(clap::Command::new(""));
        let flags = command.get_arguments().filter_map(|it| it.get_long());
        // These are arguments without a name.
        let all = flags.chain(["bucket", "prefix", "mountpoint"]);
        let all: BTreeSet<&str> = all.collect();
        let sorted: BTreeSet<&str> = ALLOWED.iter().chain(&REFUSED).copied().collect();
        assert_eq!(sorted, all);
        assert_eq!(ALLOWED.len() + REFUSED.len(), all.len());
    }

    #[test]
    fn what_is_the_nodes_is_refused_by_its_name() {
        let flags = Options {
            mime: Some("/etc/shadow".into()),
            ..Options::default()
        };
        let told = resolve("b", "/m".into(), flags).unwrap_err();
        assert!(told.starts_with("mime cannot be set by a volume"), "{told}");
    }
}
