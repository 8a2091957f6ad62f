//! What is stored with objects, where attributes are: remembered, else asked for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Namespace;
use super::attributes::{Attributes, Described};
use super::dir_entry::Marker;
use super::inode::{Inode, InodeState};
use super::name::Name;
use super::store_answer::{head, head_marker};
use super::table::Pin;
use crate::error::FsError;
use crate::store::{ETag, Key};
use crate::vocabulary::{Kind, ObjectVersion};

/// A call that takes longer, as one that waits for an upload, asks again.
const ANSWER_COUNTS_FOR: Duration = Duration::from_secs(1);

/// When a call that is about to change attributes has asked for what is stored, if it has,
/// and for what: another client may have changed it before, and this mount since.
#[derive(Debug, Clone, Default)]
pub struct Asked(Option<(Instant, Known)>);

/// What a question to the store is about: its answer tells nothing of what came after.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    etag: Option<ETag>,
    own_stores: u32,
}

impl Known {
    fn of(state: &InodeState) -> Self {
        Self {
            etag: state.remote.as_ref().map(|remote| remote.etag.clone()),
            own_stores: state.own_stores,
        }
    }
}

impl Asked {
    /// To be called before the question is sent.
    fn now(inode: &Inode) -> Self {
        Self(Some((Instant::now(), Known::of(&inode.state()))))
    }

    /// Whether nobody need ask again.
    pub fn counts(&self, inode: &Inode) -> bool {
        let of_now = Known::of(&inode.state());
        let counts =
            |(at, known): &(Instant, Known)| at.elapsed() < ANSWER_COUNTS_FOR && *known == of_now;
        self.0.as_ref().is_some_and(counts)
    }
}

/// Asks for what is stored with a file's object or a directory's marker where that is
/// not known, as of an inode that the kernel refers to since before a takeover. Free
/// where it is.
///
/// To be called before attributes are changed or sent with an upload.
/// Errors: `Stale` when another client removed or replaced the file; the store's.
pub async fn learn_attributes(namespace: &Namespace, inode: &Pin) -> Result<Asked, FsError> {
    let (known, version, is_local) = {
        let state = inode.state();
        let known = state.attributes.is_some();
        (known, state.remote.clone(), state.local.is_some())
    };
    let is_new = version.is_none() && is_local;
    if !namespace.stores_attributes() || known || is_new {
        return Ok(Asked::default());
    }
    if inode.kind == Kind::Directory {
        return learn_marker(namespace, inode).await;
    }
    let Some((parent, name)) = namespace.table.place(inode.ino) else {
        return Ok(Asked::default());
    };
    let Some(version) = version else {
        let is_there = namespace.revalidate(inode).await?;
        return if is_there {
            Ok(Asked::default())
        } else {
            Err(FsError::STALE)
        };
    };
    // Of another version nothing is taken over: the upload finds it.
    let asked = Asked::now(inode);
    let found = head(namespace, &namespace.table.get(parent)?, &name).await?;
    if let Some((_, described)) = found.filter(|(found, _)| found.etag == version.etag) {
        let mut state = inode.state();
        if state
            .remote
            .as_ref()
            .is_some_and(|it| it.etag == version.etag)
        {
            state.attributes.get_or_insert(described.attributes);
        }
    }
    Ok(asked)
}

/// The same, and anew where it is known.
pub async fn ask_attributes(namespace: &Namespace, inode: &Pin) -> Result<Asked, FsError> {
    let asked = learn_attributes(namespace, inode).await?;
    if asked.counts(inode) {
        return Ok(asked);
    }
    let asked = Asked::now(inode);
    relearn_attributes(namespace, inode).await?;
    Ok(asked)
}

/// What is set of a directory whose marker was never looked at is what a predecessor
/// showed: not a change, and less true than what the marker tells. Asks once.
async fn learn_marker(namespace: &Namespace, dir: &Pin) -> Result<Asked, FsError> {
    namespace.directories.recall(dir);
    if namespace.table.place(dir.ino).is_none() {
        return Ok(Asked::default());
    }
    let asked = Asked::now(dir);
    let described = ask_marker(namespace, dir).await?;
    let mut state = dir.state();
    if state.attributes.is_none() {
        state.adopt_marker(described.as_ref());
        // From now on what is set is a change.
        state.attributes.get_or_insert_default();
    }
    Ok(asked)
}

