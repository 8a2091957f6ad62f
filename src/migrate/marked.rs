//! A mark on files that an export has not finished, so that no file of somebody else with
//! such a name is taken for one.

use std::fs::File;
use std::io;

use rustix::fs::XattrFlags;

/// Ours alone: neither sent nor given by attributes that are stored.
const MARK: &str = "user.mediafs.unfinished";

/// Marks a file. One of a file system without extended attributes has no mark.
pub fn mark(file: &File) -> io::Result<()> {
    match rustix::fs::fsetxattr(file, MARK, b"1", XattrFlags::empty()) {
        Err(error) if !has_none(error.into()) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Takes the mark away, once the file has all that it is to have.
pub fn unmark(file: &File) -> io::Result<()> {
    match is_marked(file) {
        true => match rustix::fs::fremovexattr(file, MARK) {
            Err(error) if !has_none(error.into()) => Err(error.into()),
            _ => Ok(()),
        },
        false => Ok(()),
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
