//! A list of files with their checksums, by which a bucket is compared without them.
//!
//! It has its place whole or not at all, and its last line counts those before: one that
//! is cut off is none.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::connect::connect;
use super::entry::{Object, Stat};
use super::guards;
use super::job::Job;
use super::listing::Listing;
use super::local_file::{ChangedWhileRead, Tree};
use super::merge::Walking;
use super::outcome::outcome_of_all;
use super::plan_counts::Sides;
use super::proof::Proof;
use super::report::{Line, Report, Symbol};
use super::run::{Summary, run};
use super::selection::Selection;
use super::sums::{More, Summing};
use super::unplaced::Unplaced;
use super::walk::Found;
use crate::store::{ETag, GetRequest, Key, ObjectStore};
use crate::vocabulary::hex;

/// Files that are read, and objects that are asked about, at once.
const AT_ONCE: usize = 4;
/// Of an object, in memory at once.
const PIECE_BYTES: u64 = 8 << 20;

const CUT_OFF: &str = "the manifest is cut off: it has no last line that counts its files";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub path: String,
    pub size_bytes: u64,
    /// In hexadecimal digits.
    pub md5: String,
    /// In base64, as the next one.
    pub crc64nvme: String,
    pub sha256: String,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Lines before.
    pub files: u64,
    /// SHA-256 of them, in hexadecimal digits.
    pub digest: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ManifestLine {
    Entry(Entry),
    End(End),
}

/// Writes a line of JSON for each file that a walk meets and that is not left out, in the
/// order of their paths.
///
/// Errors: the disk's, as the outer one; a file that cannot be read, in words.
pub async fn write(
    walking: &mut Walking,
    tree: &Tree,
    left_out: &BTreeSet<String>,
    path: &Path,
) -> io::Result<Result<Unplaced, String>> {
    let unplaced = Unplaced::new(path);
    let mut out = BufWriter::new(unplaced.create()?);
    let (mut digest, mut files) = (Sha256::new(), 0);
    let found = stream::unfold(walking, |walking| async move {
        let next = walking.next().await?;
        Some((next, walking))
    });
    let sent = found.filter_map(|found| async move {
        match found {
            Found::File { path, stat, .. } if !left_out.contains(&path) => Some((path, stat)),
            _ => None,
        }
    });
    let entries = sent.map(|(path, stat)| async move {
        let entry = entry(tree, &path, &stat).await;
        entry.map_err(|error| format!("{path}: {error}"))
    });
    let mut entries = std::pin::pin!(entries.buffered(AT_ONCE));
    while let Some(entry) = entries.next().await {
        let entry = match entry {
            Ok(entry) => entry,
            Err(why) => return Ok(Err(why)),
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        digest.update(&line);
        files += 1;
        out.write_all(&line)?;
    }
    let digest = hex(&digest.finalize());
    serde_json::to_writer(&mut out, &End { files, digest })?;
    out.write_all(b"\n")?;
    let file = out.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    Ok(Ok(unplaced))
}

async fn entry(tree: &Tree, path: &str, stat: &Stat) -> io::Result<Entry> {
    let file = tree.open(path).await?;
    if file.stat() != stat {
        return Err(io::Error::other(ChangedWhileRead));
    }
    let size_bytes = file.stat().size_bytes;
    let summing = Summing::new(size_bytes, None, More::All);
    let sums = file.sums(summing).await?;
    Ok(Entry {
        path: path.to_owned(),
        size_bytes,
        md5: sums.md5,
        crc64nvme: sums.crc64nvme,
        sha256: sums.sha256.unwrap_or_default(),
    })
}

/// A manifest that is whole, from its start.
///
/// Errors: it cannot be read, is cut off or damaged, or is not sorted.
fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let mut text = BufReader::new(File::open(path)?);
    let (mut digest, mut files, mut last) = (Sha256::new(), 0, None);
    let mut line = String::new();
    let end = loop {
        line.clear();
        if text.read_line(&mut line)? == 0 {
            return Err(anyhow!(CUT_OFF));
        }
        match parsed(&line, last.as_ref())? {
            ManifestLine::Entry(entry) => last = Some(entry),
            ManifestLine::End(end) => break end,
        }
        digest.update(&line);
        files += 1;
    };
    let is_whole = end.files == files && end.digest == hex(&digest.finalize());
    if !is_whole || !line.ends_with('\n') || text.read_line(&mut line)? > 0 {
        return Err(anyhow!(
            "the manifest is damaged: its last line is not of its others"
        ));
    }
    text.rewind()?;
    Ok(text)
}

