//! Versions as they are shown, and as the bucket has them.

use std::io;
use std::sync::Arc;

use super::core::{Core, refused};
use super::marks::{Marks, Record, hash_of};
use super::old_directory::OldStat;
use crate::store::{
    ETag, HeadRequest, Key, PutAnswer, StoreError, StoreErrorKind, StoreOp, WriteCondition,
};

/// Where a version is that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// In the bucket, under this ETag.
    Above(ETag),
    /// In the old directory alone.
    Below(OldStat),
    Gone,
}

/// Attempts of a change that an import of the same key overtakes.
const ATTEMPTS: usize = 3;

/// Has changes of the bucket made on the conditions of the store above.
#[derive(Debug)]
pub struct Versions {
    pub core: Arc<Core>,
}

impl Versions {
    /// Where the version is that the store above knows by this ETag: not while an import is
    /// about to change that.
    pub async fn version_in_turn(&self, key: &Key, etag: &ETag) -> Result<Version, StoreError> {
        let _turn = match self.core.path(key) {
            Some(path) if OldStat::is_etag(etag) => self.core.turn(path).await,
            _ => None,
        };
        self.version(key, etag).await
    }

    /// The same, for one who has the key's turn.
    pub async fn version(&self, key: &Key, etag: &ETag) -> Result<Version, StoreError> {
        if !OldStat::is_etag(etag) {
            return Ok(Version::Above(etag.clone()));
        }
        let Some(path) = self.core.path(key) else {
            return Ok(Version::Gone);
        };
        let (hash, of) = (hash_of(path), hash_of(etag.as_str()));
        let known = |marks: &Marks| (marks.twin(hash), marks.copy(hash), marks.is_hidden(hash));
        let (twin, copy, is_hidden) = self.core.marks.with(known);
        let twin = twin.filter(|twin| twin.of == of);
        let made = twin.map(|twin| twin.made);
        let made = made.or(copy.filter(|(_, of)| of == etag).map(|(made, _)| made));
        if let Some(made) = made {
            match self.head_above(key).await? {
                Some(there) if hash_of(there.as_str()) == made => return Ok(Version::Above(there)),
                Some(_) => return Ok(Version::Gone),
                // It was about to be made; or another client has removed it.
                None if twin.is_some_and(|twin| !twin.is_stored()) => {}
                None => return Ok(Version::Gone),
            }
        }
        if is_hidden {
            return Ok(Version::Gone);
        }
        let found = self.core.stat(key, path).await?;
        let found = found.filter(|stat| stat.etag() == *etag);
        Ok(found.map_or(Version::Gone, Version::Below))
    }

    /// The version that the bucket has.
    pub async fn head_above(&self, key: &Key) -> Result<Option<ETag>, StoreError> {
        let key = key.clone();
        match self.core.parts.store.head(HeadRequest { key }).await {
            Ok(meta) => Ok(Some(meta.etag)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Errors: `PreconditionFailed`, where it does not hold.
    async fn condition(
        &self,
        op: StoreOp,
        key: &Key,
        asked: &WriteCondition,
    ) -> Result<WriteCondition, StoreError> {
        match asked {
            WriteCondition::Always => Ok(WriteCondition::Always),
            WriteCondition::IfAbsent => match self.core.below(key).await? {
                Some(_) => Err(refused(op, key)),
                None => Ok(WriteCondition::IfAbsent),
            },
            WriteCondition::IfMatch(etag) => match self.version(key, etag).await? {
                Version::Above(etag) => Ok(WriteCondition::IfMatch(etag)),
                Version::Below(_) => Ok(WriteCondition::IfAbsent),
                Version::Gone => Err(refused(op, key)),
            },
        }
    }

    /// Puts something under a key. Errors: as of the request.
    pub async fn change<F>(
        &self,
        op: StoreOp,
        key: &Key,
        asked: &WriteCondition,
        send: impl Fn(WriteCondition) -> F,
    ) -> Result<PutAnswer, StoreError>
    where
        F: Future<Output = Result<PutAnswer, StoreError>>,
    {
        let Some(path) = self.core.path(key) else {
            return send(asked.clone()).await;
        };
        let hash = hash_of(path);
        let _turn = self.core.turn(path).await;
        let mut attempt = 1;
        loop {
            let condition = self.condition(op, key, asked).await?;
            let is_other = condition != *asked;
            match send(condition).await {
                // What an import left without an answer has come.
                Err(error)
                    if error.kind == StoreErrorKind::PreconditionFailed
                        && is_other
                        && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                // Not there, but for the old file.
                Err(error)
                    if error.kind == StoreErrorKind::NotFound
                        && op != StoreOp::Copy
                        && matches!(asked, WriteCondition::IfMatch(_))
                        && self.core.below(key).await?.is_some() =>
                {
                    return Err(refused(op, key));
                }
                Err(error) => return Err(error),
                Ok(answer) => {
                    if self.core.marks.with(|marks| marks.may_count(hash))
                        && !matches!(self.core.stat(key, path).await, Ok(None))
                    {
                        self.core.hide_replaced(path);
                    }
                    return Ok(answer);
                }
            }
        }
    }

    /// An object with the bytes of an old version is about to be made, or was. After a power
    /// loss too it is found for what it is.
    ///
    /// Errors: the disk's.
    pub async fn note_copy(&self, key: &Key, made: &ETag, of: &ETag) -> io::Result<()> {
        let Some(path) = self.core.path(key) else {
            return Ok(());
        };
        let record = Record::Copied {
            key: hash_of(path),
            made: hash_of(made.as_str()),
            of: of.clone(),
        };
        self.core.append_synced(record).await
    }

    /// The old version that an object of the bucket has the bytes of, if it is one that
    /// was made here; and the old file, where that has the same name.
    pub async fn shown_version(
        &self,
        key: &Key,
        etag: &ETag,
    ) -> Result<Option<(ETag, Option<OldStat>)>, StoreError> {
        let Some(path) = self.core.path(key) else {
            return Ok(None);
        };
        let (hash, made) = (hash_of(path), hash_of(etag.as_str()));
        let is_being_made = |marks: &Marks| {
            let twin = marks.twin(hash).filter(|_| !marks.is_removed(hash));
            twin.is_some_and(|twin| !twin.is_stored() && twin.made != made)
        };
        if self.core.marks.with(is_being_made) {
            // What it is called is known when the import has its answer.
            drop(self.core.turn(path).await);
        }
        let known = |marks: &Marks| {
            let twin = marks.twin(hash).filter(|twin| twin.made == made);
            let copy = marks.copy(hash).filter(|(of_copy, _)| *of_copy == made);
            (twin.filter(|_| !marks.is_removed(hash)), copy)
        };
        let (twin, copy) = self.core.marks.with(known);
        if let Some((_, of)) = copy {
            return Ok(Some((of, None)));
        }
        let Some(twin) = twin else {
            return Ok(None);
        };
        let stat = self.core.stat(key, path).await?;
        let same = stat.filter(|stat| hash_of(stat.etag().as_str()) == twin.of);
        Ok(same.map(|stat| (stat.etag(), Some(stat))))
    }
}
