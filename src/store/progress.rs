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
}

impl ListProgress {
    /// Takes note of a page, the answer to a request with this prefix.
    ///
    /// Errors: `Rejected`, when another page follows and the last
    /// `STALLED_PAGES_LIMIT` had no key behind those before.
    pub fn step(&mut self, prefix: &str, answer: &ListAnswer) -> Result<(), StoreError> {
        let keys = answer.objects.iter().map(|object| object.key.as_str());
        let last = keys.chain(answer.prefixes.iter().map(String::as_str)).max();
        match last {
            Some(last) if last > self.furthest.as_str() => {
                self.furthest = last.to_owned();
                self.stalled_pages = 0;
            }
            _ => self.stalled_pages += 1,
        }
        if answer.next.is_none() || self.stalled_pages < STALLED_PAGES_LIMIT {
            return Ok(());
        }
        Err(StoreError::new(
            StoreErrorKind::Rejected,
            StoreOp::List,
            Key::new(prefix),
            format!("the listing does not move on: {STALLED_PAGES_LIMIT} pages without a new key"),
        ))
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
}