/// Errors: a line that is none, or one that belongs before the last one.
fn parsed(line: &str, last: Option<&Entry>) -> anyhow::Result<ManifestLine> {
    let parsed = serde_json::from_str(line).context("the manifest is damaged")?;
    match (&parsed, last) {
        (ManifestLine::Entry(entry), Some(last)) if last.path >= entry.path => {
            Err(anyhow!("the manifest is not in the order of its paths"))
        }
        _ => Ok(parsed),
    }
}

/// Compares a bucket with a manifest. None where a signal ended it.
///
/// Errors: what keeps it from comparing; a manifest that is none, or is not sorted.
pub fn verify_manifest(
    job: Job<'_>,
    manifest: &Path,
    sides: Sides,
    mut report: Report,
) -> anyhow::Result<Option<Summary>> {
    run(async move {
        let began = Instant::now();
        let text = open(manifest);
        let text = text.with_context(|| format!("cannot use {}", manifest.display()))?;
        let bucket = connect(job.config).await?;
        let mut listing = job.listing(&bucket, &job.scratch()?).await?;
        job.name_unusable(&mut listing, &mut report)?;
        let pairs = Pairs {
            entries: text.lines(),
            next_entry: None,
            listing,
            next_object: None,
            sides,
            selection: job.selection,
        };
        let store = &bucket.store;
        let prefix = job.config.prefix.as_str();
        let pairs = stream::iter(pairs.begun()?).map(|pair| async move {
            let pair = pair?;
            anyhow::Ok(compared(store, prefix, pair).await)
        });
        let mut lines = std::pin::pin!(pairs.buffered(AT_ONCE));
        let mut compared_names = 0;
        while let Some(line) = lines.next().await {
            report.line(&line?)?;
            compared_names += 1;
        }
        guards::not_nothing(&job, compared_names)?;
        let outcome = outcome_of_all(&report);
        Ok(job.summary("verify", outcome, &mut report, &bucket, began)?)
    })
}

/// A name in the manifest, in the bucket, or in both.
type Pair = (Option<Entry>, Option<Object>);

/// Both in the order of paths.
struct Pairs<'a, L> {
    entries: L,
    next_entry: Option<Entry>,
    listing: Listing,
    next_object: Option<Object>,
    sides: Sides,
    selection: &'a Selection,
}

impl<L: Iterator<Item = io::Result<String>>> Pairs<'_, L> {
    fn begun(mut self) -> anyhow::Result<Self> {
        self.next_entry = self.entry(None)?;
        self.next_object = self.object()?;
        Ok(self)
    }

    /// Errors: the manifest has changed since it was found whole.
    fn entry(&mut self, last: Option<&Entry>) -> anyhow::Result<Option<Entry>> {
        let line = self.entries.next().context(CUT_OFF)?;
        match parsed(&line?, last)? {
            ManifestLine::Entry(entry) => Ok(Some(entry)),
            ManifestLine::End(_) => Ok(None),
        }
    }

    /// What stands for a directory is no file.
    fn object(&mut self) -> io::Result<Option<Object>> {
        loop {
            match self.listing.next()? {
                Some(object) if object.is_marker() && object.size_bytes == 0 => {}
                next => return Ok(next),
            }
        }
    }

    fn pair(&mut self) -> anyhow::Result<Option<Pair>> {
        loop {
            let entry = self.next_entry.as_ref().map(|it| it.path.as_str());
            let object = self.next_object.as_ref().map(|it| it.path.as_str());
            let (takes_entry, takes_object) = match (entry, object) {
                (Some(entry), Some(object)) => (entry <= object, object <= entry),
                (entry, object) => (entry.is_some(), object.is_some()),
            };
            let mut pair = (None, None);
            if takes_entry {
                pair.0 = self.next_entry.take();
                self.next_entry = self.entry(pair.0.as_ref())?;
            }
            if takes_object {
                pair.1 = self.next_object.take();
                self.next_object = self.object()?;
            }
            match &pair {
                (None, None) => return Ok(None),
                (None, Some(_)) if self.sides == Sides::Directory => {}
                (Some(Entry { path, .. }), _) | (None, Some(Object { path, .. }))
                    if !self.selection.takes(path) => {}
                _ => return Ok(Some(pair)),
            }
        }
    }
}

impl<L: Iterator<Item = io::Result<String>>> Iterator for Pairs<'_, L> {
    type Item = anyhow::Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pair().transpose()
    }
}

