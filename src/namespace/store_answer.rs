//! What the store says of one name, and what is stored with the object behind it.

use std::sync::Arc;

use tokio::time::Instant;

use super::Namespace;
use super::attributes::Described;
use super::dir_entry::{ChangeSeq, Entry};
use super::keyspace::DirPath;
use super::name::Name;
use super::table::Pin;
use crate::error::FsError;
use crate::store::{FoldDirectories, HeadRequest, ListRequest, ObjectMeta, if_there};
use crate::vocabulary::{Kind, ObjectVersion};

/// What the store said of one name.
pub struct StoreAnswer {
    pub entry: Option<Entry>,
    /// What is stored with a file's object, or a directory's marker, where that was asked for.
    pub described: Option<Described>,
    pub asked_at: Instant,
    pub seq: ChangeSeq,
}

impl StoreAnswer {
    /// What is there; none where nothing is.
    pub fn kind(&self) -> Option<Kind> {
        match &self.entry {
            Some(Entry::File(_)) => {
                let told = self.described.as_ref();
                Some(told.map_or(Kind::File, |told| told.attributes.kind))
            }
            Some(Entry::Directory) => Some(Kind::Directory),
            None => None,
        }
    }
}

/// Adds to an answer what is stored with the object, at the cost of one
/// request for a version that was never asked for, and one a ttl for a directory.
pub async fn describe(
    namespace: &Namespace,
    parent: &Pin,
    name: &Name,
    mut answer: StoreAnswer,
) -> Result<StoreAnswer, FsError> {
    let Some(cache) = &namespace.attribute_cache else {
        return Ok(answer);
    };
    match &answer.entry {
        Some(Entry::File(version)) if answer.described.is_none() => {
            answer.described = known_attributes(namespace, parent, name, version);
            if answer.described.is_some() {
                return Ok(answer);
            }
            answer.asked_at = Instant::now();
            let found = head(namespace, parent, name).await?;
            (answer.entry, answer.described) = match found {
                Some((version, described)) => {
                    let key = namespace.child_key(parent.ino, name)?;
                    cache.put(&key, &version, &described);
                    (Some(Entry::File(version)), Some(described))
                }
                // It went since it was listed.
                None => (None, None),
            };
        }
        Some(Entry::Directory) => {
            let path = namespace.table.dir_path(parent.ino)?.join(name);
            answer.described = head_marker(namespace, &path).await?.map(Into::into);
        }
        Some(Entry::File(_)) | None => {}
    }
    Ok(answer)
}

/// What is stored with a version of a file, if that is certain without asking.
///
/// What this mount has stored itself is not: another client may have changed it
/// within the same second.
pub fn known_attributes(
    namespace: &Namespace,
    parent: &Pin,
    name: &Name,
    version: &ObjectVersion,
) -> Option<Described> {
    let cache = namespace.attribute_cache.as_ref()?;
    let key = namespace.child_key(parent.ino, name).ok()?;
    if let Some(child) = namespace.table.child(parent.ino, name) {
        let state = child.state();
        let known = state.attributes.as_ref().filter(|_| state.settled);
        if let Some(attributes) = known.filter(|_| state.remote.as_ref() == Some(version)) {
            return Some(Described {
                attributes: attributes.clone(),
                settled: true,
            });
        }
    }
    let attributes = Arc::new(cache.get(&key, version)?);
    Some(Described {
        attributes,
        settled: true,
    })
}

/// What stands under the directory's own key. An answer about a directory that only what
/// is in it makes is none: it may go with its last entry.
pub async fn head_marker(
    namespace: &Namespace,
    path: &DirPath,
) -> Result<Option<ObjectMeta>, FsError> {
    let key = namespace.keys.marker_key(path)?;
    let found = if_there(namespace.store.head(HeadRequest { key }).await)?;
    Ok(found.filter(|meta| !meta.etag.is_of_no_parts()))
}

/// The object of a file, and what is stored with it.
pub async fn head(
    namespace: &Namespace,
    parent: &Pin,
    name: &Name,
) -> Result<Option<(ObjectVersion, Described)>, FsError> {
    let key = namespace.child_key(parent.ino, name)?;
    let found = if_there(namespace.store.head(HeadRequest { key }).await)?;
    Ok(found.map(|meta| {
        let version = ObjectVersion {
            etag: meta.etag.clone(),
            size_bytes: meta.size_bytes,
            last_modified: meta.last_modified,
        };
        (version, meta.into())
    }))
}

/// What the store has of a name, asked for by itself.
pub async fn ask_by_name(
    namespace: &Namespace,
    parent: &Pin,
    name: &Name,
) -> Result<StoreAnswer, FsError> {
    let (asked_at, seq) = (Instant::now(), parent.state().dir.now());
    let known = namespace
        .table
        .child(parent.ino, name)
        .map(|child| child.kind);
    let (file, directory) = match known {
        Some(Kind::Directory) => match as_directory(namespace, parent, name).await? {
            Some(directory) => (None, Some(directory)),
            None => (head(namespace, parent, name).await?, None),
        },
        Some(_) => match head(namespace, parent, name).await? {
            Some(file) => (Some(file), None),
            None => (None, as_directory(namespace, parent, name).await?),
        },
        None => tokio::try_join!(
            head(namespace, parent, name),
            as_directory(namespace, parent, name)
        )?,
    };
    let (entry, described) = match (directory, file) {
        (Some(directory), _) => (Some(directory), None),
        (None, Some((version, described))) => (Some(Entry::File(version)), Some(described)),
        (None, None) => (None, None),
    };
    Ok(StoreAnswer {
        entry,
        described: described.filter(|_| namespace.stores_attributes()),
        asked_at,
        seq,
    })
}

async fn as_directory(
    namespace: &Namespace,
    parent: &Pin,
    name: &Name,
) -> Result<Option<Entry>, FsError> {
    let request = ListRequest {
        prefix: format!("{}/", namespace.child_key(parent.ino, name)?.as_str()),
        fold_directories: FoldDirectories::No,
        token: None,
        max_keys: 1,
    };
    let answer = namespace.store.list(request).await?;
    Ok((!answer.objects.is_empty()).then_some(Entry::Directory))
}
