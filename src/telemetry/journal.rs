//! systemd's journal, by its own protocol: an entry is a datagram of fields.
//!
//! Not by the crate for it, which sends from the thread that logs: a journal that hangs
//! would hang the mount.
//!
//! Source: systemd.io/JOURNAL_NATIVE_PROTOCOL; systemd.journal-fields(7).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tracing::Level;

use super::record::Record;

const SOCKET: &str = "/run/systemd/journal/socket";
/// How long one entry waits for a journal that takes nothing.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);
/// Names the device and the inode of the stream that goes to the journal.
/// Source: systemd.exec(5).
const STREAM_VARIABLE: &str = "JOURNAL_STREAM";

/// Whether what this process says on standard error is in the journal anyhow.
pub fn has_stderr() -> bool {
    let Ok(stat) = rustix::fs::fstat(rustix::stdio::stderr()) else {
        return false;
    };
    let stream = std::env::var(STREAM_VARIABLE).unwrap_or_default();
    stream == format!("{}:{}", stat.st_dev, stat.st_ino) && Path::new(SOCKET).exists()
}

#[derive(Debug)]
pub struct JournalSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl JournalSocket {
    /// Errors: there is none.
    pub fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(TAKEN_WITHIN))?;
        std::fs::metadata(path)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }

    /// By its name each time: a journal that is started again has another socket.
    pub fn send(&self, entry: &[u8]) -> io::Result<()> {
        self.socket.send_to(entry, &self.path).map(drop)
    }
}

/// A line as an entry: its text, as `journalctl` shows it, and each field by itself.
pub fn entry(record: &Record) -> Vec<u8> {
    let mut entry = Vec::new();
    add(&mut entry, "MESSAGE", &record.text());
    add(&mut entry, "PRIORITY", priority(record.level));
    add(&mut entry, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    add(&mut entry, "MEDIAFS_TARGET", &record.target);
    for (name, value) in record.fields.iter() {
        let text = match value.value() {
            Value::String(text) => text,
            other => other.to_string(),
        };
        add(&mut entry, &field_name(name), &text);
    }
    entry
}

fn add(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

/// Of letters, digits and underscores, as the journal has them.
fn field_name(name: &str) -> String {
    let plain = name.chars().map(|letter| match letter {
        'a'..='z' | '0'..='9' => letter.to_ascii_uppercase(),
        _ => '_',
    });
    let plain: String = plain.collect();
    format!("MEDIAFS_{plain}")
}

/// Source: syslog(3).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::FieldValue;
    use super::*;

    #[test]
    fn an_entry_has_the_text_and_each_field_and_no_value_makes_a_field_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut record = Record::new(Level::WARN, "odd".to_owned());
        let key = FieldValue::Shown("a\nPRIORITY=0".to_owned());
        record.fields.push("key", key);
        let code = FieldValue::Text("SlowDown".to_owned());
        record.fields.push("s3.code", code);
        JournalSocket::at(&path)
            .unwrap()
            .send(&entry(&record))
            .unwrap();
        let mut datagram = [0; 4096];
        let len = journal.recv(&mut datagram).unwrap();
        let mut expected = b"MESSAGE=odd key=a\\nPRIORITY=0\nPRIORITY=4\n\
            SYSLOG_IDENTIFIER=mediafs\nMEDIAFS_TARGET=mediafs\nMEDIAFS_KEY\n"
            .to_vec();
        expected.extend(12u64.to_le_bytes());
        expected.extend(b"a\nPRIORITY=0\nMEDIAFS_S3_CODE=SlowDown\n");
        assert_eq!(datagram[..len], expected);
    }

    #[test]
    fn a_journal_that_takes_nothing_is_waited_for_a_second_and_one_that_is_gone_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(JournalSocket::at(&path).is_err());
        let deaf = UnixDatagram::bind(&path).unwrap();
        let journal = JournalSocket::at(&path).unwrap();
        let refused = (0..100_000).find_map(|_| journal.send(&[b'x'; 1000]).err());
        assert_eq!(refused.unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(deaf);
        assert!(journal.send(b"x").is_err());
    }
}
