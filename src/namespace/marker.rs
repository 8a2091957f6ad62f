//! Directory markers: zero-byte objects `dir/` that make empty directories persist.
//!
//! With `Auto` a marker stands only while nothing else is in the directory: an
//! application's own S3 backend lists every key as a file.

use std::sync::Arc;

use tokio::time::Instant;

use super::Namespace;
use super::attributes::Attributes;
use super::dir_entry::{Entry, Marker};
use super::inode::LocalState;
use super::name::Name;
use super::page::Page;
use super::store_answer::head_marker;
use super::stored_attributes::{Asked, relearn_attributes};
use super::table::Pin;
use crate::error::FsError;
use crate::store::{
    DeleteQueue, DeleteRequest, ETag, FoldDirectories, Key, LIST_PAGE_LIMIT, ListProgress,
    ListRequest, ListedObject, MarkerKeys, ObjectHeaders, PutRequest,
};
use crate::vocabulary::{Kind, ROOT};

/// Learns what is stored with an inode's object or marker, which is about to be replaced.
pub type BeforeStoring<'a> = &'a (dyn Fn(&Pin) + Sync);

/// When directory markers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirMarkers {
    /// While the directory has no other key.
    Auto,
    /// From mkdir to rmdir.
    Always,
    /// Never: an empty directory is this mount's own and goes with it.
    Never,
}

/// What came of storing a directory's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// There was nothing to store, or nowhere.
    Nothing,
    Marker,
}

/// When they are written on this store.
pub fn wanted(namespace: &Namespace) -> DirMarkers {
    match namespace.late.abilities().get().marker_keys {
        MarkerKeys::Refused => DirMarkers::Never,
        MarkerKeys::Kept | MarkerKeys::Unknown => namespace.markers,
    }
}

/// Makes a new directory, so far local, exist in the store, as far as markers are wanted.
///
/// Errors: the store's, when the marker could not be written.
pub async fn persist_directory(
    namespace: &Namespace,
    parent: &Pin,
    dir: &Pin,
) -> Result<(), FsError> {
    if wanted(namespace) == DirMarkers::Never {
        return Ok(());
    }
    let stored = store_directory_attributes(namespace, dir, &|_| (), Asked::default());
    if stored.await? == Stored::Nothing {
        put_marker(namespace, dir).await?;
        confirm_existence(namespace, dir);
    }
    drop_marker(namespace, parent).await;
    Ok(())
}

/// A key came to be in the directory: a marker is not needed any more.
pub async fn entry_added(namespace: &Namespace, dir: &Pin) {
    confirm_existence(namespace, dir);
    drop_marker(namespace, dir).await;
}

/// Something else is in the directory. Where the store does not delete the marker, it stays.
async fn drop_marker(namespace: &Namespace, dir: &Pin) {
    let Err(error) = drop_needless_marker(namespace, dir).await else {
        return;
    };
    let times = {
        let mut state = dir.state();
        state.dir.markers_that_stayed = state.dir.markers_that_stayed.saturating_add(1);
        state.dir.markers_that_stayed
    };
    // One is worth a line for each directory, and each time they have doubled.
    if times.is_power_of_two() {
        let ino = dir.ino.0;
        tracing::warn!(ino, times, %error, "a directory's marker stays beside what is in it: it cannot be deleted");
    }
}

/// The directory and those above it exist in the store: something lies under them.
fn confirm_existence(namespace: &Namespace, dir: &Pin) {
    let mut at = dir.ino;
    while let Some((parent, name)) = namespace.table.place(at) {
        let known = namespace.table.get(parent).is_ok_and(|parent| {
            let state = parent.state();
            state
                .dir
                .listing()
                .is_some_and(|listing| listing.entries.contains_key(&name))
        });
        if !known {
            namespace.record(parent, &name, Some(Entry::Directory));
        }
        // Last: at every moment it is known from one or the other.
        if let Ok(inode) = namespace.table.get(at) {
            let mut state = inode.state();
            state.local = None;
            state.checked_at = Some(Instant::now());
        }
        at = parent;
    }
}

async fn drop_needless_marker(namespace: &Namespace, dir: &Pin) -> Result<(), FsError> {
    let carries_attributes = {
        let state = dir.state();
        let attributes = state.attributes.as_ref();
        attributes.is_some_and(|attributes| attributes.says_something())
    };
    if wanted(namespace) != DirMarkers::Auto || dir.ino == ROOT || carries_attributes {
        return Ok(());
    }
    if marker(namespace, dir).await? != Marker::Present {
        return Ok(());
    }
    let key = namespace
        .keys
        .marker_key(&namespace.table.dir_path(dir.ino)?)?;
    dir.state().dir.set_marker(Marker::Absent);
    if let Err(error) = namespace.store.delete(DeleteRequest::any(key)).await {
        dir.state().dir.set_marker(Marker::Unknown);
        return Err(error.into());
    }
    Ok(())
}

