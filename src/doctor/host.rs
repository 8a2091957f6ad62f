//! This host: kernel, FUSE, limits, and the disk of the spool.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::{Findings, shown};
use crate::config::Config;
use crate::private::NotPrivate;
use crate::session::{MountError, open_device};
use crate::write_path::SpoolView;

const FUSE_DEVICE: &str = "/dev/fuse";
const FUSE_CONF: &str = "/etc/fuse.conf";
const FUSERMOUNT: &str = "fusermount3";
/// A daemon that dies leaves calls under way to its successor from here on.
const KERNEL_WANTED: (u32, u32) = (6, 9);
const OPEN_FILES_WANTED: u64 = 4096;
const ROOM_WANTED_BYTES: u64 = 1 << 30;

pub(super) fn examine(config: &Config, report: &mut Findings) {
    kernel(report);
    fuse(config, report);
    open_files(report);
    spool(&config.spool_dir, report);
}

fn kernel(report: &mut Findings) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    if version_of(&release) >= KERNEL_WANTED {
        report.ok("kernel", format!("Linux {release}"));
    } else {
        report.warn(
            "kernel",
            format!("Linux {release}: calls in progress when the daemon dies return EINTR"),
            "Linux 6.9 or later has them answered by the successor",
        );
    }
}

/// The first two numbers of a release, whatever a distribution has put behind them.
fn version_of(release: &str) -> (u32, u32) {
    let mut parts = release.split('.');
    let mut number = || {
        let part = parts.next().unwrap_or_default();
        let end = part.find(|c: char| !c.is_ascii_digit());
        let digits = part.get(..end.unwrap_or(part.len())).unwrap_or_default();
        digits.parse().unwrap_or(0)
    };
    (number(), number())
}

fn fuse(config: &Config, report: &mut Findings) {
    match open_device() {
        Ok(_) => report.ok("fuse", format!("{FUSE_DEVICE} can be opened")),
        Err(error) => report.fail("fuse", error.to_string(), no_fuse(&error)),
    }
    if rustix::process::geteuid().is_root() {
        return;
    }
    match on_path(FUSERMOUNT) {
        Some(program) => report.ok("fusermount3", shown(&program)),
        None => report.fail(
            "fusermount3",
            "not found: a user other than root mounts with it",
            "apt-get install fuse3",
        ),
    }
    if config.allow_other {
        let text = fs::read_to_string(FUSE_CONF).unwrap_or_default();
        if text.lines().any(|line| line.trim() == "user_allow_other") {
            report.ok("user_allow_other", format!("set in {FUSE_CONF}"));
        } else {
            report.fail(
                "user_allow_other",
                format!("not set in {FUSE_CONF}: --allow-other is refused"),
                format!("echo user_allow_other >>{FUSE_CONF}, as root"),
            );
        }
    }
}

/// What to type where the device cannot be opened.
fn no_fuse(error: &MountError) -> &'static str {
    match error {
        MountError::DeviceRefused(_) => {
            "run 'chmod 0666 /dev/fuse' as root: udev makes it so, and the kernel checks who mounts"
        }
        MountError::DeviceDenied(_) => {
            "start the container with '--device /dev/fuse'; of a service add 'DeviceAllow=/dev/fuse rw'"
        }
        _ => "run 'modprobe fuse'; in a container pass the device in: '--device /dev/fuse'",
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn open_files(report: &mut Findings) {
    let limit = getrlimit(Resource::Nofile).maximum;
    match limit {
        Some(limit) if limit < OPEN_FILES_WANTED => report.warn(
            "open files",
            format!("at most {limit}: each file that is written takes one"),
            "raise the hard limit (LimitNOFILE= of the unit, or ulimit -Hn)",
        ),
        Some(limit) => report.ok("open files", format!("up to {limit}")),
        None => report.ok("open files", "without a limit"),
    }
}

fn spool(dir: &Path, report: &mut Findings) {
    let there = dir.ancestors().find(|above| above.exists());
    let Some(there) = there else {
        return;
    };
    if there == dir
        && let Err(error) = crate::private::directory(dir)
    {
        report.fail("spool", error.to_string(), advice(&error));
        return;
    }
    if there != dir
        && let Err(error) = crate::private::check_directory(dir)
    {
        let told = format!("{} cannot be made: {error}", shown(dir));
        report.fail("spool", told, advice(&error));
        return;
    }
    match rustix::fs::statvfs(there) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let told = format!("{}: {} MiB free", shown(dir), free >> 20);
            if free < ROOM_WANTED_BYTES {
                report.warn(
                    "spool",
                    told,
                    "what is written waits here for S3: make room, or choose another --spool",
                );
            } else {
                report.ok("spool", told);
            }
        }
        Err(error) => report.fail(
            "spool",
            format!("{}: {error}", shown(there)),
            "choose another --spool",
        ),
    }
    lost_and_found(dir, report);
}

/// What could not be uploaded, as `mediafs spool list` counts it.
fn lost_and_found(dir: &Path, report: &mut Findings) {
    // A directory that no mount has used yet is no spool.
    let Ok(view) = SpoolView::at(dir) else {
        return;
    };
    let (check, advice) = ("lost+found", "mediafs spool list");
    match view.last_kept(0) {
        Ok((0, _)) => {}
        Ok((1, _)) => report.warn(check, "1 file could not be uploaded", advice),
        Ok((kept, _)) => {
            report.warn(check, format!("{kept} files could not be uploaded"), advice);
        }
        Err(error) => report.warn(check, format!("not known: {error}"), advice),
    }
}

/// What to type where the spool is not this user's alone.
fn advice(error: &NotPrivate) -> String {
    match error {
        NotPrivate::Symlink(path) => {
            format!("readlink -f {}: name that with --spool", shown(path))
        }
        NotPrivate::NotADirectory(_) | NotPrivate::NotAFile(_) => {
            "name a directory with --spool".to_owned()
        }
        NotPrivate::Foreign { path, own, .. } => {
            format!("chown {own} {}, or choose another --spool", shown(path))
        }
        NotPrivate::Writable { path, .. } => {
            format!("chmod go-w {}, or choose another --spool", shown(path))
        }
        NotPrivate::Io { path, .. } => format!(
            "ls -ld {}: let this user write to it, or choose another --spool",
            shown(path)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_up_to_what_a_distribution_has_added() {
        for (release, version) in [
            ("5.15.0-91-generic", (5, 15)),
            ("6.9", (6, 9)),
            ("6.9-rc1", (6, 9)),
            ("6.12+", (6, 12)),
            ("10.1.2", (10, 1)),
            ("7", (7, 0)),
            ("", (0, 0)),
        ] {
            assert_eq!(version_of(release), version, "{release:?}");
        }
    }
}
