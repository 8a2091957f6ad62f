//! What an operator most likely does not want, refused before anything is asked of S3.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::connect::Bucket;
use super::job::{Job, Source};
use super::operator::Asking;
use super::plan::Plan;
use super::plan_counts::PlanCounts;
use super::report::Report;
use super::walk::open_root;
use crate::config::Config;
use crate::session::{BareDirectory, MountEntry, mounts_of};

/// Where the mounts of a system are written, and the variable that libmount knows for another.
const FSTAB: (&str, &str) = ("LIBMOUNT_FSTAB", "/etc/fstab");
/// Where units of mounts are written, beside those that fstab makes.
const UNITS: &str = "/etc/systemd/system";
/// Of a mount of ours.
const FS_TYPE: &str = "fuse.mediafs";

/// A guard refused the job.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Opens a directory that files are taken from.
///
/// Errors: it is not there; `Refused` where something else should be mounted there.
pub fn source(job: &Job<'_>) -> anyhow::Result<OwnedFd> {
    let directory = job.directory;
    let root = match job.source {
        Source::Directory => open_root(directory),
        Source::Hidden => BareDirectory::open(directory).map(BareDirectory::into_fd),
    };
    let root = root.with_context(|| match job.source {
        Source::Directory => format!("cannot read {}", directory.display()),
        Source::Hidden => format!("cannot look under the mount on {}", directory.display()),
    })?;
    if job.allow_unmounted {
        return Ok(root);
    }
    let mounts = mounts_of("self").unwrap_or_default();
    match not_mounted(&mounts, mounts_wanted(), directory) {
        None => Ok(root),
        Some(wanted) => Err(Refused(format!(
            "{} is not mounted, though /etc/fstab or a unit of systemd says that it should be: mount it first, or --allow-unmounted",
            wanted.display()
        ))
        .into()),
    }
}

/// A mount that should be there and is not, on the directory, above or below it.
fn not_mounted(mounts: &[MountEntry], wanted: Vec<PathBuf>, directory: &Path) -> Option<PathBuf> {
    let is_mounted = |path: &Path| mounts.iter().any(|entry| entry.mountpoint == path);
    let mut missing = wanted.into_iter().filter(|path| !is_mounted(path));
    missing.find(|path| {
        let place = resolved(path);
        let is_part = directory.starts_with(&place) || place.starts_with(directory);
        is_part && !is_mounted(&place)
    })
}

/// Where a path leads through symlinks, as far as it is there.
pub fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for above in path.ancestors() {
        if let (Ok(there), Ok(rest)) = (fs::canonicalize(above), path.strip_prefix(above)) {
            // An empty rest would put a slash behind the name of a file.
            return match rest.as_os_str().is_empty() {
                true => there,
                false => there.join(rest),
            };
        }
    }
    path
}

/// Where a file or folder lies that a run writes to, which is not to be in the directory:
/// it would be moved as data.
pub fn outside(directory: &Path, what: &str, path: &Path) -> Result<PathBuf, Refused> {
    let place = resolved(path);
    if !place.starts_with(directory) {
        return Ok(place);
    }
    Err(Refused(format!(
        "{what} {} lies in {}, whose files take part: choose another place for it",
        path.display(),
        directory.display()
    )))
}

/// Mountpoints that should be mounted once the system is up.
fn mounts_wanted() -> Vec<PathBuf> {
    let fstab = std::env::var_os(FSTAB.0).unwrap_or_else(|| OsString::from(FSTAB.1));
    let mut wanted = of_fstab(&fs::read_to_string(fstab).unwrap_or_default());
    wanted.extend(of_units(Path::new(UNITS)).unwrap_or_default());
    wanted.retain(|path| path != Path::new("/"));
    wanted
}

/// Source: fstab(5).
fn of_fstab(text: &str) -> Vec<PathBuf> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter_map(|fields| {
            let options = fields.get(3).copied().unwrap_or_default();
            let mut options = options.split(',');
            let waits = options.any(|option| matches!(option, "noauto" | "x-systemd.automount"));
            let place = fields.get(1).filter(|place| place.starts_with('/'))?;
            (!waits).then(|| PathBuf::from(place.replace("\\040", " ")))
        })
        .collect()
}

