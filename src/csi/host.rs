//! The machine that the driver's pod runs on: its mounts, its systemd, and the program
//! that outlives the pod.
//!
//! The driver leaves its pod's mount namespace before it serves: every path from then on
//! is one of the host. What it starts is started by the host's systemd, in a control group
//! that is not the pod's, so that nothing of it ends with the pod.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::unit;
use crate::private;
use crate::session::systemctl::{self, one_line};
use crate::session::{self, in_words};

/// With `hostPID: true` the host's init.
const INIT: u32 = 1;
/// Present where systemd is the init. Source: sd_booted(3).
const SYSTEMD: &str = "/run/systemd/system";
/// A folder for each volume; systemd makes them from here on, as `StateDirectory=`.
pub const STATE: &str = "/var/lib/mediafs/csi";
const PROGRAM_NAME: &str = "mediafs";
const ROOT: u32 = 0;
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Lines of a daemon's log that are told when it does not start.
const LOG_LINES: &str = "3";

/// Leaves the pod for the host, whose systemd can start the program and the unit then.
/// To be called before there are threads.
///
/// Errors: it is no host, or has no systemd; the program does not run on it.
pub fn enter(program_folder: &Path) -> anyhow::Result<()> {
    let mut program = Vec::new();
    let read = File::open("/proc/self/exe").and_then(|mut it| it.read_to_end(&mut program));
    read.context("cannot read this program")?;
    session::enter_mounts_of(INIT)
        .context("cannot enter the host's mount namespace: the pod needs 'hostPID: true' and a privileged container")?;
    if !Path::new(SYSTEMD).is_dir() {
        bail!(
            "process 1 is not systemd: the pod needs 'hostPID: true', and a node with systemd, which starts the daemons"
        );
    }
    private::directory(Path::new(STATE)).context(STATE)?;
    let path = program_folder.join(PROGRAM_NAME);
    fs::create_dir_all(program_folder)
        .and_then(|()| check_folder(&fs::metadata(program_folder)?))
        .with_context(|| format!("{}", program_folder.display()))?;
    put(&path, &program, 0o755).with_context(|| format!("{}", path.display()))?;
    check_program(&path)?;
    put(Path::new(unit::FILE), unit::text(&path).as_bytes(), 0o644).context(unit::FILE)?;
    systemctl::run(&["daemon-reload"])
}

/// Puts a file there, whole or not at all; one with these bytes stays. A daemon that
/// runs keeps the program that it was started as.
fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let beside = path.with_extension("new");
    private::write(&beside, bytes)?;
    fs::set_permissions(&beside, Permissions::from_mode(mode))?;
    fs::rename(&beside, path)
}

/// Errors: somebody else could put another program there, which root would run.
fn check_folder(folder: &Metadata) -> io::Result<()> {
    if folder.uid() == ROOT && folder.mode() & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    let why = "must be root's, and writable by nobody else: choose another place with --program-folder (programFolder of the chart)";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Errors: the host has an older libc than the image, or its file system is noexec.
fn check_program(path: &Path) -> anyhow::Result<()> {
    let ran = Command::new(path).arg("--version").output();
    let ran = ran.with_context(|| {
        let path = path.display();
        format!("the host cannot execute {path}: is its file system noexec? Choose another place with --program-folder (programFolder of the chart)")
    })?;
    if !ran.status.success() {
        bail!(
            "{} does not run on this host: {}",
            path.display(),
            one_line(&ran)
        );
    }
    Ok(())
}

/// Whether a unit runs. Errors: systemd does not answer.
pub fn is_active(unit: &str) -> anyhow::Result<bool> {
    systemctl::is_true(&["is-active", "--quiet", unit])
}

/// Starts a unit, and returns when its mount serves. Errors: in words, why it does not.
pub fn start(unit: &str) -> Result<(), String> {
    control("start", unit).map_err(|why| last_words(unit).unwrap_or(why))
}

/// Stops a unit, and returns when its mount is gone.
pub fn stop(unit: &str) -> Result<(), String> {
    control("stop", unit)?;
    // One that failed would be listed for ever; it refuses one that did not.
    let reset = systemctl::is_true(&["reset-failed", unit]);
    reset.map(drop).map_err(|error| in_words(&error))
}

/// Has the daemon read its credentials again.
pub fn reload(unit: &str) -> Result<(), String> {
    control("reload", unit)
}

fn control(verb: &str, unit: &str) -> Result<(), String> {
    systemctl::run(&[verb, unit]).map_err(|error| in_words(&error))
}

/// What the daemon itself said at this start.
fn last_words(unit: &str) -> Option<String> {
    let start = systemctl::property(unit, "InvocationID").ok()?;
    if start.is_empty() {
        return None;
    }
    let mut command = Command::new("journalctl");
    command
        .args(["--quiet", "--no-pager", "-o", "cat", "-n", LOG_LINES])
        .arg(format!("_SYSTEMD_UNIT={unit}"))
        .arg(format!("_SYSTEMD_INVOCATION_ID={start}"));
    let told = command.stdin(Stdio::null()).output().ok()?;
    let told = one_line(&told);
    (!told.is_empty()).then_some(told)
}

/// The folder of a volume.
pub fn folder_of(volume: &str) -> PathBuf {
    Path::new(STATE).join(volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_others_write_to_is_none_for_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let is_root = rustix::process::geteuid().is_root();
        for (mode, is_safe) in [(0o755, is_root), (0o775, false), (0o757, false)] {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            let checked = check_folder(&fs::metadata(folder.path()).unwrap());
            assert_eq!(checked.is_ok(), is_safe, "{mode:o}");
        }
    }
}
