//! Requests that the kernel sends again, as a daemon died before it answered them.
//!
//! One that was carried out is not carried out twice: another client may have changed
//! since what it was about. Its number is recorded before its answer goes out, and the
//! successor answers with what is there by then.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::files::{Delivery, KernelRequest};
use crate::session_state::{DoneRequests, Record, SessionLog};

/// Which requests were carried out.
#[derive(Debug)]
pub struct CarriedOut {
    session_log: Arc<SessionLog>,
    before: Mutex<HashSet<u64>>,
}

impl CarriedOut {
    pub fn new(session_log: Arc<SessionLog>) -> Self {
        Self {
            session_log,
            before: Mutex::default(),
        }
    }

    pub fn restore(&self, done: &DoneRequests) {
        self.before.lock().extend(done.iter());
    }

    /// Whether a predecessor carried a request out that it did not answer.
    pub fn by_predecessor(&self, request: KernelRequest) -> bool {
        request.attempt == Delivery::Resent && self.before.lock().contains(&request.number)
    }

    /// No successor carries the request out again.
    pub fn record(&self, request: KernelRequest) {
        let request = request.number;
        self.session_log.record(|| Record::Done { request });
    }
}
