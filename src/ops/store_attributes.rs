//! Attributes to the store: with the object's next version, or by a copy onto itself.

use std::sync::Arc;

use super::Ops;
use super::content::LowerLayer;
use super::moved_object::MovedObject;
use super::open_file::OpenFile;
use crate::error::FsError;
use crate::namespace::{Attributes, Name, Pin};
use crate::store::{ObjectHeaders, WriteCondition};
use crate::vocabulary::{Kind, ObjectId, ObjectVersion, OpenMode};
use crate::write_path::{CopyHeaders, CopyOver, CopyTask};

impl Ops {
    /// Brings what is stored with an inode up to date, where attributes are stored.
    ///
    /// Free when nothing differs, and while the file has bytes to upload: they go along.
    /// Errors: `NoSpace` when they do not fit; `Stale` when the object changed; the store's.
    pub(super) async fn store_attributes(&self, inode: &Pin) -> Result<(), FsError> {
        if !self.namespace.stores_attributes() {
            return Ok(());
        }
        let _subtrees = self.share_inodes([inode.ino]).await?;
        if inode.kind == Kind::Directory {
            return self
                .namespace
                .store_directory_attributes(inode)
                .await
                .map(drop);
        }
        let file = self.open_inode(self.namespace.inode(inode.ino)?, OpenMode::Read);
        let outcome = {
            let _turn = file.upload_lock.lock().await;
            self.copy_onto_itself(&file).await
        };
        self.close(&file, OpenMode::Read);
        if matches!(outcome, Err(FsError::Stale(_))) {
            self.namespace.invalidate(inode);
        }
        outcome
    }

    async fn copy_onto_itself(&self, file: &OpenFile) -> Result<(), FsError> {
        let inode = &file.inode;
        let (version, stored) = {
            let state = inode.state();
            (state.remote.clone(), state.attributes.clone())
        };
        let named = self.namespace.table().place(inode.ino).is_some();
        let Some(version) = version.filter(|_| named && !file.needs_upload()) else {
            return Ok(());
        };
        let headers = self.wanted_attributes(inode).encode(inode.kind)?;
        let attributes = Arc::new(Attributes::decode(headers.clone()));
        if stored.as_ref() == Some(&attributes) {
            self.namespace.record_attributes(inode, attributes);
            return Ok(());
        }
        let key = self.namespace.file_key(inode.ino)?;
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
        let object = ObjectId {
            key,
            etag,
            size_bytes: version.size_bytes,
        };
        self.record_object(file, &object, headers);
        let made = ObjectVersion {
            etag: object.etag,
            ..version.clone()
        };
        file.rebase(&MovedObject::of(version.etag.clone(), made), object.key);
        Ok(())
    }

    /// What is to be stored with an inode's object. The copy's own time is
    /// later, so the file's goes along always.
    pub(super) fn wanted_attributes(&self, inode: &Pin) -> Attributes {
        let (shown, _) = self.attr(inode);
        Attributes {
            mtime: Some(shown.mtime),
            ..inode.state().effective_attributes()
        }
    }

    /// What goes with an upload of a file's bytes.
    pub(super) fn upload_headers(
        &self,
        file: &OpenFile,
        name: &Name,
        base: &LowerLayer,
        kept: Option<ObjectHeaders>,
    ) -> Result<ObjectHeaders, FsError> {
        let inode = &file.inode;
        if !self.namespace.stores_attributes() {
            let mut headers = kept.unwrap_or_default();
            headers.content_type = headers
                .content_type
                .or_else(|| self.settings.content_types.of(name));
            return Ok(headers);
        }
        let mut headers = self.wanted_attributes(inode).encode(inode.kind)?;
        if matches!(base, LowerLayer::Empty) {
            // New bytes: how the old ones were encoded or cached is not theirs.
            headers = ObjectHeaders {
                content_type: headers.content_type,
                user_metadata: headers.user_metadata,
                ..ObjectHeaders::default()
            };
        }
        headers.content_type = headers
            .content_type
            .or_else(|| self.settings.content_types.of(name));
        headers.tags = kept.and_then(|kept| kept.tags);
        Ok(headers)
    }

    /// What the object that is edited has besides its bytes, asked for anew: another
    /// client may change it and leave the bytes.
    pub(super) async fn kept_headers(
        &self,
        base: &LowerLayer,
    ) -> Result<Option<ObjectHeaders>, FsError> {
        let LowerLayer::Object(object) = base else {
            return Ok(None);
        };
        match self.copier.headers_of(&object.key, &object.etag).await {
            // The upload finds out what is in its place.
            Err(FsError::Stale(_) | FsError::NotFound(_)) => Ok(None),
            headers => headers.map(Some),
        }
    }
}
