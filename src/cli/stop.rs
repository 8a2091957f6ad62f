//! How the daemon of a mount is ended, and who is told to wait for that.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use hyper::Method;

use super::mounts::{FoundMount, SAYS_WITHIN};
use super::shown::{plain, span};
use crate::session::control::answers::{Health, Status};
use crate::session::control::client::{AskError, ask_within};
use crate::session::control::commands::{StopWithin, Unmounting};
use crate::session::{FS_TYPE, elsewhere, mount_at, systemctl};

const POLL_EVERY: Duration = Duration::from_millis(50);
/// A file system that nobody else has ends sooner after its unmount.
const TOLD_ELSEWHERE_AFTER: Duration = Duration::from_secs(1);
/// An end takes its drain timeout, and this.
const END_RESERVE: Duration = Duration::from_secs(30);
/// Calls under way have that long in any case.
const END_LEAST: Duration = Duration::from_secs(1);
/// Daemons of a mount that are killed while they end.
const END_TRIES: usize = 3;

/// Ends the daemon; `by` is when it has to be over, if sooner than its drain timeout.
pub fn stop(mount: &FoundMount, status: &Status, by: Option<Instant>) -> anyhow::Result<()> {
    let within = by.and_then(|by| announce(mount, by));
    match status.unit.as_ref().filter(|_| mount.is_trusted()) {
        // systemd would start a daemon again that ends by itself.
        Some(unit) => systemctl::run(&["stop", "--", unit]),
        None => end(mount, within),
    }
}

/// Tells the daemon how long its end may take. None of one that is older than this program,
/// which takes as long as it was mounted to.
fn announce(mount: &FoundMount, by: Instant) -> Option<Duration> {
    let left = by.saturating_duration_since(Instant::now());
    let within = left.max(END_LEAST);
    let asked = StopWithin {
        within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
    };
    let told = mount.ask::<()>(Method::POST, "/stop-within", &asked, SAYS_WITHIN);
    told.is_ok().then_some(within)
}

/// Has the daemon end, or its successor where it is killed meanwhile, and waits for it.
fn end(mount: &FoundMount, within: Option<Duration>) -> anyhow::Result<()> {
    for _ in 0..END_TRIES {
        end_one(mount, within)?;
        let there = mount_at(Path::new(&mount.health.mountpoint))?;
        if there.is_none_or(|there| there.fs_type != FS_TYPE) {
            return Ok(());
        }
    }
    bail!(
        "{} is still mounted: its daemon was replaced while it ended",
        mount.health.mountpoint
    )
}

fn end_one(mount: &FoundMount, within: Option<Duration>) -> anyhow::Result<()> {
    // As it is while it is mounted.
    let mut others = Others::of(mount);
    let ending: Unmounting = mount.ask(Method::POST, "/unmount", &(), SAYS_WITHIN)?;
    let drain = Duration::from_secs(ending.drain_timeout_seconds);
    let drain = within.map_or(drain, |within| within.min(drain));
    let at_most = span(drain.as_secs().max(1));
    for opener in &ending.openers {
        let path = plain(&opener.path);
        let process = opener.process();
        eprintln!("{process} has {path} open: waiting for it, for at most {at_most}");
    }
    let began = Instant::now();
    let deadline = began + drain + END_RESERVE;
    while is_there(mount, ending.pid) {
        others.tell();
        ensure!(
            Instant::now() < deadline,
            "{} has not ended: see its log",
            mount.health.mountpoint
        );
        std::thread::sleep(POLL_EVERY);
    }
    if !ending.openers.is_empty() && began.elapsed() >= drain {
        eprintln!("programs with open files have lost the mount");
    }
    Ok(())
}

/// Mounts of the same file system in containers, which outlive the host's.
struct Others {
    mountpoint: PathBuf,
    /// None once they have been told.
    device: Option<String>,
    unmounted_at: Option<Instant>,
}

impl Others {
    fn of(mount: &FoundMount) -> Self {
        let mountpoint = PathBuf::from(&mount.health.mountpoint);
        let there = mount_at(&mountpoint).ok().flatten();
        Self {
            device: there.map(|it| it.device),
            mountpoint,
            unmounted_at: None,
        }
    }

    /// Says once where it still is, a moment after it is gone here.
    fn tell(&mut self) {
        let Some(device) = &self.device else { return };
        let there = mount_at(&self.mountpoint).ok().flatten();
        if there.is_some_and(|it| it.device == *device) {
            return;
        }
        let since = *self.unmounted_at.get_or_insert_with(Instant::now);
        if since.elapsed() < TOLD_ELSEWHERE_AFTER {
            return;
        }
        let others = elsewhere(device);
        if !others.is_nowhere() {
            let mountpoint = self.mountpoint.display();
            let told = format!(
                "{mountpoint}: unmounted here, and still in use, for at most the drain timeout: {others}"
            );
            eprintln!("{}", plain(&told));
        }
        self.device = None;
    }
}

/// Whether the same daemon still listens.
fn is_there(mount: &FoundMount, pid: u32) -> bool {
    let asked = (Method::GET, "/health");
    let answer = ask_within::<Health>(&mount.socket, asked, &(), SAYS_WITHIN);
    match answer {
        Ok(health) => health.pid == pid,
        Err(AskError::Dead | AskError::Refused) => false,
        Err(_) => Path::new(&format!("/proc/{pid}")).exists(),
    }
}
