//! Questions, answered by the bucket or the old directory.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::core::{Core, Either, of_old, refused};
use super::old_directory::{OldFile, OldStat};
use super::versions::{Version, Versions};
use crate::store::{
    ETag, GetAnswer, GetRequest, HeadRequest, Key, ObjectMeta, StoreError, StoreErrorKind, StoreOp,
};

/// Answers questions by the bucket or the old directory.
#[derive(Debug)]
pub struct Reading {
    pub core: Arc<Core>,
    pub versions: Arc<Versions>,
}

impl Reading {
    pub async fn head_shown(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        let key = &request.key;
        let head = || self.core.parts.store.head(request.clone());
        match self.core.either(key, head).await? {
            Either::Above(meta) => self.shown_meta(key, meta).await,
            Either::Below(stat) => Ok(self.meta_of(key, &stat)),
        }
    }

    async fn shown_meta(&self, key: &Key, meta: ObjectMeta) -> Result<ObjectMeta, StoreError> {
        let Some((etag, of)) = self.versions.shown_version(key, &meta.etag).await? else {
            return Ok(meta);
        };
        let last_modified = of.map_or(meta.last_modified, |of| of.last_modified());
        Ok(ObjectMeta {
            etag,
            last_modified,
            ..meta
        })
    }

    /// What is told of an old file.
    pub fn meta_of(&self, key: &Key, stat: &OldStat) -> ObjectMeta {
        let path = self.core.path(key).unwrap_or_default();
        ObjectMeta {
            etag: stat.etag(),
            size_bytes: stat.size_bytes,
            last_modified: stat.last_modified(),
            answered_at: SystemTime::now(),
            tag_count: 0,
            headers: (self.core.parts.describe)(path, stat),
        }
    }

    pub async fn get_shown(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        let key = request.key.clone();
        let Some(asked) = request.if_match.clone() else {
            return self.get_any_version(request).await;
        };
        if !OldStat::is_etag(&asked) {
            return self.core.parts.store.get(request).await;
        }
        // It has these bytes whether it is shown or not: who has it open reads on.
        if let Some(file) = self.open_version(&key, &asked).await? {
            return self.read_old(&key, file, request.range).await;
        }
        let Version::Above(etag) = self.versions.version_in_turn(&key, &asked).await? else {
            return Err(refused(StoreOp::Get, &key));
        };
        let request = GetRequest {
            if_match: Some(etag),
            sink: None,
            ..request
        };
        let mut answer = self.core.parts.store.get(request).await?;
        answer.meta.etag = asked;
        Ok(answer)
    }

    async fn get_any_version(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        let key = &request.key;
        let get = || self.core.parts.store.get(request.clone());
        let stat = match self.core.either(key, get).await? {
            Either::Above(answer) => {
                let meta = self.shown_meta(key, answer.meta).await?;
                return Ok(GetAnswer { meta, ..answer });
            }
            Either::Below(stat) => stat,
        };
        if key.as_str().ends_with('/') {
            return Ok(GetAnswer {
                meta: self.meta_of(key, &stat),
                body: Bytes::new(),
            });
        }
        match self.open_version(key, &stat.etag()).await? {
            Some(file) => self.read_old(key, file, request.range).await,
            None => Err(refused(StoreOp::Get, key)),
        }
    }

    /// The old file of a key, if it is this version.
    pub async fn open_version(
        &self,
        key: &Key,
        etag: &ETag,
    ) -> Result<Option<Arc<OldFile>>, StoreError> {
        let Some(path) = self.core.path(key).map(str::to_owned) else {
            return Ok(None);
        };
        let opened = self.core.on_disk(move |old| old.open(&path)).await;
        let opened = opened.map_err(|error| of_old(StoreOp::Get, key, &error))?;
        Ok(opened
            .filter(|file| file.stat.etag() == *etag)
            .map(Arc::new))
    }

    async fn read_old(
        &self,
        key: &Key,
        file: Arc<OldFile>,
        range: Option<Range<u64>>,
    ) -> Result<GetAnswer, StoreError> {
        let meta = self.meta_of(key, &file.stat);
        let size = meta.size_bytes;
        let range = range.unwrap_or(0..size);
        if range.start >= size && !(size == 0 && range.start == 0) {
            let kind = StoreErrorKind::InvalidRange;
            let why = "behind the end of the old file";
            return Err(StoreError::new(kind, StoreOp::Get, key.clone(), why));
        }
        let body = self
            .bytes_of(StoreOp::Get, key, &file, range.start..range.end.min(size))
            .await?;
        Ok(GetAnswer { meta, body })
    }

    /// Errors: `PreconditionFailed` where the file is another version by now.
    pub async fn bytes_of(
        &self,
        op: StoreOp,
        key: &Key,
        file: &Arc<OldFile>,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let file = file.clone();
        let read = self.core.on_disk(move |_| file.read(range)).await;
        let read = read.map_err(|error| of_old(op, key, &error))?;
        read.ok_or_else(|| refused(op, key))
    }
}
