//! What is on its way into a bucket, whatever it is read from.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::checkpoint::Checkpoint;
use super::connect::Bucket;
use super::failures::NotMoved;
use super::operator::Operator;
use super::report::Again;
use super::sent_bytes::{ReadFailure, SentBytes};
use super::throttle::Throttle;
use super::unfinished::{self, Long};
use super::upload_source::UploadSource;
use crate::config::Config;
use crate::error::FsError;
use crate::store::{
    ETag, HeadRequest, Key, ObjectHeaders, PutRequest, StoreErrorKind, StoreOp, WriteCondition,
};
use crate::write_path::{ByteSource, CopyPartSize, PartSize, PriorAttempt, UploadTarget, Uploader};

/// Longest file that the store's conditions are tried with.
const TRIED_LIMIT_BYTES: u64 = 1 << 20;
/// Uploads that were given up are aborted within.
const ABORTS_WITHIN: Duration = Duration::from_secs(30);
pub const NOT_TRIED: &str = "not tried: S3 does not answer";
/// What no object is.
pub const NO_VERSION: &str = "00000000000000000000000000000000";

/// Uploads, each on the condition that its object is what the plan saw.
pub struct Outbox {
    pub bucket: Bucket,
    pub uploader: Uploader,
    /// For what the store says to be there, and has not.
    looking: Uploader,
    pub prefix: String,
    pub checkpoint: Arc<Checkpoint>,
    pub operator: Arc<dyn Operator>,
    throttle: Arc<Throttle>,
    conditions: Tried,
    /// S3 did not answer: nothing more is sent.
    silent: AtomicBool,
}

/// Whether it was found out what the store heeds, with the first object.
#[derive(Debug, Default)]
pub struct Tried {
    known: AtomicBool,
    trying: Mutex<()>,
}

/// What an upload came to.
pub enum Attempt {
    Sent(ETag),
    /// The source changed while it was sent.
    Changed,
    Failed(NotMoved),
}

impl Outbox {
    /// Errors: sizes of parts that S3 does not take.
    pub fn new(
        config: &Config,
        bucket: &Bucket,
        checkpoint: &Arc<Checkpoint>,
        throttle: Arc<Throttle>,
        operator: &Arc<dyn Operator>,
    ) -> anyhow::Result<Self> {
        let part_size = PartSize::new(config.part_size_bytes);
        let part_size = part_size.context("--part-size must be from 5MiB to 512MiB")?;
        let copy_part_size = CopyPartSize::new(config.copy_part_size_bytes);
        let copy_part_size =
            copy_part_size.context("--copy-part-size must be from 5MiB to 5GiB")?;
        let (store, parts) = (bucket.store.clone(), config.memory.upload_concurrency);
        Ok(Self {
            bucket: bucket.clone(),
            uploader: Uploader::new(store, part_size, copy_part_size, parts),
            looking: Uploader::new(bucket.looking.clone(), part_size, copy_part_size, parts),
            prefix: config.prefix.clone(),
            checkpoint: checkpoint.clone(),
            operator: operator.clone(),
            throttle,
            conditions: Tried::default(),
            silent: AtomicBool::new(false),
        })
    }

