//! Directories and files on this machine that are this user's alone.
//!
//! What the daemon writes holds an application's bytes, and where it writes is
//! told by configuration: nothing that another user put in its place is followed.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError};
use rustix::fs::Access;

/// Of one database, beside the `--memory` budget.
const DATABASE_CACHE_BYTES: usize = 16 << 20;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const WRITABLE_BY_ALL: u32 = 0o002;
const OTHERS: u32 = 0o077;
/// Only an entry's owner removes or renames it. Source: inode(7).
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// Why a directory or file is not this user's alone.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    #[error("{0} is a symlink, which is not followed: name the place that it leads to")]
    Symlink(PathBuf),
    #[error("{0} is not a directory")]
    NotADirectory(PathBuf),
    #[error("{0} is not a file")]
    NotAFile(PathBuf),
    #[error(
        "{path} belongs to user {owner}, but mediafs runs as user {own}: choose another directory, or 'chown' this one"
    )]
    Foreign { path: PathBuf, owner: u32, own: u32 },
    #[error(
        "{path} may be written by other users (mode {mode:04o}): check what is in it, then run 'chmod go-w {path}'"
    )]
    Writable { path: PathBuf, mode: u32 },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl From<NotPrivate> for io::Error {
    fn from(error: NotPrivate) -> Self {
        match error {
            NotPrivate::Io { source, .. } => source,
            error => Self::new(io::ErrorKind::PermissionDenied, error),
        }
    }
}

/// A directory that only this user may use; made where there is none, and then its
/// name outlives a power loss.
///
/// Errors: it is a symlink, or belongs to another user, or others may write to
/// it; its parent lets others put something else in its place.
pub fn directory(path: &Path) -> Result<(), NotPrivate> {
    let io_error = |source| NotPrivate::Io {
        path: path.to_owned(),
        source,
    };
    let is_missing =
        fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if is_missing {
        make(path).map_err(io_error)?;
    }
    let found = check_there(path)?;
    if found.mode() & OTHERS != 0 {
        let own = fs::Permissions::from_mode(found.mode() & 0o700);
        fs::set_permissions(path, own).map_err(io_error)?;
    }
    Ok(())
}

/// What `directory` would refuse, as far as it can be told: nothing is made or changed.
pub fn check_directory(path: &Path) -> Result<(), NotPrivate> {
    let mut all = path.ancestors();
    let there = all.find(|above| fs::symlink_metadata(above).is_ok());
    match there {
        None => Ok(()),
        Some(there) if there == path => check_there(path).map(drop),
        Some(above) => check_above(path, above),
    }
}

fn check_there(path: &Path) -> Result<Metadata, NotPrivate> {
    let found = fs::symlink_metadata(path).map_err(|source| NotPrivate::Io {
        path: path.to_owned(),
        source,
    })?;
    if found.is_symlink() {
        return Err(NotPrivate::Symlink(path.to_owned()));
    }
    if !found.is_dir() {
        return Err(NotPrivate::NotADirectory(path.to_owned()));
    }
    check_owner(path, &found)?;
    check_mode(path, &found, WRITABLE_BY_OTHERS)?;
    if let Some(parent) = path.parent() {
        check_parent(parent)?;
    }
    Ok(found)
}

/// Whether a directory that is not there can be made below the nearest one that is.
fn check_above(path: &Path, above: &Path) -> Result<(), NotPrivate> {
    let io_error = |source| NotPrivate::Io {
        path: above.to_owned(),
        source,
    };
    if !fs::metadata(above).map_err(io_error)?.is_dir() {
        return Err(NotPrivate::NotADirectory(above.to_owned()));
    }
    rustix::fs::access(above, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|errno| io_error(errno.into()))?;
    if path.parent() == Some(above) {
        check_parent(above)?;
    }
    Ok(())
}

