//! Files on their way into the bucket.

use std::io;
use std::sync::Arc;

use super::checkpoint::{Equal, With};
use super::entry::{Snapshot, Stat};
use super::failures::NotMoved;
use super::job::Job;
use super::local_file::{LocalFile, Tree, is_changed_while_read};
use super::object_types::type_of;
use super::outbox::{Attempt, Outbox, condition_of};
use super::proof::Proof;
use super::report::{Again, Done, Line};
use super::sent_bytes::SentBytes;
use crate::config::AttributesMode;
use crate::files::ContentTypes;
use crate::namespace::Attributes;
use crate::store::{HeadRequest, ObjectHeaders, PutRequest, StoreErrorKind};
use crate::vocabulary::Kind;

/// Attempts at a file that is changed while it is sent.
const READ_ATTEMPTS: usize = 3;

const DO_NOT_FIT: &str = "its extended attributes do not fit into an object's metadata (2 KiB)";

/// Sends files of a directory.
pub struct Sender {
    pub outbox: Arc<Outbox>,
    pub tree: Tree,
    types: ContentTypes,
    attributes: AttributesMode,
}

impl Sender {
    pub fn new(job: &Job<'_>, outbox: Arc<Outbox>, tree: &Tree, types: ContentTypes) -> Self {
        Self {
            outbox,
            tree: tree.clone(),
            types,
            attributes: job.config.attributes.mode,
        }
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
                        other: Snapshot::File(*file.stat()),
                        etag: etag.as_str().to_owned(),
                        with: With::of(self.attributes),
                        // Not told by what was sent.
                        modified: None,
                    };
                    self.outbox.checkpoint.note_equal(path, equal);
                    return Line::proved(path, size, Proof::Sent).done(Done::Sent);
                }
                Attempt::Changed => {}
                Attempt::Failed(failed) => return failed.line(path),
            }
        }
        let why = "it changes while it is sent: nothing of it was stored";
        Line::error(path, why)
    }

    async fn attempt(&self, path: &str, file: &LocalFile, replaces: Option<&str>) -> Attempt {
        let headers = match self.headers(path, file).await {
            Ok(headers) => headers,
            Err(None) => return Attempt::Changed,
            Err(Some(error)) => return Attempt::Failed(error),
        };
        let bytes = SentBytes::File(file.clone());
        self.outbox.upload(path, &bytes, headers, replaces).await
    }

    /// Errors: attributes that cannot be read, or that do not fit; none of a file that has
    /// just changed.
    async fn headers(
        &self,
        path: &str,
        file: &LocalFile,
    ) -> Result<ObjectHeaders, Option<NotMoved>> {
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
            xattrs: file.xattrs().await.map_err(unreadable)?,
            headers,
            ..Attributes::default()
        };
        attributes.encode(Kind::File).map_err(|_| {
            Some(NotMoved {
                why: DO_NOT_FIT.to_owned(),
                again: Again::Fails,
            })
        })
    }

    /// Makes a directory persist, and stores what it is like, in the place of this marker,
    /// or where there is none.
    pub async fn mark(&self, path: &str, replaces: Option<&str>) -> Line {
        let (headers, stat) = match self.headers_of_directory(path, replaces).await {
            Ok(described) => described,
            Err(failed) => return failed.line(path),
        };
        let marker = PutRequest {
            condition: condition_of(replaces),
            ..PutRequest::marker(self.outbox.key_of(path), headers)
        };
        let marked = self.outbox.bucket.store.put(marker).await;
        match (marked, replaces) {
            (Ok(_), _) => Line::proved(path, 0, Proof::Empty).done(Done::Sent),
            // It is there: some stores have a directory of their own above each key.
            (Err(error), None) if error.kind == StoreErrorKind::PreconditionFailed => {
                if let Some(stat) = stat {
                    let equal = Equal::without_marker(&stat);
                    self.outbox.checkpoint.note_equal(path, equal);
                }
                Line::proved(path, 0, Proof::Empty)
            }
            (Err(error), _) => NotMoved::from(&error).line(path),
        }
    }

    /// And what it is like, where that is stored. Errors: it cannot be looked at; S3 does not
    /// tell what it replaces.
    async fn headers_of_directory(
        &self,
        path: &str,
        replaces: Option<&str>,
    ) -> Result<(ObjectHeaders, Option<Stat>), NotMoved> {
        if self.attributes == AttributesMode::Fixed {
            return Ok((ObjectHeaders::default(), None));
        }
        let stat = self.tree.directory(path).await;
        let stat = stat.map_err(|error| NotMoved::now(error.to_string()))?;
        // Whatever else a mount keeps with it stays.
        let before = match replaces {
            None => ObjectHeaders::default(),
            Some(_) => {
                let key = self.outbox.key_of(path);
                let there = self.outbox.bucket.store.head(HeadRequest { key }).await;
                there.map_err(|error| NotMoved::from(&error))?.headers
            }
        };
        let attributes = Attributes {
            mode: Some((stat.mode & 0o7777) as u16),
            uid: Some(stat.uid),
            gid: Some(stat.gid),
            mtime: stat.modified(),
            ..Attributes::decode(before)
        };
        let encoded = attributes.encode(Kind::Directory);
        let headers = encoded.map_err(|_| NotMoved {
            why: DO_NOT_FIT.to_owned(),
            again: Again::Fails,
        })?;
        Ok((headers, Some(stat)))
    }
}

fn unreadable(error: io::Error) -> Option<NotMoved> {
    (!is_changed_while_read(&error)).then(|| NotMoved::now(error.to_string()))
}
