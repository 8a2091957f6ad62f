//! Objects that the source does not have, deleted once all else is done.

use super::entry::Object;
use super::failures::NotMoved;
use super::outbox::Outbox;
use super::report::{Again, Done, Line, Symbol};
use crate::store::{DELETE_MANY_LIMIT, DeleteRequest, ETag, Key, StoreError, StoreErrorKind};

/// Objects that are deleted with one request.
pub const BATCH_LIMIT: usize = DELETE_MANY_LIMIT;

impl Outbox {
    /// Deletes those that are still the versions that the plan saw.
    pub async fn delete(&self, objects: Vec<Object>) -> Vec<Line> {
        let requests = objects.iter().map(|object| DeleteRequest {
            key: self.key_of(&object.path),
            if_match: Some(ETag::new(&object.etag)),
        });
        let answer = self.bucket.store.delete_many(requests.collect()).await;
        let failed = answer.unwrap_or_else(|error| {
            let of_all = objects.iter();
            of_all
                .map(|object| (self.key_of(&object.path), error.clone()))
                .collect()
        });
        let lines = objects.iter().map(|object| self.deleted(object, &failed));
        lines.collect()
    }

    fn deleted(&self, object: &Object, failed: &[(Key, StoreError)]) -> Line {
        let key = self.key_of(&object.path);
        match failed.iter().find(|(failed, _)| *failed == key) {
            Some((_, error)) => {
                let again = match error.kind {
                    StoreErrorKind::PreconditionFailed => Again::Replaces,
                    _ => NotMoved::from(error).again,
                };
                let why = format!("not deleted: {error}");
                NotMoved { why, again }.line(&object.path)
            }
            None => {
                Line::new(Symbol::OnlyThere, &object.path, object.size_bytes).done(Done::Deleted)
            }
        }
    }
}
