//! What an operator most likely does not want, refused before anything is asked of S3.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::plan::PlanCounts;
use super::run::Job;
use super::walk::open_root;
use crate::config::Config;
use crate::session::{MountEntry, mounts_of};

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
    let root = open_root(directory);
    let root = root.with_context(|| format!("cannot read {}", directory.display()))?;
    if job.allow_unmounted {
        return Ok(root);
    }
    let mounts = mounts_of("self").unwrap_or_default();
    let is_mounted = |path: &Path| mounts.iter().any(|entry| entry.mountpoint == path);
    for wanted in mounts_wanted() {
        let is_part = directory.starts_with(&wanted) || wanted.starts_with(directory);
        if is_part && !is_mounted(&wanted) {
            let wanted = wanted.display();
            return Err(Refused(format!(
                "{wanted} is not mounted, though /etc/fstab or a unit of systemd says that it should be: mount it first, or --allow-unmounted"
            ))
            .into());
        }
    }
    Ok(root)
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
pub fn not_itself(config: &Config, directory: &Path) -> Result<(), Refused> {
    let mounts = mounts_of("self").unwrap_or_default();
    match mount_of_itself(&mounts, directory, config) {
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
            let own = config.prefix.as_str();
            bucket == config.bucket && (prefix.starts_with(own) || own.starts_with(prefix))
        });
        mount.fs_type == FS_TYPE && may_be
    })
}

/// Whether a guard's refusal of a delete is overruled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    No,
    Yes,
}

/// Refuses a source without a file, and a delete of more than half of the target.
pub fn not_too_much(job: &Job<'_>, counts: &PlanCounts, force: Force) -> Result<(), Refused> {
    if counts.source == 0 && !job.allow_empty {
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

/// Refuses a comparison of nothing with nothing, which is most likely of a wrong place.
pub fn not_nothing(job: &Job<'_>, counts: &PlanCounts) -> Result<(), Refused> {
    if job.allow_empty || counts.source > 0 || counts.target > 0 {
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
    use super::*;

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
