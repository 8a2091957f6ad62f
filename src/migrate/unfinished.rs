//! Uploads in parts that an earlier run has begun and not ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::checkpoint::{Begun, Checkpoint};
use super::connect::Bucket;
use super::entry::Snapshot;
use crate::store::s3::inspect::{UnfinishedUpload, unfinished_uploads};
use crate::store::{
    Key, ListPartsRequest, ObjectHeaders, ObjectStore, StoreError, StoreErrorKind, StoreOp,
    UploadId,
};
use crate::write_path::{MultipartUpload, Uploader};

/// Clocks of this host and of S3 differ by no more. Source: S3 API, "RequestTimeTooSkewed".
const CLOCKS_DIFFER: Duration = Duration::from_secs(15 * 60);

/// A store that does not tell of uploads by then does not.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// What is sent in parts.
#[derive(Debug)]
pub struct Long<'a> {
    pub path: &'a str,
    pub key: &'a Key,
    pub source: &'a Snapshot,
    pub headers: &'a ObjectHeaders,
}

/// The upload that goes on, if one does. Another one is aborted, and a new one noted
/// before it is begun.
///
/// Errors: the store's and the checkpoint's, in words.
pub async fn resumed(
    long: &Long<'_>,
    bucket: &Bucket,
    checkpoint: &Checkpoint,
    uploader: &Uploader,
) -> Result<Option<Arc<MultipartUpload>>, String> {
    if let Some(begun) = checkpoint.begun(long.path) {
        if let Some(sending) = &begun.sending
            && begun.source == *long.source
            && sending.key == *long.key
            && sending.headers == *long.headers
        {
            return Ok(Some(uploader.take_over(sending.clone())));
        }
        let aborted = abort(&begun, long.key, bucket).await;
        aborted.map_err(|error| error.to_string())?;
    }
    let before = match left_of(bucket, long.key).await {
        Ok(left) => Some(left.into_iter().map(|upload| upload.id).collect()),
        // Which were there before is not known then.
        Err(error) if error.kind.is_refusal() || error.kind == StoreErrorKind::TimedOut => None,
        Err(error) => return Err(error.to_string()),
    };
    let begun = Begun {
        source: long.source.clone(),
        since: SystemTime::now(),
        before,
        sending: None,
    };
    let noted = checkpoint.begin(long.path, &begun);
    noted.map_err(|error| format!("checkpoint: {error}"))?;
    Ok(None)
}

/// Uploads of a key, whoever's they are. Errors: no answer in time.
async fn left_of(bucket: &Bucket, key: &Key) -> Result<Vec<UnfinishedUpload>, StoreError> {
    let asked = unfinished_uploads(&bucket.s3, key.as_str());
    let mut left = timeout(ANSWERED_WITHIN, asked).await.unwrap_or_else(|_| {
        let (kind, op) = (StoreErrorKind::TimedOut, StoreOp::ListUploads);
        Err(StoreError::new(kind, op, key.clone(), "no answer in time"))
    })?;
    left.retain(|upload| upload.key == *key);
    Ok(left)
}

/// Ends what is left of an upload.
pub async fn abort(begun: &Begun, key: &Key, bucket: &Bucket) -> Result<(), StoreError> {
    if let Some(sending) = &begun.sending {
        let (key, upload) = (sending.key.clone(), sending.upload.clone());
        return bucket.store.abort_multipart(key, upload).await;
    }
    // It was killed before it knew the name of its upload, if there is one.
    if begun.before.is_none() {
        tracing::warn!(%key, "a multipart upload may be left: which ones were there before is not known");
        return Ok(());
    }
    let left = match left_of(bucket, key).await {
        // Nobody can tell, and nobody else may end it.
        Err(error) if error.kind.is_refusal() => {
            tracing::warn!(%key, %error, "a multipart upload may be left");
            return Ok(());
        }
        left => left?,
    };
    for upload in own(begun, left) {
        if has_parts(&*bucket.store, key, &upload).await? {
            tracing::warn!(%key, "a multipart upload is left that may be another client's");
            continue;
        }
        bucket.store.abort_multipart(key.clone(), upload).await?;
    }
    Ok(())
}

/// Whether it has, or nobody can tell: the run that was killed before it knew the name of
/// its upload has sent none.
async fn has_parts(
    store: &dyn ObjectStore,
    key: &Key,
    upload: &UploadId,
) -> Result<bool, StoreError> {
    let first = ListPartsRequest {
        key: key.clone(),
        upload: upload.clone(),
        after: None,
    };
    match store.list_parts(first).await {
        Err(error) if error.kind == StoreErrorKind::NoSuchUpload => Ok(false),
        Err(error) if error.kind.is_refusal() => Ok(true),
        answer => Ok(!answer?.parts.is_empty()),
    }
}

/// Of the uploads of a key, those that a run may have begun. Where it is not known which
/// were there before, none can be told from those of others.
fn own(begun: &Begun, left: Vec<UnfinishedUpload>) -> Vec<UploadId> {
    let Some(before) = &begun.before else {
        return Vec::new();
    };
    let oldest = begun.since - CLOCKS_DIFFER;
    let ids = left
        .into_iter()
        .filter(|upload| upload.begun_at >= oldest)
        .map(|upload| upload.id);
    ids.filter(|id| !before.contains(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_a_runs_own_only_where_those_of_before_are_known() {
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let id = |name: &str| UploadId(name.to_owned());
        let upload = |name: &str, begun_at| UnfinishedUpload {
            key: Key::new("k"),
            id: id(name),
            begun_at,
        };
        let left = vec![
            upload("theirs", since),
            upload("old", since - Duration::from_secs(3600)),
            upload("ours", since),
        ];
        let begun = |before| Begun {
            source: Snapshot::File(crate::migrate::tests::some_stat()),
            since,
            before,
            sending: None,
        };
        let known = begun(Some(vec![id("theirs")]));
        assert_eq!(own(&known, left.clone()), [id("ours")]);
        // S3 refused to tell of them.
        assert_eq!(own(&begun(None), left), []);
    }
}
