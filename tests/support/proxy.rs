//! A proxy between daemon and server that fails the requests that a test names.
//!
//! Each connection carries one request: request and answer pass through whole,
//! so that a fault lies before, during or after the server applied the request.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::programs::wait_until;
use super::servers::Server;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before the server sees it.
    Reset,
    /// The server applies it; the connection ends without the answer.
    LoseAnswer,
    /// The server applies it; half of the answer arrives.
    CutAnswer,
    /// The server gets it twice; the second answer arrives.
    Twice,
    /// This status with this error code; the server does not see it.
    Answer(u16, &'static str),
    /// The same with one more header line.
    AnswerWith(u16, &'static str, &'static str),
    /// One bit of the request's body is another one.
    FlipRequest,
    /// One bit of the answer's body is another one.
    FlipAnswer,
    /// The server does not see the conditions. For one that checks no signatures.
    Unconditional,
    /// Nothing until the proxy goes; the server does not see it.
    Stall,
}

#[derive(Debug)]
struct Planned {
    op: &'static str,
    fault: Fault,
    /// Requests of the kind that pass first, and that fail then.
    skip: usize,
    times: usize,
}

#[derive(Debug, Default)]
struct State {
    planned: Vec<Planned>,
    seen: Vec<&'static str>,
    /// Of the bodies of requests.
    lengths: Vec<(&'static str, usize)>,
    /// Those whose answer went to the client whole.
    passed: Vec<&'static str>,
    under_way: usize,
    /// No request reaches the server.
    down: bool,
    /// Access keys that are not known any more.
    revoked: Vec<String>,
    gone: bool,
}

/// Listens on a port of its own for as long as it lives.
#[derive(Debug)]
pub struct Proxy {
    pub endpoint: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Proxy {
    pub fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let upstream = server.endpoint.strip_prefix("http://").unwrap().to_owned();
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let of_thread = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, upstream) = (of_thread.clone(), upstream.clone());
                if shared.0.lock().gone {
                    return;
                }
                std::thread::spawn(move || {
                    shared.0.lock().under_way += 1;
                    let outcome = pass(stream?, &upstream, &shared);
                    shared.0.lock().under_way -= 1;
                    outcome
                });
            }
        });
        Self { endpoint, shared }
    }

    /// Fails the next `times` requests of a kind, such as `PutObject`.
    pub fn fail(&self, op: &'static str, fault: Fault, times: usize) {
        self.fail_after(op, 0, fault, times);
    }

    /// As `fail`, after `skip` that pass.
    pub fn fail_after(&self, op: &'static str, skip: usize, fault: Fault, times: usize) {
        let mut state = self.shared.0.lock();
        state.planned.push(Planned {
            op,
            fault,
            skip,
            times,
        });
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
        state.planned.clear();
        state.down = false;
    }

    /// Waits until no request is under way, also none of a client that is dead.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        wait_until(Duration::from_secs(20), "an idle proxy", || {
            self.shared.0.lock().under_way == 0
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

    /// Requests of a kind that came, failed ones too.
    pub fn seen(&self, op: &str) -> usize {
        let state = self.shared.0.lock();
        state.seen.iter().filter(|seen| **seen == op).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.0.lock().gone = true;
        self.shared.1.notify_all();
    }
}

impl State {
    fn fault_of(&mut self, op: &'static str, head: &str) -> Option<Fault> {
        self.seen.push(op);
        if self.down {
            return Some(Fault::Reset);
        }
        let signed = header(head, "authorization").unwrap_or_default();
        let mut revoked = self.revoked.iter();
        if revoked.any(|key| signed.contains(&format!("Credential={key}/"))) {
            return Some(Fault::Answer(403, "InvalidAccessKeyId"));
        }
        let mut matching = self.planned.iter_mut().filter(|planned| planned.op == op);
        let planned = matching.find(|planned| planned.times > 0)?;
        if planned.skip > 0 {
            planned.skip -= 1;
            return None;
        }
        planned.times -= 1;
        Some(planned.fault)
    }
}

