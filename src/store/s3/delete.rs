//! Deletes, one by one and in bulk.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::S3Store;
use super::error::{kind_of, translate};
use crate::store::{DeleteRequest, ETag, Key, StoreError, StoreErrorKind, StoreOp};

/// Status of an entry of a bulk delete that names no code: a failure of the server.
const STATUS_WITHOUT_CODE: u16 = 500;

impl S3Store {
    pub(super) async fn delete_object(&self, request: DeleteRequest) -> Result<(), StoreError> {
        let key = request.key;
        let answer = self
            .client()
            .delete_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_if_match(request.if_match.as_ref().map(ETag::quoted))
            .send()
            .await;
        match answer.map_err(|error| translate(StoreOp::Delete, &key, error)) {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    pub(super) async fn delete_objects(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        // XML 1.0 has no way to write most control characters: those keys go one by one.
        let (single, together): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .partition(|request| request.key.as_str().chars().any(char::is_control));
        let mut failed = self.delete_together(together).await?;
        for request in single {
            let key = request.key.clone();
            if let Err(error) = self.delete_object(request).await {
                failed.push((key, error));
            }
        }
        Ok(failed)
    }

    async fn delete_together(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
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
        let answer = self
            .client()
            .delete_objects()
            .bucket(&self.bucket)
            .delete(delete)
            .send()
            .await;
        let answer = answer.map_err(|error| translate(StoreOp::DeleteMany, &first, error))?;
        let failed = answer.errors().iter().filter_map(|error| {
            let key = Key::new(error.key().unwrap_or_default());
            let detail = format!("{:?}: {:?}", error.code(), error.message());
            let kind = kind_of(STATUS_WITHOUT_CODE, error.code());
            (kind != StoreErrorKind::NotFound).then(|| {
                let error = StoreError::new(kind, StoreOp::DeleteMany, key.clone(), detail);
                (key, error)
            })
        });
        Ok(failed.collect())
    }
}
