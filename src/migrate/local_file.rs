//! Files of the directory, each read as it was at one time or not at all.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags};

use super::described;
use super::entry::Stat;
use super::sums::{Summing, Sums};
use super::walk::{Symlinks, resolve_flags};
use crate::vocabulary::Xattrs;

/// Read, and in memory, at once.
const PIECE_BYTES: usize = 1 << 20;
/// Looks at a file that is being written.
const LOOKS: usize = 4;
/// Between two of them.
const LOOK_PAUSE: Duration = Duration::from_millis(25);

/// The bytes that were read are not of one version of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it changed while it was read")]
pub struct ChangedWhileRead;

/// A directory whose files are read.
#[derive(Debug, Clone)]
pub struct Tree {
    pub root: Arc<OwnedFd>,
    pub symlinks: Symlinks,
}

impl Tree {
    /// Opens a file, once what the kernel says of it would show every change.
    ///
    /// Errors: `ChangedWhileRead` of one that is written all the time; what is no file.
    pub async fn open(&self, path: &str) -> io::Result<LocalFile> {
        for _ in 0..LOOKS {
            let file = self.open_now(path)?;
            if !file.stat.may_hide_a_change() {
                return Ok(file);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Err(io::Error::other(ChangedWhileRead))
    }

    /// What a symlink leads to.
    pub fn link(&self, path: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = resolve_flags(Symlinks::Name);
        let link = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), how)?;
        Ok(rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes())
    }

    /// What a name is of, without following it.
    pub fn kind(&self, path: &str) -> io::Result<FileType> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = resolve_flags(Symlinks::Name);
        let opened = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), how)?;
        let found = File::from(opened).metadata()?;
        Ok(FileType::from_raw_mode(Stat::from(&found).mode))
    }

    /// What a directory is like.
    pub async fn directory(&self, path: &str) -> io::Result<Stat> {
        let (this, path) = (self.clone(), path.trim_end_matches('/').to_owned());
        blocking(move || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let how = resolve_flags(this.symlinks);
            let opened = rustix::fs::openat2(&this.root, path, flags, Mode::empty(), how)?;
            Ok(Stat::from(&File::from(opened).metadata()?))
        })
        .await
    }

    fn open_now(&self, path: &str) -> io::Result<LocalFile> {
        // A FIFO that took its place is not waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let how = resolve_flags(self.symlinks);
        let file = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), how)?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file any more"));
        }
        LocalFile::own(file)
    }
}

/// An open file, as it was when it was opened.
#[derive(Clone)]
pub struct LocalFile {
    file: Arc<File>,
    stat: Stat,
}

impl fmt::Debug for LocalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalFile").field(&self.stat).finish()
    }
}

impl LocalFile {
    /// A file that nobody else has.
    pub fn own(file: File) -> io::Result<Self> {
        let stat = Stat::from(&file.metadata()?);
        let file = Arc::new(file);
        Ok(Self { file, stat })
    }

    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Exactly the bytes of a range. Errors: `ChangedWhileRead`.
    pub async fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let this = self.clone();
        blocking(move || this.read_now(range)).await
    }

    fn read_now(&self, range: Range<u64>) -> io::Result<Bytes> {
        let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        let outcome = self.file.read_exact_at(&mut bytes, range.start);
        self.check()?;
        outcome?;
        Ok(bytes.into())
    }

    /// Reads all of it. Errors: `ChangedWhileRead`.
    pub async fn sums(&self, mut summing: Summing) -> io::Result<Sums> {
        let this = self.clone();
        let sum = move || {
            let mut piece = vec![0; PIECE_BYTES];
            let mut at = 0;
            while at < this.stat.size_bytes {
                let read = this.file.read_at(&mut piece, at)?;
                if read == 0 {
                    return Err(io::Error::other(ChangedWhileRead));
                }
                summing.add(piece.get(..read).unwrap_or_default());
                at += read as u64;
            }
            this.check()?;
            Ok(summing.finish())
        };
        blocking(sum).await
    }

    /// Extended attributes that a mount would keep. Errors: `ChangedWhileRead`; the disk's.
    pub async fn xattrs(&self) -> io::Result<Xattrs> {
        let this = self.clone();
        blocking(move || {
            let found = described::xattrs(&this.file);
            this.check()?;
            found
        })
        .await
    }

    fn check(&self) -> io::Result<()> {
        if Stat::from(&self.file.metadata()?) == self.stat {
            Ok(())
        } else {
            Err(io::Error::other(ChangedWhileRead))
        }
    }
}

/// Whether a file was written while it was read.
pub fn is_changed_while_read(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<ChangedWhileRead>())
}

/// Runs what waits for the disk.
pub async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(run).await {
        Ok(outcome) => outcome,
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::migrate::sums::More;
    use crate::migrate::walk::open_root;

    fn tree(path: &Path, symlinks: Symlinks) -> Tree {
        Tree {
            root: Arc::new(open_root(path).unwrap()),
            symlinks,
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_gives_no_bytes_of_before_and_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "before").unwrap();
        let tree = tree(dir.path(), Symlinks::Name);
        let file = tree.open("f").await.unwrap();
        assert_eq!(file.read(0..6).await.unwrap(), "before");
        fs::write(&path, "after!").unwrap();
        let error = file.read(0..6).await.unwrap_err();
        assert!(is_changed_while_read(&error), "{error}");
        let summing = Summing::new(6, None, More::Nothing);
        let error = file.sums(summing).await.unwrap_err();
        assert!(is_changed_while_read(&error), "{error}");
    }

    #[tokio::test]
    async fn no_symlink_leads_out_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        symlink("..", dir.path().join("in/up")).unwrap();
        let root = dir.path().join("in");
        for symlinks in [Symlinks::Name, Symlinks::Inside] {
            let opened = tree(&root, symlinks).open("up/secret").await;
            assert!(opened.is_err(), "{symlinks:?}");
        }
        let opened = tree(&root, Symlinks::Everywhere).open("up/secret").await;
        assert!(opened.is_ok());
    }
}
