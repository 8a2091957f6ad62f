//! By what a file and its object are known to be equal.

use serde::Serialize;

/// By what a file and an object are known to be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    Md5,
    /// The MD5s of the parts of an upload.
    Md5OfParts,
    Crc64nvme,
    Crc32c,
    Sha256,
    /// Neither has bytes.
    Empty,
    /// Every byte of both was read and compared.
    Read,
    /// The store compared the bytes with their checksum as they were sent.
    Sent,
    /// An earlier run proved it, and neither has changed since.
    Checkpoint,
    /// None: --fast.
    SizeAndTime,
}
