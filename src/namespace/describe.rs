//! What is stored with objects, where attributes are: remembered, else asked for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Namespace;
use super::attributes::{Attributes, Described};
use super::dir_entry::{Entry, Marker};
use super::inode::{Inode, InodeState};
use super::keyspace::DirPath;
use super::lookup::StoreAnswer;
use super::name::Name;
use super::table::Pin;
use crate::error::FsError;
use crate::store::{ETag, FoldDirectories, HeadRequest, Key, ListRequest, ObjectMeta, if_there};
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

impl Namespace {
    /// Adds to an answer what is stored with the object, at the cost of one
    /// request for a version that was never asked for, and one a ttl for a directory.
    pub(super) async fn describe(
        &self,
        parent: &Pin,
        name: &Name,
        mut answer: StoreAnswer,
    ) -> Result<StoreAnswer, FsError> {
        let Some(cache) = &self.attribute_cache else {
            return Ok(answer);
        };
        match &answer.entry {
            Some(Entry::File(version)) if answer.described.is_none() => {
                answer.described = self.known_attributes(parent, name, version);
                if answer.described.is_some() {
                    return Ok(answer);
                }
                answer.asked_at = Instant::now();
                let found = self.head(parent, name).await?;
                (answer.entry, answer.described) = match found {
                    Some((version, described)) => {
                        let key = self.child_key(parent.ino, name)?;
                        cache.put(&key, &version, &described);
                        (Some(Entry::File(version)), Some(described))
                    }
                    // It went since it was listed.
                    None => (None, None),
                };
            }
            Some(Entry::Directory) => {
                let path = self.table.dir_path(parent.ino)?.join(name);
                answer.described = self.head_marker(&path).await?.map(Into::into);
            }
            Some(Entry::File(_)) | None => {}
        }
        Ok(answer)
    }

