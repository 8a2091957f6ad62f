//! A file that is written beside its place, and takes it whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A file on its way to its place.
#[derive(Debug)]
pub struct Unplaced {
    beside: PathBuf,
    place: PathBuf,
}

impl Unplaced {
    pub fn new(place: &Path) -> Self {
        let mut name = OsString::from(".");
        name.push(place.file_name().unwrap_or_default());
        name.push(".unfinished");
        Self {
            beside: place.with_file_name(name),
            place: place.to_owned(),
        }
    }

    /// One that a run before has left is not written to.
    pub fn create(&self) -> io::Result<File> {
        self.remove()?;
        File::create_new(&self.beside)
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Puts it in its place, where it outlives a power loss.
    pub fn place(self) -> io::Result<()> {
        fs::rename(&self.beside, &self.place)?;
        File::open(self.place.parent().unwrap_or(&self.place))?.sync_all()
    }
}

impl Drop for Unplaced {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            let path = self.beside.display();
            tracing::warn!(%error, %path, "an unfinished file is left");
        }
    }
}
