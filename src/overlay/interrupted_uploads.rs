//! Uploads of long old files that a kill or an outage has cut off: they go on with the parts
//! that are missing.
//!
//! A part that the store has counts only where its ETag is the MD5 of the file's bytes: it
//! does not matter whose upload it was, nor what has become of the file since.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::store::{
    CompletedPart, ETag, Key, ListPartsRequest, ListedPart, ObjectStore, PART_COUNT_LIMIT,
    PartNumber, StoreError, UploadId,
};

/// Whether an upload that was cut off is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeUploads {
    Yes,
    /// What is stored with an object, which an upload has from its beginning, may have
    /// changed since.
    No,
}

/// Interrupted uploads, by key.
#[derive(Debug, Default)]
pub struct InterruptedUploads {
    by_key: Mutex<HashMap<Key, UploadId>>,
}

impl InterruptedUploads {
    /// Returns whether there was none of this key.
    pub fn add(&self, key: Key, upload: UploadId) -> bool {
        let mut waiting = self.by_key.lock();
        let is_first = !waiting.contains_key(&key);
        if is_first {
            waiting.insert(key, upload);
        }
        is_first
    }

    pub fn take(&self, key: &Key) -> Option<UploadId> {
        self.by_key.lock().remove(key)
    }

    /// Those that nobody has taken.
    pub fn take_all(&self) -> Vec<(Key, UploadId)> {
        self.by_key.lock().drain().collect()
    }
}

/// Parts that the store has.
#[derive(Debug, Default)]
pub struct UploadedParts(HashMap<PartNumber, ListedPart>);

impl UploadedParts {
    /// Errors: the store's; the upload is not there any more.
    pub async fn ask(
        store: &dyn ObjectStore,
        key: &Key,
        upload: &UploadId,
    ) -> Result<Self, StoreError> {
        let (mut found, mut after) = (HashMap::new(), None);
        // A page has one part at least.
        for _ in 0..PART_COUNT_LIMIT {
            let request = ListPartsRequest {
                key: key.clone(),
                upload: upload.clone(),
                after,
            };
            let page = store.list_parts(request).await?;
            found.extend(page.parts.into_iter().map(|it| (it.part.number, it)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(Self(found))
    }

    /// The part, if it has these bytes.
    pub fn part(&self, number: PartNumber, bytes: &Bytes) -> Option<CompletedPart> {
        let there = self.0.get(&number)?;
        let is_same =
            there.size_bytes == bytes.len() as u64 && there.part.etag == ETag::of_bytes(bytes);
        is_same.then(|| there.part.clone())
    }
}
