//! What a scriptable S3 does to which requests.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::programs::wait_until;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before the server sees it.
    Reset,
    /// The server applies it; the connection ends without the answer.
    LoseAnswer,
    /// The connection ends at once; the server gets the request all the same, at a
    /// gate once that is open.
    HangUp,
    /// As `hold`, and the server gets it once its client has gone. What comes after the
    /// gate was opened passes.
    Frozen,
    /// The server applies it; half of the answer arrives.
    CutAnswer,
    /// The server gets it twice; the second answer arrives.
    Twice,
    /// This status with this error code; the server does not see it.
    Answer(u16, &'static str),
    /// The same with one more header line.
    AnswerWith(u16, &'static str, &'static str),
    /// This status with this error code and the bucket's region in the document; the
    /// server does not see it.
    Elsewhere(u16, &'static str, &'static str),
    /// This document, with 200; the server does not see it.
    Document(&'static str),
    /// An answer of this status with these header lines, each with its end, and this body;
    /// the server does not see it.
    Page(u16, &'static str, &'static str),
    /// A bulk delete, of which each key is refused with `AccessDenied` and named in the
    /// answer by this in place of its name; the server does not see it.
    RefuseKeysAs(&'static str),
    /// One bit of the request's body is another one.
    FlipRequest,
    /// One bit of the answer's body is another one.
    FlipAnswer,
    /// The server does not see the conditions. For one that checks no signatures.
    Unconditional,
    /// Nothing until the proxy goes; the server does not see it.
    Stall,
    /// The server gets it this much later, also when the client has hung up.
    ApplyLate(Duration),
    /// The server applies it at once; the answer comes this much later.
    AnswerLate(Duration),
    /// Nothing happens to it.
    Pass,
    /// A bulk delete, of which this error code is the answer for each key; the server
    /// does not see it.
    RefuseKeys(&'static str),
    /// The server applies it; the answer lacks these elements and the header of that name.
    Strip(&'static str),
    /// The server applies it; the answer has this line in place of the header of that name.
    Header(&'static str, &'static str),
    /// The server applies it; the answer has the second words in place of the first.
    Reword(&'static str, &'static str),
    /// The server does not see these parameters of the query. For one that checks no
    /// signatures.
    Ignore(&'static [&'static str]),
    /// The server applies it; the body of the answer comes in chunks, without its length.
    Chunked,
    /// A listing whose answer has its objects the other way round.
    Unordered,
}

/// Which requests, and what happens to them: the first rule that matches decides.
#[derive(Debug)]
pub struct Rule {
    pub(super) op: &'static str,
    /// May begin or end with `*`; every key where absent.
    pub(super) key: Option<String>,
    pub(super) fault: Fault,
    pub(super) gate: Option<(Side, Gate)>,
    /// Requests that pass first, and that the rule is for then.
    pub(super) skip: usize,
    pub(super) times: usize,
    /// Only for requests with a header whose name begins with this, in lower case.
    pub(super) header: Option<&'static str>,
    /// Only for requests that are signed for this region.
    pub(super) region: Option<&'static str>,
    pub(super) of_store: bool,
}

/// Where a gate holds a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The server has not seen it.
    BeforeServer,
    /// The server has applied it.
    AfterServer,
}

impl Rule {
    /// The next request of a kind, such as `PutObject`; `*` at the end for all that begin so.
    pub fn on(op: &'static str, fault: Fault) -> Self {
        Self {
            op,
            key: None,
            fault,
            gate: None,
            skip: 0,
            times: 1,
            header: None,
            region: None,
            of_store: false,
        }
    }

    /// Only for requests with a header whose name begins so, in lower case.
    pub fn header(mut self, begin: &'static str) -> Self {
        self.header = Some(begin);
        self
    }

    /// Only for requests that are signed for this region.
    pub fn signed_for(mut self, region: &'static str) -> Self {
        self.region = Some(region);
        self
    }

    /// What the store is like, which also the requests by which a daemon finds that
    /// out meet: every request until `heal`.
    pub fn of_store(mut self) -> Self {
        self.of_store = true;
        self.always()
    }

    /// Only for requests of such keys (without the bucket): `d/f`, `d/*`, `*.png`.
    /// A bulk delete matches by any of its keys, a copy by its target.
    pub fn key(mut self, pattern: &str) -> Self {
        self.key = Some(pattern.to_owned());
        self
    }

    /// After so many that pass.
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// For so many.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// For every one, until `heal`.
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// What happens to a request that comes now.
    pub(super) fn fault_now(&self) -> Fault {
        match &self.gate {
            Some((_, gate)) if self.fault == Fault::Frozen && gate.is_open() => Fault::Pass,
            _ => self.fault,
        }
    }

    pub(super) fn matches(&self, op: &str, keys: &[String], head: &str) -> bool {
        let is_meant = match self.op.strip_suffix('*') {
            Some(begin) => op.starts_with(begin),
            None => self.op == op,
        };
        if self.times == 0 || !is_meant {
            return false;
        }
        if self.header.is_some_and(|begin| !has_header(head, begin)) {
            return false;
        }
        let is_of_region = |region| head.contains(&format!("/{region}/s3/aws4_request"));
        if !self.region.is_none_or(is_of_region) {
            return false;
        }
        let Some(pattern) = &self.key else {
            return true;
        };
        keys.iter().any(|key| match pattern.split_once('*') {
            Some((begin, end)) => {
                key.len() >= begin.len() + end.len() && key.starts_with(begin) && key.ends_with(end)
            }
            None => key == pattern,
        })
    }
}

fn has_header(head: &str, begin: &str) -> bool {
    let mut lines = head.lines().skip(1);
    lines.any(|line| line.to_ascii_lowercase().starts_with(begin))
}

/// Holds requests until the test lets them go. Dropped, it lets them go.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug, Default)]
struct GateState {
    held: usize,
    came: usize,
    /// That the server has answered since, whether anybody waited for it or not.
    executed: usize,
    open: bool,
}

impl Gate {
    /// Waits until so many requests have come to it.
    #[track_caller]
    pub fn wait_for(&self, requests: usize) {
        wait_until(Duration::from_secs(60), "a request at the gate", || {
            self.0.0.lock().came >= requests
        });
    }

    /// Opens it, and waits until the server has carried out what it held.
    #[track_caller]
    pub fn let_land(&self) {
        let came = self.0.0.lock().came;
        self.open();
        wait_until(Duration::from_secs(60), "what was held to land", || {
            self.0.0.lock().executed >= came
        });
    }

    /// Requests that it holds now.
    pub fn held(&self) -> usize {
        self.0.0.lock().held
    }

    fn is_open(&self) -> bool {
        self.0.0.lock().open
    }

    /// Lets go what it holds and what comes later.
    pub fn open(&self) {
        self.0.0.lock().open = true;
        self.0.1.notify_all();
    }

    pub(super) fn executed(&self) {
        self.0.0.lock().executed += 1;
    }

    pub(super) fn pass(&self) {
        let mut state = self.0.0.lock();
        state.came += 1;
        state.held += 1;
        self.0.1.wait_while(&mut state, |state| !state.open);
        state.held -= 1;
    }
}

/// What happens to one request.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) fault: Fault,
    pub(super) gate: Option<(Side, Gate)>,
}

impl Fate {
    pub(super) fn hold(&self, side: Side) {
        let gate = self.gate.as_ref().filter(|(at, _)| *at == side);
        gate.iter().for_each(|(_, gate)| gate.pass());
    }

    pub(super) fn executed(&self) {
        let gate = self.gate.as_ref();
        gate.iter().for_each(|(_, gate)| gate.executed());
    }
}

impl From<Fault> for Fate {
    fn from(fault: Fault) -> Self {
        Self { fault, gate: None }
    }
}
