//! Old files that were changed after they were sent, and have the bytes that were sent.
//!
//! An owner, a mode, a time or another link that somebody gives a file makes a version of
//! it that no object was made of, although its object has all of its bytes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::core::Core;
use super::marks::hash_of;
use super::old_directory::{OldFile, OldStat};
use super::reading::Reading;
use super::send::part_bytes_of;
use crate::store::{ETag, GetRequest, Key, ListedObject, StoreError, StoreErrorKind, StoreOp};

/// Of an object, read and in memory at once.
const READ_BYTES: u64 = 8 << 20;

/// What is known of changed files and their objects.
#[derive(Debug)]
pub struct SameBytes {
    core: Arc<Core>,
    reading: Arc<Reading>,
    /// The version of the old file that has the bytes of its object.
    known: Mutex<HashMap<u64, u64>>,
}

/// How an old file compares with its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Since a walk before.
    StillSame,
    Same,
    Different,
}

impl SameBytes {
    pub fn new(core: Arc<Core>, reading: Arc<Reading>) -> Self {
        Self {
            core,
            reading,
            known: Mutex::default(),
        }
    }

    /// Whether the old file, as it is, has the bytes of the object that was made of it.
    ///
    /// Errors: the disk's; the store's.
    pub async fn compare(
        &self,
        key: &Key,
        stat: &OldStat,
        object: &ListedObject,
    ) -> Result<Compared, StoreError> {
        let path = self.core.path(key).unwrap_or_default();
        let (hash, of) = (hash_of(path), hash_of(stat.etag().as_str()));
        if self.known.lock().get(&hash) == Some(&of) {
            return Ok(Compared::StillSame);
        }
        let compared = match path.ends_with('/') {
            // A marker has no bytes.
            true => Ok(true),
            false => self.is_same(key, stat, object).await,
        };
        match compared {
            Ok(true) => {
                self.known.lock().insert(hash, of);
                Ok(Compared::Same)
            }
            // The next walk compares it, or its object, as it is by then.
            Err(error) if error.kind == StoreErrorKind::PreconditionFailed => {
                Ok(Compared::Different)
            }
            compared => compared.map(|_| Compared::Different),
        }
    }

    async fn is_same(
        &self,
        key: &Key,
        stat: &OldStat,
        object: &ListedObject,
    ) -> Result<bool, StoreError> {
        if object.size_bytes != stat.size_bytes {
            return Ok(false);
        }
        let Some(file) = self.reading.open_version(key, &stat.etag()).await? else {
            return Ok(false);
        };
        if self.etag_of(key, &file).await?.as_ref() == Some(&object.etag) {
            return Ok(true);
        }
        // Not every store's ETags tell of bytes.
        self.is_same_read(key, &file, object).await
    }

    /// What the file's object has as its ETag, where that tells of its bytes.
    async fn etag_of(&self, key: &Key, file: &Arc<OldFile>) -> Result<Option<ETag>, StoreError> {
        let size = file.stat.size_bytes;
        let part_bytes = match size <= self.core.parts.part_bytes {
            true => self.core.parts.part_bytes,
            false => part_bytes_of(&self.core, size),
        };
        let mut parts = Vec::new();
        let mut at = 0;
        loop {
            let end = size.min(at + part_bytes);
            let part = self.reading.bytes_of(StoreOp::Get, key, file, at..end);
            parts.push(ETag::of_bytes(&part.await?));
            at = end;
            if at == size {
                break;
            }
        }
        Ok(match size <= self.core.parts.part_bytes {
            true => parts.pop(),
            false => ETag::of_parts(&parts),
        })
    }

    async fn is_same_read(
        &self,
        key: &Key,
        file: &Arc<OldFile>,
        object: &ListedObject,
    ) -> Result<bool, StoreError> {
        let mut at = 0;
        while at < object.size_bytes {
            let range = at..object.size_bytes.min(at + READ_BYTES);
            self.core.foreground.quiet().await;
            let request = GetRequest {
                key: key.clone(),
                range: Some(range.clone()),
                if_match: Some(object.etag.clone()),
                sink: None,
            };
            let there = self.core.parts.store.get(request).await?.body;
            let here = self
                .reading
                .bytes_of(StoreOp::Get, key, file, range.clone());
            if here.await? != there {
                return Ok(false);
            }
            at = range.end;
        }
        Ok(true)
    }
}
