//! What the store can do, found out by asking it.

use bytes::Bytes;

use crate::store::{
    DeleteRequest, ETag, Key, ObjectHeaders, ObjectStore, PutRequest, StoreErrorKind,
    WriteCondition,
};

/// Whether a PUT heeds `If-Match` and `If-None-Match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalWrites {
    Heeded,
    Ignored,
    /// The store did not say, or these credentials may not write.
    Unknown,
}

/// Finds out with one PUT that a store which heeds conditions refuses: of an
/// object that does not exist, if it is of a certain version. A store that makes
/// it all the same has it deleted at once.
///
/// `If-None-Match` is not tried, because that would have to make an object
/// everywhere; S3 and those after it had it before `If-Match`.
/// Source: S3 User Guide, "Add preconditions to S3 operations with conditional requests".
pub async fn conditional_writes(store: &dyn ObjectStore, prefix: &str) -> ConditionalWrites {
    let key = Key::new(format!("{prefix}.mediafs-probe-{:016x}", fastrand::u64(..)));
    let probe = PutRequest {
        key: key.clone(),
        body: Bytes::new(),
        headers: ObjectHeaders::default(),
        condition: WriteCondition::IfMatch(ETag::new("00000000000000000000000000000000")),
    };
    match store.put(probe).await {
        Ok(_) => {
            if let Err(error) = store.delete(DeleteRequest::any(key.clone())).await {
                tracing::warn!(%key, %error, "an empty object is left in the bucket: delete it");
            }
            ConditionalWrites::Ignored
        }
        Err(error) => match error.kind {
            StoreErrorKind::PreconditionFailed | StoreErrorKind::NotFound => {
                ConditionalWrites::Heeded
            }
            StoreErrorKind::Unsupported => ConditionalWrites::Ignored,
            _ => {
                tracing::info!(%error, "not known whether the store heeds If-Match");
                ConditionalWrites::Unknown
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Memory;
    use crate::store::{FoldDirectories, ListRequest};

    async fn keys(store: &Memory) -> usize {
        let all = ListRequest {
            prefix: String::new(),
            fold_directories: FoldDirectories::No,
            token: None,
            max_keys: 10,
        };
        store.list(all).await.unwrap().objects.len()
    }

    #[tokio::test]
    async fn a_store_that_heeds_conditions_is_told_from_one_that_does_not_and_nothing_is_left() {
        let heeds = Memory::default();
        let found = conditional_writes(&heeds, "media/").await;
        assert_eq!(found, ConditionalWrites::Heeded);
        assert_eq!(keys(&heeds).await, 0);
        let ignores = Memory::without_conditions();
        let found = conditional_writes(&ignores, "media/").await;
        assert_eq!(found, ConditionalWrites::Ignored);
        assert_eq!(keys(&ignores).await, 0);
    }
}
