//! Bulk deletes where the store has none: objects go one by one.

use std::sync::OnceLock;

use futures::stream::{self, StreamExt};

use super::Conditional;
use crate::store::abilities::BulkDeletes;
use crate::store::{DeleteRequest, Key, ObjectStore, StoreError};

const AT_ONCE: usize = 16;

impl Conditional {
    /// Sends a bulk delete, or deletes one by one where the store refuses that as a whole.
    pub(super) async fn send_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        if self.abilities.get().bulk_deletes == BulkDeletes::Refused {
            return Ok(self.delete_one_by_one(requests).await);
        }
        let refusal = match self.store.delete_many(requests.clone()).await {
            Err(error) if error.kind.is_refusal() => error,
            answer => return answer,
        };
        let count = requests.len();
        let failed = self.delete_one_by_one(requests).await;
        let same = failed.iter().filter(|(_, it)| it.kind == refusal.kind);
        // Otherwise it is about the objects, or about all deletes.
        if same.count() < count {
            self.abilities.refuses_bulk_deletes(&refusal);
        }
        Ok(failed)
    }

    /// Returns those that failed. Once the store does not serve, none of the rest is sent.
    pub(super) async fn delete_one_by_one(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Vec<(Key, StoreError)> {
        let unserved: OnceLock<StoreError> = OnceLock::new();
        let deletes = stream::iter(requests).map(|request| async {
            let key = request.key.clone();
            if let Some(error) = unserved.get() {
                return Some((key, error.clone()));
            }
            let error = self.delete(request).await.err()?;
            if error.kind.is_no_answer() {
                // Another one may have been first.
                unserved.get_or_init(|| error.clone());
            }
            Some((key, error))
        });
        let deletes = deletes.buffer_unordered(AT_ONCE);
        deletes.filter_map(async |failed| failed).collect().await
    }
}