async fn compared(store: &Arc<dyn ObjectStore>, prefix: &str, pair: Pair) -> Line {
    match pair {
        (Some(entry), Some(object)) => {
            let key = Key::new(format!("{prefix}{}", entry.path));
            let bytes = entry.size_bytes;
            match proof(store, key, &entry, &object).await {
                Ok(Some(proof)) => Line::proved(&entry.path, bytes, proof),
                Ok(None) => Line::new(Symbol::Different, &entry.path, bytes),
                Err(why) => Line::error(&entry.path, why),
            }
        }
        (Some(entry), None) => Line::new(Symbol::OnlyHere, &entry.path, entry.size_bytes),
        (None, Some(object)) => Line::new(Symbol::OnlyThere, &object.path, object.size_bytes),
        (None, None) => Line::error("", "no name"),
    }
}

/// None where they differ. Errors: S3 does not tell, in words.
async fn proof(
    store: &Arc<dyn ObjectStore>,
    key: Key,
    entry: &Entry,
    object: &Object,
) -> Result<Option<Proof>, String> {
    if entry.size_bytes != object.size_bytes {
        return Ok(None);
    }
    if entry.size_bytes == 0 {
        return Ok(Some(Proof::Empty));
    }
    if entry.md5.eq_ignore_ascii_case(&object.etag) {
        return Ok(Some(Proof::Md5));
    }
    let told = store
        .checksums(key.clone())
        .await
        .map_err(|it| it.to_string())?;
    if told.etag.as_str() != object.etag {
        // It was replaced since it was listed.
        return Ok(None);
    }
    let sums = [
        (told.crc64nvme, &entry.crc64nvme, Proof::Crc64nvme),
        (told.sha256, &entry.sha256, Proof::Sha256),
    ];
    for (there, here, proof) in sums {
        if let Some(there) = there {
            return Ok((there == *here).then_some(proof));
        }
    }
    let mut summing = Summing::new(object.size_bytes, None, More::All);
    let mut at = 0;
    while at < object.size_bytes {
        let range = at..object.size_bytes.min(at + PIECE_BYTES);
        at = range.end;
        let request = GetRequest {
            key: key.clone(),
            range: Some(range),
            if_match: Some(ETag::new(&object.etag)),
            sink: None,
        };
        let answer = store.get(request).await.map_err(|it| it.to_string())?;
        summing.add(&answer.body);
    }
    let is_equal = summing.finish().sha256.as_ref() == Some(&entry.sha256);
    Ok(is_equal.then_some(Proof::Read))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::migrate::walk::{Symlinks, WalkSettings, open_root};

    async fn written(root: &Path, path: &Path) -> Result<Unplaced, String> {
        let tree = Tree {
            root: Arc::new(open_root(root).unwrap()),
            symlinks: Symlinks::Name,
        };
        let settings = WalkSettings {
            symlinks: Symlinks::Name,
            hard_links: crate::migrate::HardLinks::Each,
            selection: Selection::default(),
            prefix_bytes: 0,
        };
        let mut walking = Walking::begin(&tree, settings);
        let left_out = BTreeSet::from(["beside".to_owned()]);
        write(&mut walking, &tree, &left_out, path).await.unwrap()
    }

    #[tokio::test]
    async fn a_manifest_is_whole_or_none_wherever_it_is_cut_or_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let (root, path) = (dir.path().join("tree"), dir.path().join("manifest"));
        fs::create_dir(&root).unwrap();
        for name in ["a", "b", "beside"] {
            fs::write(root.join(name), name).unwrap();
        }
        fs::write(dir.path().join(".manifest.unfinished"), "left").unwrap();
        fs::write(&path, "older").unwrap();
        let unplaced = written(&root, &path).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"older");
        unplaced.place().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        open(&path).unwrap();
        for end in 0..text.len() {
            fs::write(&path, &text[..end]).unwrap();
            assert!(open(&path).is_err(), "cut at {end}");
        }
        let without_a_line = text.split_once('\n').unwrap().1;
        let other_size = text.replacen("\"size_bytes\":1", "\"size_bytes\":2", 1);
        let more = format!("{text}{text}");
        for damaged in [without_a_line, &other_size, &more] {
            fs::write(&path, damaged).unwrap();
            assert!(open(&path).is_err(), "{damaged}");
        }
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[tokio::test]
    async fn a_manifest_that_is_not_placed_leaves_the_older_one_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (root, path) = (dir.path().join("tree"), dir.path().join("manifest"));
        fs::create_dir(&root).unwrap();
        fs::write(&path, "older").unwrap();
        drop(written(&root, &path).await.unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"older");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
