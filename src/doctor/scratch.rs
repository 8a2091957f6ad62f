//! Scratch objects of mounts that nobody has deleted: copies of what was replaced while
//! it was read, and zeros.
//!
//! A mount deletes its copies within a quarter of an hour and its zeros with the upload
//! that needs them, and after a crash it does so when it is started again with its spool.
//! Nothing says of which mount an object is: so only its age tells that it is left.

use std::time::{Duration, SystemTime};

use super::{Findings, NO_ANSWER};
use crate::namespace::is_scratch;
use crate::store::{
    DeleteRequest, FoldDirectories, ListProgress, ListRequest, ListedObject, ObjectStore,
    StoreError,
};
use crate::write_path::SCRATCH_NAMES;

/// What is as old as that has no mount any more that uses it.
const LEFT_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Objects that are looked at.
const LOOKED_AT_LIMIT: usize = 10_000;
/// Keys that are named.
const NAMED_LIMIT: usize = 3;

/// What becomes of scratch objects that are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftScratch {
    Tell,
    Delete,
}

pub(super) async fn examine(
    store: &dyn ObjectStore,
    prefix: &str,
    (now, left): (SystemTime, LeftScratch),
    report: &mut Findings,
) {
    const CHECK: &str = "scratch copies";
    let all = match listed(store, prefix).await {
        Ok(all) => all,
        Err(error) => return report.warn(CHECK, format!("not known: {error}"), NO_ANSWER),
    };
    let is_old = |object: &ListedObject| {
        let age = now.duration_since(object.last_modified);
        age.is_ok_and(|age| age >= LEFT_AFTER)
    };
    let (old, young): (Vec<_>, Vec<_>) = all.into_iter().partition(is_old);
    if old.is_empty() {
        let count = young.len();
        return report.ok(CHECK, format!("none is left; {count} younger than a day"));
    }
    let told = described(&old);
    if left == LeftScratch::Tell {
        return report.warn(
            CHECK,
            format!("{told} older than a day: a mount was killed and not started again"),
            "start it with its spool, which deletes them; if that is lost: mediafs doctor --delete-scratch",
        );
    }
    let (mut deleted, mut failed) = (0, None);
    for object in old {
        match store.delete(DeleteRequest::any(object.key)).await {
            Ok(()) => deleted += 1,
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        None => report.ok(CHECK, format!("{told} older than a day: deleted")),
        Some(error) => report.fail(
            CHECK,
            format!("{told} older than a day; {deleted} deleted: {error}"),
            "allow s3:DeleteObject on the objects below the prefix, and run it again",
        ),
    }
}

async fn listed(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<ListedObject>, StoreError> {
    let mut found = Vec::new();
    for name in SCRATCH_NAMES {
        let begin = format!("{prefix}{name}");
        let (mut token, mut progress) = (None, ListProgress::default());
        loop {
            let request = ListRequest::page(begin.as_str(), FoldDirectories::No, token);
            let page = store.list(request).await?;
            progress.step(&begin, &page)?;
            let objects = page.objects.into_iter();
            found.extend(objects.filter(|object| is_ours(prefix, object)));
            token = page.next;
            if token.is_none() || found.len() >= LOOKED_AT_LIMIT {
                break;
            }
        }
    }
    Ok(found)
}

/// Others may have files whose names begin like that.
fn is_ours(prefix: &str, object: &ListedObject) -> bool {
    let name = object.key.as_str().strip_prefix(prefix);
    name.is_some_and(|name| !name.contains('/') && is_scratch(name))
}

fn described(objects: &[ListedObject]) -> String {
    let named = objects.iter().take(NAMED_LIMIT);
    let named: Vec<_> = named.map(|object| object.key.as_str()).collect();
    let more = if objects.len() > NAMED_LIMIT {
        ", ..."
    } else {
        ""
    };
    let bytes: u64 = objects.iter().map(|object| object.size_bytes).sum();
    let size = bytesize::ByteSize(bytes);
    format!("{} of {size} ({}{more})", objects.len(), named.join(", "))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::State;
    use super::*;
    use crate::store::memory::Memory;
    use crate::store::{Key, ObjectHeaders, PutRequest, WriteCondition};

    const COPY: &str = "p/.mediafs-replaced-0123456789abcdef";
    const ZEROS: &str = "p/.mediafs-zeros-0123456789abcdef";
    /// A file of an application, an object of another prefix, and one below such a name.
    const OTHERS: [&str; 3] = [
        "p/.mediafs-replaced-notes",
        ".mediafs-zeros-0123456789abcdef",
        "p/.mediafs-zeros-0123456789abcdef/x",
    ];

    async fn examined(store: &Memory, age: Duration, left: LeftScratch) -> (State, Vec<String>) {
        let mut report = Findings::default();
        // The store counts its objects' times in seconds from there.
        let now = SystemTime::UNIX_EPOCH + age;
        examine(store, "p/", (now, left), &mut report).await;
        let all = ListRequest::page("", FoldDirectories::No, None);
        let all = store.list(all).await.unwrap().objects.into_iter();
        let keys = all.map(|object| object.key.as_str().to_owned()).collect();
        (report.0[0].state, keys)
    }

    #[tokio::test]
    async fn scratch_objects_that_are_left_are_told_and_deleted_when_that_is_wanted() {
        let store = Memory::default();
        for key in OTHERS.into_iter().chain([COPY, ZEROS]) {
            let request = PutRequest {
                key: Key::new(key),
                body: Bytes::from_static(b"x"),
                headers: ObjectHeaders::default(),
                condition: WriteCondition::Always,
            };
            store.put(request).await.unwrap();
        }
        for left in [LeftScratch::Tell, LeftScratch::Delete] {
            let (state, keys) = examined(&store, LEFT_AFTER / 2, left).await;
            assert_eq!((state, keys.len()), (State::Ok, 5), "a mount may use them");
        }
        let (state, keys) = examined(&store, LEFT_AFTER * 2, LeftScratch::Tell).await;
        assert_eq!((state, keys.len()), (State::Warn, 5));
        let (state, keys) = examined(&store, LEFT_AFTER * 2, LeftScratch::Delete).await;
        let mut others = OTHERS.map(str::to_owned).to_vec();
        others.sort();
        assert_eq!((state, keys), (State::Ok, others));
    }
}
