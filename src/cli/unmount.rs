//! `mediafs unmount`.

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::flush::{flush, missing};
use super::left_below::{LeftBelow, take_away};
use super::materialize::MaterializeArgs;
use super::mounts::{FoundMount, SAYS_WITHIN, SocketArg, Wait, as_json};
use super::shown::{counted, outln, plain, size, span};
use super::silence;
use super::status_overlay::overlay_left;
use crate::config::Period;
use crate::session::control::answers::Status;
use crate::session::control::client::{AskError, ask_within};
use crate::session::control::commands::{Flushed, StopWithin, Unmounting};
use crate::session::{FS_TYPE, elsewhere, mount_at, systemctl};
use crate::write_path::SpoolView;

/// Between two lines of progress that is no terminal's.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// A look at what is missing takes as long.
const STEP: Duration = Duration::from_secs(1);
const POLL_EVERY: Duration = Duration::from_millis(50);
/// A file system that nobody else has ends sooner after its unmount.
const TOLD_ELSEWHERE_AFTER: Duration = Duration::from_secs(1);
/// An end takes its drain timeout, and this.
const END_RESERVE: Duration = Duration::from_secs(30);
/// Calls under way have that long in any case.
const END_LEAST: Duration = Duration::from_secs(1);
/// Daemons of a mount that are killed while they end.
const END_TRIES: usize = 3;

/// Bring everything to S3, then unmount
///
/// Says what is still to be sent. With S3 down it lists that and where its bytes are,
/// leaves the mount as it is and ends with 1; with --leave-in-spool it unmounts all the
/// same, and the next mount of the same place sends what programs have closed.
#[derive(Debug, Args)]
pub struct UnmountCommand {
    /// Name or mountpoint
    #[arg(value_name = "NAME|MOUNTPOINT")]
    mount: String,
    /// Unmount also with files that S3 does not have
    #[arg(long)]
    leave_in_spool: bool,
    /// Print a JSON object, also of what is missing in S3
    #[arg(long)]
    json: bool,
    /// How long to wait for S3 and for open files; with --materialize, how long changes may wait at most
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: Period,
    #[command(flatten)]
    materialize: MaterializeArgs,
    #[command(flatten)]
    at: SocketArg,
}

impl UnmountCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let found = self.at.named(&self.mount, Wait::ForASuccessor);
        let mount = silence::told_to_programs(self.json, found)?;
        if let Some(materialize) = self.materialize.of(&mount, self.timeout.0)? {
            let status: Status = mount.ask(Method::GET, "/status", &(), SAYS_WITHIN)?;
            materialize.run(&status)?;
            return stop(&mount, &status, None);
        }
        let began = Instant::now();
        let by = began + self.timeout.0;
        let flushed = silence::told_to_programs(self.json, self.drain(&mount, by))?;
        if !flushed.done && !self.leave_in_spool {
            if self.json {
                outln!(
                    "{:#}",
                    outcome(as_json(&mount, &flushed)?, MountState::Mounted)
                )?;
            }
            bail!(
                "{} is still mounted after {}: {}\nunmount it all the same with --leave-in-spool: the next mount of the same place sends what programs have closed",
                mount.health.mountpoint,
                span(began.elapsed().as_secs()),
                missing(&flushed)
            );
        }
        let status = mount.ask(Method::GET, "/status", &(), SAYS_WITHIN);
        let status: Status = silence::told_to_programs(self.json, status)?;
        let spool = Path::new(&status.spool.dir);
        let kept_before = kept_in(spool);
        let left_below = LeftBelow::of(&status);
        let directory = left_below.directory();
        silence::told_to_programs(self.json, stop(&mount, &status, Some(by)))?;
        if let Some(directory) = directory {
            left_below.forget();
            uncovered(&directory, &mount.health.mountpoint)?;
        }
        let kept = kept_in(spool).saturating_sub(kept_before);
        self.report(&mount, &status, (kept_before, kept))
    }

    /// What was written between the drain and the end, and what was left on purpose;
    /// how many files were in lost+found before, and how many that were not closed were
    /// kept there since.
    fn report(
        &self,
        mount: &FoundMount,
        status: &Status,
        (kept_before, kept): (usize, usize),
    ) -> anyhow::Result<()> {
        let mountpoint = plain(&mount.health.mountpoint);
        let spool = Path::new(&status.spool.dir);
        let overlay = status.overlay.as_ref().filter(|it| !it.import.is_ended);
        let pending = match SpoolView::at(spool) {
            Ok(view) => Some(view.pending()?).filter(|pending| !pending.is_nothing()),
            // Its daemon has removed it, or another has it already.
            Err(_) => None,
        };
        let left = pending.map(|pending| pending.to_string());
        if self.json {
            let done = left.is_none() && kept == 0 && overlay.is_none();
            let object = json!({"done": done, "left": left, "lost_found": kept, "spool": spool, "overlay": overlay});
            outln!(
                "{:#}",
                outcome(as_json(mount, &object)?, MountState::Unmounted)
            )?;
        } else if let Some(left) = left {
            outln!(
                "{mountpoint}: unmounted; not sent, and left in {}: {left}",
                spool.display()
            )?;
        } else if kept == 0 {
            let what = match overlay {
                Some(_) => "everything that was written to the mount",
                None => "everything",
            };
            outln!("{mountpoint}: unmounted; S3 has {what}")?;
        } else {
            outln!("{mountpoint}: unmounted; S3 has everything that was closed")?;
        }
        if kept_before > 0 {
            eprintln!(
                "{} not sent earlier, and kept in {}/lost+found: 'mediafs spool list'",
                counted(kept_before, "file"),
                plain(&status.spool.dir)
            );
        }
        if let Some((overlay, left)) = overlay.and_then(|it| Some((it, overlay_left(it)?))) {
            let old = plain(&overlay.dir);
            eprintln!(
                "S3 does not have yet what {old} has ({left}): the next mount with --overlay {old} goes on"
            );
        }
        ensure!(
            kept == 0,
            "{} that a program had not closed: the bytes are in {}/lost+found, and no mount sends them: 'mediafs spool list'",
            counted(kept, "file"),
            spool.display()
        );
        Ok(())
    }

    /// Waits until all is sent, or the time is over; says how far it is.
    fn drain(&self, mount: &FoundMount, deadline: Instant) -> anyhow::Result<Flushed> {
        let mut progress = Progress::default();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let flushed = flush(mount, "", STEP.min(left))?;
            let is_over = flushed.done || left.is_zero() || !flushed.lost.is_empty();
            if is_over {
                progress.end();
                return Ok(flushed);
            }
            progress.tell(&flushed);
        }
    }
}

