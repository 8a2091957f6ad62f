//! Whether a file and an object have the same bytes, with as few requests as that takes.

use std::cmp::Ordering;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::checkpoint::{Checkpoint, Equal, With};
use super::described;
use super::entry::{Object, Snapshot, Stat};
use super::local_file::{LocalFile, Tree};
use super::plan_counts::Work;
use super::proof::Proof;
use super::sums::{More, Summing, Sums, may_be_md5};
use super::throttle::Throttle;
use crate::config::AttributesMode;
use crate::namespace::Attributes;
use crate::store::{
    ETag, GetRequest, HeadRequest, Key, ObjectChecksums, ObjectStore, StoreErrorKind,
};

/// Names that are compared at once.
pub const COMPARED_AT_ONCE: usize = 32;
/// Of an object, read and in memory at once.
const READ_BYTES: u64 = 8 << 20;
/// Objects that are read at once.
const READS_AT_ONCE: usize = 4;

/// How two were compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Equal(Proof),
    Different(String),
    /// Only its bytes can tell.
    Unproved,
    /// One of them cannot be read, or changes.
    Failed(String),
}

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Checksums,
    SizeAndTime,
}

/// What a judge goes by.
#[derive(Debug, Clone)]
pub struct JudgeSettings {
    pub prefix: String,
    pub comparison: Comparison,
    pub work: Work,
    pub attributes: AttributesMode,
    /// Of all bytes of objects.
    pub throttle: Arc<Throttle>,
}

#[derive(Debug)]
pub struct Judge {
    pub store: Arc<dyn ObjectStore>,
    pub tree: Tree,
    pub settings: JudgeSettings,
    /// Of those that use what earlier runs found.
    pub checkpoint: Option<Arc<Checkpoint>>,
    hashing: Semaphore,
    reading: Semaphore,
}

