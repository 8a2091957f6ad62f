//! System calls whose result or order `std` hides.

use std::ffi::{CStr, CString, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr::NonNull;

/// close(2), with its result.
pub fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor was owned by `file`, which is gone.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has SIGHUP end a command, also where who runs the tests was started by nohup(1).
pub fn ends_by_hangup(command: &mut Command) -> &mut Command {
    let reset = || {
        // SAFETY: no handler is set.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
        Ok(())
    };
    // SAFETY: signal(2) may be called between fork(2) and execve(2).
    unsafe { command.pre_exec(reset) }
}

/// ioctl(TCGETS), as Python asks every file that it opens.
pub fn terminal_settings(file: &File) -> io::Result<()> {
    let mut settings = std::mem::MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the descriptor is open and `settings` has the size that the call fills.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::TCGETS, settings.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// open(2) with plain flags; the mode of a new file is 0644.
pub fn open(path: impl AsRef<Path>, flags: i32) -> io::Result<File> {
    let access = flags & libc::O_ACCMODE;
    OpenOptions::new()
        .read(access != libc::O_WRONLY)
        .write(access != libc::O_RDONLY)
        // `create` refuses O_RDONLY; the flag itself goes through `custom_flags`.
        .custom_flags(flags & !libc::O_ACCMODE)
        .mode(0o644)
        .open(path)
}

/// The errno of a failure.
#[track_caller]
pub fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// Has the kernel forget every name and inode of a mount that nobody uses.
///
/// A remount that changes nothing does it, and unlike drop_caches it leaves the
/// mounts of other tests alone. Source: fs/super.c, `reconfigure_super`.
pub fn drop_names(root: &Path) {
    let root = CString::new(root.as_os_str().as_bytes()).unwrap();
    let flags = libc::MS_REMOUNT | libc::MS_NOSUID | libc::MS_NODEV;
    let none = std::ptr::null();
    // SAFETY: the path is a C string that outlives the call; the rest is absent.
    let outcome = unsafe { libc::mount(none, root.as_ptr(), none, flags, none.cast()) };
    assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
}

/// An open directory stream, with positions.
#[derive(Debug)]
pub struct DirStream(NonNull<libc::DIR>);

/// One entry, as readdir(3) gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    pub name: OsString,
    /// `DT_REG`, `DT_DIR`...
    pub kind: u8,
    pub ino: u64,
}

impl DirStream {
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a C string that outlives the call.
        let stream = unsafe { libc::opendir(path.as_ptr()) };
        NonNull::new(stream)
            .map(Self)
            .ok_or_else(io::Error::last_os_error)
    }

    pub fn next(&mut self) -> Option<DirEntry> {
        // SAFETY: the stream is open; the entry is copied before the next call.
        unsafe {
            let entry = libc::readdir(self.0.as_ptr());
            let entry = entry.as_ref()?;
            let name = CStr::from_ptr(entry.d_name.as_ptr()).to_bytes().to_vec();
            Some(DirEntry {
                name: OsString::from_vec(name),
                kind: entry.d_type,
                ino: entry.d_ino,
            })
        }
    }

    /// The names that are left, without `.` and `..`.
    pub fn rest(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(entry) = self.next() {
            let name = entry.name.into_string().unwrap();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names
    }

    pub fn tell(&mut self) -> i64 {
        // SAFETY: the stream is open.
        unsafe { libc::telldir(self.0.as_ptr()) }
    }

    pub fn seek(&mut self, position: i64) {
        // SAFETY: the stream is open, and `position` came from its `tell`.
        unsafe { libc::seekdir(self.0.as_ptr(), position) }
    }

    pub fn rewind(&mut self) {
        // SAFETY: the stream is open.
        unsafe { libc::rewinddir(self.0.as_ptr()) }
    }
}

impl Drop for DirStream {
    fn drop(&mut self) {
        // SAFETY: the stream is open and nobody else has it.
        unsafe { libc::closedir(self.0.as_ptr()) };
    }
}

/// A terminal that is hung up: each write is EIO.
pub fn terminal_without_its_other_end() -> File {
    let (mut main, mut end) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: the numbers outlive the call; the rest is absent.
    let outcome = unsafe { libc::openpty(&mut main, &mut end, none, none.cast(), none.cast()) };
    assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
    // SAFETY: the call opened both, and nobody else has them.
    let [main, end] = [main, end].map(|fd| unsafe { File::from_raw_fd(fd) });
    drop(main);
    end
}
