//! HTTP as a proxy sees it: one request and one answer a connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::net::RecvFlags;

use super::requests::header;

/// To its empty line, and no byte of what follows.
pub fn read_head(client: &mut TcpStream) -> io::Result<String> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::new();
    let mut ahead = [0; 4096];
    while !head.ends_with(END) {
        let len = match client.peek(&mut ahead)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => len,
        };
        // The end may have begun in what came before.
        let before = head.len().saturating_sub(END.len() - 1);
        head.extend_from_slice(&ahead[..len]);
        let mut places = head[before..].windows(END.len());
        let end = places.position(|bytes| bytes == END);
        let kept = end.map_or(head.len(), |at| before + at + END.len());
        let taken = len - (head.len() - kept);
        head.truncate(kept);
        client.read_exact(&mut ahead[..taken])?;
    }
    Ok(String::from_utf8(head).unwrap())
}

/// Head and body.
pub fn read_request(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let head = read_head(client)?;
    if header(&head, "expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    assert!(header(&head, "transfer-encoding").is_none(), "{head}");
    let len = header(&head, "content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    client.read_exact(&mut body)?;
    Ok((head, body))
}

/// The whole answer, which ends with its connection.
pub fn forward(upstream: &str, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
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

/// Connections on which nothing came yet: a client may open more than it needs.
#[derive(Debug, Default, Clone)]
pub struct QuietConnections(Arc<Mutex<Vec<Arc<TcpStream>>>>);

impl QuietConnections {
    /// Counts one that has come, before the next one is taken.
    pub fn add(&self, client: TcpStream) -> Arc<TcpStream> {
        let client = Arc::new(client);
        self.0.lock().push(client.clone());
        client
    }

    /// Returns at the first byte of a request, once `comes` has counted it.
    pub fn wait_for_a_request(
        &self,
        client: &Arc<TcpStream>,
        comes: impl FnOnce(),
    ) -> io::Result<()> {
        let came = client.peek(&mut [0]);
        if came.as_ref().is_ok_and(|len| *len > 0) {
            comes();
        }
        self.0.lock().retain(|stream| !Arc::ptr_eq(stream, client));
        match came? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Whether this one has been taken.
    pub fn has(&self, client: &TcpStream) -> bool {
        let address = client.local_addr().unwrap();
        let is_it = |it: &Arc<TcpStream>| it.peer_addr().is_ok_and(|peer| peer == address);
        self.0.lock().iter().any(is_it)
    }

    /// Whether still nothing has come.
    pub fn are_quiet(&self) -> bool {
        let has_bytes = |stream: &TcpStream| {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            rustix::net::recv(stream, &mut [0; 1], flags).is_ok_and(|(_, len)| len > 0)
        };
        !self.0.lock().iter().any(|stream| has_bytes(stream))
    }
}
