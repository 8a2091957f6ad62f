//! Files on their way into the bucket.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

use super::checkpoint::{Checkpoint, Equal, With};
use super::connect::Bucket;
use super::job::Job;
use super::local_file::{LocalFile, Tree, is_changed_while_read};
use super::object_types::type_of;
use super::operator::Operator;
use super::proof::Proof;
use super::report::{Done, Line};
use super::sent_file::{ReadFailure, SentFile};
use super::throttle::Throttle;
use super::unfinished::{self, Long};
use crate::config::AttributesMode;
use crate::error::FsError;
use crate::files::ContentTypes;
use crate::namespace::Attributes;
use crate::store::{ETag, Key, ObjectHeaders, PutRequest, StoreErrorKind, StoreOp, WriteCondition};
use crate::vocabulary::Kind;
use crate::write_path::{ByteSource, PriorAttempt, UploadTarget, Uploader};

/// Attempts at a file that is changed while it is sent.
const READ_ATTEMPTS: usize = 3;
/// Longest file that the store's conditions are tried with.
const TRIED_LIMIT_BYTES: u64 = 1 << 20;
pub const NOT_TRIED: &str = "not tried: S3 does not answer";
/// What no object is.
const NO_VERSION: &str = "00000000000000000000000000000000";

/// Sends files, each on the condition that its object is what the plan saw.
pub struct Sender {
    pub bucket: Bucket,
    pub uploader: Uploader,
    pub tree: Tree,
    pub prefix: String,
    pub checkpoint: Arc<Checkpoint>,
    pub throttle: Arc<Throttle>,
    pub types: ContentTypes,
    pub attributes: AttributesMode,
    pub operator: Arc<dyn Operator>,
    conditions: Conditions,
    /// S3 did not answer: nothing more is sent.
    silent: AtomicBool,
}

/// Whether the store heeds conditions, as found out with the first file.
#[derive(Debug, Default)]
struct Conditions {
    known: AtomicBool,
    trying: Mutex<()>,
}

/// What a file's upload came to.
enum Attempt {
    Sent(ETag),
    /// It changed while it was sent.
    Again,
    Failed(String),
}

impl Sender {
    pub fn new(
        job: &Job<'_>,
        bucket: &Bucket,
        uploader: Uploader,
        tree: &Tree,
        checkpoint: &Arc<Checkpoint>,
        throttle: Arc<Throttle>,
        types: ContentTypes,
    ) -> Self {
        Self {
            bucket: bucket.clone(),
            uploader,
            tree: tree.clone(),
            prefix: job.config.prefix.clone(),
            checkpoint: checkpoint.clone(),
            throttle,
            types,
            attributes: job.config.attributes.mode,
            operator: job.operator.clone(),
            conditions: Conditions::default(),
            silent: AtomicBool::new(false),
        }
    }

