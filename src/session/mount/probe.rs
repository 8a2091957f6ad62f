//! Whether a mount answers, asked by a process that nobody has to wait for: its
//! daemon may hang, and then neither an answer comes nor does a signal end the asking.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// A daemon answers a statfs by itself, without S3.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(5);
const PROGRAM: &str = "/proc/self/exe";

/// What a question to a mount comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Serves,
    /// Its connection has ended: every call is ENOTCONN.
    Dead,
    /// Nobody answers in time.
    Silent,
}

/// Asks. Errors: there is no process to ask with.
pub fn ask(mountpoint: &Path) -> io::Result<Answer> {
    ask_within(mountpoint, ANSWERS_WITHIN)
}

/// The same, for somebody who waits no longer than that.
pub fn ask_within(mountpoint: &Path, within: Duration) -> io::Result<Answer> {
    let mut command = Command::new(PROGRAM);
    command.arg("probe").arg(mountpoint).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut asking = command.stderr(Stdio::null()).current_dir("/").spawn()?;
    let began = Instant::now();
    while began.elapsed() < within {
        if let Some(status) = asking.try_wait()? {
            return Ok(match status.code() {
                Some(errno) if errno == Errno::NOTCONN.raw_os_error() => Answer::Dead,
                _ => Answer::Serves,
            });
        }
        std::thread::sleep(POLL_EVERY);
    }
    // It ends when it can.
    asking.kill()?;
    Ok(Answer::Silent)
}

/// The process that asks: the errno of a statfs, 0 for none. The kernel keeps no answer to
/// it, as it does to a stat. Source: fuse_statfs() of the kernel.
pub fn probe(mountpoint: &Path) -> u8 {
    let errno = rustix::fs::statfs(mountpoint)
        .err()
        .map(Errno::raw_os_error);
    u8::try_from(errno.unwrap_or(0)).unwrap_or(u8::MAX)
}
