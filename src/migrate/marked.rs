//! A mark on files that an export has not finished, so that no file of somebody else with
//! such a name is taken for one.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Mode, XattrFlags};

/// Ours alone: neither sent nor given by attributes that are stored.
const MARK: &str = "user.mediafs.unfinished";

/// Marks a file. One of a file system without extended attributes has no mark.
pub fn mark(file: &File) -> io::Result<()> {
    match rustix::fs::fsetxattr(file, MARK, b"1", XattrFlags::empty()) {
        Err(error) if !has_none(error.into()) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Removes the mark. The kernel asks for the right to write, which a read-only file gives to
/// root alone: its owner gets it meanwhile.
pub fn unmark(file: &File) -> io::Result<()> {
    match remove(file) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let mode = Mode::from_raw_mode(file.metadata()?.mode());
            rustix::fs::fchmod(file, mode | Mode::WUSR)?;
            let removed = remove(file);
            rustix::fs::fchmod(file, mode)?;
            removed
        }
        removed => removed,
    }
}

fn remove(file: &File) -> io::Result<()> {
    match rustix::fs::fremovexattr(file, MARK) {
        Err(error) if is_marked(file) && !has_none(error.into()) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether a file has it, or is where no file can have one.
pub fn is_marked(file: &File) -> bool {
    let mut value = [0; 8];
    match rustix::fs::fgetxattr(file, MARK, &mut value[..]) {
        Err(error) => has_none(error.into()),
        Ok(_) => true,
    }
}

/// Whether files have no extended attributes there.
fn has_none(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
}
