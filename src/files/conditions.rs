//! The conditions on which staged content goes to the store.

use super::content::Content;
use super::layers::{LowerLayer, SealedStage};
use crate::namespace::Inode;
use crate::store::WriteCondition;
use crate::vocabulary::{Intent, NameState};

/// What the store has under the file's name, where that is known: a new stage
/// takes its place.
pub fn known_under_name(inode: &Inode, content: &Content) -> WriteCondition {
    if content.name == NameState::TakenOver || content.base.sealed().is_some() {
        return WriteCondition::Always;
    }
    match &inode.state().remote {
        Some(version) => WriteCondition::IfMatch(version.etag.clone()),
        None => WriteCondition::IfAbsent,
    }
}

/// When the staged content may replace what the store has.
pub fn condition_of(content: &Content) -> WriteCondition {
    match (content.intent, &content.base) {
        (Intent::Exclusive, _) => WriteCondition::IfAbsent,
        (Intent::Edit, LowerLayer::Object(object)) => WriteCondition::IfMatch(object.etag.clone()),
        (Intent::Edit | Intent::Replace, _) => WriteCondition::Always,
    }
}

/// The same where the staged content takes the place of a sealed one that was never sent.
pub fn condition_over(content: &Content, superseded: &SealedStage) -> WriteCondition {
    match (content.intent, &superseded.condition) {
        (Intent::Replace, WriteCondition::IfMatch(_)) => WriteCondition::Always,
        (_, condition) => condition.clone(),
    }
}
