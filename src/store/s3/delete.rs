//! Deletes, one by one and in bulk.

use std::collections::{HashMap, HashSet};

use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::operation::delete_objects::DeleteObjectsOutput;
use aws_sdk_s3::types::{Delete, Error, ObjectIdentifier};
use futures::stream::{self, StreamExt};

use super::S3Store;
use super::checksum::ContentMd5;
use super::error::{kind_of_code, translate};
use crate::store::{DeleteRequest, ETag, Key, StoreError, StoreErrorKind, StoreOp};

/// Deletes that a bulk delete did not do and that are sent by themselves at once.
const SINGLE_AT_ONCE: usize = 16;

pub(super) async fn delete_one(store: &S3Store, request: DeleteRequest) -> Result<(), StoreError> {
    let key = request.key;
    let answer = store
        .client()
        .delete_object()
        .bucket(&store.bucket)
        .key(key.as_str())
        .set_if_match(request.if_match.as_ref().map(ETag::quoted))
        .send()
        .await;
    match answer.map_err(|error| translate(StoreOp::Delete, &key, error)) {
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
        outcome => outcome.map(drop),
    }
}

pub(super) async fn delete_many(
    store: &S3Store,
    requests: Vec<DeleteRequest>,
) -> Result<Vec<(Key, StoreError)>, StoreError> {
    // XML 1.0 has no way to write most control characters: those keys go one by one.
    let (single, together): (Vec<_>, Vec<_>) = requests
        .into_iter()
        .partition(|request| request.key.as_str().chars().any(char::is_control));
    let mut single = single;
    let mut failed = Vec::new();
    for (request, refusal) in delete_together(store, together).await? {
        match refusal {
            Refusal::Known(error) => failed.push((request.key, error)),
            // The status of its own answer tells.
            Refusal::Unknown => single.push(request),
        }
    }
    let single = stream::iter(single).map(|request| async move {
        let key = request.key.clone();
        let error = delete_one(store, request).await.err()?;
        Some((key, error))
    });
    let single = single.buffer_unordered(SINGLE_AT_ONCE);
    let refused: Vec<_> = single.filter_map(async |failed| failed).collect().await;
    failed.extend(refused);
    Ok(failed)
}

async fn delete_together(
    store: &S3Store,
    requests: Vec<DeleteRequest>,
) -> Result<Vec<(DeleteRequest, Refusal)>, StoreError> {
    let Some(first) = requests.first().map(|first| first.key.clone()) else {
        return Ok(Vec::new());
    };
    let broken = |error: &dyn std::fmt::Display| {
        StoreError::new(
            StoreErrorKind::Rejected,
            StoreOp::DeleteMany,
            first.clone(),
            error.to_string(),
        )
    };
    let mut objects = Vec::with_capacity(requests.len());
    for DeleteRequest { key, if_match } in &requests {
        let object = ObjectIdentifier::builder()
            .key(key.as_str())
            .set_e_tag(if_match.as_ref().map(ETag::quoted))
            .build();
        objects.push(object.map_err(|error| broken(&error))?);
    }
    let delete = Delete::builder()
        .set_objects(Some(objects))
        .quiet(true)
        .build();
    let delete = delete.map_err(|error| broken(&error))?;
    let answer = store
        .client()
        .delete_objects()
        .bucket(&store.bucket)
        .delete(delete)
        .customize()
        .interceptor(ContentMd5 {
            alone: store.checksums.upload().algorithm().is_none(),
        })
        .send()
        .await;
    let answer = answer.map_err(|error| translate(StoreOp::DeleteMany, &first, error))?;
    Ok(refusals(&answer, requests))
}

/// Which of the deletes were not done.
fn refusals(
    answer: &DeleteObjectsOutput,
    requests: Vec<DeleteRequest>,
) -> Vec<(DeleteRequest, Refusal)> {
    let asked: HashSet<&str> = requests.iter().map(|it| it.key.as_str()).collect();
    let is_of_others = |error: &&Error| error.key().is_none_or(|key| !asked.contains(key));
    if let Some(error) = answer.errors().iter().find(is_of_others) {
        let detail = refused_detail(error.code(), error.message(), answer.request_id());
        tracing::debug!(key = error.key(), %detail, "a bulk delete failed for a key that it was not asked for");
        // Which of them it means nobody knows, and it tells of no other.
        let unknown = requests.into_iter().map(|it| (it, Refusal::Unknown));
        return unknown.collect();
    }
    let mut refused = HashMap::new();
    for error in answer.errors() {
        let key = Key::new(error.key().unwrap_or_default());
        let detail = refused_detail(error.code(), error.message(), answer.request_id());
        let kind = error.code().and_then(kind_of_code);
        let refusal = kind.map_or(Refusal::Unknown, |kind| {
            let op = StoreOp::DeleteMany;
            Refusal::Known(StoreError::new(kind, op, key.clone(), detail))
        });
        refused.insert(key, refusal);
    }
    refused.retain(|_, refusal| !refusal.is_not_found());
    let of_request = |request: DeleteRequest| {
        let refusal = refused.remove(&request.key)?;
        Some((request, refusal))
    };
    requests.into_iter().filter_map(of_request).collect()
}

/// The store's own words about one key.
fn refused_detail(code: Option<&str>, message: Option<&str>, request: Option<&str>) -> String {
    let code = code.unwrap_or("refused without a code");
    let message = message.map_or_else(String::new, |message| format!(": {message}"));
    let request = request.map_or_else(String::new, |id| format!(" (request {id})"));
    format!("{code}{message}{request}")
}

/// Why a bulk delete did not do one of its deletes.
enum Refusal {
    Known(StoreError),
    /// By a code that says nothing here, or by none.
    Unknown,
}

impl Refusal {
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Known(error) if error.kind == StoreErrorKind::NotFound)
    }
}
