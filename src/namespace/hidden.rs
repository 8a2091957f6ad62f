//! Keys below a directory that cannot be shown as files. Those that cannot be file names
//! keep the directory from going, though nobody sees them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::keyspace::KeySpace;
use super::name::Name;
use super::page::{HiddenKey, Page, why_hidden};
use super::table::{InodeTable, Pin};
use crate::error::FsError;
use crate::store::{FoldDirectories, ListProgress, ListRequest, ListedObject, ObjectStore};
use crate::vocabulary::Ino;

/// Most keys that are told of one directory.
const KEYS_LIMIT: usize = 100;
/// Most pages of a listing that are looked through for them.
const PAGES_LIMIT: usize = 20;

/// Directories of which hidden keys are counted.
const DIRECTORIES_LIMIT: usize = 10_000;

/// The hidden keys of a directory.
#[derive(Debug, Default)]
pub struct HiddenOfDirectory {
    /// The first of them.
    pub named: Vec<HiddenKey>,
    pub count: usize,
    /// The directory has more names than were looked at.
    pub is_part: bool,
    has_entries: bool,
}

impl HiddenOfDirectory {
    fn add(&mut self, key: HiddenKey) {
        self.count += 1;
        if self.named.len() < KEYS_LIMIT {
            self.named.push(key);
        }
    }
}

/// Looks for keys that cannot be shown, and counts them.
#[derive(Debug)]
pub struct HiddenKeys {
    store: Arc<dyn ObjectStore>,
    keys: KeySpace,
    table: Arc<InodeTable>,
    /// How many each directory has, as far as is known.
    seen: Mutex<HashMap<Ino, usize>>,
}

impl HiddenKeys {
    pub(super) fn new(store: Arc<dyn ObjectStore>, keys: KeySpace, table: Arc<InodeTable>) -> Self {
        Self {
            store,
            keys,
            table,
            seen: Mutex::default(),
        }
    }

    /// Keys of a directory that cannot be shown.
    ///
    /// Errors: the store's.
    pub async fn of(&self, dir: &Pin) -> Result<HiddenOfDirectory, FsError> {
        let prefix = self.keys.dir_prefix(&self.table.dir_path(dir.ino)?);
        self.look_for(&prefix, PAGES_LIMIT).await
    }

    /// Tells of the keys of a first page that cannot be shown, and counts them.
    pub(super) fn note(&self, dir: &Pin, page: &Page) {
        for HiddenKey { key, why } in &page.hidden {
            tracing::debug!(%key, "hidden: {why}");
        }
        self.count(dir, page.hidden.len(), page.next.is_none());
    }

    /// Counts the hidden keys of a directory: all, or those of its first pages.
    pub(super) fn count(&self, dir: &Pin, count: usize, is_all: bool) {
        let mut seen = self.seen.lock();
        let before = seen.get(&dir.ino).copied().filter(|_| !is_all);
        let count = count.max(before.unwrap_or_default());
        if count == 0 {
            seen.remove(&dir.ino);
        } else if seen.len() < DIRECTORIES_LIMIT || seen.contains_key(&dir.ino) {
            seen.insert(dir.ino, count);
        }
    }

    /// Keys that cannot be shown, as far as listings of directories that are still there
    /// have met them: the bucket has at least so many.
    pub fn in_all(&self) -> usize {
        let mut seen = self.seen.lock();
        seen.retain(|dir, _| self.table.dir_path(*dir).is_ok());
        seen.values().sum()
    }

    async fn look_for(&self, prefix: &str, pages: usize) -> Result<HiddenOfDirectory, FsError> {
        let mut found = HiddenOfDirectory::default();
        let mut unsettled: Vec<Name> = Vec::new();
        let (mut token, mut progress) = (None, ListProgress::default());
        for _ in 0..pages {
            let request = ListRequest::page(prefix, FoldDirectories::Yes, token);
            let answer = self.store.list(request).await?;
            progress.step(prefix, &answer)?;
            let mut page = Page::new(prefix, answer);
            for key in page.hidden.drain(..) {
                found.add(key);
            }
            for name in unsettled.extract_if(.., |name| page.is_directory(name)) {
                found.add(HiddenKey::shadowed_by(&format!(
                    "{prefix}{}/",
                    name.as_str()
                )));
            }
            unsettled.retain(|name| !page.is_complete_for(prefix, name));
            found.has_entries |= !page.entries.is_empty();
            let last = page.take_unsettled(prefix).into_iter();
            unsettled.extend(last.map(|(name, _)| name));
            if page.next.is_none() {
                return Ok(found);
            }
            token = page.next;
        }
        found.is_part = true;
        Ok(found)
    }

    /// Says once which key keeps a directory from going that looks empty. `found` are
    /// its first keys.
    pub(super) async fn tell(&self, dir: &Pin, prefix: &str, found: &[ListedObject]) {
        let is_told = dir.state().dir.hidden_told;
        let mut found = found.iter().map(|object| object.key.as_str());
        if is_told || found.any(|key| why_hidden(prefix, key).is_none()) {
            return;
        }
        let hidden = match self.look_for(prefix, 1).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(prefix, %error, "cannot tell which keys are hidden");
                return;
            }
        };
        let Some(first) = hidden.named.first().filter(|_| !hidden.has_entries) else {
            return;
        };
        dir.state().dir.hidden_told = true;
        let more = if hidden.is_part { " or more" } else { "" };
        tracing::warn!(
            key = first.key.as_str(),
            why = %first.why,
            count = format_args!("{}{more}", hidden.count),
            "the directory looks empty and cannot be removed: this key cannot be a file name; see 'Which keys are files' in 'mediafs help coherence'"
        );
    }
}
