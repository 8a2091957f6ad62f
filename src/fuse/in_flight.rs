//! Which requests are under way, for kernels that do not send them again when the
//! daemon dies: the next one at least has them return.

use std::sync::Arc;

use crate::handover::{Ledger, Record};

#[derive(Debug)]
pub struct InFlight {
    ledger: Arc<Ledger>,
    remembers: bool,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct InFlightGuard {
    ledger: Arc<Ledger>,
    request: u64,
}

impl InFlight {
    pub fn new(ledger: Arc<Ledger>) -> Self {
        let remembers = false;
        Self { ledger, remembers }
    }

    /// The kernel is older than Linux 6.9.
    pub fn remember(&mut self) {
        self.remembers = true;
    }

    pub fn begin(&self, request: u64) -> Option<InFlightGuard> {
        let ledger = self.remembers.then(|| self.ledger.clone())?;
        ledger.tell(|| Record::Began { request });
        Some(InFlightGuard { ledger, request })
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let request = self.request;
        self.ledger.tell(|| Record::Answered { request });
    }
}
