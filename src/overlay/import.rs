//! The background import: what the old directory alone has goes into the bucket.
//!
//! Walk follows walk until one finds nothing to do. Each compares the old directory with
//! listings of the bucket, so the last one is the proof: every old file that counts is
//! in the listing as the version that was made of its bytes.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::time::sleep;

use super::core::{Core, Markers, of_old};
use super::count::count;
use super::listing::{Both, Listing};
use super::marks::{Made, Record, Twin, hash_of};
use super::old_directory::OldStat;
use super::reading::Reading;
use super::same_bytes::{Compared, SameBytes};
use super::send::{OldFileSender, Sent};
use super::store::OverlayStore;
use super::versions::Versions;
use super::walk::Which;
use super::watch::{Watch, tell_of_change};
use crate::backoff::Backoff;
use crate::failpoint::{self, Point};
use crate::record_log::Durable;
use crate::store::{
    FoldDirectories, Key, ListRequest, ListedObject, PutRequest, StoreError, StoreErrorKind,
    StoreOp, WriteCondition,
};

/// Files that are sent at once.
const FILES_AT_ONCE: usize = 4;
/// Pauses between two walks.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LIMIT: Duration = Duration::from_secs(60);

/// What became of one old file.
#[derive(Debug)]
enum Outcome {
    Sent,
    /// The bucket has one of its own, or it does not count any more.
    Superseded,
    /// What a program that has it open writes later would stay in the old directory alone.
    Open,
    Failed(StoreError),
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct PassOutcome {
    /// It was sent, or noted to be there.
    news: u64,
    failed: u64,
    /// It was changed after it was sent.
    changed: u64,
    /// A program has it open for writing.
    open: u64,
    /// S3 does not answer: the rest was not looked at.
    is_broken_off: bool,
}

impl PassOutcome {
    pub(super) fn is_proof(&self) -> bool {
        let left = [self.news, self.failed, self.changed, self.open];
        left == [0; 4] && !self.is_broken_off
    }
}

/// What a walk has to do with a file.
#[derive(Debug)]
enum Left {
    Send(OldStat),
    Compare(Changed),
}

/// An old file that is not as it was when it was sent.
#[derive(Debug)]
struct Changed {
    stat: OldStat,
    above: ListedObject,
    twin: Twin,
}

/// Brings what is left into the bucket.
#[derive(Debug)]
pub struct Import {
    core: Arc<Core>,
    versions: Arc<Versions>,
    same_bytes: SameBytes,
    listing: Arc<Listing>,
    reading: Arc<Reading>,
    sender: Arc<OldFileSender>,
}

impl Import {
    pub fn new(store: &OverlayStore) -> Self {
        Self {
            core: store.core.clone(),
            versions: store.versions.clone(),
            listing: store.listing.clone(),
            same_bytes: SameBytes::new(store.core.clone(), store.reading.clone()),
            reading: store.reading.clone(),
            sender: store.sender.clone(),
        }
    }

    /// Sends what is left, until nothing is. Returns once the overlay has ended.
    pub async fn run(&self) -> Watch {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LIMIT);
        let watch = Watch::start(&self.core);
        while !self.core.marks.with(|marks| marks.is_ended()) {
            match self.pass(&watch).await {
                // What cannot be read was told of on the way.
                Ok(found) if found.is_proof() && self.core.progress.now().failed == 0 => self.end(),
                // The next walk proves it.
                Ok(found) if found.news > 0 && !found.is_broken_off => backoff.reset(),
                Ok(_) => sleep(backoff.next_pause()).await,
                Err(error) => {
                    tracing::warn!(%error, "import of the old directory: trying again");
                    sleep(backoff.next_pause()).await;
                }
            }
        }
        watch
    }

    fn end(&self) {
        if let Err(error) = self.core.marks.append(Record::Ended, Durable::Yes) {
            tracing::warn!(%error, "the end of the overlay cannot be written: trying again");
            return;
        }
        self.core.progress.end();
        let dir = self.core.old.path().display();
        tracing::info!(%dir, "the old directory is not needed any more: every object was verified, and the overlay has ended");
    }