/// Makes a directory with those above it, and syncs what their names are in.
fn make(path: &Path) -> io::Result<()> {
    let new = path.ancestors().take_while(|above| !above.exists());
    let new = new.count();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)?;
    for above in path.ancestors().skip(1).take(new) {
        let is_here = above == Path::new("");
        let above = if is_here { Path::new(".") } else { above };
        match File::open(above).and_then(|above| above.sync_all()) {
            // One that this user may write to and not read cannot be synced.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Who may rename the directory's entries: this user and root, nobody else.
fn check_parent(parent: &Path) -> Result<(), NotPrivate> {
    let found = fs::metadata(parent).map_err(|source| NotPrivate::Io {
        path: parent.to_owned(),
        source,
    })?;
    if found.uid() != ROOT {
        check_owner(parent, &found)?;
    }
    if found.mode() & STICKY != 0 {
        return Ok(());
    }
    check_mode(parent, &found, WRITABLE_BY_ALL)
}

fn check_owner(path: &Path, found: &Metadata) -> Result<(), NotPrivate> {
    let own = rustix::process::geteuid().as_raw();
    if found.uid() == own {
        return Ok(());
    }
    Err(NotPrivate::Foreign {
        path: path.to_owned(),
        owner: found.uid(),
        own,
    })
}

fn check_mode(path: &Path, found: &Metadata, forbidden: u32) -> Result<(), NotPrivate> {
    let mode = found.mode() & 0o7777;
    if mode & forbidden == 0 {
        return Ok(());
    }
    Err(NotPrivate::Writable {
        path: path.to_owned(),
        mode,
    })
}

/// Opens a database in such a file, or makes one. Its cache has a bound: redb's own is 1 GiB.
///
/// Errors: as `open`, and the database's.
pub fn database(path: &Path) -> Result<Database, DatabaseError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = FileBackend::new(open(path, &options)?)?;
    let mut builder = Database::builder();
    builder.set_cache_size(DATABASE_CACHE_BYTES);
    builder.create_with_backend(file)
}

/// Opens a file of this user's; made, it is for this user's eyes only.
///
/// Errors: a symlink, a device, a pipe, another user's file; the disk's.
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let file = open_unfollowed(path, options)?;
    check_owner(path, &file.metadata()?)?;
    Ok(file)
}

/// The bytes of a file, whoever's it is, but of no other behind a symlink.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    view(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file to look at, whoever's it is, but no other behind a symlink.
pub fn view(path: &Path) -> io::Result<File> {
    open_unfollowed(path, OpenOptions::new().read(true))
}

/// Makes a file with these bytes, in the place of one of this user's.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    open(path, &options)?.write_all(bytes)
}

/// The same, whole or not at all; it outlives a power loss once this returns.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = open(&beside, &options)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&beside, path)) {
        // A full disk has no room for what is of no use.
        fs::remove_file(&beside)?;
        return Err(error);
    }
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

fn open_unfollowed(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    // A pipe in the file's place does not hold the opener up.
    options
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path).map_err(|error| {
        let symlink = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        if symlink && error.kind() != io::ErrorKind::AlreadyExists {
            NotPrivate::Symlink(path.to_owned()).into()
        } else {
            error
        }
    })?;
    if !file.metadata()?.is_file() {
        return Err(NotPrivate::NotAFile(path.to_owned()).into());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_is_made_for_oneself_and_one_that_others_may_read_is_closed_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("a/b");
        directory(&made).unwrap();
        assert_eq!(mode_of(&made), 0o700);
        set_mode(&made, 0o755);
        directory(&made).unwrap();
        assert_eq!(mode_of(&made), 0o700);
    }

    #[test]
    fn a_directory_that_others_may_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        directory(&own).unwrap();
        for mode in [0o770, 0o702, 0o1777] {
            set_mode(&own, mode);
            let error = directory(&own).unwrap_err();
            assert!(matches!(error, NotPrivate::Writable { .. }), "{error}");
        }
        set_mode(&own, 0o700);
        let link = dir.path().join("link");
        symlink(&own, &link).unwrap();
        let error = directory(&link).unwrap_err();
        assert!(matches!(error, NotPrivate::Symlink(_)), "{error}");
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = directory(&file).unwrap_err();
        assert!(matches!(error, NotPrivate::NotADirectory(_)), "{error}");
        // Whoever may rename what is in the parent may put another in its place.
        set_mode(dir.path(), 0o777);
        let error = directory(&own).unwrap_err();
        assert!(matches!(error, NotPrivate::Writable { .. }), "{error}");
        set_mode(dir.path(), 0o1777);
        directory(&own).unwrap();
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("theirs");
        directory(&theirs).unwrap();
        let below = theirs.join("below");
        directory(&below).unwrap();
        let file = below.join("file");
        write(&file, b"x").unwrap();
        chown(&file, Some(65534), None).unwrap();
        let error = open(&file, OpenOptions::new().read(true)).unwrap_err();
        assert!(error.to_string().contains("65534"), "{error}");
        assert_eq!(read(&file).unwrap(), b"x");
        chown(&theirs, Some(65534), None).unwrap();
        for path in [&theirs, &below] {
            let error = directory(path).unwrap_err();
            assert!(matches!(error, NotPrivate::Foreign { .. }), "{error}");
        }
    }

    #[test]
    fn no_symlink_and_no_pipe_is_taken_for_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, b"precious").unwrap();
        symlink(&target, &link).unwrap();
        assert!(write(&link, b"x").is_err());
        let error = read(&link).unwrap_err();
        assert!(error.to_string().contains("symlink"), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        let pipe = dir.path().join("pipe");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        );
        made.unwrap();
        assert!(read(&pipe).is_err());
        write(&dir.path().join("new"), b"x").unwrap();
        assert_eq!(mode_of(&dir.path().join("new")), 0o600);
    }
}
