//! A scriptable S3: a proxy before a real server that delays, holds, repeats and
//! fails the requests that a test names.
//!
//! Each connection carries one request: request and answer pass through whole,
//! so that a fault lies before, during or after the server applied the request.
//! A request that was read whole is carried out whatever becomes of its client,
//! as a server or a load balancer does that has it already.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::frozen::leave;
use super::programs::wait_until;
use super::quirks::{of_another_kind, unconditional, with_clock};
use super::requests::{header, keys, operation};
use super::rule::Fate;
pub use super::rule::{Fault, Gate, Rule, Side};
use super::servers::Server;
use super::wire::{QuietConnections, forward, read_request};

/// Part of the keys of scratch objects, by which a daemon finds out what the server can do.
pub const PROBE: &str = ".mediafs-probe-";

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    seen: Vec<&'static str>,
    /// Of the bodies of requests.
    lengths: Vec<(&'static str, usize)>,
    /// Those whose answer goes to the client whole.
    passed: Vec<&'static str>,
    under_way: usize,
    /// Of each kind, now and at most.
    at_once: HashMap<&'static str, (usize, usize)>,
    /// Bytes of the server's answers, with their heads.
    answered: Vec<(&'static str, usize)>,
    /// No request reaches the server.
    down: bool,
    /// How much the server's clock is ahead, in seconds.
    ahead: i64,
    /// Access keys that are not known any more.
    revoked: Vec<String>,
    gates: Vec<Gate>,
    /// Heads of requests, where a test wants them.
    heads: Option<Vec<(&'static str, String)>>,
    gone: bool,
}

/// Listens on a port of its own for as long as it lives.
#[derive(Debug)]
pub struct Proxy {
    pub endpoint: String,
    shared: Arc<(Mutex<State>, Condvar)>,
    quiet: QuietConnections,
}

impl Proxy {
    pub fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let upstream = server.endpoint.strip_prefix("http://").unwrap().to_owned();
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let quiet = QuietConnections::default();
        let of_thread = (shared.clone(), quiet.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let ((shared, quiet), upstream) = (of_thread.clone(), upstream.clone());
                if shared.0.lock().gone {
                    return;
                }
                let Ok(stream) = stream.map(|stream| quiet.add(stream)) else {
                    continue;
                };
                std::thread::spawn(move || {
                    quiet.wait_for_a_request(&stream, || shared.0.lock().under_way += 1)?;
                    let outcome = pass(Arc::into_inner(stream).unwrap(), &upstream, &shared);
                    shared.0.lock().under_way -= 1;
                    outcome
                });
            }
        });
        Self {
            endpoint,
            shared,
            quiet,
        }
    }

    /// Fails the next `times` requests of a kind, such as `PutObject`.
    pub fn fail(&self, op: &'static str, fault: Fault, times: usize) {
        self.fail_after(op, 0, fault, times);
    }

    /// As `fail`, after `skip` that pass.
    pub fn fail_after(&self, op: &'static str, skip: usize, fault: Fault, times: usize) {
        self.rule(Rule::on(op, fault).after(skip).times(times));
    }

    /// Adds a rule, behind those that are there.
    pub fn rule(&self, rule: Rule) {
        self.shared.0.lock().rules.push(rule);
    }

    /// Holds the requests that a rule is for, until the gate is opened; then the
    /// rule's fault happens. `heal` does not open it, the end of the proxy does.
    pub fn hold(&self, side: Side, rule: Rule) -> Gate {
        let gate = Gate::default();
        let mut state = self.shared.0.lock();
        state.gates.push(gate.clone());
        state.rules.push(Rule {
            gate: Some((side, gate.clone())),
            ..rule
        });
        gate
    }

    /// Opens every gate.
    pub fn open_gates(&self) {
        self.shared.0.lock().gates.iter().for_each(Gate::open);
    }

    /// From now on the heads of answers are of a server whose clock is so many seconds ahead.
    pub fn set_clock(&self, ahead: i64) {
        self.shared.0.lock().ahead = ahead;
    }

    /// From now on every connection ends at once.
    pub fn all_down(&self) {
        self.shared.0.lock().down = true;
    }

    /// From now on requests that are signed with this access key are refused.
    pub fn revoke(&self, access_key: &str) {
        self.shared.0.lock().revoked.push(access_key.to_owned());
    }

    /// Lets everything pass again, but for revoked keys.
    pub fn heal(&self) {
        let mut state = self.shared.0.lock();
        state.rules.clear();
        state.down = false;
    }

    /// Runs a command that is killed once its request is held at the gate, which the
    /// server gets then. All rules are gone.
    #[track_caller]
    pub fn kill_at(&self, gate: &Gate, command: &mut Command) {
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        gate.wait_for(1);
        child.kill().unwrap();
        child.wait().unwrap();
        gate.open();
        self.heal();
        self.wait_until_idle();
    }

    /// Waits until no request is under way, also none of a client that is dead.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        // Connections are taken in the order in which they came, this one after all others.
        let last = TcpStream::connect(self.endpoint.trim_start_matches("http://")).unwrap();
        wait_until(Duration::from_secs(60), "an idle proxy", || {
            let state = self.shared.0.lock();
            self.quiet.has(&last) && state.under_way == 0 && self.quiet.are_quiet()
        });
    }

    /// Requests of a kind that were answered as the server did.
    pub fn passed(&self, op: &str) -> usize {
        let state = self.shared.0.lock();
        state.passed.iter().filter(|passed| **passed == op).count()
    }

    /// Lengths of the bodies of a kind of request, in the order in which they came.
    pub fn lengths(&self, op: &str) -> Vec<usize> {
        let state = self.shared.0.lock();
        let seen = state.lengths.iter().filter(|(seen, _)| *seen == op);
        seen.map(|(_, len)| *len).collect()
    }

    /// Most requests of a kind that were under way at once.
    pub fn most_at_once(&self, op: &str) -> usize {
        let state = self.shared.0.lock();
        state.at_once.get(op).map_or(0, |(_, most)| *most)
    }

    /// Bytes of the answers to requests of a kind.
    pub fn answered_bytes(&self, op: &str) -> usize {
        let state = self.shared.0.lock();
        let answered = state.answered.iter().filter(|(seen, _)| *seen == op);
        answered.map(|(_, len)| *len).sum()
    }

    /// Keeps the heads of the requests that come from now on.
    pub fn keep_heads(&self) {
        self.shared.0.lock().heads = Some(Vec::new());
    }

    /// Heads of a kind of request, and of all for `*`.
    pub fn heads(&self, op: &str) -> Vec<String> {
        let state = self.shared.0.lock();
        let heads = state.heads.iter().flatten();
        let wanted = heads.filter(|(seen, _)| op == "*" || *seen == op);
        wanted.map(|(_, head)| head.clone()).collect()
    }

    /// Requests of every kind that came, failed ones too.
    pub fn seen_in_all(&self) -> usize {
        self.shared.0.lock().seen.len()
    }

    /// What came after the first so many requests, failed ones too.
    pub fn seen_after(&self, first: usize) -> Vec<&'static str> {
        self.shared.0.lock().seen[first..].to_vec()
    }

    /// Requests of a kind that came, failed ones too.
    pub fn seen(&self, op: &str) -> usize {
        let state = self.shared.0.lock();
        state.seen.iter().filter(|seen| **seen == op).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.0.lock().gone = true;
        self.open_gates();
        self.shared.1.notify_all();
    }
}

