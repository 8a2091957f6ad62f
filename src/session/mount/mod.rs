//! mount(2) and umount(2), or fusermount3 for users other than root.

mod attributes;
pub mod bare;
mod beneath;
pub mod bind;
pub mod busy;
pub mod connection;
pub mod elsewhere;
pub mod fusermount;
pub mod inside;
pub mod left_behind;
pub mod mountinfo;
pub mod mountpoint;
pub mod places;
pub mod probe;
pub mod processes;
pub mod remount;
pub mod replace;
pub mod selinux;
pub mod still_seen;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::session::mount::connection::is_connected;
use crate::session::mount::mountinfo::{MountEntry, mount_at, mounts_of, topmost};

const DEVICE: &str = "/dev/fuse";
/// Type shown by mount(8): its part behind the dot is ours.
pub const FS_TYPE: &str = "fuse.mediafs";
/// Read-ahead of the mount; the kernel's default of 128 KiB keeps S3 idle between requests.
const READ_AHEAD_KIB: u32 = 16 << 10;

/// What the kernel is told about the mount.
#[derive(Debug, Clone)]
pub struct MountSettings {
    /// Shown as the mount's source.
    pub source: String,
    pub sharing: Sharing,
    pub access: crate::ops::Access,
    pub execution: Execution,
    /// Of SELinux.
    pub context: Option<String>,
}

/// Whether files of the mount may be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    Allowed,
    Refused,
}

/// Who may use the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    OwnerOnly,
    AllUsers,
}

/// Why mounting failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error(
        "{DEVICE} is missing: load it with 'modprobe fuse'; in a container, start it with '--device /dev/fuse'"
    )]
    NoDevice,
    /// By its mode.
    #[error("{DEVICE} cannot be opened ({0}): run 'chmod 0666 {DEVICE}' as root")]
    DeviceRefused(io::Error),
    /// By the rules for devices of a control group.
    #[error(
        "{DEVICE} may not be opened here ({0}): start the container with '--device {DEVICE}', or add 'DeviceAllow={DEVICE} rw' to the service"
    )]
    DeviceDenied(io::Error),
    #[error("{0} is busy: something else is being mounted there")]
    Busy(PathBuf),
    #[error("mount on {path} refused ({source}): root in a container needs CAP_SYS_ADMIN")]
    Refused { path: PathBuf, source: io::Error },
    #[error(
        "fusermount3 is not installed, and only root can mount without it: run 'apt-get install fuse3'"
    )]
    NoFusermount,
    #[error("fusermount3 failed: {0}: 'mediafs doctor' checks what it needs")]
    Fusermount(String),
    #[error(
        "--allow-other needs the line 'user_allow_other' in /etc/fuse.conf when not run as root"
    )]
    AllowOtherNotPermitted,
}

/// How hard to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmountMode {
    /// Fails while files are open.
    Plain,
    /// Takes the name away now; the file system goes when the last file is closed.
    Lazy,
}

/// What came of unmounting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    Done,
    Busy,
}

/// A mount of ours, wherever it is: a folder above it may be renamed.
#[derive(Debug)]
pub struct Mounted {
    /// Where it was seen last.
    mountpoint: Mutex<PathBuf>,
    /// Of the mount itself: another file system at the same path has another one.
    mount_id: Option<u64>,
    /// Of its file system, `major:minor`.
    device: Option<String>,
    /// What the kernel's requests come from; none where no descriptor was left.
    session: Option<OwnedFd>,
}

/// Whether the process may mount by itself.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Mounts on a checked mountpoint and returns the descriptor that the kernel's requests come from.
pub fn mount(
    mountpoint: &Path,
    settings: &MountSettings,
) -> Result<(OwnedFd, Mounted), MountError> {
    if !Path::new(DEVICE).exists() {
        return Err(MountError::NoDevice);
    }
    let device = if is_root() {
        mount_as_root(mountpoint, settings)?
    } else {
        fusermount::mount(mountpoint, settings)?
    };
    if let Some(entry) = mount_at(mountpoint).ok().flatten().filter(|_| is_root()) {
        raise_read_ahead(&entry.device);
    }
    let mounted = Mounted::at(mountpoint, &device);
    Ok((device, mounted))
}

/// Opens what the kernel's requests come from. Errors: why it cannot be, and what to do.
pub fn open_device() -> Result<File, MountError> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    device.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::ACCESS) => MountError::DeviceRefused(error),
        Some(Errno::PERM) => MountError::DeviceDenied(error),
        // Its node is there, and nothing behind it.
        _ => MountError::NoDevice,
    })
}

