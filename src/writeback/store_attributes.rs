//! Attributes to the store: with the object's next version, or by a copy onto itself.

use std::sync::Arc;

use super::publish::Uploads;
use crate::error::FsError;
use crate::files::{AttributeView, Dropped, OpenFile, OpenFiles};
use crate::namespace::{
    Asked, Attributes, BeforeStoring, Namespace, Pin, SubtreeLocks, record_attributes,
    relearn_attributes, store_directory_attributes,
};
use crate::store::ObjectHeaders;
use crate::vocabulary::{Kind, OpenMode};

/// Brings changed attributes to the store.
#[derive(Debug)]
pub struct AttributeWriter {
    pub namespace: Arc<Namespace>,
    pub files: Arc<OpenFiles>,
    pub attributes: Arc<AttributeView>,
    pub subtrees: Arc<SubtreeLocks>,
    pub uploads: Arc<Uploads>,
}

impl AttributeWriter {
    /// Brings what is stored with an inode up to date, where attributes are stored.
    ///
    /// Free when nothing differs. While the file has bytes to upload they go along, and
    /// with what is sealed of them into the journal.
    /// Errors: `NoSpace` when they do not fit; `Stale` when the object changed; the store's;
    /// the journal's.
    /// `before` learns what is replaced, right before it is; `asked` is when the caller has
    /// asked for what is stored.
    pub async fn store_attributes(
        &self,
        inode: &Pin,
        before: BeforeStoring<'_>,
        asked: Asked,
    ) -> Result<(), FsError> {
        if !self.namespace.stores_attributes() {
            return Ok(());
        }
        let _subtrees = self.subtrees.share_inodes([inode.ino]).await?;
        if inode.kind == Kind::Directory {
            return store_directory_attributes(&self.namespace, inode, before, asked)
                .await
                .map(drop);
        }
        let file = self
            .files
            .open(self.namespace.inode(inode.ino)?, OpenMode::Read);
        let outcome = {
            let _turn = file.upload_lock.lock().await;
            self.copy_onto_itself(&file, before, asked).await
        };
        self.files.close(&file, OpenMode::Read);
        if matches!(outcome, Err(FsError::Stale(_))) {
            self.namespace.invalidate(inode);
        }
        outcome
    }

    async fn copy_onto_itself(
        &self,
        file: &OpenFile,
        before: BeforeStoring<'_>,
        asked: Asked,
    ) -> Result<(), FsError> {
        let inode = &file.inode;
        let version = inode.state().remote.clone();
        let named = self.namespace.table().place(inode.ino).is_some();
        let Some(version) = version.filter(|_| named && !file.needs_upload()) else {
            return self.uploads.sealer.journal_attributes(file).await;
        };
        if self.changed_headers(inode)?.is_none() {
            return Ok(());
        }
        // Only what is changed here is changed there.
        if !asked.counts(inode) {
            relearn_attributes(&self.namespace, inode).await?;
        }
        let Some(headers) = self.changed_headers(inode)? else {
            return Ok(());
        };
        before(inode);
        self.uploads.replace_headers(file, &version, headers).await
    }

    /// What is to be stored with a file's object, where that is not what is stored.
    fn changed_headers(&self, inode: &Pin) -> Result<Option<ObjectHeaders>, FsError> {
        let wanted = self.attributes.wanted_attributes(inode);
        let headers = wanted.encode(inode.kind)?;
        let attributes = Arc::new(Attributes::decode(headers.clone()));
        let stored = inode.state().attributes.clone();
        if stored.as_ref() == Some(&attributes) {
            record_attributes(&self.namespace, inode, attributes);
            return Ok(None);
        }
        Ok(Some(headers))
    }

    /// Stores what is left, where no upload takes it along.
    pub async fn store_dropped(&self, inode: &Pin, dropped: Dropped) -> Result<(), FsError> {
        match dropped {
            // Asked again, the bits are there or they are not.
            Dropped::Yes => {
                let asked = Asked::default();
                self.store_attributes(inode, &|_| (), asked).await
            }
            Dropped::No => Ok(()),
        }
    }
}
