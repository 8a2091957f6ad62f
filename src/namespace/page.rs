//! From a page of a listing to directory entries.

use std::collections::BTreeMap;

use super::dir_entry::{Entry, Marker};
use super::name::Name;
use crate::store::{Key, ListAnswer, ListToken, ListedObject};
use crate::vocabulary::ObjectVersion;

/// With 16 hexadecimal digits after it: not shown, whichever mount has made it.
const SCRATCH_NAMES: [&str; 4] = [
    ".mediafs-doctor-",
    ".mediafs-probe-",
    ".mediafs-replaced-",
    ".mediafs-zeros-",
];

/// Entries of one page of a directory's listing.
#[derive(Debug, Default)]
pub struct Page {
    /// A directory stands for itself and for an object of the same name.
    pub entries: BTreeMap<Name, Entry>,
    /// What the page, the first of its listing, has under the directory's own key.
    pub marker: Marker,
    /// Keys that cannot be shown as files.
    pub hidden: Vec<Key>,
    /// Objects in whose place a directory of their name is shown.
    pub shadowed: Vec<Key>,
    pub next: Option<ListToken>,
    /// The page reaches up to here; absent on an empty page.
    pub last: Option<String>,
}

impl From<&ListedObject> for ObjectVersion {
    fn from(object: &ListedObject) -> Self {
        Self {
            etag: object.etag.clone(),
            size_bytes: object.size_bytes,
            last_modified: object.last_modified,
        }
    }
}

impl Page {
    /// Sorts the answer to a listing of `prefix` (folded at `/`) into entries.
    pub fn new(prefix: &str, answer: ListAnswer) -> Self {
        let mut page = Self {
            next: answer.next,
            marker: Marker::Absent,
            ..Self::default()
        };
        for object in &answer.objects {
            page.extend_to(object.key.as_str());
            page.add_object(prefix, object);
        }
        for folded in &answer.prefixes {
            page.extend_to(folded);
            page.add_directory(prefix, folded);
        }
        page
    }

    fn extend_to(&mut self, key: &str) {
        if self.last.as_deref().is_none_or(|last| last < key) {
            self.last = Some(key.to_owned());
        }
    }

    fn add_object(&mut self, prefix: &str, object: &ListedObject) {
        match object.key.as_str().strip_prefix(prefix) {
            Some("") => {
                self.marker = Marker::of_size(object.size_bytes);
                if self.marker == Marker::Foreign {
                    self.hidden.push(object.key.clone());
                }
            }
            Some(segment) if is_scratch(segment) => {}
            Some(segment) => match Name::from_segment(segment) {
                Some(name) => {
                    let version = ObjectVersion::from(object);
                    self.entries.entry(name).or_insert(Entry::File(version));
                }
                None => self.hidden.push(object.key.clone()),
            },
            None => self.hidden.push(object.key.clone()),
        }
    }

    fn add_directory(&mut self, prefix: &str, folded: &str) {
        let segment = folded
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix('/'));
        match segment.and_then(Name::from_segment) {
            Some(name) => {
                let before = self.entries.insert(name, Entry::Directory);
                if matches!(before, Some(Entry::File(_))) {
                    self.shadowed.push(Key::new(folded.trim_end_matches('/')));
                }
            }
            None => self.hidden.push(Key::new(folded)),
        }
    }

    /// Whether this page, the first of its listing, tells all about `name`:
    /// both `name` and `name/` would lie within it, in the order of the keys' bytes
    /// and in that of names, as some stores have it: the directory `a` before `a-b`.
    pub fn is_complete_for(&self, prefix: &str, name: &Name) -> bool {
        let as_directory = format!("{prefix}{}/", name.as_str());
        let as_file = as_directory.trim_end_matches('/');
        let reaches =
            |last: &str| as_directory.as_str() <= last && as_file <= last.trim_end_matches('/');
        self.next.is_none() || self.last.as_deref().is_some_and(reaches)
    }

    /// Files of this page whose directory twin may still come on a later page.
    pub fn take_unsettled(&mut self, prefix: &str) -> Vec<(Name, Entry)> {
        let unsettled: Vec<Name> = self
            .entries
            .iter()
            .filter(|(name, entry)| {
                matches!(entry, Entry::File(_)) && !self.is_complete_for(prefix, name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        unsettled
            .into_iter()
            .filter_map(|name| self.entries.remove_entry(&name))
            .collect()
    }
}

/// Whether it is an object that a mount or doctor makes for its own use and deletes soon.
pub fn is_scratch(segment: &str) -> bool {
    let number = SCRATCH_NAMES
        .iter()
        .find_map(|begin| segment.strip_prefix(begin));
    let digits = number.and_then(|number| number.get(..16));
    digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::ETag;

    fn object(key: &str) -> ListedObject {
        ListedObject {
            key: Key::new(key),
            etag: ETag::new("e"),
            size_bytes: 1,
            last_modified: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_mediafs_makes_for_its_own_use_is_not_shown() {
        let scratch = ".mediafs-probe-0123456789abcdef-put";
        let names = [".mediafs-probe-notes", scratch, "a"];
        let page = Page::new("", answer(&names, &[], None));
        let shown: Vec<&str> = page.entries.keys().map(Name::as_str).collect();
        assert_eq!(shown, [".mediafs-probe-notes", "a"]);
        assert!(page.hidden.is_empty());
    }

    fn answer(objects: &[&str], prefixes: &[&str], next: Option<&str>) -> ListAnswer {
        ListAnswer {
            objects: objects.iter().map(|key| object(key)).collect(),
            prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
            next: next.map(|token| ListToken(token.to_owned())),
            ..ListAnswer::default()
        }
    }

    #[test]
    fn a_directory_wins_over_an_object_of_its_name() {
        let page = Page::new("p/", answer(&["p/a", "p/b"], &["p/a/"], None));
        let kinds: Vec<_> = page
            .entries
            .iter()
            .map(|(n, e)| (n.as_str(), e.kind()))
            .collect();
        assert_eq!(
            kinds,
            [
                ("a", super::super::Kind::Directory),
                ("b", super::super::Kind::File)
            ]
        );
        assert_eq!(page.shadowed, [Key::new("p/a")]);
    }

    #[test]
    fn keys_that_cannot_be_file_names_are_hidden_not_errors() {
        let long = format!("p/{}", "x".repeat(300));
        let page = Page::new(
            "p/",
            answer(&["p/", &long, "p/.."], &["p//", "p/./", "other/"], None),
        );
        assert_eq!(page.marker, Marker::Foreign);
        assert!(page.entries.is_empty());
        assert_eq!(page.hidden.len(), 6);
    }

    #[test]
    fn a_page_that_ends_with_a_directory_says_nothing_of_names_that_go_on_its_own() {
        let page = Page::new("p/", answer(&["p/A"], &["p/a/"], Some("t")));
        let is_complete = |name: &str| {
            let name = Name::from_segment(name).unwrap();
            page.is_complete_for("p/", &name)
        };
        assert!(is_complete("A") && is_complete("a") && is_complete("Z"));
        assert!(!is_complete("a-b") && !is_complete("a.c") && !is_complete("b"));
    }

    #[test]
    fn a_file_is_unsettled_while_its_directory_twin_may_follow() {
        let mut page = Page::new("", answer(&["a", "a-1", "a.x"], &[], Some("t")));
        let unsettled: Vec<_> = page
            .take_unsettled("")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            unsettled.iter().map(Name::as_str).collect::<Vec<_>>(),
            ["a", "a.x"]
        );
        assert!(page.is_complete_for("", &Name::from_segment("a-1").unwrap()));
    }
}
