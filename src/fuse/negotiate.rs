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
