//! Mounts that the kernel has and that no socket is known of, as with
//! `--control-socket none`.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use super::silence::{SilentMount, without_symlinks};
use super::spelling::mountpoints;
use crate::config::named_mounts;
use crate::session::control::answers::HealthState;
use crate::session::control::client::AskError;
use crate::session::control::place;
use crate::session::{FS_TYPE, MountEntry, broken_at, dead_at, mounts_of};

/// Mounts that are asked at once.
const ASKED_AT_ONCE: usize = 32;

/// Those of this user, for root those of all, without the ones on these mountpoints.
pub fn unasked(known: &[PathBuf]) -> Vec<SilentMount> {
    let user = rustix::process::geteuid();
    let is_own = |mount: &MountEntry| user.is_root() || mount.is_of_user(user.as_raw());
    let all = mounts_of("self").unwrap_or_default().into_iter();
    let all: Vec<MountEntry> = all
        .filter(|it| it.fs_type == FS_TYPE && is_own(it))
        .collect();
    // A bind of one has its device.
    let on_known = all.iter().filter(|it| known.contains(&it.mountpoint));
    let mut seen: Vec<&str> = on_known.map(|it| it.device.as_str()).collect();
    let mut unknown = Vec::new();
    for mount in &all {
        if !seen.contains(&mount.device.as_str()) {
            seen.push(&mount.device);
            unknown.push(mount.mountpoint.as_path());
        }
    }
    let mut told = Vec::new();
    for some in unknown.chunks(ASKED_AT_ONCE) {
        std::thread::scope(|scope| {
            let asking: Vec<_> = some
                .iter()
                .map(|mountpoint| scope.spawn(move || without_socket(mountpoint)))
                .collect();
            told.extend(asking.into_iter().flat_map(|it| it.join()));
        });
    }
    told
}

/// What is told of a mount whose socket is not known. Its daemon may hang, or be dead.
fn without_socket(mountpoint: &Path) -> SilentMount {
    let shown = mountpoint.display();
    let (state, why) = match broken_at(mountpoint) {
        Some(broken) => (HealthState::Stuck, broken.to_string()),
        None => (
            HealthState::Unknown,
            format!(
                "it is mounted, but its socket was not found{}: name it with --socket, or type 'umount {shown}'",
                why_not_here()
            ),
        ),
    };
    SilentMount {
        of: shown.to_string(),
        socket: None,
        mountpoint: Some(mountpoint.to_owned()),
        state,
        is_left_behind: false,
        why,
    }
}

/// Why a user's own sockets may not be seen.
fn why_not_here() -> String {
    match place::own_dir() {
        Some(_) => String::new(),
        None => format!(
            " (XDG_RUNTIME_DIR is not set: set it to /run/user/{}, as a login does)",
            rustix::process::geteuid().as_raw()
        ),
    }
}

/// Errors: the word is a name of several mounts: its file's, and one that is called so by
/// its mountpoint.
pub fn refuse_ambiguous(wanted: &Path, mut meant: Vec<PathBuf>) -> anyhow::Result<()> {
    if wanted.components().count() != 1 || wanted.is_absolute() {
        return Ok(());
    }
    let is_by_mountpoint = |it: &PathBuf| Path::new(&place::name_of_mountpoint(it)) == wanted;
    if meant.iter().any(is_by_mountpoint) {
        meant.extend(mountpoint_by_file(wanted));
    }
    meant.extend(mountpoints_of_name(wanted));
    meant.sort_unstable();
    meant.dedup();
    if meant.len() < 2 {
        return Ok(());
    }
    let meant: Vec<String> = meant.iter().map(|it| it.display().to_string()).collect();
    bail!(
        "{wanted:?} is a name of {} mounts: name the mountpoint instead: {}",
        meant.len(),
        meant.join(" or ")
    );
}

/// Why no mount is found that was asked for by a name or mountpoint.
pub fn missing(
    which: &str,
    wanted_at: &[PathBuf],
    mut silent: Vec<(PathBuf, AskError)>,
    is_wanted: impl Fn(&(PathBuf, AskError)) -> bool,
) -> anyhow::Error {
    let mounted = mountpoints().into_iter().find(|it| wanted_at.contains(it));
    let mut by_name = mountpoints_of_name(Path::new(which)).into_iter();
    let mountpoint = mounted.or_else(|| by_name.next());
    if let Some(dead) = mountpoint.as_deref().filter(|it| dead_at(it).is_some()) {
        return without_socket(dead).into();
    }
    if let Some((socket, error)) = silent.iter().find(|it| is_wanted(it)) {
        let silent = SilentMount::of_socket(socket, error);
        return SilentMount {
            mountpoint: mountpoint.or_else(|| silent.mountpoint.clone()),
            ..silent.meant_by(which)
        }
        .into();
    }
    // A socket that a daemon left behind is of another mount.
    silent.retain(|(_, error)| !matches!(error, AskError::Dead));
    match mountpoint {
        Some(mountpoint) => unheard(&mountpoint, &silent).into(),
        None => anyhow!(
            "no mount {which:?}: 'mediafs status' lists the mounts{}",
            also(&silent)
        ),
    }
}

/// The mount there, for which none of the sockets has answered.
pub fn unheard(mountpoint: &Path, silent: &[(PathBuf, AskError)]) -> SilentMount {
    let unheard = without_socket(mountpoint);
    let told = silent
        .iter()
        .map(|(socket, error)| SilentMount::of_socket(socket, error));
    let own = told
        .clone()
        .find(|it| it.mountpoint.as_deref() == Some(mountpoint));
    match own {
        // Its daemon is the one that says nothing, whatever the kernel gets.
        Some(own) if unheard.state == HealthState::Unknown => own.meant_by(&unheard.of),
        _ => SilentMount {
            why: unheard.why + &also(silent),
            ..unheard
        },
    }
}

fn also(silent: &[(PathBuf, AskError)]) -> String {
    let told = silent
        .iter()
        .map(|(socket, error)| SilentMount::of_socket(socket, error));
    told.map(|it| format!("\n  {it}")).collect()
}

/// Where mounts are that may be meant by a name: by its file, and by their mountpoints.
fn mountpoints_of_name(name: &Path) -> Vec<PathBuf> {
    let mounted = mountpoints();
    let by_file = mountpoint_by_file(name).filter(|it| mounted.contains(it));
    let is_called = |it: &PathBuf| Path::new(&place::name_of_mountpoint(it)) == name;
    by_file
        .into_iter()
        .chain(mounted.into_iter().filter(is_called))
        .collect()
}

/// Where the file of the mount of this name has it.
fn mountpoint_by_file(name: &Path) -> Option<PathBuf> {
    let mut named = named_mounts().into_iter();
    let named = named.find(|mount| Path::new(&mount.name) == name)?;
    named.mountpoint.map(|it| without_symlinks(&it))
}
