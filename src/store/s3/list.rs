//! Listings: pages that follow each other, whole and in the order of keys, from
//! stores that know the second version of the request, the first, or half of one.

use std::cmp::Ordering;

use aws_sdk_s3::types::{CommonPrefix, EncodingType, Object};

use super::S3Store;
use super::encoding::{decode, decode_lossy, whole_seconds};
use super::error::translate;
use crate::store::{
    ETag, FoldDirectories, Key, ListAnswer, ListRequest, ListToken, ListedObject, StoreError,
    StoreErrorKind, StoreOp, UnusableKey,
};

/// Where a page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    First,
    /// As the store called it.
    Token(String),
    /// Behind this key: the store named no next page.
    After(String),
    /// The same in the first version of the request: the store does not know the second.
    Marker(String),
}

impl Start {
    fn of(token: Option<ListToken>) -> Self {
        let Some(ListToken(token)) = token else {
            return Self::First;
        };
        match (token.get(..1), token.get(1..).unwrap_or_default()) {
            (Some("a"), key) => Self::After(key.to_owned()),
            (Some("m"), key) => Self::Marker(key.to_owned()),
            (_, token) => Self::Token(token.to_owned()),
        }
    }

    fn into_token(self) -> Option<ListToken> {
        match self {
            Self::First => None,
            Self::Token(token) => Some(ListToken(format!("t{token}"))),
            Self::After(key) => Some(ListToken::after(&key)),
            Self::Marker(key) => Some(ListToken(format!("m{key}"))),
        }
    }
}

/// What both versions of the request are answered with.
struct Page {
    answer: ListAnswer,
    is_truncated: bool,
    token: Option<String>,
}

pub(super) async fn list(
    store: &S3Store,
    mut request: ListRequest,
) -> Result<ListAnswer, StoreError> {
    let start = Start::of(request.token.take());
    let mut page = page_at(store, &request, &start).await?;
    check_order(store, &request, &page)?;
    let mut next = page.next(&start);
    if let (None, Start::After(key)) = (&next, &start)
        && page.is_truncated
    {
        let start = Start::Marker(key.clone());
        page = page_at(store, &request, &start).await?;
        check_order(store, &request, &page)?;
        next = page.next(&start);
    }
    // The same page for ever: its end would not come.
    let next = next.filter(|next| *next != start);
    if page.is_truncated && next.is_none() {
        store.list_quirks.log_no_next_page(&request.prefix);
        let why = "the listing does not go on: no next page, and the same one after its last key";
        return Err(unusable(&request.prefix, why));
    }
    let mut answer = page.answer;
    answer.next = next.and_then(Start::into_token);
    Ok(answer)
}

async fn page_at(
    store: &S3Store,
    request: &ListRequest,
    start: &Start,
) -> Result<Page, StoreError> {
    match start {
        Start::Marker(key) => page_by_marker(store, request, key).await,
        Start::First | Start::Token(_) | Start::After(_) => {
            page_by_token(store, request, start).await
        }
    }
}

async fn page_by_token(
    store: &S3Store,
    request: &ListRequest,
    start: &Start,
) -> Result<Page, StoreError> {
    let (token, after) = match start {
        Start::Token(token) => (Some(token.clone()), None),
        Start::After(key) => (None, Some(key.clone())),
        Start::First | Start::Marker(_) => (None, None),
    };
    let answer = store
        .client()
        .list_objects_v2()
        .bucket(&store.bucket)
        .prefix(&request.prefix)
        .set_delimiter(delimiter(request))
        .set_continuation_token(token)
        .set_start_after(after)
        .max_keys(i32::from(request.max_keys))
        .encoding_type(EncodingType::Url)
        .send()
        .await
        .map_err(|error| translate(StoreOp::List, &shown(request), error))?;
    Page::new(
        &request.prefix,
        answer.encoding_type(),
        (answer.contents(), answer.common_prefixes()),
        answer.is_truncated(),
        answer.next_continuation_token(),
    )
}

