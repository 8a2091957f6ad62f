//! Keys below a directory that cannot be shown as files. Those that cannot be file names
//! keep the directory from going, though nobody sees them.

use super::name::Name;
use super::page::Page;
use super::{Namespace, Pin};
use crate::error::FsError;
use crate::store::{FoldDirectories, Key, ListProgress, ListRequest, ListedObject};

/// Most keys that are told of one directory.
const KEYS_LIMIT: usize = 100;
/// Most pages of a listing that are looked through for them.
const PAGES_LIMIT: usize = 20;

/// Directories of which hidden keys are counted.
const DIRECTORIES_LIMIT: usize = 10_000;

/// Why an object is not shown that has a directory's name.
pub const SHADOWED: &str = "a directory has its name";

/// A key that cannot be shown, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenKey {
    pub key: Key,
    pub why: &'static str,
}

impl HiddenKey {
    fn below(prefix: &str, key: Key) -> Self {
        Self {
            why: why_hidden(prefix, key.as_str()).unwrap_or("it has no usable ETag"),
            key,
        }
    }
}

/// Why the key cannot be an entry of the directory of this prefix, if it cannot.
fn why_hidden(prefix: &str, key: &str) -> Option<&'static str> {
    let below = key.strip_prefix(prefix).unwrap_or(key);
    if below.is_empty() {
        return Some("it has the directory's own name, and bytes");
    }
    Name::why_impossible(below.split('/').next().unwrap_or_default())
}

impl Namespace {
    /// Keys of a directory that cannot be shown: the first of them.
    ///
    /// Errors: the store's.
    pub async fn hidden_keys(&self, dir: &Pin) -> Result<Vec<HiddenKey>, FsError> {
        let prefix = self.keys.dir_prefix(&self.table.dir_path(dir.ino)?);
        let (_, hidden) = self.look_for_hidden(&prefix, PAGES_LIMIT).await?;
        Ok(hidden)
    }

    /// Tells of the keys of a first page that cannot be shown, and counts those of a
    /// directory that is one page.
    pub(super) fn note_hidden(&self, dir: &Pin, page: &Page) {
        for key in &page.hidden {
            tracing::debug!(%key, "hidden: this key cannot be a file name");
        }
        for key in &page.shadowed {
            tracing::debug!(%key, "hidden: {SHADOWED}");
        }
        let count = page.hidden.len() + page.shadowed.len();
        let mut seen = self.hidden_seen.lock();
        if count == 0 || page.next.is_some() {
            seen.remove(&dir.ino);
        } else if seen.len() < DIRECTORIES_LIMIT {
            seen.insert(dir.ino, count);
        }
    }

    /// Keys that cannot be shown, as far as listings have met them.
    pub fn hidden_seen(&self) -> usize {
        self.hidden_seen.lock().values().sum()
    }

    /// The first names and hidden keys of a directory.
    async fn look_for_hidden(
        &self,
        prefix: &str,
        pages: usize,
    ) -> Result<(Vec<Name>, Vec<HiddenKey>), FsError> {
        let (mut names, mut hidden) = (Vec::new(), Vec::new());
        let (mut token, mut progress) = (None, ListProgress::default());
        for _ in 0..pages {
            let request = ListRequest::page(prefix, FoldDirectories::Yes, token);
            let answer = self.store.list(request).await?;
            progress.step(prefix, &answer)?;
            let page = Page::new(prefix, answer);
            let found = page.hidden.into_iter();
            hidden.extend(found.map(|key| HiddenKey::below(prefix, key)));
            let shadowed = page.shadowed.into_iter();
            hidden.extend(shadowed.map(|key| HiddenKey { key, why: SHADOWED }));
            names.extend(page.entries.into_keys());
            if page.next.is_none() || hidden.len() >= KEYS_LIMIT {
                break;
            }
            token = page.next;
        }
        hidden.truncate(KEYS_LIMIT);
        Ok((names, hidden))
    }

    /// Says once which key keeps a directory from going that looks empty. `found` are
    /// its first keys.
    pub(super) async fn tell_hidden(&self, dir: &Pin, prefix: &str, found: &[ListedObject]) {
        let is_told = dir.state().dir.hidden_told;
        let mut found = found.iter().map(|object| object.key.as_str());
        if is_told || found.any(|key| why_hidden(prefix, key).is_none()) {
            return;
        }
        let (names, hidden) = match self.look_for_hidden(prefix, 1).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(prefix, %error, "cannot tell which keys are hidden");
                return;
            }
        };
        let Some(first) = hidden.first().filter(|_| names.is_empty()) else {
            return;
        };
        dir.state().dir.hidden_told = true;
        tracing::warn!(
            key = first.key.as_str(),
            why = first.why,
            count = hidden.len(),
            "the directory looks empty and cannot be removed: this key cannot be a file name; see 'Which keys are files' in 'mediafs help coherence'"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hidden_key_has_its_reason() {
        for (key, expected) in [
            ("d/", Some("own name")),
            ("d//x", Some("empty part")),
            ("d/../x", Some("'..'")),
            ("d/.", Some("'.'")),
            ("d/a\0", Some("NUL")),
            ("d/a", None),
            ("d/a//b", None),
        ] {
            let why = why_hidden("d/", key);
            assert_eq!(why.is_some(), expected.is_some(), "{key}");
            assert!(
                why.unwrap_or_default()
                    .contains(expected.unwrap_or_default())
            );
        }
    }
}
