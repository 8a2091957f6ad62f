//! A directory in the place of a mount, with nothing else to be seen in between: at its
//! mountpoint, and wherever else the mount is seen.
//!
//! It is mounted below the mount everywhere first, which nobody sees. Then the mount is
//! taken away, here and with that in every mount namespace to which mounts of this one
//! propagate, and after that one by one.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::mount::{OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use super::attributes::{self, Attribute, Restrictions};
use super::beneath::{BY_DESCRIPTOR, detach, put_below};
use super::elsewhere::{Elsewhere, Seen, elsewhere, everywhere};
use super::inside::{Attachable, InsideError};
use super::mountinfo::{MountEntry, mount_at, mounts_of};
use super::places::{SeenPlace, places_of};
use super::processes::{link_of, mount_id};
use crate::failpoint::{self, Point};

/// A container may start while places are taken.
const ROUNDS: usize = 3;

/// What lies at the mount's place by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// The mount is taken away; who has files of it open keeps those.
    Detached,
    /// Older kernels: the directory lies over the mount, which is still there below it.
    Covered,
}

/// A directory that is in a mount's place.
#[derive(Debug)]
pub struct TakenPlace {
    pub replaced: Replaced,
    /// The other places that it has taken, in words.
    pub others: Vec<String>,
    /// Where the mount is still seen.
    pub left: Elsewhere,
    directory: OwnedFd,
}

/// Has the directory seen where the mount is: at every moment a path leads into one of
/// the two. It is mounted there, until the next start of the machine.
///
/// Errors: the kernel's; nothing is changed then, or the error says what is.
pub fn take_place(mount: &Attachable, directory: &Path) -> io::Result<TakenPlace> {
    let substitute = Substitute::open(directory)?;
    let tree = substitute.tree_for(&mount.entry)?;
    let mut replaced = Replaced::Detached;
    // One that was killed may have put it there.
    let put = match substitute.lies_below_own(&mount.entry) {
        true => Ok(()),
        false => put_below(tree.as_fd(), mount.root()),
    };
    failpoint::at(Point::PlacePutBelow);
    if let Err(error) = put {
        if !places_of(&mount.entry)
            .map_err(io::Error::other)?
            .is_empty()
        {
            let text = "the mount is seen elsewhere too, and the directory cannot lie below it";
            let kind = io::Error::from(error).kind();
            return Err(io::Error::new(kind, format!("{text} (Linux 6.5): {error}")));
        }
        tracing::debug!(%error, "not mounted below: mounted over it");
        move_mount(&tree, "", mount.root(), "", BY_DESCRIPTOR)?;
        replaced = Replaced::Covered;
    }
    let mut others = Vec::new();
    if replaced == Replaced::Detached {
        let lies_below = |error: &dyn std::fmt::Display| {
            let text = "the directory lies below the mount, which could not be taken away";
            io::Error::other(format!("{text}: {error}"))
        };
        let places = substitute.put_below_others(&mount.entry);
        let places = places.map_err(|error| lies_below(&error))?;
        detach(mount.root()).map_err(|error| lies_below(&error))?;
        others = substitute.take_others(&mount.entry, places);
    }
    failpoint::at(Point::PlaceTaken);
    Ok(TakenPlace {
        replaced,
        others,
        left: elsewhere(&mount.entry.device),
        directory: tree,
    })
}

/// Whether the directory is what is seen at a place. Errors: the kernel's.
pub fn is_seen_at(directory: &Path, place: &Path) -> io::Result<bool> {
    let Some(entry) = mount_at(place)? else {
        return Ok(false);
    };
    Ok(Substitute::open(directory)?.is_shown_by(&entry, Path::new("")))
}

/// Unmounts the directory where it is what is seen at a place, as often as it is.
///
/// Returns whether it was. Errors: the kernel's.
pub fn uncover(directory: &Path, place: &Path) -> io::Result<bool> {
    let substitute = Substitute::open(directory)?;
    let mut was_there = false;
    while let Some(entry) = mount_at(place)?
        && substitute.is_shown_by(&entry, Path::new(""))
    {
        unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        was_there = true;
    }
    Ok(was_there)
}

