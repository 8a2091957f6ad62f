//! Checksums that go along with requests: the best that the store takes.

use std::io;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{
    self, ConfigBag, Intercept, RequestChecksumCalculation, RuntimeComponents,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use md5::{Digest, Md5};
use parking_lot::Mutex;

use crate::store::{BodyStream, StoreError, StoreErrorKind, pieces};

/// Once may be a fault on the way: so many refusals in a row, each of which passed
/// with another checksum, are the store's.
const REFUSALS: u32 = 2;

/// What goes along with an upload. Source: S3 User Guide, "Checking object integrity".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadChecksum {
    Crc64Nvme,
    Crc32c,
    /// `Content-MD5`
    Md5,
    None,
}

/// What protects the way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tls,
    Plain,
}

/// Whether the signature of an upload covers its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayloadSigning {
    Signed,
    /// The SHA-256 of the bytes, which takes a third of an upload's time, is left out.
    Unsigned,
}

impl Transport {
    /// Nobody changes bytes inside TLS, and the checksum is compared by the store.
    /// Without TLS whoever is on the way could change bytes and their checksum: only
    /// the signature tells. Source: S3 API, "Signature Calculations", `UNSIGNED-PAYLOAD`.
    pub fn signing(self, checksum: UploadChecksum) -> PayloadSigning {
        let is_compared = checksum != UploadChecksum::None;
        match self {
            Self::Tls if is_compared => PayloadSigning::Unsigned,
            Self::Tls | Self::Plain => PayloadSigning::Signed,
        }
    }
}

/// Which one it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumChoice {
    /// The best that the store takes, unless the AWS configuration wants none.
    Auto,
    Only(UploadChecksum),
}

impl UploadChecksum {
    /// That of the SDK, which computes it of bytes in memory.
    pub(super) fn algorithm(self) -> Option<ChecksumAlgorithm> {
        match self {
            Self::Crc64Nvme => Some(ChecksumAlgorithm::Crc64Nvme),
            Self::Crc32c => Some(ChecksumAlgorithm::Crc32C),
            Self::Md5 | Self::None => None,
        }
    }

    pub(super) fn md5_of(self, bytes: &[u8]) -> Option<String> {
        (self == Self::Md5).then(|| BASE64.encode(Md5::digest(bytes)))
    }

    /// What to try where the store refuses this one.
    fn weaker(self) -> Option<Self> {
        match self {
            Self::Crc64Nvme | Self::Crc32c => Some(Self::Md5),
            Self::Md5 => Some(Self::None),
            Self::None => None,
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Self::Crc64Nvme => "a CRC-64/NVME",
            Self::Crc32c => "a CRC-32C",
            Self::Md5 => "Content-MD5",
            Self::None => "no checksum",
        }
    }
}

/// The checksum of a body that is read as it is sent, as its header has it.
pub(super) struct StreamSums {
    pub crc64nvme: Option<String>,
    pub crc32c: Option<String>,
    pub md5: Option<String>,
}

impl StreamSums {
    /// Reads the body once, unless its checksum is known.
    pub async fn of(stream: &BodyStream, checksum: UploadChecksum) -> io::Result<Self> {
        let mut sums = Self {
            crc64nvme: None,
            crc32c: None,
            md5: None,
        };
        match checksum {
            UploadChecksum::Crc64Nvme => sums.crc64nvme = Some(stream.crc64nvme.clone()),
            UploadChecksum::Crc32c => {
                let mut crc = crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi);
                for piece in pieces(stream.range.clone()) {
                    crc.update(&stream.source.read(piece).await?);
                }
                // It has 32 bits.
                let crc = crc.finalize() as u32;
                sums.crc32c = Some(BASE64.encode(crc.to_be_bytes()));
            }
            UploadChecksum::Md5 => {
                let mut md5 = Md5::new();
                for piece in pieces(stream.range.clone()) {
                    md5.update(stream.source.read(piece).await?);
                }
                sums.md5 = Some(BASE64.encode(md5.finalize()));
            }
            UploadChecksum::None => {}
        }
        Ok(sums)
    }
}