/// Before the key of `name` goes: if it is the directory's last, a marker takes its place first,
/// so that the directory exists at every moment.
pub async fn before_entry_removed(
    namespace: &Namespace,
    dir: &Pin,
    name: &Name,
) -> Result<(), FsError> {
    let arrivals = dir.state().dir.arrivals;
    if dir.ino == ROOT || has_other_keys(namespace, dir, name).await? {
        return Ok(());
    }
    if wanted(namespace) == DirMarkers::Never {
        dir.state().local = Some(LocalState::BareDirectory);
        return Ok(());
    }
    if marker(namespace, dir).await? == Marker::Absent {
        put_marker(namespace, dir).await?;
    }
    // An upload that ended since the question saw no marker to remove.
    if dir.state().dir.arrivals != arrivals {
        drop_needless_marker(namespace, dir).await?;
    }
    Ok(())
}

async fn has_other_keys(namespace: &Namespace, dir: &Pin, name: &Name) -> Result<bool, FsError> {
    {
        let state = dir.state();
        let listing = state.dir.listing();
        if let Some(listing) = listing.filter(|at| namespace.validity.is_current(at.asked_at)) {
            return Ok(listing.entries.keys().any(|other| other != name));
        }
        if let Some((_, seen)) = state
            .dir
            .seen
            .as_ref()
            .filter(|(at, _)| namespace.validity.is_current(*at))
            && seen.iter().any(|other| other != name)
        {
            return Ok(true);
        }
    }
    let prefix = namespace
        .keys
        .dir_prefix(&namespace.table.dir_path(dir.ino)?);
    let asked_at = Instant::now();
    let (mut token, mut progress) = (None, ListProgress::default());
    let mut first = true;
    loop {
        let request = ListRequest {
            prefix: prefix.clone(),
            fold_directories: FoldDirectories::Yes,
            token,
            // A whole page: it also answers for the next names to go.
            max_keys: LIST_PAGE_LIMIT,
        };
        let answer = namespace.store.list(request).await?;
        progress.step(&prefix, &answer)?;
        let page = Page::new(&prefix, answer);
        let found = !page.hidden.is_empty() || page.entries.keys().any(|other| other != name);
        let mut state = dir.state();
        if first {
            state.dir.set_marker(page.marker);
        }
        if found || page.next.is_none() {
            state.dir.seen = Some((asked_at, page.entries.into_keys().collect()));
            return Ok(found);
        }
        (token, first) = (page.next, false);
    }
}

/// What stands under the directory's own key, at the cost of a request where that is unknown.
async fn marker(namespace: &Namespace, dir: &Pin) -> Result<Marker, FsError> {
    let known = dir.state().dir.marker();
    if known != Marker::Unknown {
        return Ok(known);
    }
    let found = head_marker(namespace, &namespace.table.dir_path(dir.ino)?).await?;
    let found = Marker::of(found.as_ref());
    dir.state().dir.set_marker(found);
    Ok(found)
}

/// Writes the marker of a directory, with what is stored with it.
pub async fn put_marker(namespace: &Namespace, dir: &Pin) -> Result<(), FsError> {
    let key = namespace
        .keys
        .marker_key(&namespace.table.dir_path(dir.ino)?)?;
    let headers = {
        let mut state = dir.state();
        state.dir.set_marker(Marker::Present);
        state
            .attributes
            .as_ref()
            .map(|stored| stored.headers.clone())
    };
    if let Err(error) = put_marker_object(namespace, key, headers.unwrap_or_default()).await {
        dir.state().dir.set_marker(Marker::Unknown);
        return Err(error);
    }
    Ok(())
}

/// Writes the object that makes a directory persist.
pub async fn put_marker_object(
    namespace: &Namespace,
    key: Key,
    headers: ObjectHeaders,
) -> Result<ETag, FsError> {
    let marker = PutRequest::marker(key, headers);
    Ok(namespace.store.put(marker).await?.etag)
}

