//! Listings.

use aws_sdk_s3::types::EncodingType;

use super::S3Store;
use super::encoding::{decode, whole_seconds};
use super::error::translate;
use super::object::length;
use crate::store::{
    ETag, FoldDirectories, Key, ListAnswer, ListRequest, ListToken, ListedObject, StoreError,
    StoreOp,
};

impl S3Store {
    pub(super) async fn list_objects(
        &self,
        request: ListRequest,
    ) -> Result<ListAnswer, StoreError> {
        let shown = Key::new(request.prefix.as_str());
        let delimiter = (request.fold_directories == FoldDirectories::Yes).then(|| "/".to_owned());
        let answer = self
            .client()
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(&request.prefix)
            .set_delimiter(delimiter)
            .set_continuation_token(request.token.map(|token| token.0))
            .max_keys(i32::from(request.max_keys))
            .encoding_type(EncodingType::Url)
            .send()
            .await
            .map_err(|error| translate(StoreOp::List, &shown, error))?;
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let plain = |listed: &str| {
            if encoded {
                decode(listed)
            } else {
                Some(listed.to_owned())
            }
        };
        let objects = answer.contents().iter().filter_map(|object| {
            Some(ListedObject {
                key: Key::new(plain(object.key()?)?),
                etag: usable_etag(object)?,
                size_bytes: length(object.size()),
                last_modified: whole_seconds(object.last_modified()),
            })
        });
        let prefixes = answer
            .common_prefixes()
            .iter()
            .filter_map(|folded| plain(folded.prefix()?));
        let next = answer
            .next_continuation_token()
            .filter(|_| answer.is_truncated() == Some(true));
        Ok(ListAnswer {
            objects: objects.collect(),
            prefixes: prefixes.collect(),
            next: next.map(|token| ListToken(token.to_owned())),
        })
    }
}

/// A file whose versions cannot be told apart is not shown.
fn usable_etag(object: &aws_sdk_s3::types::Object) -> Option<ETag> {
    let etag = object.e_tag().and_then(ETag::parse);
    if etag.is_none() {
        tracing::debug!(key = object.key(), "hidden: listed without a usable ETag");
    }
    etag
}