/// Source: systemd.mount(5). Only units that something wants are started.
fn of_units(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut wanted = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_wants = |ending: &str| path.extension().is_some_and(|it| it == ending);
        if !is_wants("wants") && !is_wants("requires") {
            continue;
        }
        for unit in fs::read_dir(&path)?.flatten() {
            let unit = unit.path();
            if unit.extension().is_some_and(|it| it == "mount") {
                let text = fs::read_to_string(&unit).unwrap_or_default();
                let mut lines = text.lines();
                wanted.extend(lines.find_map(|line| Some(line.strip_prefix("Where=")?.into())));
            }
        }
    }
    Ok(wanted)
}

/// Refuses a directory that is a mount of the same place, lies in one, or has one in it.
pub fn not_itself(job: &Job<'_>) -> Result<(), Refused> {
    let mut mounts = mounts_of("self").unwrap_or_default();
    if job.source == Source::Hidden {
        // They lie on what is looked under.
        mounts.retain(|mount| !mount.mountpoint.starts_with(job.directory));
    }
    match mount_of_itself(&mounts, job.directory, job.config) {
        None => Ok(()),
        Some(mount) => Err(Refused(format!(
            "{} is a mount of the same bucket ({}): its files are the objects",
            mount.mountpoint.display(),
            mount.source
        ))),
    }
}

fn mount_of_itself<'a>(
    mounts: &'a [MountEntry],
    directory: &Path,
    config: &Config,
) -> Option<&'a MountEntry> {
    // The last one covers those before.
    let above = mounts
        .iter()
        .filter(|it| directory.starts_with(&it.mountpoint));
    let above = above.max_by_key(|it| it.mountpoint.components().count());
    let below = mounts
        .iter()
        .filter(|it| it.mountpoint.starts_with(directory));
    let mut ours = above.into_iter().chain(below);
    ours.find(|mount| {
        let place = mount.source.strip_prefix("mediafs:");
        let may_be = place.is_none_or(|place| {
            let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
            let (prefix, own) = (whole(prefix), whole(&config.prefix));
            bucket == config.bucket && (prefix.starts_with(&own) || own.starts_with(&prefix))
        });
        mount.fs_type == FS_TYPE && may_be
    })
}

/// Refuses a move of a place into itself, or into what lies in or above it.
pub fn not_the_same(
    (from, source): (&Config, &Bucket),
    (to, target): (&Config, &Bucket),
) -> Result<(), Refused> {
    let is_one_bucket = source.s3.endpoint() == target.s3.endpoint() && from.bucket == to.bucket;
    let is_inside = from.prefix.starts_with(&to.prefix) || to.prefix.starts_with(&from.prefix);
    if !is_one_bucket || !is_inside {
        return Ok(());
    }
    Err(Refused(format!(
        "s3://{}/{} and s3://{}/{} are the same place, or one lies in the other",
        from.bucket, from.prefix, to.bucket, to.prefix
    )))
}

/// A prefix whose last segment is not the beginning of another one.
fn whole(prefix: &str) -> String {
    match prefix.trim_matches('/') {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    }
}

/// Whether a guard's refusal of a delete is overruled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    No,
    Yes,
}

/// Refuses a source without a file, and a delete of more than half of the target.
pub fn not_too_much(asking: &Asking<'_>, counts: &PlanCounts, force: Force) -> Result<(), Refused> {
    if counts.source == 0 && !asking.allow_empty {
        return Err(Refused(
            "the source has no file: is it the right place? --allow-empty takes it as it is"
                .to_owned(),
        ));
    }
    let (delete, target) = (counts.to_delete.names, counts.target);
    if delete * 2 > target && force == Force::No {
        return Err(Refused(format!(
            "--delete would delete {delete} of {target} files, more than half: look at the plan with --dry-run, then --force"
        )));
    }
    Ok(())
}

