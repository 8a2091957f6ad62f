//! What daemons have left of other places (bucket, prefix and endpoint) below the same
//! directory. It shares the directory's size with the place that is mounted, and goes for
//! it: the folder used longest ago first, as a whole.
//!
//! A folder that another daemon uses, or that no daemon has made, is not touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::folder::{Folder, name_of};
use super::index::on_disk_bytes;

/// Others may have come to an end meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// More of them go.
const FOLDERS_LIMIT: usize = 1000;

/// The folders of places that nobody has mounted.
#[derive(Debug)]
pub struct FormerPlaces {
    root: PathBuf,
    /// Of the place that is mounted.
    own: String,
    found: Vec<Former>,
    looked_at: Option<Instant>,
}

#[derive(Debug)]
struct Former {
    path: PathBuf,
    used_bytes: u64,
    used_at: SystemTime,
}

impl Former {
    /// None where it is in use, or not a place's.
    fn at(path: &Path) -> io::Result<Option<Self>> {
        let Some(folder) = Folder::unused(path)? else {
            return Ok(None);
        };
        let mut former = Self {
            path: path.to_owned(),
            used_bytes: 0,
            used_at: SystemTime::UNIX_EPOCH,
        };
        folder.each_block(|block| {
            former.used_bytes += on_disk_bytes(block.len_bytes);
            former.used_at = former.used_at.max(block.used_at);
            Ok(())
        })?;
        Ok(Some(former))
    }

    /// Returns how many bytes that were there are not any more.
    fn remove(self) -> u64 {
        let removed = match Folder::unused(&self.path) {
            Ok(Some(folder)) => folder.remove_all(&self.path),
            Ok(None) => return 0,
            Err(error) => Err(error),
        };
        let dir = self.path.display();
        match removed {
            Ok(()) => {
                tracing::info!(%dir, bytes = self.used_bytes, "disk cache: removed blocks of another bucket, prefix or endpoint");
                self.used_bytes
            }
            Err(error) => {
                tracing::warn!(%dir, %error, "disk cache: cannot remove blocks of another bucket, prefix or endpoint");
                0
            }
        }
    }
}

impl FormerPlaces {
    pub fn new(root: &Path, place: &str) -> Self {
        Self {
            root: root.to_owned(),
            own: name_of(place),
            found: Vec::new(),
            looked_at: None,
        }
    }

    /// Looks for them, unless it was done a moment ago.
    pub fn look(&mut self) {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked_at = Some(Instant::now());
        if let Err(error) = self.find() {
            let dir = self.root.display();
            tracing::debug!(%dir, %error, "disk cache: folders of other places are not looked for");
        }
    }

    fn find(&mut self) -> io::Result<()> {
        self.found.clear();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_other = name.len() == self.own.len() && *name != *self.own;
            if !is_other || !entry.file_type()?.is_dir() {
                continue;
            }
            match Former::at(&entry.path()) {
                Ok(former) => self.found.extend(former),
                // Somebody else's.
                Err(error) => tracing::debug!(path = %entry.path().display(), %error, "no cache"),
            }
            if self.found.len() > FOLDERS_LIMIT {
                self.remove_oldest();
            }
        }
        Ok(())
    }

    /// On disk.
    pub fn used_bytes(&self) -> u64 {
        self.found.iter().map(|former| former.used_bytes).sum()
    }

    /// Has them take so many bytes at the most.
    pub fn shrink(&mut self, limit_bytes: u64) {
        self.give_up(self.used_bytes().saturating_sub(limit_bytes));
    }

    /// Gives up so many bytes, or all. Returns how many went.
    pub fn give_up(&mut self, bytes: u64) -> u64 {
        let mut went = 0;
        while went < bytes && !self.found.is_empty() {
            went += self.remove_oldest();
        }
        went
    }

    fn remove_oldest(&mut self) -> u64 {
        let found = self.found.iter().enumerate();
        let oldest = found.min_by_key(|(_, former)| former.used_at);
        match oldest.map(|(at, _)| at) {
            Some(at) => self.found.swap_remove(at).remove(),
            None => 0,
        }
    }
}