fn mount_as_root(mountpoint: &Path, settings: &MountSettings) -> Result<OwnedFd, MountError> {
    let device = open_device()?;
    let refused = |source: io::Error| MountError::Refused {
        path: mountpoint.to_owned(),
        source,
    };
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if settings.access == crate::ops::Access::ReadOnly {
        flags |= MountFlags::RDONLY;
    }
    if settings.execution == Execution::Refused {
        flags |= MountFlags::NOEXEC;
    }
    let data = CString::new(mount_data(&device, settings))
        .map_err(|_| refused(io::ErrorKind::InvalidInput.into()))?;
    match rustix::mount::mount(
        settings.source.as_str(),
        mountpoint,
        FS_TYPE,
        flags,
        data.as_c_str(),
    ) {
        Ok(()) => Ok(device.into()),
        Err(Errno::BUSY) => Err(MountError::Busy(mountpoint.to_owned())),
        Err(error) => Err(refused(error.into())),
    }
}

/// Options of the fuse file system type. Source: Documentation/filesystems/fuse.rst.
fn mount_data(device: &File, settings: &MountSettings) -> String {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let mut data = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions",
        device.as_raw_fd()
    );
    if settings.sharing == Sharing::AllUsers {
        data.push_str(",allow_other");
    }
    if let Some(context) = &settings.context {
        data.push(',');
        data.push_str(&selinux::option(context));
    }
    data
}

/// Best effort: where it cannot be set, reads are only slower.
fn raise_read_ahead(device: &str) {
    let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
    match fs::write(&path, READ_AHEAD_KIB.to_string()) {
        Ok(()) => tracing::info!(read_ahead_kib = READ_AHEAD_KIB, "read-ahead raised"),
        Err(error) => tracing::debug!(path, %error, "read-ahead not raised"),
    }
}

impl Mounted {
    /// What is mounted at the path now, by this session.
    pub fn at(mountpoint: &Path, session: &OwnedFd) -> Self {
        let entry = mount_at(mountpoint).ok().flatten();
        Self {
            mountpoint: Mutex::new(mountpoint.to_owned()),
            mount_id: entry.as_ref().map(|entry| entry.id),
            device: entry.map(|entry| entry.device),
            session: session.try_clone().ok(),
        }
    }

    /// The file system of this device number that a session has from its predecessor, where
    /// it was, or where it is since a folder above it was renamed.
    pub fn of_session(mountpoint: &Path, device: &str, session: &OwnedFd) -> Self {
        let entry = mount_at(mountpoint).ok().flatten();
        let own = entry.filter(|entry| entry.device == device);
        let own = own.or_else(|| moved(device, session));
        let path = own
            .as_ref()
            .map_or(mountpoint, |own| own.mountpoint.as_path());
        Self {
            mountpoint: Mutex::new(path.to_owned()),
            mount_id: own.as_ref().map(|entry| entry.id),
            device: Some(device.to_owned()),
            session: session.try_clone().ok(),
        }
    }

    /// Where it is; none once it was taken away, or something else lies on it.
    fn place(&self) -> io::Result<Option<PathBuf>> {
        let Some(id) = self.mount_id else {
            return Ok(None);
        };
        let entries = mounts_of("self")?;
        let is_on_top = |path: &Path| {
            let there = topmost(entries.clone(), path);
            there.is_some_and(|there| there.id == id)
        };
        let mut mountpoint = self.mountpoint.lock();
        if is_on_top(&mountpoint) {
            return Ok(Some(mountpoint.clone()));
        }
        let is_ours = |entry: &&MountEntry| entry.id == id && is_of(entry, self.device.as_deref());
        let moved = entries.iter().find(is_ours);
        let moved = moved.filter(|moved| is_on_top(&moved.mountpoint));
        // Without a connection, both numbers may be those of another mount by now.
        let session = self.session.as_ref();
        let moved = moved.filter(|_| session.is_some_and(|it| is_connected(it.as_fd())));
        Ok(moved.map(|moved| {
            mountpoint.clone_from(&moved.mountpoint);
            mountpoint.clone()
        }))
    }

