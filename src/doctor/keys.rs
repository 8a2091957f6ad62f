//! The keys of the mounted part: how many there are, and which cannot be files.

use super::{Extent, Findings};
use crate::config::Config;
use crate::namespace::{Name, SHADOWED};
use crate::store::{Key, ListAnswer};

/// How a directory is called by Hadoop's older S3 file systems.
const HADOOP_MARKER: &str = "_$folder$";
/// No file of a mount has its bytes.
const MARKER_WITH_BYTES: &str = "marks a directory, and has bytes";

/// What the pages of a flat listing had.
#[derive(Debug)]
pub(super) struct Keys<'a> {
    prefix: &'a str,
    named_limit: usize,
    files: usize,
    markers: usize,
    /// Markers of Hadoop, which are files to a mount.
    of_hadoop: usize,
    hidden: usize,
    named: Vec<String>,
    /// Files in whose place a directory may follow: each begins with the one before, and
    /// in the order of keys only what begins with a file's key stands before its directory.
    open: Vec<Key>,
    last: Option<Key>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(config: &'a Config, extent: Extent) -> Self {
        Self::below(&config.prefix, extent.named_limit())
    }

    fn below(prefix: &'a str, named_limit: usize) -> Self {
        Self {
            prefix,
            named_limit,
            files: 0,
            markers: 0,
            of_hadoop: 0,
            hidden: 0,
            named: Vec::new(),
            open: Vec::new(),
            last: None,
        }
    }

    /// How many objects were looked at.
    pub(super) fn count(&self) -> usize {
        self.files + self.markers
    }

    pub(super) fn add_page(&mut self, page: &ListAnswer) {
        for object in &page.objects {
            self.add(&object.key, object.size_bytes);
        }
        for unusable in &page.unusable {
            self.files += 1;
            self.hide(&Key::new(unusable.key.as_str()), &unusable.why);
        }
    }

    fn add(&mut self, key: &Key, size_bytes: u64) {
        self.settle(key);
        let is_marker = key.as_str().ends_with('/');
        if is_marker {
            self.markers += 1;
        } else {
            self.files += 1;
            self.of_hadoop += usize::from(key.as_str().ends_with(HADOOP_MARKER));
        }
        // Some stores list a directory before the file of its name.
        let last = self.last.replace(key.clone());
        let is_shadowed = !is_marker && last.is_some_and(|last| is_below(&last, key));
        match why_hidden(self.prefix, key) {
            Some(why) => self.hide(key, why),
            None if is_shadowed => self.hide(key, SHADOWED),
            None if is_marker && size_bytes > 0 => self.hide(key, MARKER_WITH_BYTES),
            None if is_marker => {}
            None => self.open.push(key.clone()),
        }
    }

    /// Closes the files before `key` whose directory would have come by now.
    fn settle(&mut self, key: &Key) {
        while let Some(file) = self.open.last() {
            let rest = key.as_str().strip_prefix(file.as_str());
            if rest.is_some_and(|rest| rest.as_bytes().first() < Some(&b'/')) {
                return;
            }
            let Some(file) = self.open.pop() else { return };
            if is_below(key, &file) {
                self.hide(&file, SHADOWED);
            }
        }
    }

    fn hide(&mut self, key: &Key, why: &str) {
        self.hidden += 1;
        if self.named.len() < self.named_limit {
            self.named.push(format!("{key} ({why})"));
        }
    }

    /// `part` says which part of the objects it is; empty for all.
    pub(super) fn report(self, part: &str, report: &mut Findings) {
        let Self {
            files,
            markers,
            of_hadoop,
            hidden,
            ..
        } = self;
        report.ok(
            "objects",
            format!("{files} files and {markers} directory markers{part}"),
        );
        let least = if part.is_empty() { "" } else { "at least " };
        if of_hadoop > 0 {
            report.warn(
                "markers",
                format!(
                    "{least}{of_hadoop} keys end in {HADOOP_MARKER}{part}: Hadoop writes them for directories, and a mount shows them as files"
                ),
                "delete them with another S3 client once no such program uses the bucket",
            );
        }
        if hidden == 0 {
            report.ok("keys", format!("each can be a file{part}"));
            return;
        }
        let mut named = self.named.join(", ");
        if let more @ 1.. = hidden - self.named.len() {
            named += &format!(", and {more} more");
        }
        report.warn(
            "keys",
            format!("{least}{hidden} cannot be shown as files{part}: {named}"),
            "rename or delete them with another S3 client; no file of a mount hides them",
        );
    }
}

/// Whether the key lies in the directory of that name.
fn is_below(key: &Key, directory: &Key) -> bool {
    let rest = key.as_str().strip_prefix(directory.as_str());
    rest.is_some_and(|rest| rest.starts_with('/'))
}

fn why_hidden(prefix: &str, key: &Key) -> Option<&'static str> {
    let path = key.as_str().strip_prefix(prefix)?;
    // What ends in a slash is a directory.
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return None;
    }
    path.split('/').find_map(Name::why_impossible)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(keys: &[&str]) -> Vec<String> {
        let mut found = Keys::below("p/", 10);
        for key in keys {
            found.add(&Key::new(*key), 0);
        }
        assert_eq!(found.count(), keys.len());
        assert_eq!(found.hidden, found.named.len());
        let mut named = found.named;
        named.sort();
        named
    }

    #[test]
    fn a_marker_with_bytes_is_hidden_and_one_of_hadoop_is_a_file() {
        let mut found = Keys::below("p/", 10);
        for (key, size) in [("p/a/", 0), ("p/b/", 5), ("p/c_$folder$", 0), ("p/d", 1)] {
            found.add(&Key::new(key), size);
        }
        assert_eq!(found.named, [format!("p/b/ ({MARKER_WITH_BYTES})")]);
        assert_eq!((found.markers, found.files, found.of_hadoop), (2, 2, 1));
    }

    #[test]
    fn a_file_is_hidden_by_a_directory_of_its_name_however_far_it_follows() {
        let told = |keys: &[&str]| -> Vec<String> {
            keys.iter()
                .map(|key| format!("{key} ({SHADOWED})"))
                .collect()
        };
        for (keys, expected) in [
            (&["p/a", "p/a/b"][..], &["p/a"][..]),
            (&["p/a", "p/a-1", "p/a-1-2", "p/a-2", "p/a/b"], &["p/a"]),
            (
                &["p/a", "p/a-1", "p/a-1/x", "p/a.c", "p/a/"],
                &["p/a", "p/a-1"],
            ),
            (&["p/a", "p/a0", "p/b/c"], &[]),
            (&["p/a", "p/a-1", "p/a0/x"], &[]),
            // As by a store that goes through directories.
            (&["p/a/b", "p/a", "p/a-b"], &["p/a"]),
            (&["p/a", "p/a/b", "p/a-b"], &["p/a"]),
        ] {
            assert_eq!(hidden(keys), told(expected), "{keys:?}");
        }
    }

    #[test]
    fn what_is_a_directory_or_its_marker_is_not_hidden() {
        assert_eq!(hidden(&["p/", "p/a/", "p/a/b", "p/a/b/"]).len(), 1);
        assert_eq!(hidden(&["p/a//b", "p/a/../b"]).len(), 2);
    }
}
