//! What the tests share: S3 servers that nobody here wrote, a client of its
//! own to look into buckets, and real mounts.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

pub mod bucket;
pub mod mount;
pub mod random;
pub mod refusal;
pub mod server;

use std::time::{Duration, Instant};

pub use bucket::Bucket;
pub use mount::Mount;
pub use random::random_bytes;
pub use server::Server;

/// Longest wait for something that is bound to happen, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A mount of a new bucket on the shared server.
pub fn mounted() -> Mount {
    Mount::new(&Bucket::new(Server::shared()), &[])
}

/// A mount of a new bucket on the shared server, with flags.
pub fn mounted_with(flags: &[&str]) -> Mount {
    Mount::new(&Bucket::new(Server::shared()), flags)
}
