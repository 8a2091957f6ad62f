//! What an object has besides its bytes, and keeps when a file's next version is uploaded.

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::FsError;
use crate::files::{AttributeView, LowerLayer, OpenFile, SealedStage, whole_seconds};
use crate::namespace::{
    Asked, Attributes, Namespace, learn_attributes, record_attributes, take_attributes,
};
use crate::store::{CopyHeaders, ObjectHeaders, WriteCondition};
use crate::vocabulary::{ObjectId, ObjectVersion};
use crate::write_path::{Copier, CopyOver, CopyTask};

/// Most attempts at the copy that stores attributes; each takes as long as a request may.
const COPIES_TRIED: u32 = 20;

/// Finds out what an object has besides its bytes, and stores it.
#[derive(Debug)]
pub struct KeptHeaders {
    pub namespace: Arc<Namespace>,
    pub attributes: Arc<AttributeView>,
    pub copier: Arc<Copier>,
}

impl KeptHeaders {
    /// What the object has that the file's next version keeps.
    pub async fn learn(&self, file: &OpenFile) -> Result<Asked, FsError> {
        let known = file.inode.state().attributes.is_some();
        let asked = match learn_attributes(&self.namespace, &file.inode).await {
            // The upload finds out what is in its place.
            Err(FsError::Stale(_)) => Asked::default(),
            learned => learned?,
        };
        // A write found no such bits when they were not known.
        if !known && file.inode.state().unprivileged_writers {
            self.attributes.take_privileges(&file.inode);
        }
        Ok(asked)
    }

    /// What the object that is edited has besides its bytes, asked for again: another
    /// client may change it and leave the bytes.
    pub async fn of_base(&self, base: &LowerLayer) -> Result<Option<ObjectHeaders>, FsError> {
        let LowerLayer::Object(object) = base else {
            return Ok(None);
        };
        match self.copier.headers_of(&object.key, &object.etag).await {
            // The upload finds out what is in its place.
            Err(FsError::Stale(_) | FsError::NotFound(_)) => Ok(None),
            headers => headers.map(Some),
        }
    }

    /// Lays what is changed here over what the object that is edited has by now.
    pub fn take_kept(&self, file: &OpenFile, kept: Option<&ObjectHeaders>) {
        let Some(kept) = kept.filter(|_| self.namespace.stores_attributes()) else {
            return;
        };
        // Tags are not among them.
        let headers = ObjectHeaders {
            tags: None,
            ..kept.clone()
        };
        let stored = Arc::new(Attributes::decode(headers));
        let differs = take_attributes(&self.namespace, &file.inode, stored);
        if differs && file.inode.state().unprivileged_writers {
            self.attributes.take_privileges(&file.inode);
        }
    }

    /// What is to be stored in place of what an earlier attempt stored, if anything is.
    pub fn wanted_over(
        &self,
        file: &OpenFile,
        sealed: &SealedStage,
        wanted: &ObjectHeaders,
        found: &ObjectHeaders,
    ) -> Option<ObjectHeaders> {
        if !self.namespace.stores_attributes() {
            return None;
        }
        let shown = Attributes::decode(found.clone());
        // What differs from that is another client's.
        let stored = sealed.sent.stored_as(&shown)?;
        file.inode.state().settle(Arc::new(stored));
        self.take_kept(file, Some(found));
        let merged = self.attributes.wanted_attributes(&file.inode);
        let merged = merged.encode(file.inode.kind);
        let merged = merged.inspect_err(|error| {
            tracing::warn!(ino = file.inode.ino.0, %error, "attributes of two clients do not fit one object: the other client's stay");
        });
        let wanted = ObjectHeaders {
            tags: wanted.tags.clone(),
            ..merged.ok()?
        };
        let to_be = Attributes::decode(wanted.clone());
        (!shown.shows_as(&to_be)).then_some(wanted)
    }

    /// Copies the object onto itself with other headers, and tells which version that makes.
    pub async fn put_headers(
        &self,
        file: &OpenFile,
        version: &ObjectVersion,
        headers: ObjectHeaders,
    ) -> Result<ObjectVersion, FsError> {
        let key = self.namespace.file_key(file.inode.ino)?;
        let task = CopyTask {
            source: key.clone(),
            version: version.etag.clone(),
            size_bytes: version.size_bytes,
            target: key.clone(),
            over: CopyOver::Any(WriteCondition::IfMatch(version.etag.clone())),
            headers: CopyHeaders::Replace(Box::new(headers.clone())),
        };
        let etag = match self.copier.copy(&task).await {
            Err(error @ FsError::NotFound(_)) => return Err(error.into_stale()),
            copied => copied?,
        };
        let made = ObjectVersion {
            etag,
            ..version.clone()
        };
        self.record_object(file, &made.at(key), headers);
        Ok(made)
    }

    /// The file's object is this one now, by our own doing.
    pub fn record_object(&self, file: &OpenFile, object: &ObjectId, headers: ObjectHeaders) {
        let version = ObjectVersion {
            etag: object.etag.clone(),
            size_bytes: object.size_bytes,
            last_modified: whole_seconds(SystemTime::now()),
        };
        self.namespace.record_uploaded(&file.inode, version);
        let attributes = Arc::new(Attributes::decode(headers));
        record_attributes(&self.namespace, &file.inode, attributes);
        file.record();
        if self.namespace.stores_attributes() {
            // What was set here is stored now: a successor would lay it over what comes later.
            self.attributes.record_overrides(&file.inode);
        }
    }
}

/// Whether the copy that stores attributes may do better later. A store that fails at
/// copies for long is no reason not to be done.
pub fn is_passing(error: &FsError, sealed: &SealedStage) -> bool {
    error.is_transient() && sealed.sent.copy_failed() < COPIES_TRIED
}

/// What another client has put meanwhile stays as it is.
pub fn not_stored(file: &OpenFile, error: FsError) -> Result<(), FsError> {
    tracing::warn!(ino = file.inode.ino.0, %error, "cannot store attributes that were changed during the upload");
    match error {
        FsError::Stale(_) => Ok(()),
        error => Err(error),
    }
}
