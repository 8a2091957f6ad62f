//! How much memory the daemon may use, and for what.
//!
//! One budget, of which a part is for uploads and the rest for cached blocks and reads in
//! progress. Each part is waited for where it is used up; none grows.
//!
//! Source: cgroups(7); Documentation/admin-guide/cgroup-v2.rst, "memory.max";
//! Documentation/admin-guide/cgroup-v1/memory.rst, "memory.limit_in_bytes".

use std::fs;
use std::path::Path;

use super::limits::{self, MIB, memory_of_machine, must_be};
use super::{Options, Wrong};

const DEFAULT_BYTES: u64 = 320 * MIB;
/// Some reads and an upload go on at the same time.
const LEAST_BYTES: u64 = 32 * MIB;
/// Of what the machine or its control group has, unless the operator says otherwise.
const DEFAULT_SHARE: u64 = 2;
/// Of the budget, for uploads.
const UPLOADS_SHARE: u64 = 5;
/// More connections pay only with much memory, where parts are long.
const UPLOADS_AT_ONCE_LIMIT: u64 = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryConfig {
    /// For all together.
    pub limit_bytes: u64,
    /// For cached blocks and reads in progress.
    pub cache_bytes: u64,
    /// Parts in memory that are sent.
    pub upload_concurrency: usize,
}

impl MemoryConfig {
    /// Errors: more than there is, or less than it takes.
    pub(super) fn resolve(
        options: &Options,
        part_size_bytes: u64,
        concurrency_limit: usize,
    ) -> Result<Self, Wrong> {
        limits::memory_cache(options.memory_cache)?;
        let group = of_control_group(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
        let there_is = memory_of_machine().into_iter().chain(group).min();
        let given = Given {
            memory: options.memory.map(|size| size.0),
            cache: options.memory_cache.map(|size| size.0),
            uploads: options.upload_concurrency.map(usize::from),
        };
        given.share_out(there_is, part_size_bytes, concurrency_limit)
    }
}

/// What the operator set.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    memory: Option<u64>,
    cache: Option<u64>,
    uploads: Option<usize>,
}

impl Given {
    fn share_out(
        self,
        there_is: Option<u64>,
        part_size_bytes: u64,
        concurrency_limit: usize,
    ) -> Result<MemoryConfig, Wrong> {
        let there_is = there_is.unwrap_or(u64::MAX);
        if let Some(bytes) = self.memory.filter(|bytes| *bytes > there_is) {
            let has = format!(
                "at most the memory of this machine and its control group, {} MiB",
                there_is / MIB
            );
            return Err(("memory", must_be(&has, bytes)));
        }
        if let Some(bytes) = self.memory.filter(|bytes| *bytes < LEAST_BYTES) {
            return Err(("memory", must_be("at least 32MiB", bytes)));
        }
        let limit_bytes = self.memory.unwrap_or_else(|| {
            let share = there_is / DEFAULT_SHARE;
            share.clamp(LEAST_BYTES, DEFAULT_BYTES)
        });
        let upload_concurrency = match self.uploads {
            Some(count) => count.min(concurrency_limit),
            None => {
                let fit = limit_bytes / UPLOADS_SHARE / part_size_bytes.max(1);
                fit.clamp(1, UPLOADS_AT_ONCE_LIMIT) as usize
            }
        };
        let uploads = part_size_bytes.saturating_mul(upload_concurrency as u64);
        let rest = limit_bytes.saturating_sub(uploads).max(LEAST_BYTES / 2);
        let cache_bytes = self.cache.unwrap_or(rest);
        if self.memory.is_some() && cache_bytes > limit_bytes {
            let why = "must not be more than memory, of which it is a part";
            return Err(("memory-cache", why.to_owned()));
        }
        Ok(MemoryConfig {
            // What is set by itself counts, whatever the default of the whole.
            limit_bytes: limit_bytes.max(cache_bytes.saturating_add(uploads)),
            cache_bytes,
            upload_concurrency,
        })
    }
}

/// The least of the limits of the control group and those above it; none where none has one.
fn of_control_group(groups: &Path, root: &Path) -> Option<u64> {
    let text = fs::read_to_string(groups).ok()?;
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container the path may be that of the host: then there is only the root.
        for above in Path::new(path.trim_start_matches('/')).ancestors() {
            let text = fs::read_to_string(root.join(above).join(file));
            found.extend(text.ok().and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    found.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: u64 = 8 * MIB;

    fn share(given: Given, there_is: u64) -> Result<MemoryConfig, Wrong> {
        given.share_out(Some(there_is), PART, 256)
    }

    #[test]
    fn one_number_sets_the_others_and_a_small_group_has_small_ones() {
        let with = |memory| Given {
            memory,
            ..Given::default()
        };
        let usual = share(with(None), 64 << 30).unwrap();
        assert_eq!(usual.cache_bytes, 256 * MIB);
        assert_eq!(usual.upload_concurrency, 8);
        let small = share(with(None), 128 * MIB).unwrap();
        assert_eq!((small.limit_bytes, small.upload_concurrency), (64 * MIB, 1));
        assert_eq!(small.cache_bytes, 56 * MIB);
        let large = share(with(Some(4 << 30)), 64 << 30).unwrap();
        assert_eq!(large.upload_concurrency, 32);
        assert_eq!(large.cache_bytes, (4 << 30) - 256 * MIB);
        for limit in [32, 48, 100, 320, 1000, 9000].map(|mib| mib * MIB) {
            let shared = share(with(Some(limit)), 64 << 30).unwrap();
            let uploads = PART * shared.upload_concurrency as u64;
            assert!(shared.cache_bytes + uploads <= limit);
        }
        assert_eq!(share(with(Some(MIB)), 1 << 30).unwrap_err().0, "memory");
        assert_eq!(share(with(Some(2 << 30)), 1 << 30).unwrap_err().0, "memory");
    }

    #[test]
    fn what_is_set_by_itself_counts() {
        let given = Given {
            memory: None,
            cache: Some(1 << 30),
            uploads: Some(4),
        };
        let shared = share(given, 64 << 30).unwrap();
        assert_eq!(shared.cache_bytes, 1 << 30);
        assert_eq!(shared.limit_bytes, (1 << 30) + 4 * PART);
        let given = Given {
            memory: Some(64 * MIB),
            ..given
        };
        assert_eq!(share(given, 64 << 30).unwrap_err().0, "memory-cache");
    }

    #[test]
    fn the_least_limit_of_the_groups_above_counts_in_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("fs");
        let groups = dir.path().join("cgroup");
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let found = || of_control_group(&groups, &root);
        assert_eq!(found(), None);
        fs::write(&groups, "0::/a.slice/b.service\n").unwrap();
        assert_eq!(found(), None);
        write("a.slice/b.service/memory.max", "max\n");
        assert_eq!(found(), None);
        write("a.slice/memory.max", "1000000\n");
        assert_eq!(found(), Some(1_000_000));
        write("a.slice/b.service/memory.max", "2000000\n");
        assert_eq!(found(), Some(1_000_000));
        fs::write(&groups, "5:cpu,memory:/docker/x\n1:cpu:/\n").unwrap();
        write("memory/memory.limit_in_bytes", "3000000\n");
        assert_eq!(found(), Some(3_000_000));
        write("memory/docker/x/memory.limit_in_bytes", "500000\n");
        assert_eq!(found(), Some(500_000));
    }
}