    /// Unmounts, unless something else is mounted at the path by now.
    pub fn unmount(&self, mode: UnmountMode) -> io::Result<Unmounted> {
        let Some(mountpoint) = self.place()? else {
            return Ok(Unmounted::Done);
        };
        if !is_root() {
            return unmount_as_user(&mountpoint, mode);
        }
        let mut flags = UnmountFlags::NOFOLLOW;
        if mode == UnmountMode::Lazy {
            flags |= UnmountFlags::DETACH;
        }
        match rustix::mount::unmount(&mountpoint, flags) {
            Ok(()) => Ok(Unmounted::Done),
            Err(Errno::BUSY) => Ok(Unmounted::Busy),
            // Gone between the look and the call.
            Err(Errno::INVAL) => Ok(Unmounted::Done),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is still mounted.
    pub fn is_attached(&self) -> io::Result<bool> {
        Ok(self.place()?.is_some())
    }

    /// Device number of its file system, as mountinfo has it.
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// Where it is, or was last.
    pub fn path(&self) -> PathBuf {
        let now = self.place().ok().flatten();
        now.unwrap_or_else(|| self.mountpoint.lock().clone())
    }
}

fn is_of(entry: &MountEntry, device: Option<&str>) -> bool {
    entry.fs_type == FS_TYPE && device == Some(entry.device.as_str())
}

/// The only mount of a file system, while its session is connected.
fn moved(device: &str, session: &OwnedFd) -> Option<MountEntry> {
    let entries = mounts_of("self").ok()?.into_iter();
    let mut own = entries.filter(|entry| is_of(entry, Some(device)));
    match (own.next(), own.next()) {
        // Otherwise the number may be that of another mount by now.
        (Some(only), None) if is_connected(session.as_fd()) => Some(only),
        _ => None,
    }
}

fn unmount_as_user(mountpoint: &Path, mode: UnmountMode) -> io::Result<Unmounted> {
    let flag = if mode == UnmountMode::Lazy {
        "-uz"
    } else {
        "-u"
    };
    let status = Command::new("fusermount3")
        .args([flag, "--"])
        .arg(mountpoint)
        .stderr(Stdio::null())
        .status()?;
    Ok(if status.success() {
        Unmounted::Done
    } else {
        Unmounted::Busy
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_where_a_folder_above_it_was_renamed_and_nowhere_once_it_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (old, new) = (dir.join("old/m"), dir.join("new/m"));
        fs::create_dir_all(&old).unwrap();
        let settings = MountSettings {
            source: "mediafs:bucket".to_owned(),
            sharing: Sharing::OwnerOnly,
            access: crate::ops::Access::ReadOnly,
            execution: Execution::Allowed,
            context: None,
        };
        let (device, mounted) = mount(&old, &settings).unwrap();
        fs::rename(dir.join("old"), dir.join("new")).unwrap();
        let number = mounted.device().unwrap();
        let successors = Mounted::of_session(&old, number, &device);
        assert_eq!((mounted.path(), successors.path()), (new.clone(), new));
        assert_eq!(
            mounted.unmount(UnmountMode::Plain).unwrap(),
            Unmounted::Done
        );
        assert!(!mounted.is_attached().unwrap());
        assert!(!successors.is_attached().unwrap());
    }

    #[test]
    fn a_mount_with_odd_names_appears_and_goes_and_a_stranger_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mountpoint = dir.path().canonicalize().unwrap().join("a, b\nü");
        fs::create_dir(&mountpoint).unwrap();
        let settings = MountSettings {
            source: "mediafs:bucket/with, comma".to_owned(),
            sharing: Sharing::AllUsers,
            access: crate::ops::Access::ReadOnly,
            execution: Execution::Refused,
            context: None,
        };
        let (device, mounted) = mount(&mountpoint, &settings).unwrap();
        let entry = mount_at(&mountpoint).unwrap().unwrap();
        assert_eq!(
            (entry.fs_type.as_str(), entry.source.as_str()),
            (FS_TYPE, settings.source.as_str())
        );
        let stranger = Mounted {
            mountpoint: Mutex::new(mountpoint.clone()),
            mount_id: Some(entry.id + 1_000_000),
            device: None,
            session: None,
        };
        assert_eq!(
            stranger.unmount(UnmountMode::Lazy).unwrap(),
            Unmounted::Done
        );
        assert!(
            mount_at(&mountpoint).unwrap().is_some(),
            "another mount at the path is not ours to take"
        );
        assert_eq!(mounted.unmount(UnmountMode::Lazy).unwrap(), Unmounted::Done);
        assert!(mount_at(&mountpoint).unwrap().is_none());
        drop(device);
    }
}
