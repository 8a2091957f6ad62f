//! `mediafs unmount --materialize`: a directory with the mount's files takes its place.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use hyper::Method;

use super::daemonize;
use super::flush::missing;
use super::left_below::LeftBelow;
use super::migrate_args::Usage;
use super::migrate_shown::{self, Console};
use super::mounts::{FoundMount, SAYS_WITHIN};
use super::shown::{outln, plain, plain_lines};
use super::spelling::spellings;
use super::status_overlay::overlay_left;
use crate::config::{Config, ConfigSource, Options, Target};
use crate::migrate::{
    Comparison, Extra, Force, Job, Line, MoveSettings, Odd, OddPolicies, OddPolicy, Operator,
    Outcome, Refused, Report, Selection, Source, Summary, Symlinks, export, resolved,
};
use crate::session::control::answers::Status;
use crate::session::control::commands::{BarrierEnd, EndBarrier, Held, HoldRequest};
use crate::session::control::place::named;
use crate::session::{Attachable, Replaced, TakenPlace, is_seen_at, places_of, take_place};

/// Exports before the barrier of what other clients change meanwhile.
const EXPORTS_LIMIT: usize = 3;

#[derive(Debug, Args)]
pub struct MaterializeArgs {
    /// Copy all files to DIR, which then takes the mount's place: 'mediafs help migrate'
    #[arg(long, value_name = "DIR", conflicts_with_all = ["leave_in_spool", "json"])]
    materialize: Option<PathBuf>,
    /// Do not ask before files are copied
    #[arg(long, short, requires = "materialize")]
    yes: bool,
    /// Delete files of DIR that the mount does not have
    #[arg(long, requires = "materialize")]
    delete: bool,
    /// Delete also more than half of the files of DIR
    #[arg(long, requires = "delete")]
    force: bool,
}

/// A directory that is to take the place of a mount.
pub struct Materialize<'a> {
    mount: &'a FoundMount,
    attachable: Attachable,
    config: Config,
    directory: PathBuf,
    args: &'a MaterializeArgs,
    /// How long changes may be held.
    within: Duration,
}

/// A directory that is in the place of a mount.
pub struct TakenBefore {
    directory: PathBuf,
    mountpoint: PathBuf,
}

impl TakenBefore {
    /// Whether a mount knows of it: all that it has is there.
    pub fn is_found(&self, mount: &FoundMount) -> bool {
        let found = EndBarrier {
            number: 0,
            how: BarrierEnd::Found,
        };
        let asked = mount.ask::<()>(Method::POST, "/release", &found, SAYS_WITHIN);
        asked.is_ok()
    }

    /// Errors: the output's.
    pub fn tell(&self) -> io::Result<()> {
        let (mountpoint, directory) = (self.mountpoint.display(), self.directory.display());
        let text = format!(
            "{mountpoint}: {directory} is there already, and the mount is not there any more"
        );
        outln!("{}", plain(&text))
    }
}

impl MaterializeArgs {
    /// The directory, where it is seen at the mountpoint by now: an earlier run has put it
    /// there. None where `mount` is a name that does not tell where.
    pub fn taken_before(&self, mount: &str) -> Option<TakenBefore> {
        let folder = daemonize::folder();
        let directory = resolved(&folder.join(self.materialize.as_ref()?));
        let named = named().into_iter().map(|(named, _)| named);
        let mut named = named.filter(|it| it.name == mount);
        let mountpoint = match named.next() {
            Some(named) => named.mountpoint?,
            None => folder.join(mount),
        };
        // Nobody may answer there: it is not looked at.
        let mountpoint = spellings(&mountpoint).ok()?.pop()?;
        let is_there = directory != mountpoint
            && is_seen_at(&directory, &mountpoint).is_ok_and(|is_there| is_there);
        is_there.then_some(TakenBefore {
            directory,
            mountpoint,
        })
    }

    /// None where it is not asked for. Errors: what keeps it from being done.
    pub fn of<'a>(
        &'a self,
        mount: &'a FoundMount,
        within: Duration,
    ) -> anyhow::Result<Option<Materialize<'a>>> {
        let Some(directory) = &self.materialize else {
            return Ok(None);
        };
        ensure!(
            rustix::process::geteuid().is_root(),
            "--materialize mounts DIR in the mount's place: run it as root"
        );
        let folder = daemonize::folder();
        let directory = resolved(&folder.join(directory));
        let mountpoint = Path::new(&mount.health.mountpoint);
        if directory.starts_with(mountpoint) || mountpoint.starts_with(&directory) {
            let why = "--materialize needs a directory that is not in the mount, nor above it";
            return Err(Usage(why.to_owned()).into());
        }
        ensure!(
            mount.is_trusted(),
            "{}: --materialize uses the mount's settings; this is another user's mount",
            mountpoint.display()
        );
        let attachable = Attachable::at(mountpoint)?;
        if let Err(error) = places_of(&attachable.entry) {
            let why = "the mount is seen elsewhere too, where DIR cannot take its place";
            return Err(Refused(format!("{why}: {error}")).into());
        }
        let options: Options = mount.ask(Method::GET, "/settings", &(), SAYS_WITHIN)?;
        let config = ConfigSource::new(Target::FromFile, None, options, folder)?.load()?;
        Ok(Some(Materialize {
            mount,
            attachable,
            config,
            directory,
            args: self,
            within,
        }))
    }
}

