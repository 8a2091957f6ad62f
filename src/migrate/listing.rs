//! The objects below a prefix in the order of their paths, however many there are and
//! in whatever order the store lists them: sorted in memory, and on disk where they are many.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entry::Object;
use super::spill::{Spill, unnamed};
use crate::store::{FoldDirectories, ListRequest, ObjectStore, StoreError, UnusableKey};

/// Objects that are sorted in memory at once.
const RUN_LIMIT: usize = 100_000;

/// What is below the prefix and can be no file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusable {
    pub path: String,
    pub why: String,
}

impl Unusable {
    fn new(path: &str, why: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}

/// Reads every page. One request for each 1,000 keys.
///
/// Errors: the store's; the disk's, as the outer one.
pub async fn list(
    store: &dyn ObjectStore,
    prefix: &str,
    scratch: &Path,
) -> io::Result<Result<Listing, StoreError>> {
    let mut sorter = Sorter::new(scratch, RUN_LIMIT);
    let mut unusable = Spill::new(scratch, "unusable")?;
    let mut token = None;
    loop {
        let request = ListRequest::page(prefix, FoldDirectories::No, token);
        let page = match store.list(request).await {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        let below = page.objects.iter();
        for object in below.filter_map(|listed| Object::below(prefix, listed)) {
            // The prefix itself is the directory.
            match (object.path.is_empty(), object.why_no_file()) {
                (false, _) => sorter.push(object)?,
                (true, None) => {}
                (true, Some(why)) => unusable.push(&Unusable::new(".", why))?,
            }
        }
        for UnusableKey { key, why } in page.unusable {
            let path = key.strip_prefix(prefix).unwrap_or(&key);
            unusable.push(&Unusable::new(path, why))?;
        }
        token = page.next;
        if token.is_none() {
            let mut listing = sorter.finish()?;
            listing.unusable = Some(unusable);
            return Ok(Ok(listing));
        }
    }
}

/// Sorts by runs.
#[derive(Debug)]
struct Sorter {
    scratch: PathBuf,
    limit: usize,
    run: Vec<Object>,
    written: Vec<File>,
}

impl Sorter {
    fn new(scratch: &Path, limit: usize) -> Self {
        Self {
            scratch: scratch.to_owned(),
            limit,
            run: Vec::new(),
            written: Vec::new(),
        }
    }

    fn push(&mut self, object: Object) -> io::Result<()> {
        self.run.push(object);
        if self.run.len() < self.limit {
            return Ok(());
        }
        self.run.sort_unstable();
        let mut file = unnamed(&self.scratch.join(format!("run-{}", self.written.len())))?;
        {
            let mut out = BufWriter::new(&mut file);
            for object in self.run.drain(..) {
                serde_json::to_writer(&mut out, &object)?;
                out.write_all(b"\n")?;
            }
            out.flush()?;
        }
        file.rewind()?;
        self.written.push(file);
        Ok(())
    }

    fn finish(mut self) -> io::Result<Listing> {
        self.run.sort_unstable();
        let written = self
            .written
            .into_iter()
            .map(|file| SortedRun::Disk(BufReader::new(file)));
        let mut runs: Vec<SortedRun> = written.collect();
        runs.push(SortedRun::Memory(self.run.into_iter()));
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (number, run) in runs.iter_mut().enumerate() {
            heads.extend(run.next()?.map(|object| Reverse((object, number))));
        }
        Ok(Listing {
            heads,
            runs,
            unusable: None,
        })
    }
}

#[derive(Debug)]
enum SortedRun {
    Memory(std::vec::IntoIter<Object>),
    Disk(BufReader<File>),
}

impl SortedRun {
    fn next(&mut self) -> io::Result<Option<Object>> {
        match self {
            Self::Memory(objects) => Ok(objects.next()),
            Self::Disk(lines) => {
                let mut line = String::new();
                if lines.read_line(&mut line)? == 0 {
                    return Ok(None);
                }
                Ok(Some(serde_json::from_str(&line)?))
            }
        }
    }
}

/// Objects in the order of their paths.
#[derive(Debug)]
pub struct Listing {
    heads: BinaryHeap<Reverse<(Object, usize)>>,
    runs: Vec<SortedRun>,
    unusable: Option<Spill<Unusable>>,
}

impl Listing {
    /// What is listed and cannot be compared, once.
    pub fn take_unusable(&mut self) -> Option<Spill<Unusable>> {
        self.unusable.take()
    }

    /// One that S3 has told of twice comes once. Errors: the disk's.
    pub fn next(&mut self) -> io::Result<Option<Object>> {
        loop {
            let Some(Reverse((first, number))) = self.heads.pop() else {
                return Ok(None);
            };
            if let Some(run) = self.runs.get_mut(number) {
                self.heads
                    .extend(run.next()?.map(|object| Reverse((object, number))));
            }
            let next = self.heads.peek().map(|Reverse((next, _))| next);
            if next.is_none_or(|next| next.path != first.path) {
                return Ok(Some(first));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::migrate::tests::Places;
    use crate::store::memory::Memory;

    #[tokio::test]
    async fn a_directory_of_the_prefix_itself_that_has_bytes_is_named() {
        let places = Places::new(std::sync::Arc::new(Memory::default())).await;
        for (path, bytes) in [("", "x"), ("d/", ""), ("f", "x")] {
            places.object(path, bytes).await;
        }
        let scratch = tempfile::tempdir().unwrap();
        let listed = list(&*places.store, "p/", scratch.path()).await;
        let mut listing = listed.unwrap().unwrap();
        let unusable = listing.take_unusable().unwrap().read().unwrap();
        let unusable: Vec<_> = unusable.map(|it| it.unwrap().path).collect();
        assert_eq!(unusable, ["."]);
        assert_eq!(listing.next().unwrap().unwrap().path, "d/");
    }

    #[test]
    fn objects_in_any_order_come_out_sorted_and_no_file_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(dir.path(), 3);
        for path in ["a/x", "a-b", "a", "z\n", "é", "b", "0"] {
            let object = Object {
                path: path.to_owned(),
                etag: "e".to_owned(),
                size_bytes: 1,
                modified: 2,
            };
            sorter.push(object).unwrap();
        }
        let mut listing = sorter.finish().unwrap();
        let mut sorted = Vec::new();
        while let Some(object) = listing.next().unwrap() {
            sorted.push(object.path);
        }
        assert_eq!(sorted, ["0", "a", "a-b", "a/x", "b", "z\n", "é"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
