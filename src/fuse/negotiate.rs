//! INIT: what kernel and daemon agree on when the mount begins.

use fuser::{InitFlags, KernelConfig};

/// Largest read and write of one request. Source: fuse.h, 256 pages of 4 KiB (`FUSE_MAX_MAX_PAGES`).
const REQUEST_LIMIT_BYTES: u32 = 1 << 20;
/// Background requests (read-ahead) under way at once; the kernel's default is 12.
const BACKGROUND_LIMIT: u16 = 128;

/// What helps, each asked for where the kernel offers it.
const WANTED: [(InitFlags, &str); 6] = [
    // Reads of one file in parallel.
    (InitFlags::FUSE_ASYNC_READ, "async-read"),
    // open(O_TRUNC) is one request, and the old object stays whole until close.
    (InitFlags::FUSE_ATOMIC_O_TRUNC, "atomic-o-trunc"),
    // Lookups and listings in one directory at once.
    (InitFlags::FUSE_PARALLEL_DIROPS, "parallel-dirops"),
    // Cached pages go when an ETag changes, not when a time does.
    (InitFlags::FUSE_EXPLICIT_INVAL_DATA, "explicit-inval-data"),
    // No question for security attributes at each write.
    (InitFlags::FUSE_HANDLE_KILLPRIV_V2, "handle-killpriv-v2"),
    // mmap of files opened with O_DIRECT.
    (InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP, "direct-io-allow-mmap"),
];

/// Listings that carry attributes while someone asks for them: for mounts whose
/// listings know them.
const LISTED_ATTRIBUTES: [(InitFlags, &str); 2] = [
    (InitFlags::FUSE_DO_READDIRPLUS, "readdirplus"),
    (InitFlags::FUSE_READDIRPLUS_AUTO, "readdirplus-auto"),
];

/// Whether a listing knows what stat(2) tells of its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listings {
    WithAttributes,
    NamesOnly,
}

/// Asks for everything that helps, and logs what was agreed.
pub fn negotiate(config: &mut KernelConfig, listings: Listings) {
    let listed = match listings {
        Listings::WithAttributes => LISTED_ATTRIBUTES.as_slice(),
        Listings::NamesOnly => &[],
    };
    let mut agreed = Vec::new();
    let mut refused = Vec::new();
    for (flag, name) in WANTED.iter().chain(listed).copied() {
        match config.add_capabilities(flag) {
            Ok(()) => agreed.push(name),
            Err(_) => refused.push(name),
        }
    }
    let max_write = config
        .set_max_write(REQUEST_LIMIT_BYTES)
        .map_or_else(|nearest| nearest, |_| REQUEST_LIMIT_BYTES);
    // The kernel's offer is its limit; more is set on the mount's backing device afterwards.
    let max_readahead = match config.set_max_readahead(REQUEST_LIMIT_BYTES) {
        Ok(_) => REQUEST_LIMIT_BYTES,
        Err(offered) => {
            if let Err(nearest) = config.set_max_readahead(offered) {
                tracing::debug!(offered, nearest, "read-ahead left as it is");
            }
            offered
        }
    };
    if let Err(nearest) = config.set_max_background(BACKGROUND_LIMIT) {
        tracing::debug!(nearest, "background limit left as it is");
    }
    let abi = config.kernel_abi();
    tracing::info!(
        protocol = format!("{}.{}", abi.0, abi.1),
        max_write,
        max_readahead,
        max_background = BACKGROUND_LIMIT,
        agreed = agreed.join(","),
        refused = refused.join(","),
        "agreed with the kernel"
    );
}

/// What kernel and daemon agreed on when the mount began, as the bytes of FUSE_INIT and of
/// its answer have it. A successor goes on with it, whatever it would ask for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    pub major: u32,
    pub minor: u32,
    pub max_write_bytes: u32,
    pub max_readahead_bytes: u32,
    /// Requests of read-ahead and of the like under way at once.
    pub max_background: u16,
    /// Features in use, of those that this file names.
    pub agreed: Vec<&'static str>,
    /// Features that help, and that this kernel does not offer.
    pub lacking: Vec<&'static str>,
}

impl Agreement {
    /// None where the bytes are cut off.
    ///
    /// Source: linux/fuse.h: `fuse_init_in` follows a header of 40 bytes, `fuse_init_out`
    /// one of 16; `flags2` has the upper half of the flags.
    pub fn read(init: &[u8], answer: &[u8]) -> Option<Self> {
        let offered = flags(u32_at(init, 52)?, u32_at(init, 56).unwrap_or(0));
        let chosen = flags(u32_at(answer, 28)?, u32_at(answer, 48).unwrap_or(0));
        let names = |all: &[(InitFlags, &'static str)], of: InitFlags, has: bool| {
            let some = all.iter().filter(|(flag, _)| of.contains(*flag) == has);
            some.map(|(_, name)| *name).collect::<Vec<_>>()
        };
        let mut agreed = names(&WANTED, chosen, true);
        agreed.extend(names(&LISTED_ATTRIBUTES, chosen, true));
        Some(Self {
            major: u32_at(answer, 16)?,
            minor: u32_at(answer, 20)?.min(u32_at(init, 44)?),
            max_readahead_bytes: u32_at(answer, 24)?,
            max_background: u16::try_from(u32_at(answer, 32)? & 0xffff).ok()?,
            max_write_bytes: u32_at(answer, 36)?,
            agreed,
            lacking: names(&WANTED, offered, false),
        })
    }
}

fn flags(lower: u32, upper: u32) -> InitFlags {
    InitFlags::from_bits_truncate(u64::from(lower) | u64::from(upper) << 32)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_agreed_is_read_from_the_bytes_of_both() {
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_ne_bytes()).collect()
        };
        let both = InitFlags::FUSE_ASYNC_READ.bits() | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP.bits();
        let (lower, upper) = (both as u32, (both >> 32) as u32);
        // A header of ten words, then major, minor, read-ahead and flags.
        let init = words(&[&[0; 10][..], &[7, 40, 131_072, lower, upper]].concat());
        let answer = [7, 45, 131_072, lower, 128, 1 << 20, 0, 0, 0];
        let answer = words(&[&[0; 4][..], &answer].concat());
        let agreement = Agreement::read(&init, &answer).unwrap();
        assert_eq!((agreement.major, agreement.minor), (7, 40));
        assert_eq!(agreement.max_write_bytes, 1 << 20);
        assert_eq!(agreement.max_background, 128);
        // The answer left the upper half of its flags out.
        assert_eq!(agreement.agreed, ["async-read"]);
        assert!(!agreement.lacking.contains(&"direct-io-allow-mmap"));
        assert!(agreement.lacking.contains(&"parallel-dirops"));
        assert_eq!(Agreement::read(&init, &answer[..20]), None);
    }
}
