//! HTTP as a proxy sees it: one request and one answer a connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::requests::header;

/// To its empty line, and no byte of what follows.
pub fn read_head(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
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
