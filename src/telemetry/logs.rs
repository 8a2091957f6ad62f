//! Logs: to standard error or a file.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::file::{LogFile, LogFileSettings};
use super::panics;
use super::queue::{LinesTo, LogQueue, Sink};
use super::recent::Recent;

/// How long the end of a process waits for a log that takes nothing.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);
/// How long one line waits for a pipe that is full and was made not to be waited for.
const TAKEN_WITHIN: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Of this process, as the subscriber of `tracing` is.
static OWN: OnceLock<Own> = OnceLock::new();

#[derive(Debug)]
struct Own {
    queue: Arc<LogQueue>,
    file: Option<LogFileSettings>,
    /// Until the thread that writes has it.
    target: Mutex<Option<Target>>,
}

type Replace = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;

/// The logs of this process.
pub struct Logs {
    replace: Box<Replace>,
    queue: Arc<LogQueue>,
}

impl Logs {
    /// Logs by another filter from now on. Errors: a filter that is none.
    pub fn set_filter(&self, filter: &str) -> anyhow::Result<()> {
        (self.replace)(parse(filter)?).context("the logs have ended")
    }

    /// The file may have been moved away.
    pub fn reopen(&self) {
        self.queue.follow();
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logs")
    }
}

/// What a log file that cannot be opened is to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFileIs {
    /// Whoever starts it is there to be told.
    Required,
    /// Applications wait for it: lines are lost, and counted, until it can be opened.
    Optional,
}

/// Starts logging, to standard error where there is no file. Lines wait until
/// `write_logs` or `flush_logs`.
///
/// Errors: a filter that is none, a file that is required and cannot be opened.
pub fn start_logs(
    filter: &str,
    file: Option<LogFileSettings>,
    file_is: LogFileIs,
) -> anyhow::Result<Logs> {
    let filter = parse(filter)?;
    let queue = Arc::<LogQueue>::default();
    let target = Target::open(file.as_ref(), file_is)?;
    let logs = tracing_subscriber::fmt()
        .with_target(false)
        .with_ansi(file.is_none() && io::stderr().is_terminal())
        // It would tell of them on standard error, which may be what fails.
        .log_internal_errors(false)
        .with_writer(LinesTo(queue.clone()))
        .with_env_filter(filter)
        .with_filter_reloading();
    let handle = logs.reload_handle();
    logs.finish().with(Recent).init();
    panics::log_to(queue.clone());
    OWN.get_or_init(|| Own {
        queue: queue.clone(),
        file,
        target: Mutex::new(Some(target)),
    });
    Ok(Logs {
        replace: Box::new(move |filter| handle.reload(filter)),
        queue,
    })
}

/// Starts the thread that writes the log. It has the privileges of the thread that
/// calls: a process that gives some up does that first.
pub fn write_logs() {
    let Some(own) = OWN.get() else { return };
    let Some(target) = own.target.lock().take() else {
        return;
    };
    let queue = own.queue.clone();
    let writer = std::thread::Builder::new().name("log".to_owned());
    if let Err(error) = writer.spawn(move || queue.write_to(target)) {
        tell_user(&format!("no thread for the log: {error}"));
    }
}

/// Returns once all is written that was logged, or after a while. To be called before
/// the process ends.
pub fn flush_logs() {
    write_logs();
    if let Some(own) = OWN.get() {
        own.queue.flush(FLUSHED_WITHIN);
    }
}

/// The log file of this process; none where it logs to standard error.
pub fn log_file() -> Option<LogFileSettings> {
    OWN.get()?.file.clone()
}

/// Tells the user something on standard error, in lines. Nobody may read it, and its
/// disk may be full: neither holds the process up for long.
pub fn tell_user(text: &str) {
    flush_logs();
    let bytes = format!("{}\n", text.trim_end()).into_bytes();
    let (done, told) = std::sync::mpsc::sync_channel(1);
    let telling = std::thread::Builder::new().spawn(move || {
        let outcome = open_stderr().and_then(|mut stderr| stderr.write_all(&bytes));
        // Whoever waits may have given up.
        drop(done.send(outcome));
    });
    if telling.is_ok() {
        drop(told.recv_timeout(FLUSHED_WITHIN));
    }
}

/// A descriptor that does not share the lock of the standard library's.
fn open_stderr() -> io::Result<File> {
    Ok(File::from(rustix::io::dup(rustix::stdio::stderr())?))
}

/// Of the SDK's credentials chain only warnings, unless the filter names it: at
/// each reading it tells at length where it found what. Of the signer nothing below
/// `info`, whatever the filter says: it would show every header, and one may be a key.
fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    let all = format!("aws_config=warn,{filter},aws_sigv4=info");
    EnvFilter::try_new(all).with_context(|| format!("--log {filter:?} is no filter"))
}

#[derive(Debug)]
struct Target {
    to: To,
    /// The line before is there in part.
    is_torn: bool,
}

#[derive(Debug)]
enum To {
    Stderr(File),
    File(Box<LogFile>),
    /// It could not be opened so far.
    Missing(LogFileSettings),
}

impl Target {
    fn open(file: Option<&LogFileSettings>, file_is: LogFileIs) -> anyhow::Result<Self> {
        let to = match file {
            None => To::Stderr(open_stderr().context("there is no standard error")?),
            Some(args) => match (LogFile::open(args.clone()), file_is) {
                (Ok(file), _) => To::File(Box::new(file)),
                (Err(_), LogFileIs::Optional) => To::Missing(args.clone()),
                (Err(error), LogFileIs::Required) => {
                    let named = format!("log file {}", args.path.display());
                    return Err(error).context(named);
                }
            },
        };
        Ok(Self { to, is_torn: false })
    }

    /// Errors: the file's, which cannot be opened.
    fn find(&mut self) -> io::Result<()> {
        if let To::Missing(args) = &self.to {
            self.to = To::File(Box::new(LogFile::open(args.clone())?));
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
