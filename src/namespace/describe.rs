//! What is stored with objects, where attributes are: remembered, else asked for.

use std::sync::Arc;

use tokio::time::Instant;

use super::Namespace;
use super::ask::Answer;
use super::attributes::Attributes;
use super::dir::Entry;
use super::inode::{Inode, ObjectVersion};
use super::name::Name;
use super::table::Pin;
use crate::error::FsError;
use crate::store::{HeadRequest, StoreErrorKind};

impl Namespace {
    /// Adds to an answer what is stored with the object, at the cost of one
    /// request for a version that was never asked for, and one a ttl for a directory.
    pub(super) async fn describe(
        &self,
        parent: &Pin,
        name: &Name,
        mut answer: Answer,
    ) -> Result<Answer, FsError> {
        let Some(cache) = &self.attribute_cache else {
            return Ok(answer);
        };
        match &answer.entry {
            Some(Entry::File(version)) if answer.attributes.is_none() => {
                answer.attributes = self.known_attributes(parent, name, version);
                if answer.attributes.is_some() {
                    return Ok(answer);
                }
                answer.asked_at = Instant::now();
                let found = self.head(parent, name).await?;
                (answer.entry, answer.attributes) = match found {
                    Some((version, attributes)) => {
                        let key = self.child_key(parent.ino, name)?;
                        cache.put(&key, &version, &attributes);
                        (Some(Entry::File(version)), Some(attributes))
                    }
                    // It went since it was listed.
                    None => (None, None),
                };
            }
            Some(Entry::Directory) => {
                answer.attributes = self.marker_attributes(parent, name).await?;
            }
            Some(Entry::File(_)) | None => {}
        }
        Ok(answer)
    }

    /// What is stored with a version of a file, if that is known without asking.
    pub(super) fn known_attributes(
        &self,
        parent: &Pin,
        name: &Name,
        version: &ObjectVersion,
    ) -> Option<Arc<Attributes>> {
        let cache = self.attribute_cache.as_ref()?;
        let key = self.child_key(parent.ino, name).ok()?;
        if let Some(child) = self.table.child(parent.ino, name) {
            let state = child.state();
            if let Some(attributes) = state
                .attributes
                .as_ref()
                .filter(|_| state.is_version(version))
            {
                if state.time_assumed {
                    cache.put(&key, version, attributes);
                }
                return Some(attributes.clone());
            }
        }
        cache.get(&key, version).map(Arc::new)
    }

    async fn marker_attributes(
        &self,
        parent: &Pin,
        name: &Name,
    ) -> Result<Option<Arc<Attributes>>, FsError> {
        let path = self.table.dir_path(parent.ino)?.join(name);
        let key = self.keys.marker_key(&path)?;
        match self.store.head(HeadRequest { key }).await {
            Ok(meta) => Ok(Some(Arc::new(Attributes::decode(meta.headers)))),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The store holds these attributes with the inode's object or marker now, by our own doing.
    pub fn record_attributes(&self, inode: &Inode, attributes: Arc<Attributes>) {
        if self.stores_attributes() {
            inode.state().settle(attributes);
        }
    }

    /// Writes what the attribute cache still has in memory.
    pub fn write_out(&self) {
        if let Some(cache) = &self.attribute_cache {
            cache.write_out();
        }
    }
}