fn pass(
    mut client: TcpStream,
    upstream: &str,
    (state, gone): &(Mutex<State>, Condvar),
) -> io::Result<()> {
    let (head, mut body) = read_request(&mut client)?;
    let fault = state.lock().fault_of(operation(&head), &head);
    state.lock().lengths.push((operation(&head), body.len()));
    match fault {
        None => {
            client.write_all(&forward(upstream, &head, &body)?)?;
            state.lock().passed.push(operation(&head));
            Ok(())
        }
        Some(Fault::Reset) => Ok(()),
        Some(Fault::LoseAnswer) => forward(upstream, &head, &body).map(drop),
        Some(Fault::CutAnswer) => {
            let answer = forward(upstream, &head, &body)?;
            client.write_all(&answer[..answer.len() - answer.len() / 4])
        }
        Some(Fault::Twice) => {
            forward(upstream, &head, &body)?;
            client.write_all(&forward(upstream, &head, &body)?)
        }
        Some(Fault::FlipRequest) => {
            let middle = body.len() / 2;
            body[middle] ^= 4;
            client.write_all(&forward(upstream, &head, &body)?)
        }
        Some(Fault::FlipAnswer) => {
            let mut answer = forward(upstream, &head, &body)?;
            *answer.last_mut().unwrap() ^= 4;
            client.write_all(&answer)
        }
        Some(Fault::Answer(status, code)) => client.write_all(error(status, code, "").as_bytes()),
        Some(Fault::AnswerWith(status, code, line)) => {
            client.write_all(error(status, code, &format!("{line}\r\n")).as_bytes())
        }
        Some(Fault::Unconditional) => {
            let lines = head.trim_end().lines();
            let kept: Vec<&str> = lines
                .filter(|line| !line.to_ascii_lowercase().starts_with("if-"))
                .collect();
            client.write_all(&forward(upstream, &kept.join("\r\n"), &body)?)
        }
        Some(Fault::Stall) => {
            gone.wait_while(&mut state.lock(), |state| !state.gone);
            Ok(())
        }
    }
}

fn error(status: u16, code: &str, lines: &str) -> String {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>planned</Message></Error>"
    );
    format!(
        "HTTP/1.1 {status} Planned\r\n{lines}Content-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn read_request(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    if header(&head, "expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    assert!(header(&head, "transfer-encoding").is_none(), "{head}");
    let len = header(&head, "content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    client.read_exact(&mut body)?;
    Ok((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// The whole answer, which ends with its connection.
fn forward(upstream: &str, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(upstream)?;
    let lines = head.trim_end().lines();
    let kept: Vec<&str> = lines
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
        .collect();
    let head = format!("{}\r\nConnection: close\r\n\r\n", kept.join("\r\n"));
    server.write_all(head.as_bytes())?;
    server.write_all(body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}

/// The S3 operation that a request is. Source: Amazon S3 API Reference, "Actions".
fn operation(head: &str) -> &'static str {
    let (method, rest) = head.split_once(' ').unwrap();
    let target = rest.split(' ').next().unwrap();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let has = |name: &str| {
        let mut names = query.split('&').map(|pair| pair.split('=').next().unwrap());
        names.any(|found| found == name)
    };
    let copies = header(head, "x-amz-copy-source").is_some();
    match method {
        "PUT" if has("partNumber") && copies => "UploadPartCopy",
        "PUT" if has("partNumber") => "UploadPart",
        "PUT" if copies => "CopyObject",
        "PUT" => "PutObject",
        "POST" if has("uploads") => "CreateMultipartUpload",
        "POST" if has("uploadId") => "CompleteMultipartUpload",
        "POST" if has("delete") => "DeleteObjects",
        "DELETE" if has("uploadId") => "AbortMultipartUpload",
        "DELETE" => "DeleteObject",
        "HEAD" => "HeadObject",
        "GET" if has("list-type") => "ListObjectsV2",
        "GET" if has("uploadId") => "ListParts",
        "GET" => "GetObject",
        other => panic!("{other} {target}"),
    }
}
