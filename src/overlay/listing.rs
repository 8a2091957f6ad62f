//! Listings of the bucket and of the old directory, joined page by page.
//!
//! A page is one of the bucket, and what the old directory has up to its last key. Where
//! that is more than a page holds, the next one begins with the same page of the bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::core::{Core, of_old};
use super::marks::Marks;
use super::old_directory::OldStat;
use super::versions::Versions;
use super::walk::{Asked, Below, Which, walk};
use crate::store::{
    Key, ListAnswer, ListRequest, ListToken, ListedObject, StoreError, StoreOp, UnusableKey,
};

/// How a token of a joined listing begins.
const TOKEN_PREFIX: &str = "o";

/// Where a joined listing has come to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Cursor {
    /// The last key that was given.
    #[serde(rename = "a")]
    after: String,
    /// Of the bucket's listing.
    #[serde(rename = "t")]
    above: Option<String>,
    /// The bucket has nothing more.
    #[serde(rename = "d")]
    is_done: bool,
}

impl Cursor {
    fn of(token: Option<ListToken>) -> Self {
        let Some(ListToken(token)) = token else {
            return Self::default();
        };
        let ours = token.strip_prefix(TOKEN_PREFIX);
        if let Some(cursor) = ours.and_then(|text| serde_json::from_str(text).ok()) {
            return cursor;
        }
        Self {
            after: token.strip_prefix('a').unwrap_or_default().to_owned(),
            above: Some(token),
            is_done: false,
        }
    }

    fn into_token(self) -> ListToken {
        let text = serde_json::to_string(&self).unwrap_or_default();
        ListToken(format!("{TOKEN_PREFIX}{text}"))
    }
}

/// What both have under one key.
#[derive(Debug, Clone, Default)]
pub struct Both {
    pub above: Option<ListedObject>,
    pub below: Option<OldStat>,
    /// The key ends in `/` and stands for all below it.
    is_folded: bool,
}

/// A page of both.
#[derive(Debug, Default)]
pub struct BothPage {
    pub keys: BTreeMap<String, Both>,
    unusable: Vec<UnusableKey>,
    pub next: Option<ListToken>,
}

/// Lists both.
#[derive(Debug)]
pub struct Listing {
    pub core: Arc<Core>,
    pub versions: Arc<Versions>,
}

impl Listing {
    pub async fn list_both(
        &self,
        request: ListRequest,
        which: Which,
    ) -> Result<BothPage, StoreError> {
        let cursor = Cursor::of(request.token.clone());
        let above = match cursor.is_done {
            true => ListAnswer::default(),
            false => {
                let token = cursor.above.clone().map(ListToken);
                let request = ListRequest {
                    token,
                    ..request.clone()
                };
                self.core.parts.store.list(request).await?
            }
        };
        let last = last_of(&above);
        // The next page of the bucket comes before what is behind this one.
        let up_to = above.next.as_ref().map(|_| match &last {
            Some(last) => last.clone(),
            None => cursor.after.clone(),
        });
        let limit = usize::from(request.max_keys.max(1));
        let mut below = self
            .list_below(&request, &cursor.after, up_to, (limit + 1, which))
            .await?;
        let cut = (below.len() > limit).then(|| {
            below.truncate(limit);
            below
                .last()
                .map(|last| self.core.key(&last.path).as_str().to_owned())
        });
        let cut = cut.flatten();
        let is_done = cursor.is_done || (above.next.is_none() && last <= cut);
        let next = match (&cut, &above.next) {
            (Some(cut), _) => Some(Cursor {
                after: cut.clone(),
                is_done,
                ..cursor.clone()
            }),
            (None, Some(next)) => Some(Cursor {
                after: last.unwrap_or_else(|| cursor.after.clone()),
                above: Some(next.0.clone()),
                is_done: false,
            }),
            (None, None) => None,
        };
        let is_in_page = |key: &str| {
            let is_new = key > cursor.after.as_str() || cursor.after.is_empty();
            is_new && cut.as_ref().is_none_or(|cut| key <= cut.as_str())
        };
        Ok(BothPage {
            keys: self.joined(&above, below, is_in_page),
            unusable: above.unusable,
            next: next.map(Cursor::into_token),
        })
    }

    fn joined(
        &self,
        above: &ListAnswer,
        below: Vec<Below>,
        is_in_page: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, Both> {
        let mut keys: BTreeMap<String, Both> = BTreeMap::new();
        for Below { path, stat } in below {
            let both = keys
                .entry(self.core.key(&path).as_str().to_owned())
                .or_default();
            (both.below, both.is_folded) = (stat, stat.is_none());
        }
        for object in above
            .objects
            .iter()
            .filter(|it| is_in_page(it.key.as_str()))
        {
            let both = keys.entry(object.key.as_str().to_owned()).or_default();
            both.above = Some(object.clone());
        }
        for prefix in above.prefixes.iter().filter(|prefix| is_in_page(prefix)) {
            keys.entry(prefix.clone()).or_default().is_folded = true;
        }
        keys
    }

    /// Nothing, of keys that are not below the overlay's prefix.
    async fn list_below(
        &self,
        request: &ListRequest,
        after: &str,
        up_to: Option<String>,
        (limit, which): (usize, Which),
    ) -> Result<Vec<Below>, StoreError> {
        let own = &self.core.parts.prefix;
        let Some(prefix) = request.prefix.strip_prefix(own.as_str()) else {
            return Ok(Vec::new());
        };
        let relative = |key: &str| {
            key.strip_prefix(own.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let asked = Asked {
            prefix: prefix.to_owned(),
            fold: request.fold_directories,
            after: relative(after),
            up_to: up_to.as_deref().map(relative),
            limit,
            which,
        };
        let core = self.core.clone();
        let found = self.core.on_disk(move |old| walk(&core, old, &asked)).await;
        found.map_err(|error| of_old(StoreOp::List, &Key::new(request.prefix.as_str()), &error))
    }

    /// A page as the store above is given it.
    pub async fn list_shown(&self, request: ListRequest) -> Result<ListAnswer, StoreError> {
        let asked_at = self.core.marks.with(Marks::now);
        let BothPage {
            keys,
            unusable,
            next,
        } = self.list_both(request, Which::Shown(asked_at)).await?;
        let mut answer = ListAnswer {
            unusable,
            next,
            ..ListAnswer::default()
        };
        for (key, both) in keys {
            match both {
                Both {
                    above: Some(object),
                    ..
                } => answer.objects.push(self.shown_object(object).await?),
                Both {
                    is_folded: true, ..
                } => answer.prefixes.push(key),
                Both {
                    below: Some(stat), ..
                } => answer.objects.push(ListedObject {
                    key: Key::new(key),
                    etag: stat.etag(),
                    size_bytes: stat.size_bytes,
                    last_modified: stat.last_modified(),
                }),
                Both { .. } => {}
            }
        }
        Ok(answer)
    }

    async fn shown_object(&self, object: ListedObject) -> Result<ListedObject, StoreError> {
        let Some((etag, of)) = self
            .versions
            .shown_version(&object.key, &object.etag)
            .await?
        else {
            return Ok(object);
        };
        let last_modified = of.map_or(object.last_modified, |of| of.last_modified());
        Ok(ListedObject {
            etag,
            last_modified,
            ..object
        })
    }
}

fn last_of(answer: &ListAnswer) -> Option<String> {
    let objects = answer.objects.iter().map(|object| object.key.as_str());
    let keys = objects.chain(answer.prefixes.iter().map(String::as_str));
    keys.max().map(str::to_owned)
}
