//! What an object has besides its bytes, and keeps when a file's next version is uploaded.

use std::sync::Arc;

use crate::error::FsError;
use crate::files::{AttributeView, LowerLayer, OpenFile, Sealed};
use crate::namespace::{Asked, Attributes, Namespace, learn_attributes, take_attributes};
use crate::store::ObjectHeaders;
use crate::write_path::Copier;

/// Finds out what an object has besides its bytes.
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
        sealed: &Sealed,
        wanted: &ObjectHeaders,
        found: &ObjectHeaders,
    ) -> Result<Option<ObjectHeaders>, FsError> {
        let place = self.namespace.table().place(file.inode.ino);
        let (true, Some((_, name))) = (self.namespace.stores_attributes(), place) else {
            return Ok(None);
        };
        let wanted = match sealed.sent.headers() {
            // What differs from that is another client's.
            Some(sent) => {
                let sent = Arc::new(Attributes::decode(sent));
                file.inode.state().settle(sent);
                self.take_kept(file, Some(found));
                let kept = Some(wanted.clone());
                self.attributes
                    .upload_headers(&file.inode, &name, &sealed.base, kept)?
            }
            None if sealed.sent.lacks_attributes() => wanted.clone(),
            None => return Ok(None),
        };
        let [shown, to_be] = [found, &wanted].map(|it| Attributes::decode(it.clone()));
        Ok((!shown.shows_as(&to_be)).then_some(wanted))
    }
}
