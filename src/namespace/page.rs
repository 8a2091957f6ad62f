//! From a page of a listing to directory entries.

use std::borrow::Cow;
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

/// Why an object is not shown that has a directory's name.
pub const SHADOWED: &str = "a directory has its name";

/// A key that cannot be shown, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenKey {
    /// As far as it is text.
    pub key: Key,
    pub why: Cow<'static, str>,
}

impl HiddenKey {
    /// A key of a page of `prefix`.
    fn below(prefix: &str, key: &str) -> Self {
        let why = why_hidden(prefix, key).unwrap_or("it is not below its directory");
        Self {
            key: Key::new(key),
            why: why.into(),
        }
    }

    /// The object that has the name of this directory of a page.
    pub(super) fn shadowed_by(folded: &str) -> Self {
        Self {
            key: Key::new(folded.trim_end_matches('/')),
            why: SHADOWED.into(),
        }
    }
}

/// Why the key cannot be an entry of the directory of this prefix, if it cannot.
pub(super) fn why_hidden(prefix: &str, key: &str) -> Option<&'static str> {
    let below = key.strip_prefix(prefix)?;
    if below.is_empty() {
        return Some("it has the directory's own name, and bytes");
    }
    Name::why_impossible(below.split('/').next().unwrap_or_default())
}

/// Entries of one page of a directory's listing.
#[derive(Debug, Default)]
pub struct Page {
    /// A directory stands for itself and for an object of the same name.
    pub entries: BTreeMap<Name, Entry>,
    /// What the page, the first of its listing, has under the directory's own key.
    pub marker: Marker,
    /// Keys that cannot be shown as files, those included in whose place the page has a
    /// directory of their name.
    pub hidden: Vec<HiddenKey>,
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
        let unusable = answer.unusable.into_iter();
        page.hidden.extend(unusable.map(|object| HiddenKey {
            key: Key::new(object.key),
            why: object.why.into(),
        }));
        page
    }

    fn extend_to(&mut self, key: &str) {
        if self.last.as_deref().is_none_or(|last| last < key) {
            self.last = Some(key.to_owned());
        }
    }

    fn add_object(&mut self, prefix: &str, object: &ListedObject) {
        let key = object.key.as_str();
        match key.strip_prefix(prefix) {
            Some("") => {
                self.marker = Marker::of_size(object.size_bytes);
                if self.marker == Marker::Foreign {
                    self.hidden.push(HiddenKey::below(prefix, key));
                }
            }
            Some(segment) if is_scratch(segment) => {}
            Some(segment) => match Name::from_segment(segment) {
                Some(name) => {
                    let version = ObjectVersion::from(object);
                    self.entries.entry(name).or_insert(Entry::File(version));
                }
                None => self.hidden.push(HiddenKey::below(prefix, key)),
            },
            None => self.hidden.push(HiddenKey::below(prefix, key)),
        }
    }

    fn add_directory(&mut self, prefix: &str, folded: &str) {
        let segment = folded
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix('/'));
        if segment.is_some_and(is_scratch) {
            return;
        }
        match segment.and_then(Name::from_segment) {
            Some(name) => {
                let before = self.entries.insert(name, Entry::Directory);
                if matches!(before, Some(Entry::File(_))) {
                    self.hidden.push(HiddenKey::shadowed_by(folded));
                }
            }
            None => self.hidden.push(HiddenKey::below(prefix, folded)),
        }
    }

    pub fn is_directory(&self, name: &Name) -> bool {
        matches!(self.entries.get(name), Some(Entry::Directory))
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
    use crate::store::{ETag, UnusableKey};

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
        let marker = ".mediafs-probe-0123456789abcdef-marker/";
        let page = Page::new("", answer(&names, &[marker, "b/"], None));
        let shown: Vec<&str> = page.entries.keys().map(Name::as_str).collect();
        assert_eq!(shown, [".mediafs-probe-notes", "a", "b"]);
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
        assert_eq!(page.hidden, [HiddenKey::shadowed_by("p/a/")]);
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

    #[test]
    fn an_object_without_a_usable_version_is_hidden_with_its_reason() {
        let mut answer = answer(&["a"], &[], None);
        answer.unusable = vec![UnusableKey {
            key: "b".to_owned(),
            why: "no ETag".to_owned(),
        }];
        let page = Page::new("", answer);
        let hidden: Vec<_> = page
            .hidden
            .iter()
            .map(|it| (it.key.as_str(), &*it.why))
            .collect();
        assert_eq!(hidden, [("b", "no ETag")]);
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
