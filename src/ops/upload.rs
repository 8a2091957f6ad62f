//! From a file's staged bytes to its object.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Ops;
use super::content::{Sealed, SealedSource};
use super::open_file::OpenFile;
use crate::error::FsError;
use crate::namespace::{Attributes, Name, ObjectVersion};
use crate::read_path::ObjectId;
use crate::store::ObjectHeaders;
use crate::write_path::UploadTarget;

impl Ops {
    /// Brings the store up to date with a file. Returns once it has the bytes.
    ///
    /// Errors: that of this upload, or of one that failed before.
    pub(super) async fn upload(&self, file: &Arc<OpenFile>) -> Result<(), FsError> {
        let _tree = self.tree.read().await;
        let _turn = file.remote_turn.lock().await;
        let Some(sealed) = file.seal()? else {
            return Ok(());
        };
        match self.send(file, &sealed).await {
            Ok((object, headers)) => {
                self.publish(file, &sealed, object, headers).await;
                Ok(())
            }
            Err(error) => {
                tracing::error!(ino = file.inode.ino.0, %error, "upload failed");
                file.unseal(&self.spool, sealed, &error);
                Err(error)
            }
        }
    }

    async fn send(
        &self,
        file: &OpenFile,
        sealed: &Sealed,
    ) -> Result<(ObjectId, ObjectHeaders), FsError> {
        let (parent, name) = self
            .namespace
            .table()
            .place(file.inode.ino)
            .ok_or(FsError::Stale)?;
        let target = UploadTarget {
            key: self.namespace.child_key(parent, &name)?,
            headers: self.upload_headers(file, &name, &sealed.base)?,
            condition: sealed.condition.clone(),
            len: sealed.stage.len(),
        };
        let source = SealedSource {
            sealed,
            reader: &self.reader,
        };
        let etag = self.uploader.upload(&target, &source).await?;
        let object = ObjectId {
            key: target.key,
            etag,
            size_bytes: target.len,
        };
        Ok((object, target.headers))
    }

    async fn publish(
        &self,
        file: &OpenFile,
        sealed: &Sealed,
        object: ObjectId,
        headers: ObjectHeaders,
    ) {
        self.record_object(file, &object, headers);
        file.uploaded(&self.spool, sealed, Arc::new(object));
        self.announce(file).await;
    }

    /// The file's object is this one now, by our own doing.
    pub(super) fn record_object(&self, file: &OpenFile, object: &ObjectId, headers: ObjectHeaders) {
        let version = ObjectVersion {
            etag: object.etag.clone(),
            size_bytes: object.size_bytes,
            last_modified: whole_seconds(SystemTime::now()),
        };
        self.namespace.record_uploaded(&file.inode, version);
        let attributes = Arc::new(Attributes::decode(headers));
        self.namespace.record_attributes(&file.inode, attributes);
    }

    /// Tells the file's directory that it has a key of its own now.
    pub(super) async fn announce(&self, file: &OpenFile) {
        let Some((parent, _)) = self.namespace.table().place(file.inode.ino) else {
            return;
        };
        let Ok(parent) = self.namespace.inode(parent) else {
            return;
        };
        if let Err(error) = self.namespace.child_arrived(&parent).await {
            tracing::warn!(%error, "the directory's marker stays beside its first file");
        }
    }

    /// Copies into the stage what open handles still show of an object that is about to go.
    pub(super) async fn hydrate(&self, file: &OpenFile) -> Result<(), FsError> {
        const CHUNK_BYTES: u64 = 8 << 20;
        let Some(object) = file.shown_object() else {
            return Ok(());
        };
        while let Some(gap) = file.next_gap(&self.spool, CHUNK_BYTES)? {
            let mut at = gap.start;
            for block in self.reader.read(&object, gap.clone()).await? {
                file.fill(at, &block)?;
                at += block.len() as u64;
            }
            if at < gap.end {
                return Err(FsError::Corrupt);
            }
        }
        Ok(())
    }
}

/// Content-Type of a file by the extension of its name.
pub(super) fn content_type(name: &Name) -> Option<String> {
    mime_guess::from_path(name.as_str())
        .first_raw()
        .map(str::to_owned)
}

/// The content type that a rename changes, if it does: by the extension alone.
pub(super) fn renamed_content_type(from: &Name, to: &Name) -> Option<String> {
    let new = content_type(to);
    if content_type(from) == new { None } else { new }
}

/// Times of objects have no fraction, as in HTTP dates.
pub(super) fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
