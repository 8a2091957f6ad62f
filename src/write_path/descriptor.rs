//! The open file of a stage: kept while the stage is written, opened by its path for
//! each use once it is sealed.
//!
//! Thousands of stages may wait for S3. None of them keeps a descriptor, and those that
//! are written leave some to sockets and to what is opened for a moment.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use crate::error::OutOfDescriptors;
use crate::private;

/// Of the process's descriptors so many are for other things than stages, or half of
/// them where it may have few.
const RESERVED: u64 = 256;

/// How many stages keep their file open.
#[derive(Debug)]
pub struct DescriptorQuota {
    limit: u64,
    kept: AtomicU64,
}

impl DescriptorQuota {
    /// What the process may have open now decides.
    pub fn of_process() -> Self {
        let open_files = getrlimit(Resource::Nofile).current;
        let open_files = open_files.unwrap_or(u64::MAX);
        Self::new(open_files.saturating_sub(RESERVED).max(open_files / 2))
    }

    fn new(limit: u64) -> Self {
        Self {
            limit,
            kept: AtomicU64::new(0),
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Permit> {
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let one_more = |kept| Some(kept + 1).filter(|kept| *kept <= self.limit);
        let taken = self.kept.fetch_update(set, fetch, one_more);
        taken.ok().map(|_| Permit(self.clone()))
    }
}

/// One stage keeps its file open.
#[derive(Debug)]
struct Permit(Arc<DescriptorQuota>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a stage's file is, and its descriptor where it keeps one.
#[derive(Debug)]
pub(super) struct StageDescriptor {
    quota: Arc<DescriptorQuota>,
    /// Device and inode number: no other file is taken for it.
    identity: (u64, u64),
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    kept: Option<(Arc<File>, Option<Permit>)>,
    /// Whoever uses it now shares it.
    used: Weak<File>,
}

impl StageDescriptor {
    /// Makes the file and keeps it open.
    ///
    /// Errors: the disk's; `OutOfDescriptors`.
    pub fn create(path: PathBuf, quota: &Arc<DescriptorQuota>) -> io::Result<Self> {
        let permit = quota.try_take();
        let permit = permit.ok_or_else(|| io::Error::other(OutOfDescriptors))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = Arc::new(private::open(&path, &options)?);
        let this = Self::of(path, quota, &file)?;
        this.state.lock().kept = Some((file, Some(permit)));
        Ok(this)
    }

    /// A file that is there already.
    pub fn find(path: PathBuf, quota: &Arc<DescriptorQuota>) -> io::Result<Self> {
        let file = Arc::new(private::open(&path, OpenOptions::new().read(true))?);
        Self::of(path, quota, &file)
    }

    fn of(path: PathBuf, quota: &Arc<DescriptorQuota>, file: &Arc<File>) -> io::Result<Self> {
        Ok(Self {
            quota: quota.clone(),
            identity: identity(file)?,
            state: Mutex::new(State {
                path,
                kept: None,
                used: Weak::new(),
            }),
        })
    }

    pub fn path(&self) -> PathBuf {
        self.state.lock().path.clone()
    }

    /// The file, for as long as it is used.
    ///
    /// It can be read where the disk has become read-only.
    pub fn file(&self) -> io::Result<Arc<File>> {
        self.opened_to_read(&mut self.state.lock())
    }

    /// The same, which stays open until `release`; where too many are, only for this use.
    pub fn file_to_write(&self) -> io::Result<Arc<File>> {
        let mut state = self.state.lock();
        let file = self.opened(&mut state)?;
        if state.kept.is_none()
            && let Some(permit) = self.quota.try_take()
        {
            state.kept = Some((file.clone(), Some(permit)));
        }
        Ok(file)
    }

    /// The stage is not written any more.
    pub fn release(&self) {
        self.state.lock().kept = None;
    }

    /// Renames the file by `rename`, which returns where it is then.
    pub fn moved(&self, rename: impl FnOnce(&Path) -> io::Result<PathBuf>) -> io::Result<PathBuf> {
        let mut state = self.state.lock();
        let path = rename(&state.path)?;
        state.path = path.clone();
        Ok(path)
    }

    /// Removes the file. Whoever holds the stage uses it on.
    ///
    /// Errors: the disk's; it cannot be opened, which it has to be before.
    pub fn unlink(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.kept.is_none() {
            let file = self.opened_to_read(&mut state)?;
            state.kept = Some((file, None));
        }
        std::fs::remove_file(&state.path)
    }

    fn opened(&self, state: &mut State) -> io::Result<Arc<File>> {
        if let Some((file, _)) = &state.kept {
            return Ok(file.clone());
        }
        if let Some(file) = state.used.upgrade() {
            return Ok(file);
        }
        let file = self.checked(&state.path, open(&state.path)?)?;
        state.used = Arc::downgrade(&file);
        Ok(file)
    }

    fn opened_to_read(&self, state: &mut State) -> io::Result<Arc<File>> {
        match self.opened(state) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                let file = private::open(&state.path, OpenOptions::new().read(true))?;
                self.checked(&state.path, file)
            }
            opened => opened,
        }
    }

    fn checked(&self, path: &Path, file: File) -> io::Result<Arc<File>> {
        if identity(&file)? != self.identity {
            let place = path.display();
            let error = format!("another file is in the place of the stage {place}");
            return Err(io::Error::other(error));
        }
        Ok(Arc::new(file))
    }
}

fn open(path: &Path) -> io::Result<File> {
    private::open(path, OpenOptions::new().read(true).write(true))
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let found = file.metadata()?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::error::FsError;

    fn quota(limit: u64) -> Arc<DescriptorQuota> {
        Arc::new(DescriptorQuota::new(limit))
    }

    fn text(descriptor: &StageDescriptor) -> io::Result<String> {
        let mut text = String::new();
        (&*descriptor.file()?).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn a_file_is_made_while_fewer_than_the_limit_are_kept_and_released_ones_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let quota = quota(2);
        let make = |name: &str| StageDescriptor::create(dir.path().join(name), &quota);
        let (first, _second) = (make("1").unwrap(), make("2").unwrap());
        let refused = FsError::from(make("3").unwrap_err());
        assert!(matches!(refused, FsError::TooManyOpenFiles));
        assert!(!dir.path().join("3").exists());
        first.release();
        make("3").unwrap();
        let third = make("4").unwrap();
        assert_eq!(text(&first).unwrap(), "", "opened for a moment");
        drop(first.file_to_write().unwrap());
        drop(third);
        drop(first.file_to_write().unwrap());
        assert!(make("5").is_err(), "the first one is kept again");
    }

    #[test]
    fn whoever_uses_it_shares_one_that_is_closed_after() {
        let dir = tempfile::tempdir().unwrap();
        let made = StageDescriptor::create(dir.path().join("1"), &quota(1)).unwrap();
        made.release();
        let (first, second) = (made.file().unwrap(), made.file().unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        let used = Arc::downgrade(&first);
        drop((first, second));
        assert!(used.upgrade().is_none());
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_found_and_another_in_its_place_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let quota = quota(9);
        let make = |name: &str| {
            let path = dir.path().join(name);
            let made = StageDescriptor::create(path.clone(), &quota).unwrap();
            std::fs::write(&path, name).unwrap();
            made.release();
            (path, made)
        };
        let (path, moved) = make("moved");
        let aside = dir.path().join("aside");
        let rename = |from: &Path| std::fs::rename(from, &aside).map(|()| aside.clone());
        moved.moved(rename).unwrap();
        std::fs::write(&path, "another").unwrap();
        assert_eq!(text(&moved).unwrap(), "moved");

        let (path, removed) = make("removed");
        removed.unlink().unwrap();
        std::fs::write(&path, "another").unwrap();
        assert_eq!(text(&removed).unwrap(), "removed");

        let (path, replaced) = make("replaced");
        let _in_use = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(replaced.file().is_err());
        std::fs::write(&path, "another").unwrap();
        assert!(replaced.file().is_err());
    }
}
