//! What is seen of a journal from outside.

use super::{JournalState, StageRecord};
use crate::vocabulary::StageId;

/// What a journal has that is not done.
#[derive(Debug)]
pub struct Peeked {
    /// As `Journal::known`.
    pub stages: Vec<(StageId, StageRecord)>,
    pub deletes: usize,
    pub renames: usize,
    /// What a successor looks after and nobody waits for: multipart uploads that are to be
    /// aborted, requests without an answer.
    pub has_leftovers: bool,
}

impl Peeked {
    pub(super) fn of(live: &JournalState) -> Self {
        let is_settled = live.uploads.is_empty() && live.sent.is_empty() && live.late.is_empty();
        Self {
            stages: live.known(),
            deletes: live.pending.len(),
            renames: live.renames.len(),
            has_leftovers: !is_settled,
        }
    }
}
