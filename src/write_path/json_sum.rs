//! The checksum by which a record in JSON is known to be as it was written.

use serde::Serialize;

/// Of a record whose own checksum is left out.
pub fn json_sum(unchecked: &impl Serialize) -> Option<u32> {
    let text = serde_json::to_vec(unchecked).ok()?;
    Some(crc32fast::hash(&text))
}
