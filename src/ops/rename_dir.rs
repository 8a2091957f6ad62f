//! Renaming a directory: every key under it is copied, then the old ones are deleted.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::Ops;
use super::rename::Place;
use crate::error::FsError;
use crate::namespace::{Entry, Ino, Kind, ObjectVersion, Pin};
use crate::read_path::ObjectId;
use crate::store::{
    COPY_LIMIT_BYTES, DELETE_MANY_LIMIT, FoldDirectories, Key, LIST_PAGE_LIMIT, ListRequest,
    ListedObject,
};

/// Copies of one directory rename that run at once.
const COPIES_AT_ONCE: usize = 16;

/// New versions of the moved objects, by their old keys.
type Moved = HashMap<Key, ObjectVersion>;

impl Ops {
    pub(super) async fn rename_dir(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        source: &Pin,
        target: Option<&Pin>,
    ) -> Result<(), FsError> {
        // Alone: no upload may put a key under the old name meanwhile.
        let _tree = self.tree.write().await;
        if let Some(target) = target {
            self.namespace.check_empty(target).await?;
        }
        let old_prefix = self.dir_prefix(from)?;
        let new_prefix = self.dir_prefix(to)?;
        let objects = self.objects_under(&old_prefix).await?;
        let moved = self.copy_all(&objects, &old_prefix, &new_prefix).await?;
        // Readers go to the copies before the originals go.
        self.rebase_subtree(source, &old_prefix, &new_prefix, &moved);
        if !objects.is_empty() {
            self.namespace
                .record(to.dir.ino, to.name, Some(Entry::Directory));
            if let Err(error) = self.namespace.child_arrived(&to.dir).await {
                tracing::warn!(%error, "the directory's marker stays beside its first entry");
            }
            self.namespace.child_leaves(&from.dir, from.name).await?;
            self.delete_all(&objects).await?;
            self.namespace.record(from.dir.ino, from.name, None);
        }
        if let Some(target) = target {
            if !moved.contains_key(&Key::new(old_prefix.as_str())) {
                self.namespace.remove_marker(target).await?;
            }
        }
        self.namespace
            .table()
            .rename(source.ino, to.dir.ino, to.name)
    }

    fn dir_prefix(&self, place: &Place<'_>) -> Result<String, FsError> {
        let path = self.namespace.table().dir_path(place.dir.ino)?;
        Ok(self.namespace.keys().dir_prefix(&path.join(place.name)))
    }

    /// Errors: `CrossDevice` when there are more than the limit: mv(1) then copies file by file.
    async fn objects_under(&self, prefix: &str) -> Result<Vec<ListedObject>, FsError> {
        let mut found: Vec<ListedObject> = Vec::new();
        let mut token = None;
        loop {
            let request = ListRequest {
                prefix: prefix.to_owned(),
                fold_directories: FoldDirectories::No,
                token,
                max_keys: LIST_PAGE_LIMIT,
            };
            let answer = self.store.list(request).await?;
            found.extend(answer.objects);
            let too_big = found
                .iter()
                .any(|object| object.size_bytes > COPY_LIMIT_BYTES);
            if found.len() as u64 > self.settings.max_rename_objects || too_big {
                return Err(FsError::CrossDevice);
            }
            token = answer.next;
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    async fn copy_all(
        &self,
        objects: &[ListedObject],
        old_prefix: &str,
        new_prefix: &str,
    ) -> Result<Moved, FsError> {
        stream::iter(objects.to_vec())
            .map(|object| async move {
                let rest = object
                    .key
                    .as_str()
                    .strip_prefix(old_prefix)
                    .ok_or(FsError::Stale)?;
                let target = Key::new(format!("{new_prefix}{rest}"));
                if target.is_too_long() {
                    return Err(FsError::NameTooLong);
                }
                let version = ObjectVersion::from(&object);
                // The extensions stay, and with them the content types.
                let version = self
                    .copy_version(&object.key, &target, None, version)
                    .await?;
                Ok((object.key, version))
            })
            .buffer_unordered(COPIES_AT_ONCE)
            .try_collect()
            .await
    }

    async fn delete_all(&self, objects: &[ListedObject]) -> Result<(), FsError> {
        for batch in objects.chunks(DELETE_MANY_LIMIT) {
            let keys = batch.iter().map(|object| object.key.clone()).collect();
            if let Some((_, error)) = self.store.delete_many(keys).await?.into_iter().next() {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Inodes under the directory stand for the copies from now on.
    fn rebase_subtree(&self, dir: &Pin, old_prefix: &str, new_prefix: &str, moved: &Moved) {
        dir.state().dir.forget_listing();
        for (name, child) in self.namespace.table().children(dir.ino) {
            let old_key = format!("{old_prefix}{}", name.as_str());
            let new_key = format!("{new_prefix}{}", name.as_str());
            match child.kind {
                Kind::Directory => {
                    self.rebase_subtree(
                        &child,
                        &format!("{old_key}/"),
                        &format!("{new_key}/"),
                        moved,
                    );
                }
                Kind::File => {
                    if let Some(version) = moved.get(&Key::new(old_key)) {
                        self.rebase_file(child.ino, &child, Key::new(new_key), version);
                    }
                }
            }
        }
    }

    fn rebase_file(&self, ino: Ino, inode: &Pin, key: Key, version: &ObjectVersion) {
        inode.state().remote = Some(version.clone());
        if let Some(file) = self.files.get(ino) {
            let ObjectVersion {
                etag, size_bytes, ..
            } = version.clone();
            file.rebase(Arc::new(ObjectId {
                key,
                etag,
                size_bytes,
            }));
        }
    }
}
