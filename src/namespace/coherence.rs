//! How old what is known may be.

use std::time::Duration;

/// How long what the store said counts as true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coherence {
    /// Of an object or a directory that is there.
    pub ttl: Duration,
    /// Of a name that is not there.
    pub negative_ttl: Duration,
    /// How much longer, while the store says nothing.
    pub stale_ttl: Duration,
}