/// Refuses to bring all that a mount shows into a directory that would show something else:
/// before anything is changed.
pub fn has_nothing_else(job: &Job<'_>, planned: &Plan, report: &Report) -> Result<(), Refused> {
    if !job.odd.wants_all() {
        return Ok(());
    }
    let directory = job.directory.display();
    if !planned.foreign.is_empty() {
        let foreign = planned.foreign.join("\n  ");
        return Err(Refused(format!(
            "{directory} has entries that the mount lacks: remove them, or choose another directory\n  {foreign}"
        )));
    }
    match report.counts.only_here.names {
        0 => Ok(()),
        more => Err(Refused(format!(
            "{directory} has {more} files that the mount does not have: --delete removes them, or choose another directory"
        ))),
    }
}

/// Refuses a comparison of nothing with nothing, which is most likely of a wrong place.
pub fn not_nothing(job: &Job<'_>, files: u64) -> Result<(), Refused> {
    if job.allow_empty || files > 0 {
        return Ok(());
    }
    Err(Refused(format!(
        "neither {} nor s3://{}/{} has a file: is it the right place? --allow-empty takes it for equal",
        job.directory.display(),
        job.config.bucket,
        job.config.prefix
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_mount_that_is_wanted_by_a_symlinked_path_is_missed_where_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("data/media")).unwrap();
        symlink(root.join("data"), root.join("srv")).unwrap();
        let directory = root.join("data/media");
        let wanted = root.join("srv/media");
        let missed = |wanted: &Path| not_mounted(&[], vec![wanted.to_owned()], &directory);
        assert_eq!(missed(&wanted), Some(wanted.clone()));
        assert_eq!(missed(&root.join("srv")), Some(root.join("srv")));
        assert_eq!(
            missed(&root.join("srv/media/a")),
            Some(root.join("srv/media/a"))
        );
        assert_eq!(missed(&root.join("srv/other")), None);
        let mounts = [MountEntry {
            id: 1,
            parent: 0,
            device: "0:3".to_owned(),
            root: "/".into(),
            mountpoint: directory.clone(),
            peer_group: None,
            master: None,
            options: Vec::new(),
            fs_type: "ext4".to_owned(),
            source: "/dev/x".to_owned(),
        }];
        assert_eq!(not_mounted(&mounts, vec![wanted], &directory), None);
    }

    #[test]
    fn what_a_run_writes_does_not_lie_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("tree/sub")).unwrap();
        symlink(root.join("tree/sub"), root.join("link")).unwrap();
        let tree = root.join("tree");
        let lies = |path: &str| outside(&tree, "--report", &root.join(path));
        for inside in ["tree/report", "tree", "link/report", "link/a/b/report"] {
            assert!(lies(inside).is_err(), "{inside}");
        }
        for (path, place) in [("report", "report"), ("tree-2", "tree-2"), ("a/b", "a/b")] {
            assert_eq!(lies(path).unwrap(), root.join(place));
        }
    }

    #[test]
    fn mounts_that_should_be_there_are_read_from_fstab_and_units() {
        let fstab = "# /srv/not\nUUID=1 /srv/media ext4 defaults 0 2\nUUID=2 /srv/a\\040b ext4\nUUID=3 /later ext4 noauto 0 0\nUUID=4 none swap sw\n";
        let wanted = of_fstab(fstab);
        assert_eq!(wanted, [Path::new("/srv/media"), Path::new("/srv/a b")]);
        let dir = tempfile::tempdir().unwrap();
        let wants = dir.path().join("multi-user.target.wants");
        fs::create_dir(&wants).unwrap();
        fs::write(wants.join("srv-x.mount"), "[Mount]\nWhat=a\nWhere=/srv/x\n").unwrap();
        fs::write(dir.path().join("srv-y.mount"), "[Mount]\nWhere=/srv/y\n").unwrap();
        assert_eq!(of_units(dir.path()).unwrap(), [Path::new("/srv/x")]);
    }
}
