//! The mount tree of another process, a container's for example: what lies at a path of
//! it, and how a mount of this namespace gets there and is taken out again.
//!
//! Paths are resolved by the process's own root, whose symlinks lead nowhere else. What
//! changes the tree is done by a thread that has entered the mount namespace and ends;
//! it uses descriptors that were opened before, so that nothing a container does in
//! between leads it to another place. Source: setns(2), open_tree(2), move_mount(2).

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, ResolveFlags, flock, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use rustix::process::fchdir;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::attributes::{self, Attribute, Restrictions};
use super::beneath;
use super::left_behind::{LeftBehind, Wanted, left_behind};
use super::mountinfo::{MountEntry, mount_at, mounts_of};
use super::processes::{Process, link_of, mount_id, mount_namespace, name_of};
use super::{FS_TYPE, is_root};

/// Why nothing is done in a process's mount tree.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    #[error("there is no process {0}")]
    NoProcess(u32),
    #[error("only root may enter the mount namespace of another process: run it as root")]
    NotRoot,
    #[error("{0} is in the mount namespace of this command: it sees every mount here")]
    SameNamespace(Process),
    #[error(
        "{0} is in another user namespace, with other user ids than the mount: bind the mount when the container is started"
    )]
    OtherUsers(Process),
    #[error("{path} does not exist in {process}: create it there, or name another directory")]
    Missing { path: PathBuf, process: Process },
    #[error("{path} is not a directory in {process}")]
    NotADirectory { path: PathBuf, process: Process },
    #[error("{path} is the root directory of {process}: name a directory below it")]
    Root { path: PathBuf, process: Process },
    #[error(
        "{path} in {process} is on a mount that is shared with this namespace: mount there, and {process} sees it"
    )]
    Shared { path: PathBuf, process: Process },
    #[error("another attach or detach is at work in {0}: run it again once that has ended")]
    Busy(Process),
    #[error("nothing of mediafs is mounted on {0} any more")]
    NotMounted(PathBuf),
    #[error("{path}: the directory cannot take the mount's place: {source}")]
    Unreplaced { path: PathBuf, source: io::Error },
    #[error("{path} in {process}: {source}")]
    Io {
        path: PathBuf,
        process: Process,
        source: io::Error,
    },
}

/// The mount tree that a process has.
#[derive(Debug)]
pub struct MountTree {
    process: Process,
    namespace: OwnedFd,
    root: OwnedFd,
}

/// A directory of a mount tree.
#[derive(Debug)]
pub struct AttachPoint {
    directory: OwnedFd,
    /// As the process has it, without symlinks.
    pub path: PathBuf,
    /// As /proc tells it to this process.
    link: PathBuf,
    /// The mount that it is in.
    pub mount: Option<MountEntry>,
}

/// A mount of this namespace that can be attached elsewhere.
#[derive(Debug)]
pub struct Attachable {
    root: OwnedFd,
    pub entry: MountEntry,
}

/// A rename anywhere while `..` is followed has it tried again. Source: openat2(2), EAGAIN.
const RACES_LIMIT: usize = 100;
const WALK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

impl Attachable {
    /// Errors: `NotMounted`; the kernel's.
    pub fn at(mountpoint: &Path) -> Result<Self, InsideError> {
        let gone = || InsideError::NotMounted(mountpoint.to_owned());
        let entry = mount_at(mountpoint).ok().flatten();
        let entry = entry.filter(|entry| entry.fs_type == FS_TYPE);
        let entry = entry.ok_or_else(gone)?;
        let flags = WALK | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let root = openat(CWD, mountpoint, flags, Mode::empty()).map_err(|_| gone())?;
        match mount_id(root.as_fd()) {
            Ok(id) if id == entry.id => Ok(Self { root, entry }),
            _ => Err(gone()),
        }
    }

    /// The directory at which the mount is seen.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl AttachPoint {
    /// Whether a mount of mediafs is mounted exactly here.
    pub fn ours(&self) -> Option<&MountEntry> {
        let mount = self.mount.as_ref();
        mount.filter(|it| it.fs_type == FS_TYPE && it.mountpoint == self.path)
    }
}