impl Judge {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        tree: Tree,
        settings: JudgeSettings,
        checkpoint: Option<Arc<Checkpoint>>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            store,
            tree,
            settings,
            checkpoint,
            hashing: Semaphore::new(cores),
            reading: Semaphore::new(READS_AT_ONCE),
        }
    }

    pub fn key_of(&self, path: &str) -> Key {
        Key::new(format!("{}{path}", self.settings.prefix))
    }

    /// Compares without reading the object.
    pub async fn compare(&self, path: &str, stat: &Stat, object: &Object) -> Verdict {
        if stat.size_bytes != object.size_bytes {
            let sizes = (stat.size_bytes, object.size_bytes);
            return Verdict::Different(format!("{} bytes here, {} there", sizes.0, sizes.1));
        }
        if stat.size_bytes == 0 {
            return Verdict::Equal(Proof::Empty);
        }
        let equal = self.equal(stat, object);
        let is_enough = equal.with == With::of(self.settings.attributes);
        let checkpoint = self.checkpoint.as_ref().filter(|_| is_enough);
        if checkpoint.is_some_and(|known| known.is_equal(path, &equal)) {
            return Verdict::Equal(Proof::Checkpoint);
        }
        if self.settings.comparison == Comparison::SizeAndTime {
            match self.same_time(path, stat, object).await {
                Ok(Same::Yes) => return Verdict::Equal(Proof::SizeAndTime),
                // Times that differ say nothing of the bytes.
                Ok(Same::Unknown) => {}
                Err(why) => return Verdict::Failed(why),
            }
        }
        match self.by_checksum(path, object).await {
            Ok((file, verdict)) => {
                self.note(path, &file, object, &verdict);
                verdict
            }
            Err(why) => Verdict::Failed(why),
        }
    }

    /// Where attributes are compared too, it waits for them.
    fn note(&self, path: &str, file: &LocalFile, object: &Object, verdict: &Verdict) {
        let is_all = self.settings.attributes == AttributesMode::Fixed;
        if let (Verdict::Equal(_), Some(checkpoint), true) = (verdict, &self.checkpoint, is_all) {
            checkpoint.note_equal(path, self.equal(file.stat(), object));
        }
    }

    /// What is known once both are equal.
    pub fn equal(&self, stat: &Stat, object: &Object) -> Equal {
        // Attributes may change once more within the second in which the object was made.
        let with = match self.settings.attributes {
            AttributesMode::Stored if !object.is_settled() => With::Bytes,
            mode => With::of(mode),
        };
        Equal {
            other: Snapshot::File(*stat),
            etag: object.etag.clone(),
            with,
            modified: (with == With::Attributes).then_some(object.modified),
        }
    }

    /// Whether times say that a file and an object of its size are equal. Errors: S3 does
    /// not tell.
    async fn same_time(&self, path: &str, stat: &Stat, object: &Object) -> Result<Same, String> {
        let checkpoint = self.checkpoint.as_ref();
        let known = checkpoint.and_then(|checkpoint| checkpoint.etag(path));
        // Another client replaced what an earlier run knew.
        if known.is_some_and(|known| known != object.etag) {
            return Ok(Same::Unknown);
        }
        if self.settings.attributes == AttributesMode::Stored
            && let Some(stored) = self.attributes_of(path).await?.1.mtime
        {
            return Ok(Same::of(described::is_same_time(stat.mtime, stored)));
        }
        let there = (i64::try_from(object.modified).unwrap_or(i64::MAX), 0);
        Ok(match stat.mtime.cmp(&there) {
            Ordering::Equal => Same::Yes,
            // It was sent after its last change: as `aws s3 sync` compares.
            Ordering::Less if self.settings.work == Work::Import => Same::Yes,
            Ordering::Less | Ordering::Greater => Same::Unknown,
        })
    }

    pub async fn attributes_of(&self, path: &str) -> Result<(ETag, Attributes), String> {
        let key = self.key_of(path);
        let meta = self.store.head(HeadRequest { key }).await;
        let meta = meta.map_err(|error| error.to_string())?;
        Ok((meta.etag, Attributes::decode(meta.headers)))
    }

    /// In what attributes a file differs from an object of equal bytes, where they are kept
    /// with objects. Errors: one of them cannot be asked, in words.
    pub async fn other_attributes(
        &self,
        path: &str,
        stat: &Stat,
        object: &Object,
    ) -> Result<Option<String>, String> {
        if self.settings.attributes == AttributesMode::Fixed {
            return Ok(None);
        }
        let file = self.tree.open(path).await.map_err(|it| it.to_string())?;
        let xattrs = file.xattrs().await.map_err(|it| it.to_string())?;
        let (etag, stored) = self.attributes_of(path).await?;
        if etag.as_str() != object.etag {
            return Ok(Some("the object was replaced just now".to_owned()));
        }
        let difference = described::difference(self.settings.work, file.stat(), &xattrs, &stored);
        if let (None, Some(checkpoint)) = (&difference, &self.checkpoint)
            // Its bytes were read in between.
            && file.stat() == stat
        {
            checkpoint.note_equal(path, self.equal(stat, object));
        }
        Ok(difference)
    }

    async fn by_checksum(
        &self,
        path: &str,
        object: &Object,
    ) -> Result<(LocalFile, Verdict), String> {
        let file = self.tree.open(path).await.map_err(|it| it.to_string())?;
        let verdict = self.check(&file, path, object).await?;
        Ok((file, verdict))
    }

    /// Compares an open file. Errors: it cannot be read, or S3 does not tell, in words.
    pub async fn check(
        &self,
        file: &LocalFile,
        path: &str,
        object: &Object,
    ) -> Result<Verdict, String> {
        if file.stat().size_bytes != object.size_bytes {
            let why = "its size has just changed";
            return Ok(Verdict::Different(why.to_owned()));
        }
        let sums = self.sums(file, Some(&object.etag), More::Nothing).await?;
        // An ETag that is the MD5 of these bytes was made of them, however they are encrypted.
        if sums.md5.eq_ignore_ascii_case(&object.etag) {
            return Ok(Verdict::Equal(Proof::Md5));
        }
        if sums.etags_of_parts.contains(&object.etag) {
            return Ok(Verdict::Equal(Proof::Md5OfParts));
        }
        let asked = self.store.checksums(self.key_of(path)).await;
        let told = match asked {
            Ok(told) if told.etag.as_str() != object.etag => {
                let why = "the object was replaced just now";
                return Ok(Verdict::Different(why.to_owned()));
            }
            Ok(told) => told,
            Err(error) if error.kind == StoreErrorKind::NotFound => {
                let why = "the object was deleted just now";
                return Ok(Verdict::Different(why.to_owned()));
            }
            Err(error) => return Err(error.to_string()),
        };
        self.by_told(file, sums, &told).await
    }

    /// By what HEAD says.
    async fn by_told(
        &self,
        file: &LocalFile,
        mut sums: Sums,
        told: &ObjectChecksums,
    ) -> Result<Verdict, String> {
        let different = |what: &str| Ok(Verdict::Different(format!("another {what}")));
        if let Some(there) = &told.crc64nvme {
            return match sums.crc64nvme == *there {
                true => Ok(Verdict::Equal(Proof::Crc64nvme)),
                false => different("CRC-64/NVME"),
            };
        }
        if told.has_some() {
            sums = self.sums(file, None, More::All).await?;
        }
        let others = [
            (&told.sha256, &sums.sha256, Proof::Sha256, "SHA-256"),
            (&told.crc32c, &sums.crc32c, Proof::Crc32c, "CRC-32C"),
        ];
        for (there, here, proof, name) in others {
            if there.is_some() {
                return match there == here {
                    true => Ok(Verdict::Equal(proof)),
                    false => different(name),
                };
            }
        }
        if may_be_md5(told.etag.as_str()) && told.etag_is_md5() {
            return different("MD5");
        }
        Ok(Verdict::Unproved)
    }

    pub async fn sums(
        &self,
        file: &LocalFile,
        etag: Option<&str>,
        more: More,
    ) -> Result<Sums, String> {
        let _turn = self.hashing.acquire().await;
        let summing = Summing::new(file.stat().size_bytes, etag, more);
        file.sums(summing).await.map_err(|error| error.to_string())
    }

    /// Reads the object, and compares byte by byte.
    pub async fn read(&self, path: &str, object: &Object) -> Verdict {
        let file = match self.tree.open(path).await {
            Ok(file) => file,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        match self.by_bytes(&file, path, object).await {
            Ok(verdict) => {
                self.note(path, &file, object, &verdict);
                verdict
            }
            Err(why) => Verdict::Failed(why),
        }
    }

    /// The same with an open file. Errors: one of them cannot be read, in words.
    pub async fn by_bytes(
        &self,
        file: &LocalFile,
        path: &str,
        object: &Object,
    ) -> Result<Verdict, String> {
        let _turn = self.reading.acquire().await;
        if file.stat().size_bytes != object.size_bytes {
            let why = "its size has just changed";
            return Ok(Verdict::Different(why.to_owned()));
        }
        let mut at = 0;
        while at < object.size_bytes {
            let range = at..object.size_bytes.min(at + READ_BYTES);
            self.settings.throttle.take(range.end - range.start).await;
            let request = GetRequest {
                key: self.key_of(path),
                range: Some(range.clone()),
                if_match: Some(ETag::new(&object.etag)),
                sink: None,
            };
            let there = self.store.get(request).await.map_err(|it| it.to_string())?;
            let here = file
                .read(range.clone())
                .await
                .map_err(|it| it.to_string())?;
            if here != there.body {
                let why = format!("other bytes from {at} to {}", range.end);
                return Ok(Verdict::Different(why));
            }
            at = range.end;
        }
        Ok(Verdict::Equal(Proof::Read))
    }
}

