//! The machine that the driver's pod runs on: its mounts, its systemd, and the program
//! that outlives the pod.
//!
//! The driver leaves its pod's mount namespace before it serves: every path from then on
//! is one of the host. What it starts is started by the host's systemd, in a control group
//! that is not the pod's, so that nothing of it ends with the pod.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail};

use super::unit;
use crate::private;
use crate::session;

/// With `hostPID: true` the host's init.
const INIT: u32 = 1;
/// Present where systemd is the init. Source: sd_booted(3).
const SYSTEMD: &str = "/run/systemd/system";
/// A folder for each volume; systemd makes them from here on, as `StateDirectory=`.
pub const STATE: &str = "/var/lib/mediafs/csi";
const PROGRAM_NAME: &str = "mediafs";
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
        .and_then(|()| put(&path, &program, 0o755))
        .with_context(|| format!("{}", path.display()))?;
    check_program(&path)?;
    put(Path::new(unit::FILE), unit::text(&path).as_bytes(), 0o644).context(unit::FILE)?;
    let loaded = systemctl(&["daemon-reload"]).context("systemctl")?;
    if !loaded.status.success() {
        bail!("systemctl daemon-reload: {}", said(&loaded));
    }
    Ok(())
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

/// Errors: the host has an older libc than the image, or its file system is noexec.
fn check_program(path: &Path) -> anyhow::Result<()> {
    let ran = Command::new(path).arg("--version").output();
    let ran = ran.with_context(|| {
        let path = path.display();
        format!("the host cannot execute {path}: is its file system noexec? Choose another place with --program-folder")
    })?;
    if !ran.status.success() {
        bail!(
            "{} does not run on this host: {}",
            path.display(),
            said(&ran)
        );
    }
    Ok(())
}

/// Whether a unit runs. Errors: systemd does not answer.
pub fn is_active(unit: &str) -> io::Result<bool> {
    Ok(systemctl(&["is-active", "--quiet", unit])?.status.success())
}

/// Starts a unit, and returns when its mount serves. Errors: in words, why it does not.
pub fn start(unit: &str) -> Result<(), String> {
    match systemctl(&["start", unit]) {
        Ok(started) if started.status.success() => Ok(()),
        Ok(started) => Err(last_words(unit).unwrap_or_else(|| said(&started))),
        Err(error) => Err(format!("systemctl: {error}")),
    }
}

/// Stops a unit, and returns when its mount is gone.
pub fn stop(unit: &str) -> Result<(), String> {
    control("stop", unit)?;
    // One that failed would be listed for ever.
    let reset = systemctl(&["reset-failed", unit]);
    reset
        .map(drop)
        .map_err(|error| format!("systemctl: {error}"))
}

/// Has the daemon read its credentials again.
pub fn reload(unit: &str) -> Result<(), String> {
    control("reload", unit)
}

fn control(verb: &str, unit: &str) -> Result<(), String> {
    match systemctl(&[verb, unit]) {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(said(&done)),
        Err(error) => Err(format!("systemctl: {error}")),
    }
}

fn systemctl(args: &[&str]) -> io::Result<Output> {
    let mut command = Command::new("systemctl");
    command.args(args).stdin(Stdio::null()).output()
}

/// What the daemon itself said last.
fn last_words(unit: &str) -> Option<String> {
    let mut command = Command::new("journalctl");
    command
        .args(["--quiet", "--no-pager", "-o", "cat", "-n", LOG_LINES])
        .arg(format!("_SYSTEMD_UNIT={unit}"));
    let told = command.stdin(Stdio::null()).output().ok()?;
    let told = said(&told);
    (!told.is_empty()).then_some(told)
}

fn said(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    let lines = streams.iter().flat_map(|text| text.lines());
    let lines: Vec<&str> = lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ")
}

/// The folder of a volume.
pub fn folder_of(volume: &str) -> PathBuf {
    Path::new(STATE).join(volume)
}
