//! Whether two objects have the same bytes, with as few requests as that takes.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::checkpoint::{Checkpoint, Equal, With};
use super::entry::Object;
use super::judge::{Comparison, Verdict};
use super::places::ObjectPlace;
use super::proof::Proof;
use super::sums::{is_of_parts, may_be_md5};
use super::throttle::Throttle;
use crate::config::AttributesMode;
use crate::store::{ETag, GetRequest, HeadRequest, ObjectChecksums, ObjectHeaders, Placement};

/// Of two objects, read and in memory at once.
const READ_BYTES: u64 = 8 << 20;
/// Pairs that are read at once.
const READS_AT_ONCE: usize = 4;

#[derive(Debug)]
pub struct ObjectJudge {
    pub source: ObjectPlace,
    pub target: ObjectPlace,
    pub comparison: Comparison,
    pub attributes: AttributesMode,
    pub throttle: Arc<Throttle>,
    pub checkpoint: Arc<Checkpoint>,
    pub reading: Semaphore,
}

impl ObjectJudge {
    pub fn new(
        (source, target): (ObjectPlace, ObjectPlace),
        comparison: Comparison,
        attributes: AttributesMode,
        throttle: Arc<Throttle>,
        checkpoint: Arc<Checkpoint>,
    ) -> Self {
        Self {
            source,
            target,
            comparison,
            attributes,
            throttle,
            checkpoint,
            reading: Semaphore::new(READS_AT_ONCE),
        }
    }

    /// Compares without reading either.
    pub async fn compare(&self, source: &Object, target: &Object) -> Verdict {
        if source.size_bytes != target.size_bytes {
            let sizes = (source.size_bytes, target.size_bytes);
            return Verdict::Different(format!("{} bytes there, {} in NEW", sizes.0, sizes.1));
        }
        if self
            .checkpoint
            .is_equal(&source.path, &self.equal(source, target))
        {
            return Verdict::Equal(Proof::Checkpoint);
        }
        // It was made after the last change of the other one: as `aws s3 sync` compares.
        if self.comparison == Comparison::SizeAndTime && source.modified <= target.modified {
            return Verdict::Equal(Proof::SizeAndTime);
        }
        let verdict = self.bytes(source, target).await;
        self.with_headers(source, target, verdict).await
    }

    /// Compares the bytes alone, without reading them.
    pub async fn bytes(&self, source: &Object, target: &Object) -> Verdict {
        if source.size_bytes == 0 && target.size_bytes == 0 {
            return Verdict::Equal(Proof::Empty);
        }
        if source.etag == target.etag {
            if may_be_md5(&source.etag) {
                return Verdict::Equal(Proof::Md5);
            }
            if is_of_parts(&source.etag) {
                return Verdict::Equal(Proof::Md5OfParts);
            }
        }
        let told = tokio::join!(
            told(&self.source, source, "OLD"),
            told(&self.target, target, "NEW")
        );
        match told {
            (Ok(source), Ok(target)) => by_told(&source, &target),
            (Err(verdict), _) | (_, Err(verdict)) => verdict,
        }
    }

    /// Reads both, and compares byte by byte.
    pub async fn read(&self, source: &Object, target: &Object) -> Verdict {
        let _turn = self.reading.acquire().await;
        let mut at = 0;
        while at < source.size_bytes {
            let range = at..source.size_bytes.min(at + READ_BYTES);
            self.throttle.take(2 * (range.end - range.start)).await;
            let read = |place: &ObjectPlace, object: &Object| {
                let request = GetRequest {
                    key: place.key_of(&object.path),
                    range: Some(range.clone()),
                    if_match: Some(ETag::new(&object.etag)),
                    sink: None,
                };
                let store = place.store.clone();
                async move { store.get(request).await }
            };
            let read = tokio::try_join!(read(&self.source, source), read(&self.target, target));
            match read {
                Ok((source, target)) if source.body == target.body => at = range.end,
                Ok(_) => {
                    let why = format!("other bytes from {at} to {}", range.end);
                    return Verdict::Different(why);
                }
                Err(error) => return Verdict::Failed(error.to_string()),
            }
        }
        Verdict::Equal(Proof::Read)
    }

    /// The verdict on bytes with that on headers, where attributes are in them.
    pub async fn with_headers(&self, source: &Object, target: &Object, bytes: Verdict) -> Verdict {
        if !matches!(bytes, Verdict::Equal(_)) {
            return bytes;
        }
        if self.attributes == AttributesMode::Stored {
            let asked =
                tokio::try_join!(headers(&self.source, source), headers(&self.target, target));
            match asked {
                Ok((source, target)) if source == target => {}
                Ok(_) => return Verdict::Different("other headers".to_owned()),
                Err(why) => return Verdict::Failed(why),
            }
        }
        self.note(source, target);
        bytes
    }

    /// Remembers that both are equal.
    pub fn note(&self, source: &Object, target: &Object) {
        let equal = self.equal(source, target);
        self.checkpoint.note_equal(&source.path, equal);
    }

    fn equal(&self, source: &Object, target: &Object) -> Equal {
        // Headers may change once more within the second in which the object was made.
        let with = match self.attributes {
            AttributesMode::Stored if !source.is_settled() => With::Bytes,
            mode => With::of(mode),
        };
        Equal {
            other: source.snapshot(),
            etag: target.etag.clone(),
            with,
            modified: None,
        }
    }
}

/// What HEAD says of a version. Errors: the verdict, where it does not say.
async fn told(
    place: &ObjectPlace,
    object: &Object,
    which: &str,
) -> Result<ObjectChecksums, Verdict> {
    match place.store.checksums(place.key_of(&object.path)).await {
        Ok(told) if told.etag.as_str() == object.etag => Ok(told),
        Ok(_) => {
            let why = format!("the object in {which} was replaced just now");
            Err(Verdict::Failed(why))
        }
        Err(error) => Err(Verdict::Failed(error.to_string())),
    }
}

fn by_told(source: &ObjectChecksums, target: &ObjectChecksums) -> Verdict {
    let sums = [
        (
            &source.crc64nvme,
            &target.crc64nvme,
            Proof::Crc64nvme,
            "CRC-64/NVME",
        ),
        (&source.sha256, &target.sha256, Proof::Sha256, "SHA-256"),
        (&source.crc32c, &target.crc32c, Proof::Crc32c, "CRC-32C"),
    ];
    for (source, target, proof, name) in sums {
        if let (Some(source), Some(target)) = (source, target) {
            return match source == target {
                true => Verdict::Equal(proof),
                false => Verdict::Different(format!("another {name}")),
            };
        }
    }
    let is_md5 = |told: &ObjectChecksums| may_be_md5(told.etag.as_str()) && told.etag_is_md5();
    if is_md5(source) && is_md5(target) {
        return Verdict::Different("another MD5".to_owned());
    }
    Verdict::Unproved
}

/// What is stored with an object and goes along with it. Errors: in words.
async fn headers(place: &ObjectPlace, object: &Object) -> Result<ObjectHeaders, String> {
    let key = place.key_of(&object.path);
    let meta = place.store.head(HeadRequest { key }).await;
    let meta = meta.map_err(|error| error.to_string())?;
    Ok(ObjectHeaders {
        placement: Placement::default(),
        ..meta.headers
    })
}
