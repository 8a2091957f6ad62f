//! An S3 server that means harm: a test says what it answers, byte by byte.
//!
//! It lets a mount start: the first listing is empty, and the PUT that finds out
//! about conditions is refused as it should be. What follows is the test's.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// What a test's server is asked.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// Decoded, without the bucket.
    pub key: String,
    /// Decoded.
    pub query: BTreeMap<String, String>,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn is_listing(&self) -> bool {
        self.query.contains_key("list-type")
    }

    /// The prefix of a listing.
    pub fn prefix(&self) -> &str {
        self.query.get("prefix").map_or("", String::as_str)
    }

    pub fn token(&self) -> Option<&str> {
        self.query.get("continuation-token").map(String::as_str)
    }
}

/// Bytes as they go to the daemon, status line first.
#[derive(Debug, Clone)]
pub enum Answer {
    Bytes(Vec<u8>),
    /// The bytes, then a piece again and again, so many times.
    Repeated(Vec<u8>, Vec<u8>, usize),
    /// The bytes, one after another with a pause before each.
    Dripping(Vec<u8>, Duration),
}

/// An answer with these header lines and a body of true length.
pub fn answer(status: &str, headers: &[&str], body: &[u8]) -> Answer {
    let length = format!("Content-Length: {}", body.len());
    let mut headers = headers.to_vec();
    headers.push(&length);
    raw(status, &headers, body)
}

/// An answer with these header lines and no others.
pub fn raw(status: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend(header.as_bytes());
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    Answer::Bytes(bytes)
}

pub fn xml(body: &str) -> Answer {
    answer(
        "200 OK",
        &["Content-Type: application/xml"],
        body.as_bytes(),
    )
}

pub fn not_found() -> Answer {
    answer("404 Not Found", &[], b"")
}

/// A page of a listing from the text between its tags.
pub fn page(inside: &str) -> Answer {
    let end = match inside.contains("<IsTruncated>") {
        true => "",
        false => "<IsTruncated>false</IsTruncated>",
    };
    xml(&format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>{end}{inside}</ListBucketResult>"
    ))
}

/// An entry of a listing, its parts as they are to stand in the XML.
pub fn object(key: &str, size: &str, etag: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>\
         <ETag>{etag}</ETag><Size>{size}</Size></Contents>"
    )
}

pub fn directory(prefix: &str) -> String {
    format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>")
}

/// What makes a page be followed by another.
pub fn goes_on(token: &str) -> String {
    format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>")
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

#[derive(Debug)]
pub struct Hostile {
    pub endpoint: String,
    requests: Arc<AtomicUsize>,
    gone: Arc<AtomicBool>,
}

impl Hostile {
    pub fn new(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let this = Self {
            endpoint,
            requests: Arc::default(),
            gone: Arc::default(),
        };
        let script: Arc<Script> = Arc::new(script);
        let (requests, gone) = (this.requests.clone(), this.gone.clone());
        let started = Arc::new(AtomicBool::new(false));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if gone.load(Ordering::Relaxed) {
                    return;
                }
                let (script, started) = (script.clone(), started.clone());
                let requests = requests.clone();
                // A daemon that hangs up on what it is sent does right.
                std::thread::spawn(move || serve(stream?, &script, &started, &requests));
            }
        });
        this
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(
            self.endpoint.trim_start_matches("http://"),
        ));
    }
}

fn serve(
    mut stream: TcpStream,
    script: &Arc<Script>,
    started: &AtomicBool,
    requests: &AtomicUsize,
) -> io::Result<()> {
    let request = read_request(&mut stream)?;
    requests.fetch_add(1, Ordering::Relaxed);
    let probes = request.method == "PUT" && request.key.contains(".mediafs-probe-");
    let answered = if request.is_listing() && !started.swap(true, Ordering::Relaxed) {
        page("")
    } else if probes {
        answer("412 Precondition Failed", &[], b"")
    } else {
        script(&request)
    };
    match answered {
        Answer::Bytes(bytes) => stream.write_all(&bytes)?,
        Answer::Dripping(bytes, pause) => {
            for byte in bytes {
                std::thread::sleep(pause);
                stream.write_all(&[byte])?;
            }
        }
        Answer::Repeated(bytes, piece, times) => {
            stream.write_all(&bytes)?;
            for _ in 0..times {
                stream.write_all(&piece)?;
            }
        }
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // Closing with unread bytes would reset the connection before the answer is read.
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

fn read_request(stream: &mut TcpStream) -> io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let headers: BTreeMap<String, String> = headers.collect();
    if headers.contains_key("expect") {
        reader
            .get_mut()
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length = headers.get("content-length");
    let length = length.map_or(0, |length| length.parse().unwrap());
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    let mut words = head.split(' ');
    let method = words.next().unwrap().to_owned();
    let target = words.next().unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let key = path.trim_start_matches('/').split_once('/');
    Ok(Request {
        method,
        key: key.map_or(String::new(), |(_, key)| decoded(key)),
        query: query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decoded(name), decoded(value)))
            .collect(),
        headers,
        body,
    })
}