impl Materialize<'_> {
    /// Brings everything, and has DIR seen in the mount's place. The mount serves
    /// nobody any more then but who has its files open.
    ///
    /// Errors: DIR does not have everything, and the mount goes on.
    pub fn run(&self, status: &Status) -> anyhow::Result<()> {
        self.check_overlay(status)?;
        let goes_on = || {
            format!(
                "{} serves as before; to continue, run the same command again",
                self.mount.health.mountpoint
            )
        };
        self.bring_beforehand().with_context(goes_on)?;
        let (number, began) = (self.hold().with_context(goes_on)?, Instant::now());
        match self.replace(status, number) {
            Ok(place) => {
                if let Err(error) = self.end_barrier(number, BarrierEnd::Replaced) {
                    return Err(self.give_back(place, number, error));
                }
                self.tell(&place, began.elapsed())?;
                Ok(())
            }
            Err(error) => {
                if let Err(error) = self.end_barrier(number, BarrierEnd::Lift) {
                    tracing::debug!(%error, "the barrier was over");
                }
                Err(error.context(goes_on()))
            }
        }
    }

    /// Errors: what an old directory alone has would be missing in DIR.
    fn check_overlay(&self, status: &Status) -> anyhow::Result<()> {
        let Some(overlay) = &status.overlay else {
            return Ok(());
        };
        let Some(left) = overlay_left(overlay) else {
            return Ok(());
        };
        let (mountpoint, old) = (&self.mount.health.mountpoint, &overlay.dir);
        Err(Refused(format!(
            "{mountpoint}: {old} has files that the bucket lacks ({left}): wait until 'mediafs status {mountpoint}' says that {old} is not needed any more"
        ))
        .into())
    }

    /// What waited has gone on in the mount, and DIR does not have it.
    fn give_back(&self, place: TakenPlace, number: u64, why: anyhow::Error) -> anyhow::Error {
        let mountpoint = &self.mount.health.mountpoint;
        let directory = self.directory.display();
        // One that is taken away ends: its daemon serves what is still open.
        if place.replaced == Replaced::Detached || place.uncover().is_err() {
            return why.context(format!(
                "{directory} is on {mountpoint}, but may lack the last changes, which S3 has: run 'mediafs verify'"
            ));
        }
        if let Err(error) = self.end_barrier(number, BarrierEnd::Lift) {
            tracing::debug!(%error, "the barrier was over");
        }
        why.context(format!(
            "{mountpoint} is the mount again; the last changes of programs may be in {directory} alone"
        ))
    }

    /// Brings what there is while the mount serves, so that little is left. What programs
    /// change meanwhile is left to the end.
    fn bring_beforehand(&self) -> anyhow::Result<()> {
        let console: Arc<dyn Operator> = Arc::new(Console::new(self.args.yes));
        let mut settings = self.settings();
        if !self.args.delete {
            settings.extra = Extra::Keep;
        }
        for attempt in 1.. {
            let summary = self.export(&settings, &console, |_| {})?;
            if summary.outcome != Outcome::SomeFailed {
                return check(&summary);
            }
            if attempt == EXPORTS_LIMIT {
                ensure!(
                    summary.counts.fetched.names > 0,
                    "{} files could not be copied: 'mediafs export' names them",
                    summary.counts.errors.names
                );
                return Ok(());
            }
            // What was brought before may have gone in the mount since.
            settings = MoveSettings {
                force: Force::Yes,
                ..self.settings()
            };
        }
        Ok(())
    }

    fn settings(&self) -> MoveSettings {
        MoveSettings {
            extra: Extra::Delete,
            force: match self.args.force {
                true => Force::Yes,
                false => Force::No,
            },
            dry_run: false,
            bandwidth: None,
            manifest: None,
        }
    }

    /// Holds changes back once S3 has everything. Errors: who keeps it from that.
    fn hold(&self) -> anyhow::Result<u64> {
        let within_ms = u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX);
        let request = HoldRequest { within_ms };
        let within = self.within.saturating_add(SAYS_WITHIN);
        let held: Held = self.mount.ask(Method::POST, "/barrier", &request, within)?;
        if held.held {
            return Ok(held.number);
        }
        let span = humantime::format_duration(self.within);
        let mut text = format!("the mount was not idle within {span}");
        for opener in &held.writers {
            let path = plain(&opener.path);
            let process = opener.process();
            text.push_str(&format!("\n  {process} has {path} open for writing"));
        }
        if let Some(unsent) = &held.unsent {
            text.push_str(&format!("\n{}", missing(unsent)));
        }
        bail!("{text}")
    }

    /// Brings the last difference, and puts DIR in the mount's place.
    fn replace(&self, status: &Status, number: u64) -> anyhow::Result<TakenPlace> {
        let settings = MoveSettings {
            force: Force::Yes,
            ..self.settings()
        };
        let console: Arc<dyn Operator> = Arc::new(Console::new(true));
        check(&self.export(&settings, &console, migrate_shown::line)?)?;
        let attributes = &self.config.attributes;
        let given = chown(&self.directory, Some(attributes.uid), Some(attributes.gid));
        let mode = Permissions::from_mode(u32::from(attributes.dir_mode));
        let given = given.and_then(|()| fs::set_permissions(&self.directory, mode));
        given.with_context(|| format!("cannot set the owner of {}", self.directory.display()))?;
        self.end_barrier(number, BarrierEnd::Replacing)?;
        let note = LeftBelow::of(status);
        let noted = note.note(&self.directory);
        noted.with_context(|| format!("cannot write to {}", status.spool.dir))?;
        let place = take_place(&self.attachable, &self.directory);
        note.forget();
        place.with_context(|| format!("cannot mount {}", self.directory.display()))
    }

    fn end_barrier(&self, number: u64, how: BarrierEnd) -> anyhow::Result<()> {
        let request = EndBarrier { number, how };
        self.mount
            .ask(Method::POST, "/release", &request, SAYS_WITHIN)
    }

    fn export(
        &self,
        settings: &MoveSettings,
        console: &Arc<dyn Operator>,
        tell: impl Fn(&Line) + Send + Sync + 'static,
    ) -> anyhow::Result<Summary> {
        let selection = Selection::default();
        let job = Job {
            config: &self.config,
            directory: &self.directory,
            source: Source::Directory,
            selection: &selection,
            // Those that the mount shows, wherever they lead.
            symlinks: Symlinks::Everywhere,
            odd: OddPolicies::of_names(OddPolicy::Skip),
            comparison: Comparison::Checksums,
            allow_empty: true,
            allow_unmounted: false,
            operator: console,
        };
        let report = Report::new(None, Box::new(tell));
        export(job, settings, report)?.context("interrupted")
    }

    fn tell(&self, place: &TakenPlace, held: Duration) -> io::Result<()> {
        let mountpoint = &self.mount.health.mountpoint;
        let directory = self.directory.display();
        let held = humantime::format_duration(Duration::from_millis(
            u64::try_from(held.as_millis()).unwrap_or(u64::MAX),
        ));
        let mut text = format!(
            "{mountpoint}: {directory} is there now, with everything; changes waited for {held}
what is open in the mount stays there until it is closed; S3 keeps all objects
for the next start of the machine, in /etc/fstab in place of the mount's line:
  {directory} {mountpoint} none bind,nosuid,nodev 0 0"
        );
        for other in &place.others {
            text.push_str(&format!("\n{directory} is there too: {other}"));
        }
        if !place.left.is_nowhere() {
            let left = &place.left;
            text.push_str(&format!("\nthe old mount is still there, and ends: {left}"));
        }
        if place.replaced == Replaced::Covered {
            text.push_str("\nthe old mount lies below it until the next start of the machine");
        }
        outln!("{}", plain_lines(&text))
    }
}

/// Errors: an export that has not brought everything that a mount shows.
fn check(summary: &Summary) -> anyhow::Result<()> {
    let counts = &summary.counts;
    // A mount shows the directory of an object's name in its place: such objects are named,
    // and stay in the bucket alone.
    let beside = counts.odd.get(&Odd::BesideDirectory).copied();
    let is_all_shown =
        counts.different.names == 0 && counts.errors.names <= beside.unwrap_or_default();
    let more = counts.only_here.names;
    match summary.outcome {
        Outcome::Equal => Ok(()),
        Outcome::Differences if is_all_shown && more == 0 => Ok(()),
        Outcome::Differences if is_all_shown => bail!(
            "{more} files that the mount does not have are left: some listed keys cannot be read"
        ),
        Outcome::Declined => Err(Refused("the plan was not approved".to_owned()).into()),
        _ => bail!("not everything could be copied"),
    }
}
