//! What is asked of a mount beside its status, and what comes of it.

use serde::{Deserialize, Serialize};

use super::answers::{Lost, Uploads};

/// `GET /log` and `POST /log`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogFilter {
    /// As `--log` takes it.
    pub filter: String,
    /// Why a successor will not use it.
    #[serde(default)]
    pub unkept: Option<String>,
}

/// `POST /flush`, `POST /refresh`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathRequest {
    /// Below the mountpoint; all of the mount where it is missing or empty.
    #[serde(default)]
    pub path: String,
    /// How long a flush waits.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// What a flush came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flushed {
    /// S3 has all of it.
    pub done: bool,
    /// Why not.
    pub reasons: Vec<String>,
    pub unsent: Uploads,
    pub deletes_waiting: usize,
    /// Those that went to lost+found meanwhile.
    pub lost: Vec<Lost>,
    pub spool: String,
}

/// What a refresh came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refreshed {
    /// Files and directories that are asked for again.
    pub forgotten: usize,
    /// Where it cannot be told, what the kernel knows ends with `--ttl`.
    pub kernel_told: bool,
}

/// What `POST /unmount` begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unmounting {
    pub pid: u32,
    pub spool: String,
    /// How long it may wait for them, and for S3.
    pub drain_timeout_seconds: u64,
    /// Who has files of it open; the unmount waits for them.
    pub openers: Vec<Opener>,
}

/// `POST /stop-within`, before an unmount or a stop of the service: its drain takes no longer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopWithin {
    pub within_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Opener {
    /// 0 where it could not be told.
    pub pid: u32,
    /// Below the mountpoint.
    pub path: String,
}

impl Opener {
    pub fn process(&self) -> String {
        match self.pid {
            0 => "a process that the daemon cannot see".to_owned(),
            pid => format!("process {pid}"),
        }
    }
}

impl From<crate::ops::Opener> for Opener {
    fn from(opener: crate::ops::Opener) -> Self {
        Self {
            pid: opener.pid,
            path: opener.path,
        }
    }
}

/// `POST /barrier`: calls that change something by a path wait from now on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Then they go on in any case.
    pub within_ms: u64,
}

/// Once nobody has a file open for writing, and S3 has everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Held {
    /// Whether it came to that: if not, the calls go on.
    pub held: bool,
    /// Names the barrier.
    pub number: u64,
    /// Who has files open for writing.
    pub writers: Vec<Opener>,
    /// What S3 does not have.
    pub unsent: Option<Flushed>,
}

/// `POST /release`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndBarrier {
    pub number: u64,
    pub how: BarrierEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BarrierEnd {
    /// The calls go on.
    Lift,
    /// It holds for a moment longer, while another directory takes the mount's place.
    Replacing,
    /// Another directory is in the mount's place, and who put it there was killed: of
    /// whichever barrier there is.
    Found,
    /// The calls go to what is in the mount's place.
    Replaced,
}

/// What a reload came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Settings that hold from now on.
    pub changed: Vec<String>,
    /// Settings that take a new mount.
    pub waiting: Vec<String>,
}
