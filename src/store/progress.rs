//! Sees that a listing of several pages comes to an end.

use super::{Key, ListAnswer, StoreError, StoreErrorKind, StoreOp};

/// Most pages in a row that lead no further. Some stores list a directory's
/// entries in an order that is not the keys', and pages may be empty.
const STALLED_PAGES_LIMIT: u32 = 100;

/// How far a listing has come.
#[derive(Debug, Default)]
pub struct ListProgress {
    furthest: String,
    stalled_pages: u32,
    /// The first and the last of the page before.
    page: Option<(String, String)>,
}

impl ListProgress {
    /// Takes note of a page, the answer to a request with this prefix.
    ///
    /// Errors: `Rejected`, when another page follows and this one is the one before again, or
    /// the last `STALLED_PAGES_LIMIT` had no key behind those before.
    pub fn step(&mut self, prefix: &str, answer: &ListAnswer) -> Result<(), StoreError> {
        let keys = answer.objects.iter().map(|object| object.key.as_str());
        let all = keys.chain(answer.prefixes.iter().map(String::as_str));
        let (first, last) = (all.clone().min(), all.max());
        let page = first.zip(last);
        let page = page.map(|(first, last)| (first.to_owned(), last.to_owned()));
        match last {
            Some(last) if last > self.furthest.as_str() => {
                self.furthest = last.to_owned();
                self.stalled_pages = 0;
            }
            _ => self.stalled_pages += 1,
        }
        let before = std::mem::replace(&mut self.page, page);
        let is_long = self
            .page
            .as_ref()
            .is_some_and(|(first, last)| first != last);
        let is_repeated = is_long && before == self.page && answer.next.is_some();
        let why = if is_repeated {
            "the listing does not move on: the same page came twice".to_owned()
        } else if self.stalled_pages >= STALLED_PAGES_LIMIT && answer.next.is_some() {
            format!("the listing does not move on: {STALLED_PAGES_LIMIT} pages without a new key")
        } else {
            return Ok(());
        };
        let (kind, prefix) = (StoreErrorKind::Rejected, Key::new(prefix));
        Err(StoreError::new(kind, StoreOp::List, prefix, why))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::{ETag, ListToken, ListedObject};

    fn page(keys: &[&str]) -> ListAnswer {
        let objects = keys.iter().map(|key| ListedObject {
            key: Key::new(*key),
            etag: ETag::new("e"),
            size_bytes: 0,
            last_modified: SystemTime::UNIX_EPOCH,
        });
        ListAnswer {
            objects: objects.collect(),
            next: Some(ListToken("t".to_owned())),
            ..ListAnswer::default()
        }
    }

    #[test]
    fn a_listing_may_be_long_and_have_pages_that_lead_nowhere_but_not_for_ever() {
        let mut progress = ListProgress::default();
        for number in 0..10_000 {
            let key = format!("k{number:09}");
            progress.step("", &page(&[&key])).unwrap();
            progress.step("", &page(&[])).unwrap();
            progress.step("", &page(&["a"])).unwrap();
        }
        let mut stalled = (0..STALLED_PAGES_LIMIT).map(|_| progress.step("", &page(&["a"])));
        let error = stalled.find_map(Result::err).unwrap();
        assert_eq!(error.kind, StoreErrorKind::Rejected);
        let last = ListAnswer {
            next: None,
            ..page(&[])
        };
        assert!(progress.step("", &last).is_ok(), "it has come to its end");
    }

    #[test]
    fn a_page_that_comes_again_ends_the_listing() {
        let mut progress = ListProgress::default();
        progress.step("", &page(&["a", "b"])).unwrap();
        let error = progress.step("", &page(&["a", "b"])).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Rejected);
    }
}