/// Counts a request of a kind until its client is to have the answer, and may send another.
struct AtOnce<'a>(&'a Mutex<State>, &'static str);

impl<'a> AtOnce<'a> {
    fn count(state: &'a Mutex<State>, op: &'static str, body_bytes: usize) -> Self {
        let mut locked = state.lock();
        locked.lengths.push((op, body_bytes));
        let (now, most) = locked.at_once.entry(op).or_default();
        *now += 1;
        *most = (*most).max(*now);
        Self(state, op)
    }
}

impl Drop for AtOnce<'_> {
    fn drop(&mut self) {
        if let Some((now, _)) = self.0.lock().at_once.get_mut(self.1) {
            *now -= 1;
        }
    }
}

impl State {
    /// Whether it is the store that answers so, and not a fault that a test waits for.
    fn is_of_store(&self, op: &str, keys: &[String], head: &str) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| rule.of_store && rule.matches(op, keys, head))
    }

    fn keep_head(&mut self, op: &'static str, head: &str) {
        if let Some(heads) = &mut self.heads {
            heads.push((op, head.to_owned()));
        }
    }

    fn fate_of(&mut self, op: &'static str, keys: &[String], head: &str) -> Fate {
        self.seen.push(op);
        if self.down {
            return Fault::Reset.into();
        }
        let signed = header(head, "authorization").unwrap_or_default();
        let mut revoked = self.revoked.iter();
        if revoked.any(|key| signed.contains(&format!("Credential={key}/"))) {
            return Fault::Answer(403, "InvalidAccessKeyId").into();
        }
        let mut rules = self.rules.iter_mut();
        let Some(rule) = rules.find(|rule| rule.matches(op, keys, head)) else {
            return Fault::Pass.into();
        };
        if rule.skip > 0 {
            rule.skip -= 1;
            return Fault::Pass.into();
        }
        rule.times = rule.times.saturating_sub(1);
        Fate {
            fault: rule.fault_now(),
            gate: rule.gate.clone(),
        }
    }
}

