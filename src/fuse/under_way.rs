//! Which requests are under way, for kernels that do not send them again when the
//! daemon dies: the next one at least has them return.

use std::sync::Arc;

use crate::handover::{Ledger, Record};

#[derive(Debug)]
pub struct UnderWay {
    ledger: Arc<Ledger>,
    remembers: bool,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Begun {
    ledger: Arc<Ledger>,
    request: u64,
}

impl UnderWay {
    pub fn new(ledger: Arc<Ledger>) -> Self {
        let remembers = false;
        Self { ledger, remembers }
    }

    /// The kernel is older than Linux 6.9.
    pub fn remember(&mut self) {
        self.remembers = true;
    }

    pub fn begin(&self, request: u64) -> Option<Begun> {
        let ledger = self.remembers.then(|| self.ledger.clone())?;
        ledger.tell(|| Record::Began { request });
        Some(Begun { ledger, request })
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let request = self.request;
        self.ledger.tell(|| Record::Answered { request });
    }
}
