//! Keys of the scratch objects by which a store is asked what it can do.
//!
//! A mount has the same ones at each start: what a daemon left that was killed amid its
//! questions, the next one overwrites and deletes, and it touches no other mount's.

use std::path::Path;
use std::str;

use crate::private;
use crate::store::Key;

/// Keys of a probe end in this, a number, and what it tries.
pub const SCRATCH_NAME: &str = ".mediafs-probe-";
/// In a mount's spool, with the number.
const FILE: &str = "probe";

/// The keys of one mount's questions.
#[derive(Debug, Clone)]
pub struct ProbeKeys {
    prefix: String,
    number: u64,
}

impl ProbeKeys {
    /// Of nobody else, and of nobody later. `prefix` is empty, or ends in `/`.
    pub fn once(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            number: fastrand::u64(..),
        }
    }

    /// Of the mount that has this spool, which is locked. Where the disk does not keep
    /// the number, it is as good as `once`.
    pub fn of_spool(prefix: &str, spool: &Path) -> Self {
        let path = spool.join(FILE);
        if let Some(number) = recorded(&path) {
            let prefix = prefix.to_owned();
            return Self { prefix, number };
        }
        let keys = Self::once(prefix);
        let text = format!("{:016x}\n", keys.number);
        if let Err(error) = private::replace(&path, text.as_bytes()) {
            tracing::info!(path = %path.display(), %error, "the keys of scratch objects are not recorded");
        }
        keys
    }

    pub fn key(&self, tried: &str) -> Key {
        let Self { prefix, number } = self;
        Key::new(format!("{prefix}{SCRATCH_NAME}{number:016x}-{tried}"))
    }
}

fn recorded(path: &Path) -> Option<u64> {
    // One that cannot be read cannot be replaced either, which is told.
    let text = private::read(path).ok()?;
    u64::from_str_radix(str::from_utf8(&text).ok()?.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_has_the_same_keys_at_each_start_and_another_one_others() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = |spool: &Path| ProbeKeys::of_spool("media/", spool).key("write");
        let first = key(one.path());
        assert!(first.as_str().starts_with("media/.mediafs-probe-"));
        assert_eq!(key(one.path()), first);
        assert_ne!(key(other.path()), first);
        // What the disk has damaged is replaced.
        std::fs::write(one.path().join(FILE), "no number").unwrap();
        let next = key(one.path());
        assert_ne!(next, first);
        assert_eq!(key(one.path()), next);
    }
}
