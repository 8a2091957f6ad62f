//! Values of a database on the local disk, each with a checksum that its key is part
//! of: a database compares its pages only after a crash, if at all.

const CHECK_BYTES: usize = 4;

pub fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut stored = check(key, value).to_vec();
    stored.extend(value);
    stored
}

/// The value, unless the disk has changed it.
pub fn opened<'a>(key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (found, value) = stored.split_at_checked(CHECK_BYTES)?;
    (found == check(key, value)).then_some(value)
}

fn check(key: &[u8], value: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_the_disk_changed_or_moved_is_none() {
        let stored = sealed(b"key", b"value");
        assert_eq!(opened(b"key", &stored), Some(b"value".as_slice()));
        assert_eq!(opened(b"kez", &stored), None);
        for bit in 0..stored.len() * 8 {
            let mut changed = stored.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(b"key", &changed), None, "bit {bit}");
        }
        assert_eq!(opened(b"key", b"abc"), None);
    }
}
