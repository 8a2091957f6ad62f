//! A test's buckets on a server that outlives its run are removed at its end.
//!
//! A SeaweedFS that keeps each bucket of a whole run takes 11 GiB of disk, and gives out no
//! more volumes once the disk is full: then every write of every other test fails.

use std::cell::RefCell;
use std::thread;

use super::client::Client;
use super::servers::Server;

thread_local! {
    static MADE: RefCell<Buckets> = const { RefCell::new(Buckets(Vec::new())) };
}

struct Buckets(Vec<String>);

/// Removes a bucket of the shared server when this thread, which is a test's, ends.
pub fn remove_at_end(bucket: &str) {
    MADE.with_borrow_mut(|made| made.0.push(bucket.to_owned()));
}

impl Drop for Buckets {
    fn drop(&mut self) {
        let buckets = std::mem::take(&mut self.0);
        if buckets.is_empty() {
            return;
        }
        // The runtime of a client needs values of its thread, which are gone from this one.
        let removal = thread::spawn(move || {
            let client = Client::new(Server::shared());
            for bucket in &buckets {
                client.try_delete_bucket(bucket);
            }
        });
        drop(removal.join());
    }
}
