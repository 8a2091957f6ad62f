//! statfs: a bucket has no size, so a large one is shown as free.

use crate::namespace::NAME_LIMIT_BYTES;

/// Shown as total and free: 1 PiB.
const SHOWN_BYTES: u64 = 1 << 50;
const SHOWN_FILES: u64 = 1 << 40;

/// What statvfs(3) tells.
#[derive(Debug, Clone, Copy)]
pub struct FsStats {
    pub block_size_bytes: u32,
    pub blocks: u64,
    pub files: u64,
    pub name_limit_bytes: u32,
}

/// Never waits for the store.
pub fn statfs() -> FsStats {
    let block_size_bytes = 4096;
    FsStats {
        block_size_bytes,
        blocks: SHOWN_BYTES / u64::from(block_size_bytes),
        files: SHOWN_FILES,
        name_limit_bytes: NAME_LIMIT_BYTES as u32,
    }
}
