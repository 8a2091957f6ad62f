//! Servers of files, and what a browser sends them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::programs::happens_within;
use super::servers::dies_with_parent;
use super::suite::tool;
use super::{Amount, wait_until};

/// Longest silence of a server.
const SILENCE: Duration = Duration::from_secs(60);
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// A server of one test, on a port of its own, ended when it is dropped.
pub struct WebServer {
    child: Child,
    pub port: u16,
}

impl WebServer {
    /// Starts a program of the system and waits until it takes connections.
    pub fn start(name: &str, port: u16, configure: impl FnOnce(&mut Command)) -> Self {
        let program = tool(name).get_program().to_owned();
        let mut command = dies_with_parent("KILL", program);
        configure(&mut command);
        command.stdin(Stdio::null());
        let mut this = Self {
            child: command.spawn().unwrap(),
            port,
        };
        wait_until(Amount::deadline(), name, || {
            let ended = this.child.try_wait().unwrap();
            assert!(ended.is_none(), "{name}: {ended:?}");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        this
    }

    /// The body of a file that is asked for. Errors: it broke off, or is not there.
    pub fn get(&self, path: &str) -> io::Result<Vec<u8>> {
        self.ask(&format!("GET {path}"), &[], b"")
    }

    /// The answer to a form with one file.
    pub fn upload(&self, path: &str, name: &str, bytes: &[u8]) -> io::Result<String> {
        const BOUNDARY: &str = "----boundary-of-a-form";
        let mut body = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(bytes);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let form = format!("Content-Type: multipart/form-data; boundary={BOUNDARY}");
        let answer = self.ask(&format!("POST {path}"), &[&form], &body)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn ask(&self, request: &str, lines: &[&str], body: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(SILENCE))?;
        let mut head = format!("{request} HTTP/1.0\r\nHost: localhost\r\n");
        for line in lines {
            head.push_str(&format!("{line}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or_else(|| io::Error::other("no head"))?;
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let body = answer.split_off(end + 4);
        if head.split(' ').nth(1) != Some("200") {
            return Err(io::Error::other(head));
        }
        let mut lines = head.lines();
        let told = lines.find_map(|line| line.strip_prefix("content-length: "));
        match told {
            Some(len) if len != body.len().to_string() => {
                let got = body.len();
                Err(io::Error::other(format!(
                    "broken off: {got} of {len} bytes"
                )))
            }
            _ => Ok(body),
        }
    }
}

impl Drop for WebServer {
    /// Those that have processes of their own end these.
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).ok();
        happens_within(ENDED_WITHIN, || !matches!(self.child.try_wait(), Ok(None)));
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
