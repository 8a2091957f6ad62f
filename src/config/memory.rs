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
/// What reads have at least, unless the operator says otherwise.
const LEAST_CACHE_BYTES: u64 = LEAST_BYTES / 2;
/// The same in blocks: with fewer nothing is read ahead, and hardly one is kept.
const LEAST_BLOCKS: u64 = 4;
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
        (block_size_bytes, part_size_bytes): (u64, u64),
        concurrency_limit: usize,
    ) -> Result<Self, Wrong> {
        limits::memory_cache(options.memory_cache)?;
        let group = of_control_group(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
        let there_is = memory_of_machine().into_iter().chain(group).min();
        let given = Given {
            memory: options.memory.map(|size| size.0),
            cache: options.memory_cache.map(|size| size.0),
            uploads: options.upload_concurrency.map(usize::from),
            concurrency_limit,
            block_size_bytes,
            part_size_bytes,
        };
        given.share_out(there_is)
    }
}

/// What the operator set, and what it is for.
#[derive(Debug, Clone, Copy)]
struct Given {
    memory: Option<u64>,
    cache: Option<u64>,
    uploads: Option<usize>,
    concurrency_limit: usize,
    block_size_bytes: u64,
    part_size_bytes: u64,
}

impl Given {
    fn share_out(self, there_is: Option<u64>) -> Result<MemoryConfig, Wrong> {
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
        let least_of_blocks = LEAST_BLOCKS.saturating_mul(self.block_size_bytes);
        if self.cache.is_some_and(|bytes| bytes < least_of_blocks) {
            let why = format!(
                "must be at least {} MiB, {LEAST_BLOCKS} blocks of block-size: raise it, or lower block-size",
                least_of_blocks.div_ceil(MIB)
            );
            return Err(("memory-cache", why));
        }
        let reads = self.cache.unwrap_or(LEAST_CACHE_BYTES.max(least_of_blocks));
        let of_uploads = |count: usize| self.part_size_bytes.saturating_mul(count as u64);
        let least = reads.saturating_add(of_uploads(self.uploads_given().unwrap_or(1)));
        let limit_bytes = match self.memory {
            Some(memory) if reads > memory && self.cache.is_some() => {
                let why = "must not be more than memory, of which it is a part";
                return Err(("memory-cache", why.to_owned()));
            }
            Some(memory) if least > memory => return Err(("memory", self.too_little(least))),
            Some(memory) => memory,
            // A machine that is smaller than the defaults has to do.
            None if least > there_is.max(LEAST_BYTES) => {
                let why = format!("{}, or use a larger machine", self.too_little(least));
                return Err(("memory", why));
            }
            // What is set by itself counts, whatever the default of the whole.
            None => {
                let share = there_is / DEFAULT_SHARE;
                share.clamp(LEAST_BYTES, DEFAULT_BYTES).max(least)
            }
        };
        let upload_concurrency = self.uploads_given().unwrap_or_else(|| {
            let for_uploads = (limit_bytes / UPLOADS_SHARE).min(limit_bytes - reads);
            let fit = for_uploads / self.part_size_bytes.max(1);
            fit.clamp(1, UPLOADS_AT_ONCE_LIMIT) as usize
        });
        let rest = limit_bytes.saturating_sub(of_uploads(upload_concurrency));
        Ok(MemoryConfig {
            limit_bytes,
            cache_bytes: self.cache.unwrap_or(rest),
            upload_concurrency,
        })
    }

    fn uploads_given(&self) -> Option<usize> {
        let count = self.uploads?;
        Some(count.min(self.concurrency_limit))
    }