    pub(super) async fn pass(&self, watch: &Watch) -> Result<PassOutcome, StoreError> {
        count(&self.core, watch).await?;
        let mut found = PassOutcome::default();
        let mut token = None;
        loop {
            let prefix = self.core.parts.prefix.clone();
            let request = ListRequest::page(prefix, FoldDirectories::No, token);
            let page = self.listing.list_both(request, Which::NotHidden).await?;
            let (mut missing, mut changed) = (Vec::new(), Vec::new());
            for (key, both) in page.keys {
                let key = Key::new(key);
                match self.compare(&key, both, &mut found) {
                    Some(Left::Send(stat)) => missing.push((key, stat)),
                    Some(Left::Compare(changes)) => changed.push((key, changes)),
                    None => {}
                }
            }
            self.compare_changed(changed, &mut found).await;
            if !found.is_broken_off {
                self.send_all(missing, &mut found).await;
            }
            if found.is_broken_off {
                return Ok(found);
            }
            token = page.next;
            if token.is_none() {
                if found.failed == 0 {
                    self.sender.abort_left().await;
                }
                return Ok(found);
            }
        }
    }

    /// What is left to do. Notes what the bucket has instead.
    fn compare(&self, key: &Key, both: Both, found: &mut PassOutcome) -> Option<Left> {
        let stat = both.below?;
        let path = self.core.path(key)?;
        let hash = hash_of(path);
        let twin = self.core.marks.with(|marks| marks.twin(hash));
        let of = hash_of(stat.etag().as_str());
        let Some(above) = both.above else {
            return match twin.filter(Twin::is_stored) {
                None => Some(Left::Send(stat)),
                Some(_) => {
                    tracing::info!(%key, "another client has removed what was imported");
                    self.core.hide_replaced(path);
                    None
                }
            };
        };
        let made = hash_of(above.etag.as_str());
        match twin.filter(|twin| twin.made == made) {
            Some(twin) if twin.of != of => {
                return Some(Left::Compare(Changed { stat, above, twin }));
            }
            Some(twin) if !twin.is_stored() => {
                self.note_stored(path, made, of);
                found.news += 1;
                self.core.progress.done(stat.size_bytes);
            }
            Some(_) => {}
            None => {
                self.core.hide_replaced(path);
                found.news += 1;
                self.core.progress.done(stat.size_bytes);
            }
        }
        None
    }

    /// Those that were changed in the old directory after they were sent: the object of one
    /// that has the same bytes is what is wanted.
    async fn compare_changed(&self, changed: Vec<(Key, Changed)>, found: &mut PassOutcome) {
        for (key, Changed { stat, above, twin }) in changed {
            let path = self.core.path(&key).unwrap_or_default();
            match self.same_bytes.compare(&key, &stat, &above).await {
                Ok(Compared::Different) => {
                    self.core.progress.changed(path);
                    found.changed += 1;
                    continue;
                }
                Ok(Compared::Same) => tell_of_change(&self.core, path),
                Ok(Compared::StillSame) => {}
                Err(error) => {
                    found.failed += 1;
                    found.is_broken_off |= error.kind.is_no_answer();
                    self.core.progress.failed(path, error.to_string());
                }
            }
            if found.is_broken_off {
                return;
            }
            if !twin.is_stored() {
                self.note_stored(path, twin.made, twin.of);
                found.news += 1;
                self.core.progress.done(stat.size_bytes);
            }
        }
    }

    fn note_stored(&self, path: &str, made: u64, of: u64) {
        let key = hash_of(path);
        let stored = Record::Stored(Made { key, made, of });
        if let Err(error) = self.core.marks.append(stored, Durable::No) {
            tracing::warn!(%error, path, "cannot write the log of the overlay: the next walk does");
        }
    }

    async fn send_all(&self, missing: Vec<(Key, OldStat)>, found: &mut PassOutcome) {
        let sends = stream::iter(missing).map(|(key, stat)| async move {
            self.core.foreground.quiet().await;
            let outcome = match key.as_str().ends_with('/') {
                true => self.send_marker(&key, &stat).await,
                false => self.send_file(&key, &stat).await,
            };
            (key, stat, outcome.unwrap_or_else(Outcome::Failed))
        });
        let mut sends = sends.buffer_unordered(FILES_AT_ONCE);
        while let Some((key, stat, outcome)) = sends.next().await {
            let path = self.core.path(&key).unwrap_or_default();
            match outcome {
                Outcome::Sent => {
                    found.news += 1;
                    self.core.progress.sent(stat.size_bytes);
                    self.core.progress.done(stat.size_bytes);
                }
                Outcome::Superseded => {
                    found.news += 1;
                    self.core.progress.done(stat.size_bytes);
                }
                Outcome::Open => {
                    found.open += 1;
                    self.core.progress.open(path);
                }
                Outcome::Failed(error) => {
                    found.failed += 1;
                    found.is_broken_off |= error.kind.is_no_answer();
                    self.core.progress.failed(path, error.to_string());
                }
            }
            if found.is_broken_off {
                return;
            }
        }
    }