/// Whoever looks at the mountpoint is not to see what a directory was before.
fn uncovered(directory: &Path, mountpoint: &str) -> anyhow::Result<()> {
    let shown = directory.display();
    let was_there = take_away(directory, Path::new(mountpoint)).with_context(|| {
        format!("{mountpoint}: {shown} is there, which lacks the last changes: 'umount {mountpoint}' takes it away")
    })?;
    if was_there {
        let told = format!(
            "{mountpoint}: {shown} had been left below the mount by an 'unmount --materialize' that was killed: taken away"
        );
        eprintln!("{}", plain(&told));
    }
    Ok(())
}

/// How many files lost+found has. Its daemon may have removed the spool.
fn kept_in(spool: &Path) -> usize {
    let kept = SpoolView::at(spool).and_then(|view| view.last_kept(0));
    kept.map_or(0, |(kept, _)| kept)
}

/// A line that is written over on a terminal, and a line now and then elsewhere.
#[derive(Debug, Default)]
struct Progress {
    told_at: Option<Instant>,
}

impl Progress {
    fn tell(&mut self, flushed: &Flushed) {
        let unsent = &flushed.unsent;
        let all = [unsent.dirty, unsent.queued, unsent.uploading];
        let files: usize = all.iter().map(|it| it.files).sum();
        let bytes = all.iter().map(|it| it.bytes).sum();
        let files = counted(files, "file");
        let deletes = counted(flushed.deletes_waiting, "delete");
        let line = format!("still to be sent: {files} ({}), {deletes}", size(bytes));
        if stderr().is_terminal() {
            eprint!("\r\u{1b}[K{line}");
            // Nobody may read it.
            drop(stderr().flush());
        } else if self.told_at.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            eprintln!("{line}");
        } else {
            return;
        }
        self.told_at = Some(Instant::now());
    }

    fn end(&self) {
        if self.told_at.is_some() && stderr().is_terminal() {
            eprint!("\r\u{1b}[K");
        }
    }
}

/// Ends the daemon; `by` is when it has to be over, if sooner than its drain timeout.
fn stop(mount: &FoundMount, status: &Status, by: Option<Instant>) -> anyhow::Result<()> {
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
        eprintln!("who had files open until then has lost the mount");
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
    let answer = ask_within::<crate::session::control::answers::Health>(
        &mount.socket,
        asked,
        &(),
        SAYS_WITHIN,
    );
    match answer {
        Ok(health) => health.pid == pid,
        Err(AskError::Dead | AskError::Refused) => false,
        Err(_) => Path::new(&format!("/proc/{pid}")).exists(),
    }
}

/// What has become of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MountState {
    Mounted,
    Unmounted,
}

fn outcome(mut object: Value, state: MountState) -> Value {
    if let Some(fields) = object.as_object_mut() {
        let unmounted = state == MountState::Unmounted;
        fields.insert("unmounted".to_owned(), unmounted.into());
    }
    object
}
