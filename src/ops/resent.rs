//! Requests that the kernel sends again, as a daemon died before it answered them.
//!
//! One that was carried out is not carried out twice: another client may have changed
//! since what it was about. Its number is recorded before its answer goes out, and the
//! successor answers with what is there by then.
//!
//! A daemon may also die between what the store did and that record. So what deletes or
//! replaces an object records before which version it is about, and sent again it
//! changes no other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::files::{Delivery, KernelRequest};
use crate::session_state::{Basis, Record, SessionLog, SessionState};
use crate::store::{DeletePending, ETag, Key};

/// What goes with a name.
#[derive(Debug)]
pub enum Removal {
    Begins(DeletePending),
    /// What went with it the first time, as far as it is there still.
    Again(DeletePending),
}

/// Which requests were carried out, or begun.
#[derive(Debug)]
pub struct CarriedOut {
    session_log: Arc<SessionLog>,
    before: Mutex<HashSet<u64>>,
    begun: Mutex<HashMap<u64, Basis>>,
}

impl CarriedOut {
    pub fn new(session_log: Arc<SessionLog>) -> Self {
        Self {
            session_log,
            before: Mutex::default(),
            begun: Mutex::default(),
        }
    }

    pub fn restore(&self, saved: &SessionState) {
        self.before.lock().extend(saved.done.iter());
        let begun = saved.begun.iter();
        let begun = begun.map(|(request, basis)| (*request, basis.clone()));
        self.begun.lock().extend(begun);
    }

    /// Whether a predecessor carried a request out that it did not answer.
    pub fn by_predecessor(&self, request: KernelRequest) -> bool {
        request.attempt == Delivery::Resent && self.before.lock().contains(&request.number)
    }

    /// What a predecessor was about to change by the request, if it came so far.
    pub fn begun(&self, request: KernelRequest) -> Option<Basis> {
        match request.attempt {
            Delivery::First => None,
            Delivery::Resent => self.begun.lock().get(&request.number).cloned(),
        }
    }

    /// The request is about to delete or to replace this.
    pub fn begin(&self, request: KernelRequest, basis: impl FnOnce() -> Basis) {
        self.session_log.record(|| Record::Changes {
            request: request.number,
            basis: basis(),
        });
    }

    /// What a request is to delete: this version, and what else was there by this time.
    pub fn removal(
        &self,
        request: KernelRequest,
        key: Key,
        (etag, at): (Option<ETag>, Option<SystemTime>),
    ) -> Removal {
        if let Some(begun) = self.begun(request) {
            let at = begun.at();
            return Removal::Again(DeletePending::of_name(key, begun.etag, at));
        }
        self.begin(request, || Basis::new(etag.clone(), at));
        Removal::Begins(DeletePending::of_name(key, etag, at))
    }

    /// Whether a predecessor was about to replace another version than the one that is
    /// there: it did, and another client may have written since.
    pub fn has_replaced(&self, request: KernelRequest, there: Option<ETag>) -> bool {
        if let Some(begun) = self.begun(request) {
            return begun.etag != there;
        }
        self.begin(request, || Basis::new(there, None));
        false
    }

    /// No successor carries the request out again.
    pub fn record(&self, request: KernelRequest) {
        let request = request.number;
        self.session_log.record(|| Record::Done { request });
    }
}