    /// Whether S3 did not answer a request in its time: the next one would wait as long.
    pub fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }

    pub fn falls_silent(&self) {
        self.silent.store(true, Ordering::Release);
    }

    pub fn key_of(&self, path: &str) -> Key {
        Key::new(format!("{}{path}", self.prefix))
    }

    /// Stores bytes in the place of this version, or where there is none.
    pub async fn upload(
        &self,
        path: &str,
        bytes: &SentBytes,
        headers: ObjectHeaders,
        replaces: Option<&str>,
    ) -> Attempt {
        let (key, len) = (self.key_of(path), bytes.len());
        let is_long = !self.uploader.sends_at_once(len);
        let mut upload = None;
        if is_long {
            let long = Long {
                path,
                key: &key,
                source: &bytes.snapshot(),
                headers: &headers,
            };
            let (bucket, checkpoint) = (&self.bucket, &self.checkpoint);
            let resumed = unfinished::resumed(&long, bucket, checkpoint, &self.uploader).await;
            upload = match resumed {
                Ok(upload) => upload,
                Err(why) => return Attempt::Failed(NotMoved::now(why)),
            };
        }
        let trying = match len > TRIED_LIMIT_BYTES {
            true => None,
            false => self.conditions.first().await,
        };
        if self.is_silent() {
            return Attempt::Failed(NotMoved::now(NOT_TRIED));
        }
        let source = Arc::new(UploadSource::new(
            path,
            bytes.clone(),
            upload,
            self.throttle.clone(),
            self.checkpoint.clone(),
            self.operator.clone(),
        ));
        let target = target(key, headers, len, replaces);
        let sent: Arc<dyn ByteSource> = source.clone();
        let mut outcome = self.uploader.upload(&target, &sent).await;
        if matches!(outcome, Err(FsError::Exists(_))) && self.has_nothing_of(&target.key).await {
            outcome = self.looking.upload(&target, &sent).await;
        }
        match outcome {
            Ok(made) => {
                // One whose bytes were found there may not have been completed: it is aborted
                // at the end, and known until then.
                if is_long && made.found.is_none() {
                    self.checkpoint.end(path);
                }
                if trying.is_some() {
                    self.try_conditions(&target, bytes).await;
                }
                Attempt::Sent(made.etag)
            }
            Err(error) => self.failed(&source, &error),
        }
    }

    /// Whether a key is not there.
    async fn has_nothing_of(&self, key: &Key) -> bool {
        let asked = self.bucket.store.head(HeadRequest { key: key.clone() });
        let answer = asked.await.map_err(|error| error.kind);
        matches!(answer, Err(StoreErrorKind::NotFound))
    }

    fn failed(&self, source: &UploadSource, error: &FsError) -> Attempt {
        if error.is_no_answer() {
            self.falls_silent();
        }
        let attempt = match (source.failure(), error) {
            (Some(ReadFailure::Changed), _) => Attempt::Changed,
            // The next run resumes it.
            (Some(ReadFailure::NoAnswer(why)), _) => {
                self.falls_silent();
                return Attempt::Failed(NotMoved::now(why));
            }
            (Some(ReadFailure::Other(why)), _) => Attempt::Failed(NotMoved::now(why)),
            (None, FsError::Exists(_) | FsError::Stale(_)) => {
                let why = "another client wrote it meanwhile: its version is kept".to_owned();
                let again = Again::Replaces;
                Attempt::Failed(NotMoved { why, again })
            }
            // The next run resumes with the parts that are there.
            (None, error) if error.is_no_answer() => return Attempt::Failed(error.into()),
            (None, error) => Attempt::Failed(error.into()),
        };
        source.give_up();
        attempt
    }

    /// Asks for the same object once more, on a condition that does not hold: what
    /// a store does that does not heed it changes nothing.
    async fn try_conditions(&self, target: &UploadTarget, bytes: &SentBytes) {
        let Ok(body) = bytes.read(0..target.len).await else {
            return;
        };
        let request = PutRequest {
            key: target.key.clone(),
            body,
            headers: target.headers.clone(),
            condition: WriteCondition::IfMatch(ETag::new(NO_VERSION)),
        };
        let answer = self.bucket.plain.put(request).await;
        let answer = answer.map(drop).map_err(|error| error.kind);
        self.conditions.told(&self.bucket, StoreOp::Put, answer);
    }

    /// Aborts uploads that were given up, as long as it is not aborted itself.
    pub fn aborts_given_up(self: &Arc<Self>) -> JoinHandle<()> {
        let outbox = self.clone();
        tokio::spawn(async move {
            let (first, second) = (&outbox.uploader, &outbox.looking);
            tokio::join!(first.abort_queued(), second.abort_queued());
        })
    }

    /// Waits until none is left that was given up, and says where one is.
    pub async fn settles(&self, aborting: JoinHandle<()>) {
        let settled = async {
            tokio::join!(
                self.uploader.aborts_settled(),
                self.looking.aborts_settled()
            )
        };
        let aborts = timeout(ABORTS_WITHIN, settled).await;
        aborting.abort();
        if aborts.is_err() {
            self.operator
                .tell("some uploads that were given up are not aborted yet: run again");
        }
    }

    /// Ends what earlier runs have begun of names that were not sent now.
    pub async fn end_others(&self, tried: &BTreeSet<String>) -> Result<(), String> {
        let all = self.checkpoint.all_begun();
        let all = all.map_err(|error| format!("checkpoint: {error}"))?;
        for (path, begun) in all {
            if tried.contains(&path) {
                continue;
            }
            let key = self.key_of(&path);
            let aborted = unfinished::abort(&begun, &key, &self.bucket).await;
            aborted.map_err(|error| error.to_string())?;
            self.checkpoint.end(&path);
        }
        Ok(())
    }
}

fn target(key: Key, headers: ObjectHeaders, len: u64, replaces: Option<&str>) -> UploadTarget {
    let condition = condition_of(replaces);
    UploadTarget {
        key,
        headers,
        condition: condition.clone(),
        known: condition,
        len,
        // What an earlier run has sent may be there by now.
        prior: PriorAttempt::Maybe,
    }
}

/// The condition of a change of what the plan saw.
pub fn condition_of(replaces: Option<&str>) -> WriteCondition {
    match replaces {
        Some(etag) => WriteCondition::IfMatch(ETag::new(etag)),
        None => WriteCondition::IfAbsent,
    }
}

impl Tried {
    /// Held by the first one, and waited for by others.
    pub async fn first(&self) -> Option<MutexGuard<'_, ()>> {
        if self.known.load(Ordering::Acquire) {
            return None;
        }
        let turn = self.trying.lock().await;
        (!self.known.load(Ordering::Acquire)).then_some(turn)
    }

    /// What came of a change on a condition that does not hold.
    pub fn told(&self, bucket: &Bucket, op: StoreOp, answer: Result<(), StoreErrorKind>) {
        match answer {
            Ok(()) => bucket.abilities.lacks(op),
            Err(StoreErrorKind::PreconditionFailed | StoreErrorKind::Conflict) => {
                bucket.abilities.heeds(op);
            }
            Err(_) => {}
        }
        self.known.store(true, Ordering::Release);
    }
}
