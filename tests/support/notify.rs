//! A service manager's socket, without the service manager.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Source: sd_notify(3): datagrams of `NAME=VALUE` lines.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    dir: TempDir,
}

impl NotifySocket {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        Self { socket, dir }
    }

    /// What `NOTIFY_SOCKET` is to be.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("notify")
    }

    /// The next message, if one comes in time.
    pub fn next(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// The first message with such a line; panics with those that came instead.
    #[track_caller]
    pub fn wait_for(&self, within: Duration, line: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + within;
        let mut others = Vec::new();
        while let Some(left) = end.checked_duration_since(Instant::now())
            && !left.is_zero()
        {
            match self.next(left) {
                Some(message) if message.lines().any(&line) => return message,
                Some(message) => others.push(message),
                None => {}
            }
        }
        panic!("not within {within:?}; instead: {others:?}");
    }
}
