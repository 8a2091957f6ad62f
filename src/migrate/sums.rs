//! Checksums of a file, as S3 would tell them of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::store::{PART_COUNT_LIMIT, PART_MIN_BYTES};
use crate::vocabulary::hex;
use crate::write_path::PartSize;

const MIB: u64 = 1 << 20;
/// Part lengths that upload programs cut by, in MiB: aws-cli and mediafs 8, rclone 5,
/// s3cmd 15, s3fs 10, minio 16, and powers of two.
const USUAL_PARTS_MIB: [u64; 14] = [8, 5, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 512];

/// Which checksums are wanted besides MD5 and CRC-64/NVME.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    Nothing,
    /// SHA-256 and CRC-32C.
    All,
}

/// Of all bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// In hexadecimal digits, as an ETag.
    pub md5: String,
    /// In base64, as the following.
    pub crc64nvme: String,
    pub crc32c: Option<String>,
    pub sha256: Option<String>,
    /// ETags that an upload in parts may have given it.
    pub etags_of_parts: Vec<String>,
}

/// Computes them as bytes go by.
pub struct Summing {
    md5: Md5,
    crc64nvme: crc_fast::Digest,
    crc32c: Option<crc_fast::Digest>,
    sha256: Option<Sha256>,
    cuts: Vec<CutSum>,
}

impl Summing {
    /// For a file of this length, which may be compared with an object of this ETag.
    pub fn new(size_bytes: u64, etag: Option<&str>, more: More) -> Self {
        let parts = etag.and_then(parts_of);
        let cuts = parts.map_or_else(Vec::new, |parts| cuts(size_bytes, parts));
        Self {
            md5: Md5::new(),
            crc64nvme: crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme),
            crc32c: (more == More::All).then(|| crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)),
            sha256: (more != More::Nothing).then(Sha256::new),
            cuts: cuts.into_iter().map(CutSum::new).collect(),
        }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.crc64nvme.update(bytes);
        if let Some(crc) = &mut self.crc32c {
            crc.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        self.cuts.iter_mut().for_each(|cut| cut.add(bytes));
    }

    pub fn finish(self) -> Sums {
        Sums {
            md5: hex(&self.md5.finalize()),
            crc64nvme: BASE64.encode(self.crc64nvme.finalize().to_be_bytes()),
            // It has 32 bits.
            crc32c: self
                .crc32c
                .map(|crc| BASE64.encode((crc.finalize() as u32).to_be_bytes())),
            sha256: self.sha256.map(|sha256| BASE64.encode(sha256.finalize())),
            etags_of_parts: self.cuts.into_iter().map(CutSum::finish).collect(),
        }
    }
}

/// Whether an ETag may be the MD5 of an object's bytes.
pub fn may_be_md5(etag: &str) -> bool {
    etag.len() == 32 && etag.bytes().all(|it| it.is_ascii_hexdigit())
}

/// Whether an ETag may be that of an upload in parts.
pub fn is_of_parts(etag: &str) -> bool {
    parts_of(etag).is_some()
}

/// Of how many parts an ETag tells. Source: S3 User Guide, "Checking object integrity".
fn parts_of(etag: &str) -> Option<u64> {
    let (md5, parts) = etag.split_once('-')?;
    let parts = parts.parse().ok()?;
    let is_possible = may_be_md5(md5) && (1..=u64::from(PART_COUNT_LIMIT)).contains(&parts);
    is_possible.then_some(parts)
}

/// How a file may have been cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Even(u64),
    /// As mediafs cuts, with parts that grow.
    Growing(PartSize),
}

impl Cut {
    /// Where the part that begins here ends.
    fn end_of(self, start: u64) -> u64 {
        match self {
            Self::Even(len) => start.saturating_add(len),
            Self::Growing(size) => size.part_at(start).map_or(u64::MAX, |(_, range)| range.end),
        }
    }
}

fn cuts(size_bytes: u64, parts: u64) -> Vec<Cut> {
    let usual = USUAL_PARTS_MIB.map(|mib| mib * MIB);
    let even = usual
        .into_iter()
        .filter(|len| size_bytes.div_ceil(*len) == parts);
    let mut cuts: Vec<Cut> = even.map(Cut::Even).collect();
    if cuts.is_empty() {
        // Of one cut to whole MiB there is only one that is likely.
        let even = size_bytes.div_ceil(parts).next_multiple_of(MIB);
        if even >= PART_MIN_BYTES && size_bytes.div_ceil(even) == parts {
            cuts.push(Cut::Even(even));
        }
        cuts.extend(PartSize::new(8 * MIB).map(Cut::Growing));
    }
    cuts
}

/// The ETag of one cut.
struct CutSum {
    cut: Cut,
    at: u64,
    /// Of the part.
    start: u64,
    end: u64,
    part: Md5,
    all: Md5,
    parts: u64,
}

impl CutSum {
    fn new(cut: Cut) -> Self {
        Self {
            cut,
            at: 0,
            start: 0,
            end: cut.end_of(0),
            part: Md5::new(),
            all: Md5::new(),
            parts: 0,
        }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.part.update(now);
            self.at += now.len() as u64;
            bytes = rest;
            if self.at == self.end {
                self.end_part();
            }
        }
    }

    fn end_part(&mut self) {
        self.all.update(self.part.finalize_reset());
        self.parts += 1;
        self.start = self.at;
        self.end = self.cut.end_of(self.at);
    }

    fn finish(mut self) -> String {
        if self.at > self.start || self.parts == 0 {
            self.end_part();
        }
        format!("{}-{}", hex(&self.all.finalize()), self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(bytes: &[u8], etag: Option<&str>, more: More) -> Sums {
        let mut summing = Summing::new(bytes.len() as u64, etag, more);
        bytes.chunks(777_777).for_each(|chunk| summing.add(chunk));
        summing.finish()
    }

    #[test]
    fn checksums_are_those_that_s3_tells() {
        let sums = sums(b"123456789", None, More::All);
        assert_eq!(sums.md5, "25f9e794323b453885f5181f1b624d0b");
        // Sources: the check values of CRC-64/NVME and of CRC-32C (RFC 3720).
        let crc64 = BASE64.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes());
        assert_eq!(sums.crc64nvme, crc64);
        let crc32c = BASE64.encode(0xe306_9283_u32.to_be_bytes());
        assert_eq!(sums.crc32c, Some(crc32c));
        assert_eq!(
            sums.sha256.unwrap(),
            "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="
        );
        assert!(sums.etags_of_parts.is_empty());
    }

    #[test]
    fn the_etag_of_an_upload_in_parts_is_found_by_their_number() {
        let bytes: Vec<u8> = (0..17 << 20).map(|at: u32| (at / 7 % 251) as u8).collect();
        for part in [8_usize << 20, 5 << 20, 17 << 20, 6 << 20] {
            let md5s = bytes.chunks(part).map(Md5::digest);
            let count = md5s.len();
            let mut all = Md5::new();
            md5s.for_each(|md5| all.update(md5));
            let etag = format!("{}-{count}", hex(&all.finalize()));
            let found = sums(&bytes, Some(&etag), More::Nothing).etags_of_parts;
            // 6 MiB is what nobody cuts by, and as many parts as with 8 MiB.
            let is_usual = part != 6 << 20;
            assert_eq!(found.contains(&etag), is_usual, "{part}");
        }
        for odd in ["abc-2", "x", "0123456789abcdef0123456789abcdef-0"] {
            assert_eq!(parts_of(odd), None, "{odd}");
        }
    }
}