/// What the store takes, as far as it was found out.
#[derive(Debug)]
pub(super) struct Checksums {
    is_fixed: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    upload: UploadChecksum,
    uploads_refused: u32,
    /// Whether reads ask for the object's checksum.
    reads: bool,
    reads_refused: u32,
}

impl Checksums {
    /// `wants_none`: the AWS configuration wants checksums only where S3 requires one.
    pub fn new(choice: ChecksumChoice, wants_none: bool) -> Self {
        let upload = match choice {
            ChecksumChoice::Only(upload) => upload,
            ChecksumChoice::Auto if wants_none => UploadChecksum::Md5,
            ChecksumChoice::Auto => UploadChecksum::Crc64Nvme,
        };
        Self {
            is_fixed: choice != ChecksumChoice::Auto,
            state: Mutex::new(State {
                upload,
                uploads_refused: 0,
                reads: true,
                reads_refused: 0,
            }),
        }
    }

    pub fn upload(&self) -> UploadChecksum {
        self.state.lock().upload
    }

    pub fn of_reads(&self) -> Option<ChecksumMode> {
        self.state.lock().reads.then_some(ChecksumMode::Enabled)
    }

    /// Sends a part of an upload with its checksum, and with a weaker one where the
    /// store refuses that. What it takes then is used from then on.
    pub async fn with_checksum<T, F>(
        &self,
        send: impl Fn(UploadChecksum) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let first = self.upload();
        let refusal = match send(first).await {
            Err(error) if may_be_header(&error) && !self.is_fixed => error,
            answer => {
                if answer.is_ok() {
                    self.state.lock().uploads_refused = 0;
                }
                return answer;
            }
        };
        let mut next = first.weaker();
        while let Some(checksum) = next {
            match send(checksum).await {
                Ok(answer) => {
                    self.took(checksum, first, &refusal);
                    return Ok(answer);
                }
                Err(error) if may_be_header(&error) => next = checksum.weaker(),
                Err(error) => return Err(error),
            }
        }
        // It is something else that the store refuses.
        Err(refusal)
    }