/// What times say.
enum Same {
    Yes,
    Unknown,
}

impl Same {
    fn of(is_same: bool) -> Self {
        match is_same {
            true => Self::Yes,
            false => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::migrate::checkpoint::With;
    use crate::migrate::tests::{Places, bytes_of, settings};
    use crate::store::faulty::{Checksums, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{CustomerKeyed, Encryption, ObjectChecksums, ObjectHeaders};

    /// How a file and an object of as many bytes compare, when the object is not read.
    async fn verdict(told: Checksums, here: &str, there: &str, etag: &str) -> Verdict {
        let store = Faulty::telling(Arc::new(Memory::default()), told);
        let places = Places::new(Arc::new(store)).await;
        fs::write(places.path("f"), here).unwrap();
        let object = Object {
            etag: etag.to_owned(),
            ..places.object("f", there).await
        };
        let file = places.judge.tree.open("f").await.unwrap();
        places.judge.check(&file, "f", &object).await.unwrap()
    }

    fn keyed(told: ObjectChecksums, bytes: &[u8]) -> ObjectChecksums {
        ObjectChecksums {
            etag: ETag::of_bytes(bytes),
            customer_key: CustomerKeyed::Yes,
            ..told
        }
    }

    fn kms(told: ObjectChecksums, bytes: &[u8]) -> ObjectChecksums {
        let encryption = Encryption {
            algorithm: "aws:kms".to_owned(),
            kms_key: None,
            bucket_key: None,
        };
        ObjectChecksums {
            etag: ETag::of_bytes(bytes),
            encryption: Some(encryption),
            ..told
        }
    }

    fn plain(told: ObjectChecksums, bytes: &[u8]) -> ObjectChecksums {
        ObjectChecksums {
            etag: ETag::of_bytes(bytes),
            ..told
        }
    }

    #[tokio::test]
    async fn an_etag_that_is_no_md5_proves_no_difference() {
        // What such an object's ETag is says nothing of its bytes.
        let etag = bytes_of("there").as_str().to_owned();
        for told in [keyed as Checksums, kms] {
            let verdict = verdict(told, "here!", "there", &etag).await;
            assert_eq!(verdict, Verdict::Unproved);
        }
        let verdict = verdict(plain, "here!", "there", &etag).await;
        assert_eq!(verdict, Verdict::Different("another MD5".to_owned()));
    }

    #[tokio::test]
    async fn what_only_its_bytes_can_tell_is_read_and_compared() {
        let places = Places::new(Arc::new(Memory::default())).await;
        for (path, there, equal) in [("same", "here", true), ("other", "hers", false)] {
            fs::write(places.path(path), "here").unwrap();
            let object = places.object(path, there).await;
            let file = places.judge.tree.open(path).await.unwrap();
            let verdict = places.judge.check(&file, path, &object).await;
            assert_eq!(verdict, Ok(Verdict::Unproved));
            let read = places.judge.read(path, &object).await;
            assert_eq!(read == Verdict::Equal(Proof::Read), equal, "{read:?}");
        }
    }

    /// How a file compares by its time, which is so many seconds after that of its object.
    async fn by_time(work: Work, seconds: i64, known: Option<&str>) -> Verdict {
        let by_time = JudgeSettings {
            comparison: Comparison::SizeAndTime,
            ..settings(work, AttributesMode::Fixed)
        };
        let places = Places::with(Arc::new(Memory::default()), by_time).await;
        let path = places.path("f");
        fs::write(&path, "here").unwrap();
        let object = Object {
            modified: 1000,
            ..places.object("f", "here").await
        };
        let modified = std::time::UNIX_EPOCH
            + std::time::Duration::from_secs(1000_u64.checked_add_signed(seconds).unwrap());
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(modified))
            .unwrap();
        let stat = Stat::from(&file.metadata().unwrap());
        if let Some(etag) = known {
            let other = Equal {
                other: Snapshot::File(crate::migrate::tests::some_stat()),
                etag: etag.to_owned(),
                with: With::Bytes,
                modified: None,
            };
            places
                .judge
                .checkpoint
                .as_ref()
                .unwrap()
                .note_equal("f", other);
        }
        places.judge.compare("f", &stat, &object).await
    }

    #[tokio::test]
    async fn only_equal_times_say_that_both_are_equal_and_others_are_compared_by_bytes() {
        let equal = Verdict::Equal(Proof::SizeAndTime);
        for work in [Work::Export, Work::Verify(crate::migrate::Sides::Both)] {
            assert_eq!(by_time(work, 0, None).await, equal);
            for seconds in [-1, 1] {
                assert_eq!(by_time(work, seconds, None).await, Verdict::Unproved);
            }
        }
        // A file is sent after its last change.
        assert_eq!(by_time(Work::Import, -1, None).await, equal);
        assert_eq!(by_time(Work::Import, 1, None).await, Verdict::Unproved);
        // Of the same size, in the place of the version that a run has sent.
        for seconds in [-1, 0] {
            let replaced = by_time(Work::Import, seconds, Some("other")).await;
            assert_eq!(replaced, Verdict::Unproved);
            assert_eq!(by_time(Work::Import, seconds, Some("v1")).await, equal);
        }
    }

    #[tokio::test]
    async fn a_checkpoint_knows_of_attributes_only_once_they_were_compared() {
        let stored = settings(Work::Import, AttributesMode::Stored);
        let places = Places::with(Arc::new(Memory::default()), stored).await;
        fs::write(places.path("f"), "here").unwrap();
        let described = |mode: &str| ObjectHeaders {
            user_metadata: [("mode".to_owned(), mode.to_owned())].into(),
            ..ObjectHeaders::default()
        };
        let stat = Stat::from(&fs::metadata(places.path("f")).unwrap());
        let other = places.described("f", "here", described("33261")).await;
        assert_eq!(
            places.judge.read("f", &other).await,
            Verdict::Equal(Proof::Read)
        );
        let told = places.judge.other_attributes("f", &stat, &other).await;
        assert!(told.unwrap().unwrap().contains("mode"));
        assert_eq!(
            places.judge.compare("f", &stat, &other).await,
            Verdict::Unproved
        );
        let mode = stat.mode.to_string();
        let same = places.described("f", "here", described(&mode)).await;
        let told = places.judge.other_attributes("f", &stat, &same).await;
        assert_eq!(told, Ok(None));
        let known = places.judge.compare("f", &stat, &same).await;
        assert_eq!(known, Verdict::Equal(Proof::Checkpoint));
    }
}
