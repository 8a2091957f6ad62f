//! What has the new name of a file whose rename a kill cut.

use crate::files::{Moved, MovedObject};
use crate::journal::RenameIntent;
use crate::store::{ETag, ObjectMeta, WriteCondition};
use crate::vocabulary::ObjectVersion;
use crate::write_path::CopyOver;

/// Whether an object of the source's length is copied in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InParts {
    Yes,
    No,
}

/// What has the new name of a file that is renamed.
#[derive(Debug, PartialEq, Eq)]
pub enum TargetState {
    /// What the rename takes the place of.
    Before(CopyOver),
    Copy(ETag),
    /// Another client's, which has come since.
    Newer,
}

/// The journal may not have the copy: then its ETag tells, which is the source's where it
/// was not made in parts.
pub fn state_of(
    there: Option<ObjectMeta>,
    source: &ObjectVersion,
    intent: &RenameIntent,
    copied: InParts,
) -> TargetState {
    let Some(there) = there else {
        return TargetState::Before(CopyOver::Only(WriteCondition::IfAbsent));
    };
    // The source may be there for another reason than that the rename was under way.
    if let Some(copy) = &intent.copy {
        return match *copy == there.etag {
            true => TargetState::Copy(there.etag),
            false => TargetState::Newer,
        };
    }
    let is_as_long = there.size_bytes == source.size_bytes;
    let is_same = is_as_long && there.etag == source.etag;
    // The copy's ETag is then none that is known.
    let is_opaque = copied == InParts::Yes || source.etag.is_of_parts();
    let over = &intent.over;
    match over {
        // Also where it has the bytes of the source: what is stored with them may differ.
        WriteCondition::IfMatch(before) if *before == there.etag => {
            TargetState::Before(CopyOver::Only(over.clone()))
        }
        _ if is_same => TargetState::Copy(there.etag),
        // It is not known what was there.
        WriteCondition::Always => {
            TargetState::Before(CopyOver::Any(WriteCondition::IfMatch(there.etag)))
        }
        _ if is_as_long && is_opaque => TargetState::Copy(there.etag),
        _ => TargetState::Newer,
    }
}

/// What came of a file whose original is gone: handles of the original go over to what is
/// certainly its copy, and to nothing else.
pub fn moved_of(there: Option<ObjectMeta>, intent: &RenameIntent) -> Moved {
    let Some(there) = there else {
        return Moved::new();
    };
    let known = intent.copy.as_ref().or(intent.version.as_ref());
    let is_copy = known == Some(&there.etag);
    let moved = MovedObject {
        version: there.into(),
        source: intent.version.clone().filter(|_| is_copy),
    };
    Moved::from([(intent.from.clone(), moved)])
}

/// Whether what has the new name is no longer what the rename takes the place of.
pub fn may_be_copy(there: &ObjectMeta, intent: &RenameIntent) -> bool {
    if intent.copy.is_some() {
        return true;
    }
    match &intent.over {
        WriteCondition::Always => Some(&there.etag) == intent.version.as_ref(),
        WriteCondition::IfMatch(before) => *before != there.etag,
        WriteCondition::IfAbsent => true,
    }
}

/// Whether it is what the rename was to take the place of.
pub fn was_there(there: &ObjectMeta, intent: &RenameIntent) -> bool {
    let before = WriteCondition::IfMatch(there.etag.clone());
    intent.copy.is_none() && intent.over == before
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::{CopyHeaders, Key, ObjectHeaders};

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
        let intent = |over: &WriteCondition, copy: Option<&str>| RenameIntent {
            from: Key::new("a"),
            to: Key::new("b"),
            version: Some(source.etag.clone()),
            headers: CopyHeaders::Same,
            over: over.clone(),
            copy: copy.map(ETag::new),
            originals: None,
        };
        let of = |there, over: &WriteCondition| {
            state_of(there, &source, &intent(over, None), InParts::No)
        };
        assert_eq!(of(None, &before), only(&WriteCondition::IfAbsent));
        assert_eq!(of(there("source", 4), &before), copy("source"));
        assert_eq!(of(there("before", 4), &before), only(&before));
        assert_eq!(of(there("parts-2", 4), &before), TargetState::Newer);
        let in_parts = state_of(
            there("parts-2", 4),
            &source,
            &intent(&before, None),
            InParts::Yes,
        );
        assert_eq!(in_parts, copy("parts-2"));
        assert_eq!(of(there("other", 5), &before), TargetState::Newer);
        assert_eq!(
            of(there("other", 5), &WriteCondition::IfAbsent),
            TargetState::Newer
        );
        assert_eq!(of(there("other", 4), &before), TargetState::Newer);
        let same = WriteCondition::IfMatch(ETag::new("source"));
        assert_eq!(of(there("source", 4), &same), only(&same), "other headers");
        let known = |there| state_of(there, &source, &intent(&before, Some("made")), InParts::No);
        assert_eq!(known(there("made", 4)), copy("made"));
        assert_eq!(known(there("other", 4)), TargetState::Newer);
        assert_eq!(known(None), only(&WriteCondition::IfAbsent));
        let other = WriteCondition::IfMatch(ETag::new("other"));
        let over_any = TargetState::Before(CopyOver::Any(other));
        assert_eq!(of(there("other", 5), &WriteCondition::Always), over_any);
    }
}