fn pass(
    mut client: TcpStream,
    upstream: &str,
    (state, gone): &(Mutex<State>, Condvar),
) -> io::Result<()> {
    let (head, body) = read_request(&mut client)?;
    let op = operation(&head);
    let keys = keys(&head, &body);
    state.lock().keep_head(op, &head);
    let is_probe = keys.iter().any(|key| key.contains(PROBE));
    if is_probe && !state.lock().is_of_store(op, &keys, &head) {
        return pass_probe(client, upstream, state, &head, &body);
    }
    let fate = state.lock().fate_of(op, &keys, &head);
    let at_once = AtOnce::count(state, op, body.len());
    let forward = |head: &str, body: &[u8]| {
        let answer = with_clock(forward(upstream, head, body), state.lock().ahead);
        fate.executed();
        fate.hold(Side::AfterServer);
        answer.inspect(|answer| state.lock().answered.push((op, answer.len())))
    };
    if matches!(fate.fault, Fault::HangUp | Fault::Frozen) {
        leave(client, &fate);
        return forward(&head, &body).map(drop);
    }
    fate.hold(Side::BeforeServer);
    let reply = |answer: &[u8]| {
        drop(at_once);
        client.write_all(answer)
    };
    if let Some(answer) = of_another_kind(fate.fault, &head, &body, &keys, forward) {
        return reply(&answer?);
    }
    match fate.fault {
        Fault::Pass => {
            let answer = forward(&head, &body)?;
            // Whoever has the answer finds it counted.
            state.lock().passed.push(op);
            reply(&answer)
        }
        Fault::ApplyLate(by) => {
            std::thread::sleep(by);
            reply(&forward(&head, &body)?)
        }
        Fault::AnswerLate(by) => {
            let answer = forward(&head, &body)?;
            std::thread::sleep(by);
            reply(&answer)
        }
        Fault::Reset | Fault::HangUp => Ok(()),
        Fault::LoseAnswer => forward(&head, &body).map(drop),
        Fault::Stall => {
            gone.wait_while(&mut state.lock(), |state| !state.gone);
            Ok(())
        }
        other => panic!("{other:?}"),
    }
}

/// What a daemon asks of the server as it starts is neither counted nor failed,
/// and sees the server's conditions as everything else does.
fn pass_probe(
    mut client: TcpStream,
    upstream: &str,
    state: &Mutex<State>,
    head: &str,
    body: &[u8],
) -> io::Result<()> {
    let op = operation(head);
    let hidden = {
        let state = state.lock();
        if state.down {
            return Ok(());
        }
        let mut rules = state.rules.iter();
        rules.any(|rule| rule.fault == Fault::Unconditional && rule.matches(op, &[], head))
    };
    let other = hidden.then(|| unconditional(head));
    let answer = forward(upstream, other.as_deref().unwrap_or(head), body);
    client.write_all(&with_clock(answer, state.lock().ahead)?)
}