/// Stores a directory's attributes with its marker, which then stays
/// whatever else is in the directory.
///
/// The root's, and those of directories without markers, live as long as
/// the mount. `before` learns what is replaced, right before it is; `asked` is when the
/// caller has.
/// Errors: `NoSpace`, the store's.
pub async fn store_directory_attributes(
    namespace: &Namespace,
    dir: &Pin,
    before: BeforeStoring<'_>,
    asked: Asked,
) -> Result<Stored, FsError> {
    let nowhere = dir.ino == ROOT || wanted(namespace) == DirMarkers::Never;
    if nowhere || !namespace.stores_attributes() {
        return Ok(Stored::Nothing);
    }
    if changed_attributes(dir)?.is_none() {
        return Ok(Stored::Nothing);
    }
    // Only what is changed here is changed there. A new one nobody else has changed.
    if dir.state().local.is_none() && !asked.counts(dir) {
        relearn_attributes(namespace, dir).await?;
    }
    let Some(attributes) = changed_attributes(dir)? else {
        return Ok(Stored::Nothing);
    };
    if marker(namespace, dir).await? == Marker::Foreign {
        return Ok(Stored::Nothing);
    }
    let key = namespace
        .keys
        .marker_key(&namespace.table.dir_path(dir.ino)?)?;
    before(dir);
    put_marker_object(namespace, key, attributes.headers.clone()).await?;
    let mut state = dir.state();
    state.dir.set_marker(Marker::Present);
    state.settle(attributes);
    drop(state);
    confirm_existence(namespace, dir);
    Ok(Stored::Marker)
}

/// Errors: `NotEmpty` when anything but an empty marker lies under the directory,
/// here or in the store, whoever put it there; the store's.
pub async fn check_empty(namespace: &Namespace, dir: &Pin) -> Result<(), FsError> {
    if namespace
        .table
        .awake_children(dir.ino)
        .iter()
        .any(|(_, child)| child.state().local.is_some())
    {
        return Err(FsError::NotEmpty);
    }
    let prefix = namespace
        .keys
        .dir_prefix(&namespace.table.dir_path(dir.ino)?);
    let request = ListRequest {
        prefix: prefix.clone(),
        fold_directories: FoldDirectories::No,
        token: None,
        max_keys: 2,
    };
    let answer = namespace.store.list(request).await?;
    let found = answer.objects;
    let holds_something =
        |object: &ListedObject| object.key.as_str() != prefix || object.size_bytes > 0;
    if found.iter().any(holds_something) || !answer.unusable.is_empty() {
        namespace.hidden.tell(dir, &prefix, &found).await;
        return Err(FsError::NotEmpty);
    }
    dir.state().dir.set_marker(if found.is_empty() {
        Marker::Absent
    } else {
        Marker::Present
    });
    Ok(())
}

/// Checks that a directory is empty, and waits until what was in it is deleted.
///
/// Errors: `NotEmpty`, also where the store has refused a delete meanwhile; the store's.
pub async fn check_emptied(
    namespace: &Namespace,
    deletes: &DeleteQueue,
    dir: &Pin,
) -> Result<(), FsError> {
    let stayed = deletes.stayed();
    check_empty(namespace, dir).await?;
    let path = namespace.table().dir_path(dir.ino)?;
    let prefix = namespace.keys().dir_prefix(&path);
    deletes.deleted_below(&prefix).await?;
    if deletes.stayed() != stayed {
        // The listing was without the objects that were to go.
        check_empty(namespace, dir).await?;
    }
    Ok(())
}

/// Removes a directory's marker because the directory itself goes.
///
/// Also where none was seen: stores that keep directories of their own show
/// an emptied one until it is deleted by this name.
pub async fn remove_marker(namespace: &Namespace, dir: &Pin) -> Result<(), FsError> {
    let key = namespace
        .keys
        .marker_key(&namespace.table.dir_path(dir.ino)?)?;
    namespace.store.delete(DeleteRequest::any(key)).await?;
    dir.state().dir.set_marker(Marker::Absent);
    Ok(())
}

/// The same, where somebody may still read what was in the directory: it goes after that.
pub async fn remove_marker_last(
    namespace: &Namespace,
    deletes: &DeleteQueue,
    dir: &Pin,
) -> Result<(), FsError> {
    let path = namespace.table().dir_path(dir.ino)?;
    if !deletes.delete_after_kept(&namespace.keys.marker_key(&path)?)? {
        return remove_marker(namespace, dir).await;
    }
    dir.state().dir.set_marker(Marker::Absent);
    Ok(())
}

/// What is to be stored with a directory's marker, where that is not what is stored.
fn changed_attributes(dir: &Pin) -> Result<Option<Arc<Attributes>>, FsError> {
    let (stored, effective) = {
        let state = dir.state();
        (state.attributes.clone(), state.effective_attributes())
    };
    let wanted = Arc::new(Attributes::decode(effective.encode(Kind::Directory)?));
    let differs = stored.as_ref() != Some(&wanted) && wanted.says_something();
    Ok(differs.then_some(wanted))
}
