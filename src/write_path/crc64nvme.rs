//! CRC-64/NVME, by which S3 tells which bytes an object or a part has.

use std::fmt;

use base64::Engine;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest, checksum_combine};

/// The checksum of what it has seen.
pub struct Crc64Nvme(Digest);

impl Default for Crc64Nvme {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Nvme))
    }
}

impl fmt::Debug for Crc64Nvme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Crc64Nvme").field(&self.text()).finish()
    }
}

impl Crc64Nvme {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// As S3 writes it.
    pub fn text(&self) -> String {
        text(self.0.finalize())
    }

    /// That of so many zeros, as S3 writes it: of twice as many it follows from that of
    /// these.
    pub fn text_of_zeros(len: u64) -> String {
        let combine = |first: u64, second: u64, second_len: u64| {
            checksum_combine(CrcAlgorithm::Crc64Nvme, first, second, second_len)
        };
        let (mut all, mut all_len) = (Self::default().0.finalize(), 0);
        let mut one = Self::default();
        one.update(&[0]);
        let (mut power, mut power_len) = (one.0.finalize(), 1_u64);
        while all_len < len {
            if len & power_len != 0 {
                all = combine(all, power, power_len);
                all_len += power_len;
            }
            power = combine(power, power, power_len);
            power_len = power_len.saturating_mul(2);
        }
        text(all)
    }
}

/// Bytes and their checksum.
#[derive(Debug)]
pub struct Summed {
    pub bytes: Bytes,
    pub crc64nvme: Crc64Nvme,
}

impl Summed {
    pub fn of(bytes: Bytes) -> Self {
        let mut crc64nvme = Crc64Nvme::default();
        crc64nvme.update(&bytes);
        Self { bytes, crc64nvme }
    }
}

/// Base64 in network order.
fn text(crc: u64) -> String {
    base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_that_s3_computes() {
        // Source: the check value of CRC-64/NVME, NVM Express Base Specification.
        let mut crc = Crc64Nvme::default();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.text(), text(0xae8b_1486_0a79_9888));
    }

    #[test]
    fn the_checksum_of_zeros_is_that_of_their_bytes() {
        for len in [0, 1, 2, 3, 1000, (1 << 20) + 1] {
            let mut crc = Crc64Nvme::default();
            crc.update(&vec![0; len]);
            assert_eq!(Crc64Nvme::text_of_zeros(len as u64), crc.text(), "{len}");
        }
    }
}
