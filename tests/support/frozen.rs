//! Requests that a server executes after their client has gone.

use std::net::TcpStream;
use std::time::Duration;

use super::programs::wait_until;
use super::proxy::{Fault, Gate, Proxy, Rule, Side};
use super::rule::Fate;

/// A client gives every request up sooner.
const GONE_WITHIN: Duration = Duration::from_secs(60);
const LANDS_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks whether a client has gone.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

impl Proxy {
    /// One server of many has stopped: it holds every request for such keys, as a rule names
    /// them. Once the gate is opened it carries each out when its client has gone.
    pub fn freeze(&self, keys: &str) -> Gate {
        let all = Rule::on("*", Fault::Frozen).key(keys).always();
        self.hold(Side::BeforeServer, all)
    }

    /// From now on nobody is told whether a key has an object. A store that answers carries out
    /// what it has within a few seconds, which a test on a busy machine may take before it opens
    /// a gate: without an answer they do not begin.
    pub fn hold_looks(&self, key: &str) -> Gate {
        let looks = Rule::on("HeadObject", Fault::Pass).key(key).always();
        self.hold(Side::BeforeServer, looks)
    }

    /// Releases a request that its client gave up, and once the server has executed it, the
    /// HEADs that look for its object.
    #[track_caller]
    pub fn land(&self, op: &str, late: &Gate, looks: &Gate) {
        let answered = self.answered_bytes(op);
        late.open();
        wait_until(LANDS_WITHIN, "a late request", || {
            self.answered_bytes(op) > answered
        });
        looks.open();
        self.wait_until_idle();
    }
}

/// Returns once the server is to get the request that nobody waits for any more.
pub(super) fn leave(client: TcpStream, fate: &Fate) {
    if fate.fault == Fault::HangUp {
        drop(client);
        return fate.hold(Side::BeforeServer);
    }
    fate.hold(Side::BeforeServer);
    client.set_read_timeout(Some(LOOK_PAUSE)).unwrap();
    wait_until(GONE_WITHIN, "the end of a client", || {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        match client.peek(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), WouldBlock | TimedOut),
        }
    });
}
