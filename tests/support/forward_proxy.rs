//! An HTTP proxy that tells what went through it. Every name is this machine to it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

use super::requests::header;
use super::wire::read_head;

/// One connection that came.
#[derive(Debug, Clone)]
pub struct Passed {
    /// `CONNECT host:port HTTP/1.1`, or a request with a whole URL.
    pub line: String,
    pub authorization: Option<String>,
}

/// Listens until the test's process ends.
#[derive(Debug)]
pub struct ForwardProxy {
    /// `HOST:PORT`.
    pub address: String,
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl ForwardProxy {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let passed: Arc<Mutex<Vec<Passed>>> = Arc::default();
        let seen = passed.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = seen.clone();
                std::thread::spawn(move || pass(stream?, &seen));
            }
        });
        Self { address, passed }
    }

    /// What came so far, one for each connection.
    pub fn passed(&self) -> Vec<Passed> {
        self.passed.lock().clone()
    }
}

fn pass(mut client: TcpStream, seen: &Mutex<Vec<Passed>>) -> io::Result<()> {
    let head = read_head(&mut client)?;
    let line = head.lines().next().unwrap().to_owned();
    seen.lock().push(Passed {
        line: line.clone(),
        authorization: header(&head, "proxy-authorization").map(str::to_owned),
    });
    let words: Vec<&str> = line.split(' ').collect();
    let target = words[1].trim_start_matches("http://");
    let (place, path) = target.split_once('/').unwrap_or((target, ""));
    let port: u16 = place.rsplit_once(':').unwrap().1.parse().unwrap();
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else {
        return client
            .write_all(b"HTTP/1.1 502 No Route\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    if words[0] == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    } else {
        let (_, rest) = head.split_once("\r\n").unwrap();
        server.write_all(format!("{} /{path} HTTP/1.1\r\n{rest}", words[0]).as_bytes())?;
    }
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || {
        io::copy(&mut from_client, &mut to_server).ok();
        to_server.shutdown(Shutdown::Write).ok();
    });
    io::copy(&mut server, &mut client).ok();
    client.shutdown(Shutdown::Both).ok();
    up.join().unwrap();
    Ok(())
}
