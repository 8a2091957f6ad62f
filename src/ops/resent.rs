//! Requests that the kernel sends again, as a daemon died before it answered them.
//!
//! One that was carried out is not carried out twice: another client may have changed
//! since what it was about. Its number is recorded before its answer goes out, and the
//! successor answers with what is there by then.
//!
//! A daemon may also die between what the store did and that record. So what deletes or
//! replaces an object, or what is stored with it, records before which version it is
//! about, and sent again it changes no other: it counts as done before that one came.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::error::FsError;
use crate::files::{Delivery, KernelRequest};
use crate::namespace::{Attributes, Namespace, Pin, relearn_attributes};
use crate::session_state::{Basis, Record, SessionLog, SessionState};
use crate::store::{DeletePending, ETag, Key};
use crate::vocabulary::Kind;

/// What goes with a name.
#[derive(Debug)]
pub enum Removal {
    Begins(DeletePending),
    /// What went with it the first time, as far as it is there still.
    Again(DeletePending),
}

/// Which requests were carried out, or begun.
#[derive(Debug)]
pub struct ExecutedRequests {
    session_log: Arc<SessionLog>,
    before: Mutex<HashSet<u64>>,
    begun: Mutex<HashMap<u64, Basis>>,
}

impl ExecutedRequests {
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

    /// The request is about to replace what is stored with the inode's object or marker.
    pub fn begin_storing(&self, request: KernelRequest, inode: &Pin) {
        self.begin(request, || {
            let state = inode.state();
            let version = state.remote.as_ref();
            let etag = version.map(|version| version.etag.clone());
            let modified = version.map(|version| version.last_modified);
            let stored = state.attributes.as_ref().map(|it| it.headers.clone());
            Basis::new(etag, modified).with_stored(stored.unwrap_or_default())
        });
    }

    /// What has been stored with the inode's object or marker since a predecessor was
    /// about to replace it, if it came so far.
    ///
    /// Errors: the store's.
    pub async fn stored_since(
        &self,
        request: KernelRequest,
        inode: &Pin,
        namespace: &Namespace,
    ) -> Result<Option<StoredSince>, FsError> {
        let Some(basis) = self.begun(request) else {
            return Ok(None);
        };
        let modified = basis.at();
        let Some(stored) = basis.stored else {
            return Ok(None);
        };
        let was = with_time(Attributes::decode(*stored), modified);
        let is_told = relearn_attributes(namespace, inode).await?;
        if inode.kind == Kind::Directory && !is_told {
            // A marker without attributes tells of no change: not every store keeps them.
            let now = Some(was.clone());
            return Ok(Some(StoredSince { was, now }));
        }
        let state = inode.state();
        let version = state.remote.as_ref();
        let is_same = version.map(|version| &version.etag) == basis.etag.as_ref();
        let now = state.attributes.as_deref().filter(|_| is_same);
        Ok(Some(StoredSince {
            was,
            now: now.map(|now| {
                let modified = version.map(|version| version.last_modified);
                with_time(now.clone(), modified)
            }),
        }))
    }

    /// Whether another client's version has come since a predecessor was about to change
    /// what was there. The call counts as done before it: after ESTALE the kernel would
    /// ask once more, as if it came only now. Source: fs/open.c, `retry_estale`.
    pub fn is_superseded<T>(&self, request: KernelRequest, outcome: &Result<T, FsError>) -> bool {
        matches!(outcome, Err(FsError::Stale(_))) && self.begun(request).is_some()
    }

    /// No successor carries the request out again.
    pub fn record(&self, request: KernelRequest) {
        let request = request.number;
        self.session_log.record(|| Record::Done { request });
    }
}

/// What was stored when a request was about to replace it, and what is now.
#[derive(Debug)]
pub struct StoredSince {
    was: Attributes,
    /// None where another version is there.
    now: Option<Attributes>,
}

impl StoredSince {
    /// Whether nobody has changed this, neither a predecessor nor another client.
    pub fn is_same<T: PartialEq>(&self, of: impl Fn(&Attributes) -> T) -> bool {
        let now = self.now.as_ref();
        now.is_some_and(|now| of(now) == of(&self.was))
    }
}

/// An object shows its own time where none is stored, and keeps it with what is.
fn with_time(attributes: Attributes, modified: Option<SystemTime>) -> Attributes {
    Attributes {
        mtime: attributes.mtime.or(modified),
        ..attributes
    }
}
