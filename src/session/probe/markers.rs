//! Whether the store keeps the keys by which empty directories persist, found out by
//! writing one and looking for it.

use crate::store::{
    FoldDirectories, Key, ListRequest, MarkerKeys, ObjectHeaders, ObjectStore, PutRequest,
    StoreError, StoreErrorKind, StoreOp,
};

/// What came of a scratch marker: the keys that the store lists in its place.
pub type Listed = Result<Vec<Key>, StoreError>;

/// Writes a marker, and asks for what is there then: some stores make a file of it, or
/// a directory of their own that no listing has.
pub async fn put_and_list(store: &dyn ObjectStore, marker: &Key) -> Listed {
    let put = PutRequest::marker(marker.clone(), ObjectHeaders::default());
    store.put(put).await?;
    let listing = ListRequest {
        prefix: marker.as_str().trim_end_matches('/').to_owned(),
        fold_directories: FoldDirectories::No,
        token: None,
        max_keys: 2,
    };
    let answer = store.list(listing).await?;
    Ok(answer.objects.into_iter().map(|it| it.key).collect())
}

/// Whether the marker may be made yet although nobody has told so.
pub fn is_unanswered(listed: &Listed) -> bool {
    matches!(listed, Err(error) if error.op == StoreOp::Put && !is_refused(error.kind))
}

/// Whether it may be there under its own name, and no listing has told so.
pub fn may_be_unseen(listed: &Listed) -> bool {
    match listed {
        Ok(keys) => keys.is_empty(),
        Err(error) => error.op != StoreOp::Put || !error.kind.is_refusal(),
    }
}

/// What it says of a store that takes other objects; told where it has no markers.
pub fn judge(listed: &Listed, marker: &Key) -> MarkerKeys {
    let refusal = match listed {
        Ok(keys) if keys.contains(marker) => return MarkerKeys::Kept,
        Ok(_) => None,
        Err(error) if error.op == StoreOp::Put && is_refused(error.kind) => Some(error),
        Err(error) => {
            tracing::info!(%error, "cannot tell whether the store keeps markers of directories");
            return MarkerKeys::Unknown;
        }
    };
    let error = refusal.map(tracing::field::display);
    tracing::warn!(
        error,
        "this store keeps no keys that end in '/': empty directories are of this mount alone, and go when it ends"
    );
    MarkerKeys::Refused
}

/// Also where the server fails each time, and answers well for other keys.
fn is_refused(kind: StoreErrorKind) -> bool {
    kind.is_refusal() || matches!(kind, StoreErrorKind::Server | StoreErrorKind::Malformed)
}