impl TakenPlace {
    /// Takes a directory away that lies over the mount.
    pub fn uncover(self) -> io::Result<()> {
        detach(self.directory.as_fd())
    }
}

/// The directory that takes the places of a mount.
struct Substitute {
    directory: OwnedFd,
    device: String,
    /// In its file system.
    root: PathBuf,
}

impl Substitute {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty())?;
        let (id, path) = (mount_id(directory.as_fd())?, link_of(directory.as_fd())?);
        let entry = mounts_of("self")?.into_iter().find(|entry| entry.id == id);
        let entry = entry.ok_or_else(|| io::Error::other("it is on no mount that can be seen"))?;
        let below = path.strip_prefix(&entry.mountpoint);
        let root = entry.root.join(below.map_err(io::Error::other)?);
        Ok(Self {
            directory,
            device: entry.device,
            root,
        })
    }

    /// What a mount shows of the file system, from the directory, and as restricted.
    fn tree_for(&self, mount: &MountEntry) -> io::Result<OwnedFd> {
        let shown = mount.root.strip_prefix("/").unwrap_or(&mount.root);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let shown = Path::new(".").join(shown);
        let shown = openat2(&self.directory, &shown, flags, Mode::empty(), resolve)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(&shown, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?;
        let restrictions = Restrictions::of(&mount.options);
        attributes::set(tree.as_fd(), Attribute::Restricted(restrictions))?;
        Ok(tree)
    }

    fn lies_below(&self, seen: &Seen) -> bool {
        let Some(below) = &seen.below else {
            return false;
        };
        let entry = &seen.entry;
        let shown = entry.root.strip_prefix("/").unwrap_or(&entry.root);
        below.mountpoint == entry.mountpoint && self.is_shown_by(below, shown)
    }

    /// The same of the mount's own place.
    fn lies_below_own(&self, mount: &MountEntry) -> bool {
        let all = everywhere(&mount.device);
        all.iter()
            .any(|seen| seen.entry.id == mount.id && self.lies_below(seen))
    }

    /// Whether a mount is one of it, or of this place in it.
    fn is_shown_by(&self, entry: &MountEntry, below: &Path) -> bool {
        entry.device == self.device && entry.root == self.root.join(below)
    }

    /// Mounts the directory below the mount at each other place where it is not yet: what
    /// was mounted here, or at one of them, may have come to others with that.
    fn put_below_others(&self, mount: &MountEntry) -> Result<Vec<SeenPlace>, InsideError> {
        let mut tried = BTreeSet::new();
        loop {
            let places = places_of(mount)?;
            let is_next = |place: &&SeenPlace| !self.lies_below(&place.seen);
            let Some(next) = places.iter().find(is_next) else {
                return Ok(places);
            };
            let failed = |source| next.failed(source);
            if !tried.insert(next.seen.entry.id) {
                return Err(failed(io::Error::other("it was mounted somewhere else")));
            }
            let tree = self.tree_for(&next.seen.entry).map_err(failed)?;
            next.put_below(tree.as_fd())?;
        }
    }

    /// Takes the mount away at other places, also where it has come meanwhile. What fails
    /// is seen by where it is left.
    fn take_others(&self, mount: &MountEntry, mut places: Vec<SeenPlace>) -> Vec<String> {
        let mut taken = Vec::new();
        for _ in 0..ROUNDS {
            for place in &places {
                let restrictions = Restrictions::of(&place.seen.entry.options);
                let done = place.detach().and_then(|()| place.restrict(restrictions));
                match done {
                    Ok(()) => taken.push(place.to_string()),
                    Err(error) => tracing::warn!(%error, "cannot detach the mount"),
                }
            }
            places = match self.put_below_others(mount) {
                Ok(places) if !places.is_empty() => places,
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot detach the mount");
                    break;
                }
            };
        }
        taken
    }
}
