//! How much of a long test is run.
//!
//! A plain run does a slice of it; `MEDIAFS_TEST_SUITES=full`, as `scripts/suites`
//! sets it, does the full amount.

use std::time::Duration;

/// How much of a test is run.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    Slice,
    Full,
}

impl Amount {
    fn wanted() -> Self {
        match std::env::var("MEDIAFS_TEST_SUITES").as_deref() {
            Err(_) | Ok("slice") => Self::Slice,
            Ok("full") => Self::Full,
            Ok(other) => panic!("MEDIAFS_TEST_SUITES={other}: slice or full"),
        }
    }

    /// The first in a slice, the second in the full run.
    pub fn of<T>(slice: T, full: T) -> T {
        match Self::wanted() {
            Self::Slice => slice,
            Self::Full => full,
        }
    }

    /// No suite is expected to take half of this.
    pub fn deadline() -> Duration {
        Self::of(Duration::from_secs(600), Duration::from_secs(3000))
    }
}