    /// What does not fit, and which of the options may be changed.
    fn too_little(&self, least: u64) -> String {
        let parts = self.uploads_given().unwrap_or(1);
        let uploads = self.part_size_bytes.saturating_mul(parts as u64);
        let for_reads = match self.cache {
            Some(_) => "memory-cache".to_owned(),
            None => format!(
                "reads, with a block-size of {} KiB",
                self.block_size_bytes >> 10
            ),
        };
        let lower = match self.cache {
            Some(_) => "memory-cache",
            None => "block-size",
        };
        format!(
            "must be at least {} MiB: {} MiB for uploads (upload-concurrency {parts} x part-size {} MiB) and {} MiB for {for_reads}; raise it, or lower part-size, upload-concurrency or {lower}",
            least.div_ceil(MIB),
            uploads / MIB,
            self.part_size_bytes / MIB,
            least.saturating_sub(uploads).div_ceil(MIB),
        )
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
    const USUAL: Given = Given {
        memory: None,
        cache: None,
        uploads: None,
        concurrency_limit: 256,
        block_size_bytes: 128 << 10,
        part_size_bytes: PART,
    };

    fn share(given: Given, there_is: u64) -> Result<MemoryConfig, Wrong> {
        given.share_out(Some(there_is))
    }

    fn with(memory: Option<u64>) -> Given {
        Given { memory, ..USUAL }
    }

    #[test]
    fn one_number_sets_the_others_and_a_small_group_has_small_ones() {
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
        for tiny in [4, 16, 24, 33].map(|mib| mib * MIB) {
            let shared = share(with(None), tiny).unwrap();
            assert_eq!(shared.limit_bytes, LEAST_BYTES);
        }
    }

    #[test]
    fn what_is_set_by_itself_counts() {
        let given = Given {
            cache: Some(1 << 30),
            uploads: Some(4),
            ..USUAL
        };
        let shared = share(given, 64 << 30).unwrap();
        assert_eq!(shared.cache_bytes, 1 << 30);
        assert_eq!(shared.limit_bytes, (1 << 30) + 4 * PART);
        let given = Given {
            memory: Some(64 * MIB),
            ..given
        };
        assert_eq!(share(given, 64 << 30).unwrap_err().0, "memory-cache");
        // Uploads have what it leaves.
        let given = Given {
            memory: Some(320 * MIB),
            cache: Some(300 * MIB),
            ..USUAL
        };
        let shared = share(given, 64 << 30).unwrap();
        assert_eq!(
            (shared.cache_bytes, shared.upload_concurrency),
            (300 * MIB, 2)
        );
    }

    #[test]
    fn what_cannot_fit_is_refused_and_named_with_what_to_change() {
        let refused = |given, there_is, key, words: &[&str]| {
            let (wrong, told) = share(given, there_is).unwrap_err();
            assert_eq!(wrong, key, "{told}");
            for word in words {
                assert!(told.contains(word), "{word}: {told}");
            }
        };
        let long_parts = Given {
            part_size_bytes: 512 * MIB,
            ..with(Some(256 * MIB))
        };
        let words = ["528 MiB", "part-size 512 MiB", "lower part-size"];
        refused(long_parts, 64 << 30, "memory", &words);
        let many_parts = Given {
            uploads: Some(64),
            ..with(Some(256 * MIB))
        };
        let words = ["528 MiB", "upload-concurrency 64"];
        refused(many_parts, 64 << 30, "memory", &words);
        let long_blocks = Given {
            block_size_bytes: 64 * MIB,
            ..with(Some(256 * MIB))
        };
        let words = ["264 MiB", "block-size of 65536 KiB", "or block-size"];
        refused(long_blocks, 64 << 30, "memory", &words);
        let few_blocks = Given {
            cache: Some(64 * MIB),
            ..long_blocks
        };
        refused(
            few_blocks,
            64 << 30,
            "memory-cache",
            &["256 MiB", "block-size"],
        );
        let all = Given {
            cache: Some(252 * MIB),
            ..with(Some(256 * MIB))
        };
        refused(all, 64 << 30, "memory", &["260 MiB", "or memory-cache"]);
        // The default grows for what is asked for, up to what there is.
        let without = |given| Given {
            memory: None,
            ..given
        };
        for given in [long_parts, many_parts, long_blocks].map(without) {
            let shared = share(given, 1 << 30).unwrap();
            let uploads = given.part_size_bytes * shared.upload_concurrency as u64;
            assert!(shared.cache_bytes + uploads <= shared.limit_bytes);
            assert!(shared.cache_bytes >= LEAST_BLOCKS * given.block_size_bytes.max(MIB));
            refused(given, 200 * MIB, "memory", &["larger machine"]);
        }
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