    /// Whether S3 did not answer a request in its time: the next one would wait as long.
    pub fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }

    pub fn key_of(&self, path: &str) -> Key {
        Key::new(format!("{}{path}", self.prefix))
    }

    /// Sends a file in the place of this version, or where there is none.
    pub async fn send(&self, path: &str, replaces: Option<&str>) -> Line {
        for _ in 0..READ_ATTEMPTS {
            let file = match self.tree.open(path).await {
                Ok(file) => file,
                Err(error) if is_changed_while_read(&error) => continue,
                Err(error) => return Line::error(path, error.to_string()),
            };
            let size = file.stat().size_bytes;
            match self.attempt(path, &file, replaces).await {
                Attempt::Sent(etag) => {
                    let equal = Equal {
                        stat: *file.stat(),
                        etag: etag.as_str().to_owned(),
                        with: With::of(self.attributes),
                        // Not told by what was sent.
                        modified: None,
                    };
                    self.checkpoint.note_equal(path, equal);
                    return Line::proved(path, size, Proof::Sent).done(Done::Sent);
                }
                Attempt::Again => {}
                Attempt::Failed(why) => return Line::error(path, why),
            }
        }
        let why = "it changes while it is sent: nothing of it was stored";
        Line::error(path, why)
    }

    async fn attempt(&self, path: &str, file: &LocalFile, replaces: Option<&str>) -> Attempt {
        let key = self.key_of(path);
        let headers = match self.headers(path, file).await {
            Ok(headers) => headers,
            Err(error) if is_changed_while_read(&error) => return Attempt::Again,
            Err(error) => return Attempt::Failed(error.to_string()),
        };
        let len = file.stat().size_bytes;
        let is_long = !self.uploader.sends_at_once(len);
        let mut upload = None;
        if is_long {
            let long = Long {
                path,
                key: &key,
                stat: file.stat(),
                headers: &headers,
            };
            let (bucket, checkpoint) = (&self.bucket, &self.checkpoint);
            let resumed = unfinished::resumed(&long, bucket, checkpoint, &self.uploader).await;
            upload = match resumed {
                Ok(upload) => upload,
                Err(why) => return Attempt::Failed(why),
            };
        }
        let trying = self.conditions.first(len).await;
        if self.is_silent() {
            return Attempt::Failed(NOT_TRIED.to_owned());
        }
        let source = Arc::new(SentFile::new(
            path,
            file.clone(),
            upload,
            self.throttle.clone(),
            self.checkpoint.clone(),
            self.operator.clone(),
        ));
        let condition = match replaces {
            Some(etag) => WriteCondition::IfMatch(ETag::new(etag)),
            None => WriteCondition::IfAbsent,
        };
        let target = UploadTarget {
            key,
            headers,
            condition: condition.clone(),
            known: condition,
            len,
            // What an earlier run has sent may be there by now.
            prior: PriorAttempt::Maybe,
        };
        let bytes: Arc<dyn ByteSource> = source.clone();
        let outcome = self.uploader.upload(&target, &bytes).await;
        match outcome {
            Ok(etag) => {
                if is_long {
                    self.checkpoint.end(path);
                }
                if trying.is_some() {
                    self.try_conditions(&target, file).await;
                }
                Attempt::Sent(etag)
            }
            Err(error) => {
                if error.is_no_answer() {
                    self.silent.store(true, Ordering::Release);
                }
                failed(&source, &error)
            }
        }
    }

    /// Errors: attributes that cannot be read, or that do not fit.
    async fn headers(&self, path: &str, file: &LocalFile) -> io::Result<ObjectHeaders> {
        let stat = file.stat();
        let headers = ObjectHeaders {
            content_type: type_of(&self.types, path),
            ..ObjectHeaders::default()
        };
        if self.attributes == AttributesMode::Fixed {
            return Ok(headers);
        }
        let attributes = Attributes {
            mode: Some((stat.mode & 0o7777) as u16),
            uid: Some(stat.uid),
            gid: Some(stat.gid),
            mtime: stat.modified(),
            xattrs: file.xattrs().await?,
            headers,
            ..Attributes::default()
        };
        attributes.encode(Kind::File).map_err(|_| {
            io::Error::other("its extended attributes do not fit into an object's metadata (2 KiB)")
        })
    }

    /// Asks for the same object once more, on a condition that does not hold: what
    /// a store does that does not heed it changes nothing.
    async fn try_conditions(&self, target: &UploadTarget, file: &LocalFile) {
        let Ok(body) = file.read(0..target.len).await else {
            return;
        };
        let request = PutRequest {
            key: target.key.clone(),
            body,
            headers: target.headers.clone(),
            condition: WriteCondition::IfMatch(ETag::new(NO_VERSION)),
        };
        let kind = match self.bucket.plain.put(request).await {
            Ok(_) => {
                self.bucket.abilities.lacks(StoreOp::Put);
                None
            }
            Err(error) => Some(error.kind),
        };
        if let Some(StoreErrorKind::PreconditionFailed | StoreErrorKind::Conflict) = kind {
            self.bucket.abilities.heeds(StoreOp::Put);
        }
        self.conditions.known.store(true, Ordering::Release);
    }

    /// Makes an empty directory persist.
    pub async fn mark(&self, path: &str) -> Line {
        let marker = PutRequest {
            condition: WriteCondition::IfAbsent,
            ..PutRequest::marker(self.key_of(path), ObjectHeaders::default())
        };
        match self.bucket.store.put(marker).await {
            Ok(_) => Line::proved(path, 0, Proof::Empty).done(Done::Sent),
            // It is there.
            Err(error) if error.kind == StoreErrorKind::PreconditionFailed => {
                Line::proved(path, 0, Proof::Empty)
            }
            Err(error) => Line::error(path, error.to_string()),
        }
    }

    /// Ends what earlier runs have begun of files that were not sent now.
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

impl Conditions {
    /// Held by the first file that is short enough, and waited for by others.
    async fn first(&self, len: u64) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if len > TRIED_LIMIT_BYTES || self.known.load(Ordering::Acquire) {
            return None;
        }
        let turn = self.trying.lock().await;
        (!self.known.load(Ordering::Acquire)).then_some(turn)
    }
}

fn failed(source: &SentFile, error: &FsError) -> Attempt {
    match source.failure() {
        Some(ReadFailure::Changed) => {
            source.give_up();
            return Attempt::Again;
        }
        Some(ReadFailure::Other(why)) => {
            source.give_up();
            return Attempt::Failed(why);
        }
        None => {}
    }
    match error {
        FsError::Exists(_) | FsError::Stale(_) => {
            source.give_up();
            let why = "another client wrote it meanwhile: its version is kept";
            Attempt::Failed(why.to_owned())
        }
        // The next run resumes with the parts that are there.
        error if error.is_no_answer() => Attempt::Failed(error.to_string()),
        error => {
            source.give_up();
            Attempt::Failed(error.to_string())
        }
    }
}