async fn page_by_marker(
    store: &S3Store,
    request: &ListRequest,
    key: &str,
) -> Result<Page, StoreError> {
    let answer = store
        .client()
        .list_objects()
        .bucket(&store.bucket)
        .prefix(&request.prefix)
        .set_delimiter(delimiter(request))
        .marker(key)
        .max_keys(i32::from(request.max_keys))
        .encoding_type(EncodingType::Url)
        .send()
        .await
        .map_err(|error| translate(StoreOp::List, &shown(request), error))?;
    Page::new(
        &request.prefix,
        answer.encoding_type(),
        (answer.contents(), answer.common_prefixes()),
        answer.is_truncated(),
        // Where the next page starts follows from its last key.
        None,
    )
}

/// Errors: `Rejected`, when the page is in no order that keys have: what is not in
/// it may be on any other.
fn check_order(store: &S3Store, request: &ListRequest, page: &Page) -> Result<(), StoreError> {
    let keys = page.answer.objects.iter().map(|it| it.key.as_str());
    let prefixes = page.answer.prefixes.iter().map(String::as_str);
    if is_ordered(keys) && is_ordered(prefixes) {
        return Ok(());
    }
    store.list_quirks.log_unordered(&request.prefix);
    let why = "the listing is not in the order of keys, as those of directory buckets";
    Err(unusable(&request.prefix, why))
}

impl Page {
    /// Errors: `Rejected`, when a field is missing that decides what there is.
    fn new(
        prefix: &str,
        encoding: Option<&EncodingType>,
        (objects, prefixes): (&[Object], &[CommonPrefix]),
        is_truncated: Option<bool>,
        token: Option<&str>,
    ) -> Result<Self, StoreError> {
        let missing = |field: &str| unusable(prefix, &format!("the listing lacks {field}"));
        let plain = |listed: &str| match encoding {
            Some(EncodingType::Url) => decode(listed),
            _ => Some(listed.to_owned()),
        };
        let mut answer = ListAnswer::default();
        for object in objects {
            let key = object.key().ok_or_else(|| missing("a Key"))?;
            let etag = object.e_tag().ok_or_else(|| missing("an ETag"))?;
            let size = object.size().and_then(|size| u64::try_from(size).ok());
            let size_bytes = size.ok_or_else(|| missing("a Size"))?;
            let time = object.last_modified();
            let time = time.ok_or_else(|| missing("a LastModified"))?;
            // A file whose versions cannot be told apart is not shown.
            let (key, etag) = match (plain(key), ETag::parse(etag)) {
                (Some(key), Some(etag)) => (key, etag),
                // An empty directory of the store's own (SeaweedFS), and no object.
                (Some(key), None) if key == prefix && size_bytes == 0 => continue,
                (named, _) => {
                    tracing::debug!(key, "hidden: listed without a usable key or ETag");
                    answer.unusable.push(unusable_key(key, named));
                    continue;
                }
            };
            answer.objects.push(ListedObject {
                key: Key::new(key),
                etag,
                size_bytes,
                last_modified: whole_seconds(Some(time)),
            });
        }
        for folded in prefixes {
            let folded = folded.prefix().ok_or_else(|| missing("a Prefix"))?;
            answer.prefixes.extend(plain(folded));
        }
        Ok(Self {
            answer,
            is_truncated: is_truncated.ok_or_else(|| missing("IsTruncated"))?,
            token: token.filter(|it| !it.is_empty()).map(str::to_owned),
        })
    }

    /// Where the page behind this one starts; none at the end, and where this page,
    /// which was to start behind a key, has nothing behind it.
    fn next(&self, start: &Start) -> Option<Start> {
        if !self.is_truncated {
            return None;
        }
        if let (Some(token), Start::First | Start::Token(_)) = (&self.token, start) {
            return Some(Start::Token(token.clone()));
        }
        let keys = self.answer.objects.iter().map(|it| it.key.as_str());
        let all = keys.chain(self.answer.prefixes.iter().map(String::as_str));
        let last = all.clone().max()?;
        match start {
            Start::First | Start::Token(_) => Some(Start::After(last.to_owned())),
            Start::After(key) | Start::Marker(key) => {
                let goes_on = all.clone().any(|it| it > key.as_str())
                    || all
                        .clone()
                        .any(|it| by_segment(it, key) == Ordering::Greater);
                let last = last.to_owned();
                (goes_on && last != *key).then_some(match start {
                    Start::Marker(_) => Start::Marker(last),
                    _ => Start::After(last),
                })
            }
        }
    }
}

