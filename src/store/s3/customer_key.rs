//! The key of SSE-C: the store encrypts with it and does not keep it.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};

/// AES-256. Source: S3 User Guide, "Using server-side encryption with customer-provided keys".
const KEY_BYTES: usize = 32;
/// The key in base64, and a newline: anything longer is another file.
const FILE_LIMIT_BYTES: u64 = 64;
const OTHERS: u32 = 0o077;

/// A key as its headers have it. Nothing that prints it shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey {
    base64: String,
    md5: String,
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(***)")
    }
}

impl CustomerKey {
    /// 32 bytes, as they are or in base64. Errors, without a byte of it: a file that others
    /// may read, or that holds no key.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = File::open(path);
        let mut file = file.map_err(|error| format!("name a file that can be read: {error}"))?;
        let found = file.metadata().map_err(|error| error.to_string())?;
        if !found.is_file() {
            return Err("it is not a file".to_owned());
        }
        let mode = found.mode() & 0o7777;
        if mode & OTHERS != 0 {
            let path = path.display();
            return Err(format!(
                "other users may read it (mode {mode:04o}): run 'chmod 0600 {path}'"
            ));
        }
        let mut bytes = Vec::new();
        let read = file.by_ref().take(FILE_LIMIT_BYTES).read_to_end(&mut bytes);
        read.map_err(|error| error.to_string())?;
        Self::parse(&bytes).ok_or_else(|| {
            "it must hold 32 bytes, or these in base64: 'openssl rand -base64 32' makes a key"
                .to_owned()
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let key = if bytes.len() == KEY_BYTES {
            bytes.to_vec()
        } else {
            BASE64.decode(bytes.trim_ascii()).ok()?
        };
        (key.len() == KEY_BYTES).then(|| Self {
            base64: BASE64.encode(&key),
            md5: BASE64.encode(Md5::digest(&key)),
        })
    }

    /// What follows the common part of the headers' names, and their values.
    pub(super) fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("algorithm", "AES256".to_owned()),
            ("key", self.base64.clone()),
            ("key-md5", self.md5.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_32_bytes_or_these_in_base64_in_a_file_of_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let write = |bytes: &[u8], mode: u32| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            CustomerKey::read(&path)
        };
        let raw = write(&[7; 32], 0o600).unwrap();
        let text = format!("{}\n", BASE64.encode([7; 32]));
        assert_eq!(write(text.as_bytes(), 0o400).unwrap(), raw);
        assert!(!format!("{raw:?}").contains(text.trim()), "{raw:?}");
        for mode in [0o640, 0o604, 0o660] {
            let told = write(&[7; 32], mode).unwrap_err();
            assert!(told.contains("chmod 0600"), "{told}");
        }
        for bytes in [&b""[..], &[7; 31], &[7; 33], &[b'A'; 64], &[b'A'; 4096]] {
            let told = write(bytes, 0o600).unwrap_err();
            assert!(told.contains("32 bytes"), "{told}");
        }
    }
}