impl MountTree {
    /// Errors: `NoProcess`, `NotRoot`, `SameNamespace`, `OtherUsers`; the kernel's.
    pub fn of(pid: u32) -> Result<Self, InsideError> {
        if !is_root() {
            return Err(InsideError::NotRoot);
        }
        let name = name_of(pid).ok_or(InsideError::NoProcess(pid))?;
        let process = Process { pid, name };
        let failed = |source: io::Error| InsideError::Io {
            path: PathBuf::from("/"),
            process: process.clone(),
            source,
        };
        let open = |what: &str, flags| {
            let path = format!("/proc/{pid}/{what}");
            let opened = openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
            opened.map_err(|errno| match errno {
                Errno::NOENT => InsideError::NoProcess(pid),
                errno => failed(errno.into()),
            })
        };
        let namespace = open("ns/mnt", OFlags::RDONLY)?;
        let root = open("root", OFlags::PATH)?;
        let own = mount_namespace("self").map_err(failed)?;
        if mount_namespace(&pid.to_string()).map_err(failed)? == own {
            return Err(InsideError::SameNamespace(process));
        }
        let users = |of: &str| fs::read_link(format!("/proc/{of}/ns/user"));
        if users(&pid.to_string()).map_err(failed)? != users("self").map_err(failed)? {
            return Err(InsideError::OtherUsers(process));
        }
        Ok(Self {
            process,
            namespace,
            root,
        })
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Nobody else attaches or detaches here until this tree is dropped: of two who look
    /// and then mount at once, both would mount.
    ///
    /// Errors: `Busy`; the kernel's.
    pub fn lock(&self) -> Result<(), InsideError> {
        // Whoever opens the namespace gets the same inode while somebody has it open.
        match flock(&self.namespace, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(()),
            Err(Errno::WOULDBLOCK) => Err(InsideError::Busy(self.process.clone())),
            Err(errno) => Err(self.failed(Path::new("/"), errno.into())),
        }
    }

    /// The mounts of mediafs in it.
    pub fn ours(&self) -> Result<Vec<MountEntry>, InsideError> {
        let entries = mounts_of(&self.process.pid.to_string());
        let mut entries = entries.map_err(|error| self.failed(Path::new("/"), error))?;
        entries.retain(|entry| entry.fs_type == FS_TYPE);
        Ok(entries)
    }

    /// Resolves a path as the process does. Errors: `Missing`, `NotADirectory`, `Root`.
    pub fn find(&self, path: &Path) -> Result<AttachPoint, InsideError> {
        let process = self.process.clone();
        let asked = path.to_owned();
        let directory = match self.open(path, OFlags::DIRECTORY, ResolveFlags::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => {
                return Err(InsideError::Missing {
                    path: asked,
                    process,
                });
            }
            Err(Errno::NOTDIR) => {
                return Err(InsideError::NotADirectory {
                    path: asked,
                    process,
                });
            }
            Err(errno) => return Err(self.failed(path, errno.into())),
        };
        let links = link_of(directory.as_fd()).and_then(|it| Ok((it, link_of(self.root.as_fd())?)));
        let (link, root) = links.map_err(|error| self.failed(path, error))?;
        let below = link.strip_prefix(&root);
        let below = below.map_err(|error| self.failed(path, io::Error::other(error)))?;
        if below.as_os_str().is_empty() {
            return Err(InsideError::Root {
                path: asked,
                process,
            });
        }
        let id = mount_id(directory.as_fd()).map_err(|error| self.failed(path, error))?;
        let entries = mounts_of(&self.process.pid.to_string());
        let entries = entries.map_err(|error| self.failed(path, error))?;
        Ok(AttachPoint {
            path: Path::new("/").join(below),
            mount: entries.into_iter().find(|entry| entry.id == id),
            directory,
            link,
        })
    }

    fn open(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(&self.root, path, WALK | flags, Mode::empty(), resolve);
        let is_raced = |opened: &Result<OwnedFd, Errno>| matches!(opened, Err(Errno::AGAIN));
        let mut opened = open();
        for _ in 0..RACES_LIMIT {
            if !is_raced(&opened) {
                break;
            }
            opened = open();
        }
        opened
    }

    /// Mounts the same file system over a place; who has files open there keeps those.
    ///
    /// Propagation is private: what is mounted below either of the two stays there.
    pub fn attach(
        &self,
        mount: &Attachable,
        at: &AttachPoint,
    ) -> Result<Vec<LeftBehind>, InsideError> {
        let failed = |error: io::Error| self.failed(&at.path, error);
        self.refuse_shared(at)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(&mount.root, "", flags | OpenTreeFlags::AT_EMPTY_PATH);
        let tree = tree.map_err(|errno| failed(errno.into()))?;
        attributes::set(tree.as_fd(), Attribute::Private).map_err(failed)?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        let attached = self.inside(|| move_mount(&tree, "", &at.directory, "", flags));
        attached.map_err(failed)?;
        let mut entry = mount.entry.clone();
        entry.id = mount_id(tree.as_fd()).map_err(failed)?;
        // A process that has ended meanwhile has nothing open.
        let left = left_behind(self.process.pid, Wanted::Below(&at.link, &entry));
        Ok(left.unwrap_or_default())
    }

    /// Mounts a tree below what is at a place.
    pub fn put_below(&self, tree: BorrowedFd, at: &AttachPoint) -> io::Result<()> {
        self.inside(|| beneath::put_below(tree, at.directory.as_fd()))
    }

    /// Has a mount that is at a path be restricted. Errors: another one is there.
    pub fn restrict(&self, path: &Path, mount: &MountEntry, with: Restrictions) -> io::Result<()> {
        let at = self.find(path).map_err(io::Error::other)?;
        if at.mount.is_none_or(|there| there.id != mount.id) {
            return Err(io::Error::other("another mount is there by now"));
        }
        let restrict = || attributes::set(at.directory.as_fd(), Attribute::Restricted(with));
        self.inside(|| {
            restrict().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })
    }

    /// A mount on a shared mount appears at all its peers.
    fn refuse_shared(&self, at: &AttachPoint) -> Result<(), InsideError> {
        let failed = |error: io::Error| self.failed(&at.path, error);
        let Some(mount) = &at.mount else {
            let why = "the process does not tell which mount it is on";
            return Err(failed(io::Error::other(why)));
        };
        let Some(group) = mount.peer_group else {
            return Ok(());
        };
        let own = mounts_of("self").map_err(failed)?;
        if own.iter().any(|entry| entry.peer_group == Some(group)) {
            return Err(InsideError::Shared {
                path: at.path.clone(),
                process: self.process.clone(),
            });
        }
        Ok(())
    }

    /// Takes a mount of mediafs out; who has files open in it keeps those.
    ///
    /// Asks nothing of the daemon, which may be dead.
    pub fn detach(
        &self,
        mount: &MountEntry,
        at: &AttachPoint,
    ) -> Result<Vec<LeftBehind>, InsideError> {
        let failed = |error: io::Error| self.failed(&at.path, error);
        let (Some(parent), Some(name)) = (at.path.parent(), at.path.file_name()) else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        let parent = self.open(parent, OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS);
        let parent = parent.map_err(|errno| failed(errno.into()))?;
        let left = left_behind(self.process.pid, Wanted::In(mount)).unwrap_or_default();
        // Somebody else may have taken it out meanwhile, and something else be there.
        let now = self.find(&at.path)?.mount;
        if now.is_none_or(|now| now.id != mount.id) {
            return Err(failed(io::Error::other("another mount is there by now")));
        }
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        let detached = self.inside(|| {
            fchdir(&parent)?;
            unmount(name, flags)
        });
        detached.map_err(failed)?;
        Ok(left)
    }

    /// Runs a thread in the mount namespace.
    fn inside(&self, act: impl FnOnce() -> Result<(), Errno> + Send) -> io::Result<()> {
        let entered = || {
            // SAFETY: root and working directory become the thread's own, which setns(2)
            // asks for; descriptors stay those of the process.
            unsafe { unshare_unsafe(UnshareFlags::FS) }?;
            move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
            act()
        };
        std::thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(io::Error::other("the thread has panicked")),
        })
    }

    fn failed(&self, path: &Path, source: io::Error) -> InsideError {
        InsideError::Io {
            path: path.to_owned(),
            process: self.process.clone(),
            source,
        }
    }
}
