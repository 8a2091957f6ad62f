//! Whether what is no file is the same on both sides.

use super::entry::Object;
use super::judge::{Judge, Verdict};
use super::proof::Proof;
use crate::store::{ETag, GetRequest};
use crate::vocabulary::Kind;

impl Judge {
    /// Whether a symlink is one in the bucket too, which leads to the same.
    pub async fn compare_link(&self, path: &str, object: &Object) -> Verdict {
        let target = match self.tree.link(path) {
            Ok(target) => target,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        if target.len() as u64 != object.size_bytes {
            return Verdict::Different("it leads elsewhere".to_owned());
        }
        match self.attributes_of(path).await {
            Ok((etag, stored)) if etag.as_str() == object.etag && stored.kind == Kind::Symlink => {}
            Ok(_) => return Verdict::Different("it is no symlink there".to_owned()),
            Err(why) => return Verdict::Failed(why),
        }
        if ETag::of_bytes(&target).as_str() == object.etag {
            return Verdict::Equal(Proof::Md5);
        }
        let request = GetRequest {
            key: self.key_of(path),
            range: None,
            if_match: Some(ETag::new(&object.etag)),
            sink: None,
        };
        match self.store.get(request).await {
            Ok(answer) if answer.body == target => Verdict::Equal(Proof::Read),
            Ok(_) => Verdict::Different("it leads elsewhere".to_owned()),
            Err(error) => Verdict::Failed(error.to_string()),
        }
    }
}
