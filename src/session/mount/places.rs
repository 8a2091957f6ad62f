//! The places at which a mount is seen beside its mountpoint: binds of it in this mount
//! namespace, and mounts in others, as containers have.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use super::attributes::Restrictions;
use super::beneath::{detach, put_below};
use super::elsewhere::{Seen, everywhere};
use super::inside::{AttachPoint, Attachable, InsideError, MountTree};
use super::mountinfo::MountEntry;

/// One of them, which a path leads to.
#[derive(Debug)]
pub struct SeenPlace {
    pub seen: Seen,
    reached: Reached,
}

#[derive(Debug)]
enum Reached {
    Here(Attachable),
    Inside(MountTree, AttachPoint),
}

impl fmt::Display for SeenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seen.fmt(f)
    }
}

/// The places of a mount, without its own. One that is covered by another mount is left
/// out, and one that cannot be entered and follows this namespace.
///
/// Errors: a container that nothing can be mounted in; the kernel's.
pub fn places_of(mount: &MountEntry) -> Result<Vec<SeenPlace>, InsideError> {
    let all = everywhere(&mount.device);
    let own = all.iter().find(|seen| seen.entry.id == mount.id);
    let group = own.and_then(|own| own.below.as_ref()?.peer_group);
    let follows = |seen: &Seen| {
        let master = seen.below.as_ref().and_then(|below| below.master);
        group.is_some() && master == group
    };
    let mut places = Vec::new();
    for seen in all.iter().filter(|seen| seen.entry.id != mount.id) {
        match reach(seen) {
            Ok(Some(reached)) => places.push(SeenPlace {
                seen: seen.clone(),
                reached,
            }),
            Ok(None) => {}
            Err(InsideError::OtherUsers(_)) if follows(seen) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(places)
}

/// None where no path leads there, or its process has ended.
fn reach(seen: &Seen) -> Result<Option<Reached>, InsideError> {
    let path = &seen.entry.mountpoint;
    let Some(process) = &seen.process else {
        let there = Attachable::at(path).ok();
        let there = there.filter(|there| there.entry.id == seen.entry.id);
        return Ok(there.map(Reached::Here));
    };
    let found = MountTree::of(process.pid).and_then(|tree| Ok((tree.find(path)?, tree)));
    match found {
        Ok((at, tree)) => {
            let is_on_top = at.mount.as_ref().is_some_and(|it| it.id == seen.entry.id);
            Ok(is_on_top.then_some(Reached::Inside(tree, at)))
        }
        Err(InsideError::NoProcess(_) | InsideError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl SeenPlace {
    /// Mounts a tree below what is there: nobody sees it yet.
    pub fn put_below(&self, tree: BorrowedFd) -> Result<(), InsideError> {
        let put = match &self.reached {
            Reached::Here(there) => put_below(tree, there.root()).map_err(io::Error::from),
            Reached::Inside(inside, at) => inside.put_below(tree, at),
        };
        put.map_err(|error| self.failed(error))
    }

    /// Takes the mount away, unless that was done where it came from.
    pub fn detach(&self) -> Result<(), InsideError> {
        if reach(&self.seen)?.is_none() {
            return Ok(());
        }
        match &self.reached {
            Reached::Here(there) => detach(there.root()).map_err(|error| self.failed(error)),
            Reached::Inside(inside, at) => inside.detach(&self.seen.entry, at).map(drop),
        }
    }

    /// Has what the mount lay on be as restricted as the mount was.
    pub fn restrict(&self, with: Restrictions) -> Result<(), InsideError> {
        match (&self.reached, &self.seen.below) {
            (Reached::Inside(inside, at), Some(below)) => {
                let restricted = inside.restrict(&at.path, below, with);
                restricted.map_err(|error| self.failed(error))
            }
            _ => Ok(()),
        }
    }

    pub fn failed(&self, source: io::Error) -> InsideError {
        InsideError::Unreplaced {
            path: self.seen.entry.mountpoint.clone(),
            source,
        }
    }
}
