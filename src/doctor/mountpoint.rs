//! The mountpoint: what is mounted, what its daemon says, and what it hides.

use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;

use super::{Findings, containers, shown};
use crate::config::Config;
use crate::session::control::answers::{FuseStatus, Status};
use crate::session::control::client::{AskError, ask_within};
use crate::session::control::place;
use crate::session::{
    BareDirectory, FS_TYPE, MountpointError, check_mountpoint, mount_at, mounts_of, told_hidden,
};

/// A daemon says at once how it is, unless it hangs.
const SAYS_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn examine(config: &Config, report: &mut Findings) {
    let path = &config.mountpoint;
    let mounted = match check_mountpoint(config) {
        Ok(path) => {
            report.ok("mountpoint", format!("{} can be mounted on", shown(&path)));
            None
        }
        Err(MountpointError::AlreadyMounted { fs_type, .. }) if fs_type == FS_TYPE => {
            let entry = mount_at(path).ok().flatten();
            let source = entry.as_ref().map(|entry| entry.source.as_str());
            let source = source.unwrap_or_default();
            report.ok("mountpoint", format!("{} serves {source}", shown(path)));
            entry
        }
        Err(error) => {
            report.fail("mountpoint", error.to_string(), advice(&error));
            None
        }
    };
    if let Some(entry) = mounted {
        negotiated(config, report);
        stacked(path, report);
        hidden(path, report);
        containers::examine(path, &entry, report);
    }
}

/// What to type where a directory cannot be mounted on.
fn advice(error: &MountpointError) -> String {
    match error {
        MountpointError::Missing(path) => format!("mkdir -p {}", shown(path)),
        MountpointError::NotADirectory(_) => "name a directory as the mountpoint".to_owned(),
        MountpointError::AlreadyMounted { path, .. } => {
            format!("umount {}, or name another mountpoint", shown(path))
        }
        MountpointError::Dead { path, .. } => {
            let path = shown(path);
            format!("umount -l {path}; without root: fusermount3 -uz {path}")
        }
        MountpointError::Silent { path, .. } => {
            format!("end its daemon, or umount -f {}", shown(path))
        }
        MountpointError::NotEmpty(_) => {
            "move the files away, or import them into the bucket".to_owned()
        }
        MountpointError::Io { path, .. } => format!(
            "ls -ld {}: let this user read it and search the folders above, or name another mountpoint",
            shown(path)
        ),
    }
}

/// What kernel and daemon agreed on, as the daemon has it.
fn negotiated(config: &Config, report: &mut Findings) {
    // Its daemon may have been started with another name, or elsewhere.
    let Ok(Some(named)) = place::socket_of(config) else {
        return;
    };
    let mountpoint = config.mountpoint.display().to_string();
    let ask =
        |socket: PathBuf| ask_within::<Status>(&socket, (Method::GET, "/status"), &(), SAYS_WITHIN);
    let own = ask(named);
    let hangs = matches!(own, Err(AskError::Silent(_)));
    let statuses = iter::once(own).chain(place::sockets().into_iter().map(ask));
    let mut statuses = statuses.filter_map(Result::ok);
    let status = statuses.find(|it| it.health.mountpoint == mountpoint);
    match status.map(|status| status.fuse) {
        Some(Some(FuseStatus { lacking, .. })) if !lacking.is_empty() => report.warn(
            "negotiated",
            format!("the kernel has no {}", lacking.join(", ")),
            "nothing to do; a newer kernel may have it",
        ),
        Some(Some(fuse)) => report.ok("negotiated", fuse.to_string()),
        // Of a daemon that is older than this program.
        Some(None) => {}
        None if hangs => report.fail(
            "negotiated",
            "not known: the daemon of the mount does not answer at its control socket",
            format!(
                "mediafs healthcheck {}; its log says more",
                shown(&config.mountpoint)
            ),
        ),
        None => report.warn(
            "negotiated",
            "not known: no daemon answers for the mount",
            format!("mediafs healthcheck {}", shown(&config.mountpoint)),
        ),
    }
}

/// Whether one mount lies on another.
fn stacked(path: &Path, report: &mut Findings) {
    let Ok(entries) = mounts_of("self") else {
        return;
    };
    let here = entries.iter().filter(|entry| entry.mountpoint == path);
    let here: Vec<&str> = here.map(|entry| entry.source.as_str()).collect();
    if here.len() > 1 {
        report.warn(
            "mounts",
            format!("{} stacked mounts: {}", here.len(), here.join(", ")),
            format!("umount {} until one is left", path.display()),
        );
    }
}

/// Files in the bare directory that the mount hides.
fn hidden(path: &Path, report: &mut Findings) {
    match BareDirectory::open(path).and_then(|bare| bare.files()) {
        Ok(files) if files.is_none() => report.ok("hidden files", "none under the mount"),
        Ok(files) => report.warn(
            "hidden files",
            told_hidden(path, files),
            "write nothing there while nothing is mounted: 'mediafs setup' makes the directory immutable",
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => report.warn(
            "hidden files",
            "not known: only root looks under a mount",
            "run it as root",
        ),
        Err(error) => report.warn(
            "hidden files",
            format!("cannot look under the mount: {error}"),
            "run it as root",
        ),
    }
}