/// Asks anew for what is stored with a file's object, or a directory's marker: another
/// client may have changed it and left the bytes, which no condition on the ETag notices.
///
/// To be called before it is stored again. Free where attributes are not stored.
/// Returns whether the store told of them. Errors: the store's.
pub async fn relearn_attributes(namespace: &Namespace, inode: &Pin) -> Result<bool, FsError> {
    let place = namespace.table.place(inode.ino);
    let Some((parent, name)) = place.filter(|_| namespace.stores_attributes()) else {
        return Ok(false);
    };
    let parent = namespace.table.get(parent)?;
    let known = Known::of(&inode.state());
    let described = match inode.kind {
        // A marker without attributes tells nothing: not every store keeps them.
        Kind::Directory => {
            let described = ask_marker(namespace, inode).await?;
            described.filter(|it| it.attributes.says_something())
        }
        _ => object_attributes(namespace, inode, (&parent, &name)).await?,
    };
    let is_told = described.is_some();
    if let Some(described) = described {
        take_answer(namespace, inode, &known, described.attributes);
    }
    Ok(is_told)
}

/// None where the store has another version: who stores it finds out.
async fn object_attributes(
    namespace: &Namespace,
    inode: &Pin,
    (parent, name): (&Pin, &Name),
) -> Result<Option<Described>, FsError> {
    let Some(version) = inode.state().remote.clone() else {
        return Ok(None);
    };
    let found = head(namespace, parent, name).await?;
    let found = found.filter(|(found, _)| found.etag == version.etag);
    Ok(found.map(|(_, described)| described))
}

/// The store was found to hold these with the file's object, or the marker, by whoever
/// has the turn to store it. What was set here and is not stored yet stays. Returns
/// whether something else was shown.
pub fn take_attributes(namespace: &Namespace, inode: &Inode, stored: Arc<Attributes>) -> bool {
    let known = Known::of(&inode.state());
    take_answer(namespace, inode, &known, stored)
}

/// The same as the answer to a question that was asked when this was known. What is
/// stored here since is newer.
fn take_answer(
    namespace: &Namespace,
    inode: &Inode,
    known: &Known,
    stored: Arc<Attributes>,
) -> bool {
    let differs = {
        let mut state = inode.state();
        if Known::of(&state) != *known {
            return false;
        }
        let shown = |it: &Attributes| (it.mode, it.uid, it.gid, it.mtime, it.atime);
        let shows = shown(&stored);
        let known = state.attributes.replace(stored);
        known.is_some_and(|known| shown(&known) != shows)
    };
    if differs {
        namespace.attributes_changed(inode);
    }
    differs
}

/// What is stored with a directory's marker. Whether it has one is known then too, unless
/// that has changed here meanwhile.
async fn ask_marker(namespace: &Namespace, dir: &Pin) -> Result<Option<Described>, FsError> {
    let before = dir.state().dir.marker_changes();
    let found = head_marker(namespace, &namespace.table.dir_path(dir.ino)?).await?;
    let mut state = dir.state();
    let is_same = state.dir.marker_changes() == before;
    if is_same && state.dir.marker() == Marker::Unknown {
        state.dir.set_marker(Marker::of(found.as_ref()));
    }
    drop(state);
    Ok(found.map(Into::into))
}

/// The store holds these attributes with the inode's object or marker now, by our own doing.
pub fn record_attributes(namespace: &Namespace, inode: &Inode, attributes: Arc<Attributes>) {
    if let Some(cache) = &namespace.attribute_cache {
        let version = inode.state().remote.clone();
        if let (Some(version), Ok(key)) = (version, namespace.file_key(inode.ino)) {
            let described = Described {
                attributes: attributes.clone(),
                settled: false,
            };
            cache.put(&key, &version, &described);
        }
        inode.state().settle(attributes);
    }
}

/// Another key has a copy of an object now, by our own doing.
pub fn record_copied(namespace: &Namespace, from: &Key, to: &Key, version: &ObjectVersion) {
    if let Some(cache) = &namespace.attribute_cache {
        cache.copied(from, to, version);
    }
}

/// The version of the object of a name, by asking the store. Errors: the store's.
pub async fn stored_version(
    namespace: &Namespace,
    parent: &Pin,
    name: &Name,
) -> Result<Option<ObjectVersion>, FsError> {
    let found = head(namespace, parent, name).await?;
    Ok(found.map(|(version, _)| version))
}