fn unusable_key(listed: &str, key: Option<String>) -> UnusableKey {
    match key {
        Some(key) => UnusableKey {
            key,
            why: "S3 lists it without an ETag that names a version".to_owned(),
        },
        None => UnusableKey {
            key: decode_lossy(listed),
            why: format!("its key is not UTF-8: {listed}"),
        },
    }
}

fn delimiter(request: &ListRequest) -> Option<String> {
    (request.fold_directories == FoldDirectories::Yes).then(|| "/".to_owned())
}

fn shown(request: &ListRequest) -> Key {
    Key::new(request.prefix.as_str())
}

fn unusable(prefix: &str, why: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::Rejected,
        StoreOp::List,
        Key::new(prefix),
        why,
    )
}

/// Whether keys are in the order of their bytes, or directory by directory as some
/// stores have them: `a/x` before `a-b`.
fn is_ordered<'a>(keys: impl Iterator<Item = &'a str> + Clone) -> bool {
    keys.clone().is_sorted() || keys.is_sorted_by(|a, b| by_segment(a, b) != Ordering::Greater)
}

fn by_segment(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_the_order_of_bytes_or_of_directories_are_in_order() {
        let ordered = |keys: &[&str]| is_ordered(keys.iter().copied());
        assert!(ordered(&["a-b", "a/x", "a0"]));
        assert!(ordered(&["a/x", "a-b", "a0"]));
        assert!(ordered(&[]) && ordered(&["b"]));
        assert!(!ordered(&["b", "a"]));
        assert!(!ordered(&["a0", "a/x", "a-b"]));
    }

    fn page(keys: &[&str], prefixes: &[&str]) -> Page {
        let objects = keys.iter().map(|key| ListedObject {
            key: Key::new(*key),
            etag: ETag::new("e"),
            size_bytes: 0,
            last_modified: std::time::SystemTime::UNIX_EPOCH,
        });
        Page {
            answer: ListAnswer {
                objects: objects.collect(),
                prefixes: prefixes.iter().map(|&it| it.to_owned()).collect(),
                ..ListAnswer::default()
            },
            is_truncated: true,
            token: None,
        }
    }

    #[test]
    fn a_page_goes_on_behind_its_last_key_and_never_at_the_same_place() {
        let after = |key: &str| Start::After(key.to_owned());
        let first = page(&["a", "b"], &["c/"]);
        assert_eq!(first.next(&Start::First), Some(after("c/")));
        assert_eq!(first.next(&after("c/")), None);
        assert_eq!(page(&["d"], &[]).next(&after("c/")), Some(after("d")));
        assert_eq!(page(&["c-d"], &[]).next(&after("c/")), Some(after("c-d")));
        assert_eq!(page(&[], &[]).next(&after("c/")), None);
        let marker = Start::Marker("c/".to_owned());
        let next = page(&["d"], &[]).next(&marker);
        assert_eq!(next, Some(Start::Marker("d".to_owned())));
    }

    #[test]
    fn an_object_whose_key_or_version_cannot_be_told_is_named_beside_the_others() {
        let object = |key: &str, etag: &str| {
            Object::builder()
                .key(key)
                .e_tag(etag)
                .size(1)
                .last_modified(aws_sdk_s3::primitives::DateTime::from_secs(1))
                .build()
        };
        let objects = [
            object("p/a", "e"),
            object("p/caf%E9", "e"),
            object("p/b", ""),
        ];
        let url = EncodingType::Url;
        let page = Page::new("p/", Some(&url), (&objects, &[]), Some(false), None).unwrap();
        let keys: Vec<_> = page
            .answer
            .objects
            .iter()
            .map(|it| it.key.as_str())
            .collect();
        assert_eq!(keys, ["p/a"]);
        let unusable: Vec<_> = page
            .answer
            .unusable
            .iter()
            .map(|it| it.key.as_str())
            .collect();
        assert_eq!(unusable, ["p/caf\u{fffd}", "p/b"]);
        assert!(page.answer.unusable[0].why.contains("p/caf%E9"));
    }

    #[test]
    fn the_start_of_a_page_survives_its_way_as_a_token() {
        for start in [
            Start::First,
            Start::Token("aé".to_owned()),
            Start::After("é/b".to_owned()),
            Start::Marker(String::new()),
        ] {
            assert_eq!(Start::of(start.clone().into_token()), start);
        }
    }
}
