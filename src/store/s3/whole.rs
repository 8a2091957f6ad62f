//! Documents that are read to be written again: nothing of them may be lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use parking_lot::Mutex;

use super::S3Store;
use crate::store::{Key, StoreError, StoreErrorKind, StoreOp};

/// Keeps the names of the elements that an answer has.
#[derive(Debug, Clone, Default)]
pub struct ElementNames(Arc<Mutex<BTreeSet<String>>>);

impl Intercept for ElementNames {
    fn name(&self) -> &'static str {
        "ElementNames"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().unwrap_or_default();
        *self.0.lock() = names_in(&String::from_utf8_lossy(body));
        Ok(())
    }
}

fn names_in(document: &str) -> BTreeSet<String> {
    let tags = document.split('<').skip(1);
    let names = tags.filter_map(|tag| {
        let end = tag.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | ':'));
        tag.get(..end.unwrap_or(tag.len()))
    });
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Errors: `Rejected`, where the answer has elements that the SDK leaves out.
pub fn unknown_elements(
    store: &S3Store,
    names: &ElementNames,
    known: &[&str],
) -> Result<(), StoreError> {
    let names = names.0.lock();
    let unknown: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !known.contains(name))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "the rules that are there have elements which mediafs does not know and would lose: {}: add the rule yourself",
        unknown.join(", ")
    );
    let (kind, op) = (StoreErrorKind::Corrupt, StoreOp::BucketSettings);
    Err(StoreError::new(
        kind,
        op,
        Key::new(store.bucket.as_str()),
        detail,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_an_element_is_found() {
        let document = "<?xml version=\"1.0\"?>\n<A xmlns=\"x\"><B>text &lt;C&gt;</B><D/></A>";
        let names: Vec<String> = names_in(document).into_iter().collect();
        assert_eq!(names, ["A", "B", "D"]);
    }
}
