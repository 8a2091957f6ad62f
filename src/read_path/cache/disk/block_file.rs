//! One block in one file: which block it is, its checksums, its bytes.
//!
//! ```text
//! magic (16 bytes) | length of the head (u32) | CRC-32 of the head (u32) | head (JSON) | bytes
//! ```
//!
//! Numbers are little-endian. The checksums are those that the bytes had when they came
//! from S3, so what memory or disk changed since then is found by whoever reads the file.

use bytes::Bytes;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::read_path::block::{BlockId, BlockSize};
use crate::read_path::cache::CachedBlock;
use crate::vocabulary::ObjectId;

const MAGIC: &[u8; 16] = b"mediafs block 1\n";
const HEAD_AT: usize = MAGIC.len() + 8;
/// Key, ETag and the checksums of a block of 16 MiB are far shorter.
const HEAD_LIMIT_BYTES: usize = 64 << 10;

/// Names the file of a block, and tells nothing of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockName(u128);

impl BlockName {
    /// No block's.
    pub const NONE: Self = Self(u128::MAX);

    pub fn of(id: &BlockId, size: BlockSize) -> Self {
        let ObjectId {
            key,
            etag,
            size_bytes,
        } = &*id.object;
        let mut hash = Md5::new();
        for text in [key.as_str(), etag.as_str()] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        for number in [*size_bytes, id.index, size.bytes()] {
            hash.update(number.to_le_bytes());
        }
        let hash: [u8; 16] = hash.finalize().into();
        Self(u128::from_be_bytes(hash))
    }

    /// Folder and file.
    pub fn parts(self) -> (String, String) {
        let text = format!("{:032x}", self.0);
        let (folder, file) = text.split_at(2);
        (folder.to_owned(), file.to_owned())
    }

    /// The same from a folder's entries; none for what is not a block.
    pub fn parse(folder: &str, file: &str) -> Option<Self> {
        let name = Self(u128::from_str_radix(&format!("{folder}{file}"), 16).ok()?);
        let is_block = name != Self::NONE;
        (is_block && name.parts() == (folder.to_owned(), file.to_owned())).then_some(name)
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    object: ObjectId,
    index: u64,
    block_bytes: u64,
    sums: Vec<u32>,
}

/// What stands before the bytes of a block. None where it would be too long to be read.
pub fn head_of(id: &BlockId, size: BlockSize, block: &CachedBlock) -> Option<Vec<u8>> {
    let head = Head {
        object: (*id.object).clone(),
        index: id.index,
        block_bytes: size.bytes(),
        sums: block.sums().to_vec(),
    };
    let head = serde_json::to_vec(&head).ok()?;
    if head.len() > HEAD_LIMIT_BYTES {
        return None;
    }
    let mut bytes = Vec::with_capacity(HEAD_AT + head.len());
    bytes.extend(MAGIC);
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend(crc32fast::hash(&head).to_le_bytes());
    bytes.extend(head);
    Some(bytes)
}

/// Most bytes of the file of a block.
pub fn limit_bytes(size: BlockSize) -> u64 {
    size.bytes() + (HEAD_AT + HEAD_LIMIT_BYTES) as u64
}

/// The block that a file is of, where it is the one asked for and each bit is right.
pub fn block_in(file: Vec<u8>, id: &BlockId, size: BlockSize) -> Option<CachedBlock> {
    let number = |at: usize| {
        let bytes = file.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if file.get(..MAGIC.len())? != MAGIC {
        return None;
    }
    let len = usize::try_from(number(MAGIC.len())?).ok()?;
    let end = HEAD_AT.checked_add(len)?;
    let head = file.get(HEAD_AT..end)?;
    if crc32fast::hash(head) != number(MAGIC.len() + 4)? {
        return None;
    }
    let head: Head = serde_json::from_slice(head).ok()?;
    let is_asked_for =
        head.object == *id.object && head.index == id.index && head.block_bytes == size.bytes();
    let of_block = size.byte_range(&(id.index..id.index + 1), id.object.size_bytes);
    let bytes = Bytes::from(file).slice(end..);
    if !is_asked_for || bytes.len() as u64 != of_block.end.saturating_sub(of_block.start) {
        return None;
    }
    CachedBlock::checked(bytes, head.sums)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{ETag, Key};

    fn id(key: &str, etag: &str, size_bytes: u64, index: u64) -> BlockId {
        let object = ObjectId {
            key: Key::new(key),
            etag: ETag::new(etag),
            size_bytes,
        };
        let object = Arc::new(object);
        BlockId { object, index }
    }

    fn file(id: &BlockId, size: BlockSize, bytes: &[u8]) -> Vec<u8> {
        let block = CachedBlock::new(bytes.to_vec().into());
        let mut file = head_of(id, size, &block).unwrap();
        file.extend(bytes);
        file
    }

    #[test]
    fn a_block_is_what_was_written_and_nothing_where_a_bit_differs() {
        let size = BlockSize::new(4096).unwrap();
        let id = id("k\u{1}", "e", 4096 + 700, 1);
        let bytes: Vec<u8> = (0..700).map(|at| (at % 251) as u8).collect();
        let whole = file(&id, size, &bytes);
        let found = block_in(whole.clone(), &id, size).unwrap();
        assert_eq!(found.slice(0..700), bytes);
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(block_in(flipped, &id, size).is_none(), "byte {at}");
            assert!(block_in(whole[..at].to_vec(), &id, size).is_none(), "{at}");
        }
        assert!(block_in([&*whole, b"x"].concat(), &id, size).is_none());
    }

    #[test]
    fn a_block_of_another_version_object_or_size_is_none() {
        let size = BlockSize::new(4096).unwrap();
        let one = id("k", "e", 9000, 0);
        let whole = file(&one, size, &[7; 4096]);
        let twice = BlockSize::new(8192).unwrap();
        assert!(block_in(whole.clone(), &one, twice).is_none());
        let mut names = vec![BlockName::of(&one, size), BlockName::of(&one, twice)];
        for other in [
            id("ke", "", 9000, 0),
            id("k", "f", 9000, 0),
            id("k", "e", 9001, 0),
            id("k", "e", 9000, 1),
        ] {
            assert!(block_in(whole.clone(), &other, size).is_none());
            names.push(BlockName::of(&other, size));
        }
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name));
            let (folder, file) = name.parts();
            assert_eq!(BlockName::parse(&folder, &file), Some(*name));
        }
        assert_eq!(BlockName::parse("ab", "xyz"), None);
        assert_eq!(BlockName::parse("ab", "1"), None);
        assert_eq!(BlockName::parse("ff", &"f".repeat(30)), None);
    }
}
