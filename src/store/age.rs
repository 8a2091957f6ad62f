//! How old an object is, by the store's own clock.

use std::time::{Duration, SystemTime};

use super::request::ObjectMeta;

/// What is cut off the time of an object at most.
const LAST_MODIFIED_STEP: Duration = Duration::from_secs(1);
/// How much earlier than the first attempt at a change an object is that the change has
/// certainly not made: answers are under way, and servers differ.
const CERTAINLY_BEFORE: Duration = Duration::from_secs(5);
/// Age from which an object is no longer changed within its Last-Modified: that
/// is cut to whole seconds, and the clocks of one service differ a little.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

impl ObjectMeta {
    /// Whether it was there before this time of the store for certain: times of
    /// objects have no fraction.
    pub fn is_older_than(&self, time: SystemTime) -> bool {
        self.last_modified + LAST_MODIFIED_STEP <= time
    }

    /// Whether it was not there yet at this time, of which the clock that told it may be
    /// behind.
    pub fn is_newer_than(&self, time: SystemTime) -> bool {
        self.last_modified >= time + LAST_MODIFIED_STEP * 2
    }

    /// Whether it was there for certain before what began so long ago.
    pub fn is_older_by(&self, begun_for: Duration) -> bool {
        let age = self.answered_at.duration_since(self.last_modified);
        age.is_ok_and(|age| age > begun_for + CERTAINLY_BEFORE)
    }

    /// Whether every object with this ETag and Last-Modified has these headers: a
    /// copy onto itself keeps the ETag, and two of them may share one second.
    pub fn is_settled(&self) -> bool {
        let age = self.answered_at.duration_since(self.last_modified);
        age.is_ok_and(|age| age >= SETTLED_AFTER)
    }
}