    /// The same of a read.
    pub async fn with_checksum_of_read<T, F>(
        &self,
        send: impl Fn(Option<ChecksumMode>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let first = self.of_reads();
        let refusal = match send(first.clone()).await {
            Err(error) if may_be_header(&error) && first.is_some() => error,
            answer => {
                if answer.is_ok() {
                    self.state.lock().reads_refused = 0;
                }
                return answer;
            }
        };
        let answer = send(None).await.map_err(|_| refusal.clone())?;
        self.took_read(&refusal);
        Ok(answer)
    }

    /// The store has refused one checksum, and taken another with the same request.
    fn took(&self, taken: UploadChecksum, refused: UploadChecksum, why: &StoreError) {
        let mut state = self.state.lock();
        if state.upload != refused {
            return;
        }
        state.uploads_refused += 1;
        if state.uploads_refused >= REFUSALS {
            state.upload = taken;
            state.uploads_refused = 0;
            tracing::warn!(
                error = %why,
                "this store refuses uploads with {}: they carry {} from now on (--upload-checksum)",
                refused.words(), taken.words()
            );
        }
    }

    /// The same of a read without one.
    fn took_read(&self, why: &StoreError) {
        let mut state = self.state.lock();
        state.reads_refused += 1;
        if state.reads_refused >= REFUSALS && state.reads {
            state.reads = false;
            tracing::warn!(error = %why, "this store refuses reads that ask for a checksum: none is compared with what arrives");
        }
    }
}

/// Of a request that carries this checksum alone, whatever the AWS configuration says.
pub(super) fn with_this_alone(checksum: UploadChecksum) -> config::Builder {
    let calculation = match checksum.algorithm() {
        Some(_) => RequestChecksumCalculation::WhenSupported,
        None => RequestChecksumCalculation::WhenRequired,
    };
    config::Builder::new().request_checksum_calculation(calculation)
}

/// Whether the store may have refused a request for a header that it does not know.
fn may_be_header(error: &StoreError) -> bool {
    matches!(
        error.kind,
        StoreErrorKind::Rejected | StoreErrorKind::Unsupported
    )
}

/// Adds the MD5 of a body that is in memory. Some stores want it, whatever other
/// checksum there is; others refuse every other one.
#[derive(Debug)]
pub struct ContentMd5 {
    pub alone: bool,
}

impl Intercept for ContentMd5 {
    fn name(&self) -> &'static str {
        "ContentMd5"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let Some(body) = request.body().bytes() else {
            return Ok(());
        };
        let md5 = BASE64.encode(Md5::digest(body));
        let headers = request.headers_mut();
        headers.insert("content-md5", md5);
        if self.alone {
            for name in ["x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm"] {
                headers.remove(name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::store::BodySource;

    #[derive(Debug)]
    struct Text(&'static [u8]);

    #[async_trait]
    impl BodySource for Text {
        async fn read(&self, range: std::ops::Range<u64>) -> io::Result<Bytes> {
            Ok(self.0[range.start as usize..range.end as usize].into())
        }
    }

    #[tokio::test]
    async fn checksums_of_streams_are_the_ones_that_s3_computes() {
        let stream = BodyStream {
            source: Arc::new(Text(b"123456789")),
            range: 0..9,
            crc64nvme: "known".to_owned(),
        };
        let sums = StreamSums::of(&stream, UploadChecksum::Crc32c).await;
        // Source: the check value of CRC-32C, RFC 3720.
        let crc = BASE64.encode(0xe306_9283_u32.to_be_bytes());
        assert_eq!(sums.unwrap().crc32c, Some(crc));
        let sums = StreamSums::of(&stream, UploadChecksum::Md5).await.unwrap();
        assert_eq!(sums.md5, UploadChecksum::Md5.md5_of(b"123456789"));
        let sums = StreamSums::of(&stream, UploadChecksum::Crc64Nvme).await;
        assert_eq!(sums.unwrap().crc64nvme.as_deref(), Some("known"));
    }

    #[test]
    fn one_refusal_changes_nothing_and_two_in_a_row_do() {
        let (kind, op) = (StoreErrorKind::Rejected, crate::store::StoreOp::Put);
        let why = StoreError::new(kind, op, crate::store::Key::new("k"), "why");
        let sums = Checksums::new(ChecksumChoice::Auto, false);
        let refuse = || sums.took(UploadChecksum::Md5, UploadChecksum::Crc64Nvme, &why);
        refuse();
        sums.state.lock().uploads_refused = 0;
        refuse();
        assert_eq!(sums.upload(), UploadChecksum::Crc64Nvme);
        refuse();
        assert_eq!(sums.upload(), UploadChecksum::Md5);
    }

    #[test]
    fn bytes_are_unsigned_where_tls_and_a_checksum_protect_them() {
        let sums = [UploadChecksum::Crc64Nvme, UploadChecksum::Md5];
        for checksum in sums {
            let signing = |transport: Transport| transport.signing(checksum);
            assert_eq!(signing(Transport::Tls), PayloadSigning::Unsigned);
            assert_eq!(signing(Transport::Plain), PayloadSigning::Signed);
        }
        let none = Transport::Tls.signing(UploadChecksum::None);
        assert_eq!(none, PayloadSigning::Signed);
    }

    #[test]
    fn the_aws_setting_counts_unless_an_operator_says_otherwise() {
        let upload = |choice, wants_none| Checksums::new(choice, wants_none).upload();
        assert_eq!(
            upload(ChecksumChoice::Auto, false),
            UploadChecksum::Crc64Nvme
        );
        assert_eq!(upload(ChecksumChoice::Auto, true), UploadChecksum::Md5);
        let only = ChecksumChoice::Only(UploadChecksum::Crc32c);
        assert_eq!(upload(only, true), UploadChecksum::Crc32c);
    }
}