    /// Asks for what is stored with a file's object or a directory's marker where that is
    /// not known, as of an inode that the kernel refers to since before a takeover. Free
    /// where it is.
    ///
    /// To be called before attributes are changed or sent with an upload.
    /// Errors: `Stale` when another client removed or replaced the file; the store's.
    pub async fn learn_attributes(&self, inode: &Pin) -> Result<Asked, FsError> {
        let (known, version, is_local) = {
            let state = inode.state();
            let known = state.attributes.is_some();
            (known, state.remote.clone(), state.local.is_some())
        };
        let is_new = version.is_none() && is_local;
        if !self.stores_attributes() || known || is_new {
            return Ok(Asked::default());
        }
        if inode.kind == Kind::Directory {
            return self.learn_marker(inode).await;
        }
        let Some((parent, name)) = self.table.place(inode.ino) else {
            return Ok(Asked::default());
        };
        let Some(version) = version else {
            let is_there = self.revalidate(inode).await?;
            return if is_there {
                Ok(Asked::default())
            } else {
                Err(FsError::STALE)
            };
        };
        // Of another version nothing is taken over: the upload finds it.
        let asked = Asked::now(inode);
        let found = self.head(&self.table.get(parent)?, &name).await?;
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
    pub async fn ask_attributes(&self, inode: &Pin) -> Result<Asked, FsError> {
        let asked = self.learn_attributes(inode).await?;
        if asked.counts(inode) {
            return Ok(asked);
        }
        let asked = Asked::now(inode);
        self.relearn_attributes(inode).await?;
        Ok(asked)
    }

    /// What is set of a directory whose marker was never looked at is what a predecessor
    /// showed: not a change, and less true than what the marker tells. Asks once.
    async fn learn_marker(&self, dir: &Pin) -> Result<Asked, FsError> {
        self.directories.recall(dir);
        if self.table.place(dir.ino).is_none() {
            return Ok(Asked::default());
        }
        let asked = Asked::now(dir);
        let described = self.ask_marker(dir).await?;
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
    pub async fn relearn_attributes(&self, inode: &Pin) -> Result<bool, FsError> {
        let place = self.table.place(inode.ino);
        let Some((parent, name)) = place.filter(|_| self.stores_attributes()) else {
            return Ok(false);
        };
        let parent = self.table.get(parent)?;
        let known = Known::of(&inode.state());
        let described = match inode.kind {
            // A marker without attributes tells nothing: not every store keeps them.
            Kind::Directory => {
                let described = self.ask_marker(inode).await?;
                described.filter(|it| it.attributes.says_something())
            }
            _ => self.object_attributes(inode, (&parent, &name)).await?,
        };
        let is_told = described.is_some();
        if let Some(described) = described {
            self.take_answer(inode, &known, described.attributes);
        }
        Ok(is_told)
    }

    /// None where the store has another version: who stores it finds out.
    async fn object_attributes(
        &self,
        inode: &Pin,
        (parent, name): (&Pin, &Name),
    ) -> Result<Option<Described>, FsError> {
        let Some(version) = inode.state().remote.clone() else {
            return Ok(None);
        };
        let found = self.head(parent, name).await?;
        let found = found.filter(|(found, _)| found.etag == version.etag);
        Ok(found.map(|(_, described)| described))
    }

    /// The store was found to hold these with the file's object, or the marker, by whoever
    /// has the turn to store it. What was set here and is not stored yet stays. Returns
    /// whether something else was shown.
    pub fn take_attributes(&self, inode: &Inode, stored: Arc<Attributes>) -> bool {
        let known = Known::of(&inode.state());
        self.take_answer(inode, &known, stored)
    }

    /// The same as the answer to a question that was asked when this was known. What is
    /// stored here since is newer.
    fn take_answer(&self, inode: &Inode, known: &Known, stored: Arc<Attributes>) -> bool {
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
            self.attributes_changed(inode);
        }
        differs
    }

    /// What is stored with a version of a file, if that is certain without asking.
    ///
    /// What this mount has stored itself is not: another client may have changed it
    /// within the same second.
    pub(super) fn known_attributes(
        &self,
        parent: &Pin,
        name: &Name,
        version: &ObjectVersion,
    ) -> Option<Described> {
        let cache = self.attribute_cache.as_ref()?;
        let key = self.child_key(parent.ino, name).ok()?;
        if let Some(child) = self.table.child(parent.ino, name) {
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

    /// What is stored with a directory's marker. Whether it has one is known then too, unless
    /// that has changed here meanwhile.
    async fn ask_marker(&self, dir: &Pin) -> Result<Option<Described>, FsError> {
        let before = dir.state().dir.marker_changes();
        let found = self.head_marker(&self.table.dir_path(dir.ino)?).await?;
        let mut state = dir.state();
        let is_same = state.dir.marker_changes() == before;
        if is_same && state.dir.marker() == Marker::Unknown {
            state.dir.set_marker(Marker::of(found.as_ref()));
        }
        drop(state);
        Ok(found.map(Into::into))
    }

    /// What stands under the directory's own key.
    pub(super) async fn head_marker(&self, path: &DirPath) -> Result<Option<ObjectMeta>, FsError> {
        let key = self.keys.marker_key(path)?;
        Ok(if_there(self.store.head(HeadRequest { key }).await)?)
    }

    /// The store holds these attributes with the inode's object or marker now, by our own doing.
    pub fn record_attributes(&self, inode: &Inode, attributes: Arc<Attributes>) {
        if let Some(cache) = &self.attribute_cache {
            let version = inode.state().remote.clone();
            if let (Some(version), Ok(key)) = (version, self.file_key(inode.ino)) {
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
    pub fn record_copied(&self, from: &Key, to: &Key, version: &ObjectVersion) {
        if let Some(cache) = &self.attribute_cache {
            cache.copied(from, to, version);
        }
    }

    /// Writes what the caches on disk still have in memory.
    pub fn write_out(&self) {
        self.kept.write_out();
        if let Some(cache) = &self.attribute_cache {
            cache.write_out();
        }
    }

    /// The version of the object of a name, by asking the store. Errors: the store's.
    pub async fn stored_version(
        &self,
        parent: &Pin,
        name: &Name,
    ) -> Result<Option<ObjectVersion>, FsError> {
        let found = self.head(parent, name).await?;
        Ok(found.map(|(version, _)| version))
    }

    /// The object of a file, and what is stored with it.
    pub(super) async fn head(
        &self,
        parent: &Pin,
        name: &Name,
    ) -> Result<Option<(ObjectVersion, Described)>, FsError> {
        let key = self.child_key(parent.ino, name)?;
        let found = if_there(self.store.head(HeadRequest { key }).await)?;
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
    pub(super) async fn ask_by_name(
        &self,
        parent: &Pin,
        name: &Name,
    ) -> Result<StoreAnswer, FsError> {
        let (asked_at, seq) = (Instant::now(), parent.state().dir.now());
        let known = self.table.child(parent.ino, name).map(|child| child.kind);
        let (file, directory) = match known {
            Some(Kind::Directory) => match self.as_directory(parent, name).await? {
                Some(directory) => (None, Some(directory)),
                None => (self.head(parent, name).await?, None),
            },
            Some(_) => match self.head(parent, name).await? {
                Some(file) => (Some(file), None),
                None => (None, self.as_directory(parent, name).await?),
            },
            None => tokio::try_join!(self.head(parent, name), self.as_directory(parent, name))?,
        };
        let (entry, described) = match (directory, file) {
            (Some(directory), _) => (Some(directory), None),
            (None, Some((version, described))) => (Some(Entry::File(version)), Some(described)),
            (None, None) => (None, None),
        };
        Ok(StoreAnswer {
            entry,
            described: described.filter(|_| self.stores_attributes()),
            asked_at,
            seq,
        })
    }

    async fn as_directory(&self, parent: &Pin, name: &Name) -> Result<Option<Entry>, FsError> {
        let request = ListRequest {
            prefix: format!("{}/", self.child_key(parent.ino, name)?.as_str()),
            fold_directories: FoldDirectories::No,
            token: None,
            max_keys: 1,
        };
        let answer = self.store.list(request).await?;
        Ok((!answer.objects.is_empty()).then_some(Entry::Directory))
    }
}
