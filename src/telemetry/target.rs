//! Where the log goes: standard error, a file, systemd's journal.

use std::fs::File;
use std::io::{self, Write};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::file::{LogFile, LogFileSettings};
use super::journal::JournalSocket;
use super::queue::Sink;

/// How long one line waits for a pipe that is full and was made not to be waited for.
const TAKEN_WITHIN: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// What a log that cannot be opened is to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogIs {
    /// Whoever starts it is there to be told.
    Required,
    /// Applications wait for it: lines are lost, and counted, until it can be opened.
    Optional,
}

/// Where a log is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Stderr,
    File(LogFileSettings),
    Journal,
}

/// A descriptor that does not share the lock of the standard library's.
pub fn open_stderr() -> io::Result<File> {
    Ok(File::from(rustix::io::dup(rustix::stdio::stderr())?))
}

#[derive(Debug)]
pub struct Target {
    to: To,
    /// The line before is there in part.
    is_torn: bool,
}

#[derive(Debug)]
enum To {
    Stderr(File),
    File(Box<LogFile>),
    Journal(JournalSocket),
    /// It could not be opened so far.
    Missing(Place),
}

impl To {
    /// Errors: with the name of what cannot be opened.
    fn open(place: &Place) -> anyhow::Result<Self> {
        Ok(match place {
            Place::Stderr => Self::Stderr(open_stderr().context("there is no standard error")?),
            Place::File(settings) => {
                let file = LogFile::open(settings.clone());
                let named = || format!("log file {}", settings.path.display());
                Self::File(Box::new(file.with_context(named)?))
            }
            Place::Journal => {
                Self::Journal(JournalSocket::open().context("no journal of systemd to log to")?)
            }
        })
    }
}

impl Target {
    /// Errors: what is required cannot be opened.
    pub fn open(place: Place, log_is: LogIs) -> anyhow::Result<Self> {
        let to = match To::open(&place) {
            Err(_) if log_is == LogIs::Optional => To::Missing(place),
            to => to?,
        };
        Ok(Self { to, is_torn: false })
    }

    /// Errors: it still cannot be opened.
    fn find(&mut self) -> io::Result<()> {
        if let To::Missing(place) = &self.to {
            self.to = To::open(place).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Sink for Target {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.find()?;
        let file = match &mut self.to {
            To::Stderr(file) => file,
            To::File(file) => file.with_room_for(line.len())?,
            To::Journal(journal) => return journal.send(line),
            To::Missing(_) => return Err(io::ErrorKind::NotFound.into()),
        };
        if self.is_torn {
            write_all(file, b"\n", &mut self.is_torn)?;
            self.is_torn = false;
        }
        write_all(file, line, &mut self.is_torn)
    }

    fn follow(&mut self) {
        if let To::File(file) = &mut self.to
            && let Err(error) = file.follow()
        {
            tracing::warn!(%error, "the log file cannot be opened again");
        }
    }
}

/// Errors: some bytes may be there, of which `is_torn` tells then.
fn write_all(file: &mut File, bytes: &[u8], is_torn: &mut bool) -> io::Result<()> {
    let (mut rest, mut waited) = (bytes, false);
    while !rest.is_empty() {
        let error = match file.write(rest) {
            Ok(written) if written > 0 => {
                rest = rest.get(written..).unwrap_or_default();
                waited = false;
                continue;
            }
            Ok(_) => io::ErrorKind::WriteZero.into(),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock if !waited => {
                poll(
                    &mut [PollFd::new(file, PollFlags::OUT)],
                    Some(&TAKEN_WITHIN),
                )?;
                waited = true;
            }
            _ => {
                *is_torn |= rest.len() < bytes.len();
                return Err(error);
            }
        }
    }
    Ok(())
}