    async fn send_file(&self, key: &Key, stat: &OldStat) -> Result<Outcome, StoreError> {
        let Some(file) = self.reading.open_version(key, &stat.etag()).await? else {
            let why = "it changed while it was read: the next walk sends it";
            let kind = StoreErrorKind::PreconditionFailed;
            return Err(StoreError::new(kind, StoreOp::Put, key.clone(), why));
        };
        if (self.core.parts.is_being_written)(file.descriptor()) {
            return Ok(Outcome::Open);
        }
        let path = self.core.path(key).unwrap_or_default();
        let headers = (self.core.parts.describe)(path, stat);
        let file = &file;
        let step = self.sender.prepare(Sent { key, file, headers }).await?;
        let (hash, of) = (hash_of(path), hash_of(stat.etag().as_str()));
        let _turn = self.core.turns.take(hash).await;
        if !self.core.marks.with(|marks| marks.counts(hash)) {
            self.sender.drop_step(step).await;
            return Ok(Outcome::Superseded);
        }
        // Whoever follows a kill or a loss of power finds the object for what it is: an edit
        // that was acknowledged may be one of the old version.
        let expected = step.made();
        let made = expected.as_ref().map_or(0, |made| hash_of(made.as_str()));
        let sending = Record::Sending(Made {
            key: hash,
            made,
            of,
        });
        let noted = self.core.append_synced(sending).await;
        noted.map_err(|error| of_old(StoreOp::Put, key, &error))?;
        failpoint::at(Point::ImportNoted);
        let sent = self.sender.make(&step, WriteCondition::IfAbsent).await;
        failpoint::at(Point::ImportSent);
        let outcome = match sent {
            Ok(answer) => {
                self.note_stored(path, hash_of(answer.etag.as_str()), of);
                Outcome::Sent
            }
            Err(error) if error.kind == StoreErrorKind::PreconditionFailed => {
                self.sender.drop_step(step).await;
                self.there_already(key, path, (made, of)).await?
            }
            Err(error) => {
                if !error.kind.is_no_answer() {
                    self.sender.drop_step(step).await;
                }
                return Err(error);
            }
        };
        failpoint::at(Point::ImportStored);
        Ok(outcome)
    }

    /// Something is under the key: an attempt whose answer was lost has put it, or another.
    async fn there_already(
        &self,
        key: &Key,
        path: &str,
        (made, of): (u64, u64),
    ) -> Result<Outcome, StoreError> {
        match self.versions.head_above(key).await? {
            Some(there) if hash_of(there.as_str()) == made => {
                self.note_stored(path, made, of);
                Ok(Outcome::Sent)
            }
            Some(_) => {
                self.core.hide_replaced(path);
                Ok(Outcome::Superseded)
            }
            None => {
                let why = "the store says that it exists, and has no such object: if there are keys below it, move one of the two away";
                let kind = StoreErrorKind::PreconditionFailed;
                Err(StoreError::new(kind, StoreOp::Put, key.clone(), why))
            }
        }
    }

    async fn send_marker(&self, key: &Key, stat: &OldStat) -> Result<Outcome, StoreError> {
        let path = self.core.path(key).unwrap_or_default();
        if self.core.parts.markers == Markers::Unwanted {
            self.core.hide_replaced(path);
            return Ok(Outcome::Superseded);
        }
        let hash = hash_of(path);
        let _turn = self.core.turns.take(hash).await;
        if !self.core.marks.with(|marks| marks.counts(hash)) {
            return Ok(Outcome::Superseded);
        }
        let headers = (self.core.parts.describe)(path, stat);
        let marker = PutRequest {
            condition: WriteCondition::IfAbsent,
            ..PutRequest::marker(key.clone(), headers)
        };
        match self.core.parts.store.put(marker).await {
            Ok(answer) => {
                let of = hash_of(stat.etag().as_str());
                self.note_stored(path, hash_of(answer.etag.as_str()), of);
                Ok(Outcome::Sent)
            }
            Err(error) if error.kind == StoreErrorKind::PreconditionFailed => {
                self.core.hide_replaced(path);
                Ok(Outcome::Superseded)
            }
            Err(error) => Err(error),
        }
    }
}
