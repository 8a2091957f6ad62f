//! `mediafs unmount`.

use std::path::Path;
use std::time::Instant;

use anyhow::{bail, ensure};
use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::drain::drain;
use super::flush::missing;
use super::left_below::{LeftBelow, uncovered};
use super::materialize::MaterializeArgs;
use super::mounts::{FoundMount, SAYS_WITHIN, SocketArg, Wait, as_json};
use super::shown::{counted, outln, plain, span};
use super::silence::{self, SilentMount};
use super::status_overlay::overlay_left;
use super::stop::stop;
use crate::config::Period;
use crate::session::control::answers::Status;
use crate::write_path::SpoolView;

/// Send everything to S3, then unmount
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
        if self.was_replaced()? {
            return Ok(());
        }
        let found = self.at.named(&self.mount, Wait::ForASuccessor);
        let mount = silence::print_error_object(self.json, found)?;
        if let Some(materialize) = self.materialize.of(&mount, self.timeout.0)? {
            let status: Status = mount.ask(Method::GET, "/status", &(), SAYS_WITHIN)?;
            materialize.run(&status)?;
            return stop(&mount, &status, None);
        }
        let began = Instant::now();
        let by = began + self.timeout.0;
        let flushed = silence::print_error_object(self.json, drain(&mount, by))?;
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
        let status: Status = silence::print_error_object(self.json, status)?;
        let spool = Path::new(&status.spool.dir);
        let kept_before = kept_in(spool);
        let left_below = LeftBelow::of(&status);
        let directory = left_below.directory();
        silence::print_error_object(self.json, stop(&mount, &status, Some(by)))?;
        if let Some(directory) = directory {
            left_below.forget();
            uncovered(&directory, &mount.health.mountpoint)?;
        }
        let kept = kept_in(spool).saturating_sub(kept_before);
        self.report(&mount, &status, (kept_before, kept))
    }

    /// Finishes what a command that was killed at its end has left, where the directory is
    /// in the mount's place already. Returns whether it is.
    fn was_replaced(&self) -> anyhow::Result<bool> {
        let Some(taken) = self.materialize.taken_before(&self.mount) else {
            return Ok(false);
        };
        match self.at.named(&self.mount, Wait::No) {
            Ok(mount) if taken.is_found(&mount) => {
                let status: Status = mount.ask(Method::GET, "/status", &(), SAYS_WITHIN)?;
                LeftBelow::of(&status).forget();
                stop(&mount, &status, None)?;
            }
            // It is there by somebody's mount(8), and lacks what this one has.
            Ok(_) => return Ok(false),
            Err(error) => match error.downcast_ref::<SilentMount>() {
                Some(silent) if !silent.is_left_behind => return Ok(false),
                _ => {}
            },
        }
        taken.tell()?;
        Ok(true)
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
                "{old} has files that S3 lacks ({left}): the next mount with --overlay {old} goes on"
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
}

/// How many files lost+found has. Its daemon may have removed the spool.
fn kept_in(spool: &Path) -> usize {
    let kept = SpoolView::at(spool).and_then(|view| view.last_kept(0));
    kept.map_or(0, |(kept, _)| kept)
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
