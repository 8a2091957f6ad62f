//! What has the new name of a file whose rename a kill cut.

use crate::journal::RenameIntent;
use crate::store::{ETag, ObjectMeta, WriteCondition};
use crate::vocabulary::ObjectVersion;
use crate::write_path::CopyOver;

/// What has the new name of a file that is renamed.
#[derive(Debug, PartialEq, Eq)]
pub enum TargetState {
    /// What the rename takes the place of.
    Before(CopyOver),
    Copy(ETag),
    /// Another client's, which has come since.
    Newer,
}

/// Also of a copy in parts, or with a key of its own, whose ETag is not the source's.
pub fn state_of(
    there: Option<ObjectMeta>,
    source: &ObjectVersion,
    over: &WriteCondition,
) -> TargetState {
    let Some(there) = there else {
        return TargetState::Before(CopyOver::Only(WriteCondition::IfAbsent));
    };
    let is_as_long = there.size_bytes == source.size_bytes;
    let is_same = is_as_long && there.etag == source.etag;
    match over {
        _ if is_same => TargetState::Copy(there.etag),
        // It is not known what was there.
        WriteCondition::Always => {
            TargetState::Before(CopyOver::Any(WriteCondition::IfMatch(there.etag)))
        }
        WriteCondition::IfMatch(before) if *before == there.etag => {
            TargetState::Before(CopyOver::Only(over.clone()))
        }
        _ if is_as_long => TargetState::Copy(there.etag),
        _ => TargetState::Newer,
    }
}

/// Whether what has the new name is no longer what the rename takes the place of.
pub fn may_be_copy(there: &ObjectMeta, intent: &RenameIntent) -> bool {
    match &intent.over {
        WriteCondition::Always => Some(&there.etag) == intent.version.as_ref(),
        WriteCondition::IfMatch(before) => *before != there.etag,
        WriteCondition::IfAbsent => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::ObjectHeaders;

    #[test]
    fn what_has_the_new_name_is_told_from_what_had_it_and_from_another_clients() {
        let there = |etag: &str, size_bytes| {
            Some(ObjectMeta {
                etag: ETag::new(etag),
                size_bytes,
                last_modified: SystemTime::UNIX_EPOCH,
                answered_at: SystemTime::UNIX_EPOCH,
                tag_count: 0,
                headers: ObjectHeaders::default(),
            })
        };
        let source = ObjectVersion {
            etag: ETag::new("source"),
            size_bytes: 4,
            last_modified: SystemTime::UNIX_EPOCH,
        };
        let before = WriteCondition::IfMatch(ETag::new("before"));
        let only =
            |condition: &WriteCondition| TargetState::Before(CopyOver::Only(condition.clone()));
        let copy = |etag: &str| TargetState::Copy(ETag::new(etag));
        let of = |there, over: &WriteCondition| state_of(there, &source, over);
        assert_eq!(of(None, &before), only(&WriteCondition::IfAbsent));
        assert_eq!(of(there("source", 4), &before), copy("source"));
        assert_eq!(of(there("before", 4), &before), only(&before));
        assert_eq!(of(there("parts-2", 4), &before), copy("parts-2"));
        assert_eq!(of(there("other", 5), &before), TargetState::Newer);
        assert_eq!(
            of(there("other", 5), &WriteCondition::IfAbsent),
            TargetState::Newer
        );
        let other = WriteCondition::IfMatch(ETag::new("other"));
        let over_any = TargetState::Before(CopyOver::Any(other));
        assert_eq!(of(there("other", 5), &WriteCondition::Always), over_any);
    }
}
