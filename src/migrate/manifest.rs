//! A list of files with their checksums, by which a bucket is compared without them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};

use super::connect::connect;
use super::entry::Object;
use super::judge::Proof;
use super::listing::Listing;
use super::local_file::Tree;
use super::merge::Walking;
use super::moving::outcome_of_all;
use super::plan::Sides;
use super::report::{Line, Report, Symbol};
use super::run::{Job, Summary, run};
use super::sums::{More, Summing};
use super::walk::Found;
use crate::store::{ETag, GetRequest, Key, ObjectStore};

/// Files that are read, and objects that are asked about, at once.
const AT_ONCE: usize = 4;
/// Of an object, in memory at once.
const PIECE_BYTES: u64 = 8 << 20;

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

/// Writes a line of JSON for each file that a walk meets, in the order of their paths.
///
/// Errors: a file that cannot be read, the disk's.
pub async fn write(walking: &mut Walking, tree: &Tree, path: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let found = stream::unfold(walking, |walking| async move {
        let next = walking.next().await?;
        Some((next, walking))
    });
    let files = found.filter_map(|found| async move {
        match found {
            Found::File { path, .. } => Some(path),
            _ => None,
        }
    });
    let entries = files.map(|path| entry(tree, path));
    let mut entries = std::pin::pin!(entries.buffered(AT_ONCE));
    while let Some(entry) = entries.next().await {
        serde_json::to_writer(&mut out, &entry?)?;
        out.write_all(b"\n")?;
    }
    out.into_inner()
        .map_err(|error| error.into_error())?
        .sync_all()
}

async fn entry(tree: &Tree, path: String) -> io::Result<Entry> {
    let file = tree.open(&path).await?;
    let size_bytes = file.stat().size_bytes;
    let summing = Summing::new(size_bytes, None, More::All);
    let sums = file.sums(summing).await?;
    Ok(Entry {
        path,
        size_bytes,
        md5: sums.md5,
        crc64nvme: sums.crc64nvme,
        sha256: sums.sha256.unwrap_or_default(),
    })
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
        let file = File::open(manifest);
        let file = file.with_context(|| format!("cannot read {}", manifest.display()))?;
        let bucket = connect(job.config).await?;
        let listing = job.listing(&bucket, &job.scratch()?).await?;
        let pairs = Pairs {
            entries: BufReader::new(file).lines(),
            next_entry: None,
            listing,
            next_object: None,
            sides,
        };
        let store = &bucket.store;
        let prefix = job.config.prefix.as_str();
        let pairs = stream::iter(pairs.begun()?).map(|pair| async move {
            let pair = pair?;
            anyhow::Ok(compared(store, prefix, pair).await)
        });
        let mut lines = std::pin::pin!(pairs.buffered(AT_ONCE));
        while let Some(line) = lines.next().await {
            let line = line?;
            if job.selection.takes(&line.path) {
                report.line(&line)?;
            }
        }
        let outcome = outcome_of_all(&report);
        Ok(job.summary("verify", outcome, &mut report, &bucket, began)?)
    })
}

/// A name in the manifest, in the bucket, or in both.
type Pair = (Option<Entry>, Option<Object>);

/// Both in the order of paths.
struct Pairs<L> {
    entries: L,
    next_entry: Option<Entry>,
    listing: Listing,
    next_object: Option<Object>,
    sides: Sides,
}

impl<L: Iterator<Item = io::Result<String>>> Pairs<L> {
    fn begun(mut self) -> anyhow::Result<Self> {
        self.next_entry = self.entry(None)?;
        self.next_object = self.object()?;
        Ok(self)
    }

    /// Errors: a line that is none, or one that belongs before another.
    fn entry(&mut self, last: Option<&Entry>) -> anyhow::Result<Option<Entry>> {
        let Some(line) = self.entries.next() else {
            return Ok(None);
        };
        let entry: Entry = serde_json::from_str(&line?).context("the manifest is damaged")?;
        if last.is_some_and(|last| last.path >= entry.path) {
            return Err(anyhow!("the manifest is not in the order of its paths"));
        }
        Ok(Some(entry))
    }

    /// What stands for a directory is no file.
    fn object(&mut self) -> io::Result<Option<Object>> {
        loop {
            match self.listing.next()? {
                Some(object) if object.is_marker() => {}
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
                _ => return Ok(Some(pair)),
            }
        }
    }
}

impl<L: Iterator<Item = io::Result<String>>> Iterator for Pairs<L> {
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
