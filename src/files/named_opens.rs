//! Files that an operation holds while it changes their names.
//!
//! An open(2) that arrives in the middle finds the held file. That of a file which
//! moves shares it, and with it the copy that the rename goes over to. That of a
//! file whose name goes waits for the outcome, and looks the name up again: the
//! kernel does so once, and what has the name then stays until that open has come.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, RwLockWriteGuard};
use tokio::time::{Instant, timeout_at};

use super::file::OpenFile;
use super::table::OpenFiles;
use crate::error::FsError;
use crate::namespace::{Name, Namespace, Pin};
use crate::vocabulary::{Ino, OpenMode};

/// Longest time that an open which was told to look a name up again is waited for.
const AWAITED_WITHIN: Duration = Duration::from_secs(1);

/// Names that are remembered of files which have lost them.
const LOST_NAMES_LIMIT: usize = 256;

/// Files that an open(2) is about to come to, and until when.
#[derive(Debug, Default)]
pub struct AwaitedOpens {
    files: Mutex<HashMap<Ino, Instant>>,
    /// The last names that files of this mount lost, the oldest first.
    lost: Mutex<VecDeque<(Ino, (Ino, Name))>>,
    changed: Notify,
}

impl AwaitedOpens {
    fn add(&self, ino: Ino) {
        let now = Instant::now();
        let mut files = self.files.lock();
        files.retain(|_, until| *until > now);
        files.insert(ino, now + AWAITED_WITHIN);
    }

    fn lose(&self, ino: Ino, place: (Ino, Name)) {
        let mut lost = self.lost.lock();
        if lost.len() == LOST_NAMES_LIMIT {
            lost.pop_front();
        }
        lost.push_back((ino, place));
    }

    fn lost_name(&self, ino: Ino) -> Option<(Ino, Name)> {
        let lost = self.lost.lock();
        let found = lost.iter().rev().find(|(of, _)| *of == ino);
        found.map(|(_, place)| place.clone())
    }

    fn has(&self, ino: Ino) -> bool {
        self.files.lock().contains_key(&ino)
    }

    fn came(&self, ino: Ino) {
        if self.files.lock().remove(&ino).is_some() {
            self.changed.notify_waiters();
        }
    }

    async fn none_for(&self, ino: Ino) {
        loop {
            let changed = self.changed.notified();
            let Some(until) = self.files.lock().get(&ino).copied() else {
                return;
            };
            if timeout_at(until, changed).await.is_err() {
                self.files.lock().remove(&ino);
            }
        }
    }
}

/// Opens of files whose names are being changed.
#[derive(Debug)]
pub struct NamedOpens {
    pub namespace: Arc<Namespace>,
    pub files: Arc<OpenFiles>,
    pub awaited_opens: AwaitedOpens,
}

impl NamedOpens {
    /// As `open_inode`, once it is decided whether the file keeps its name.
    ///
    /// Errors: `Stale` where it has lost it meanwhile: the kernel then looks the
    /// name up again.
    pub async fn open_named(&self, inode: Pin, mode: OpenMode) -> Result<Arc<OpenFile>, FsError> {
        let ino = inode.ino;
        if self.namespace.table().place(ino).is_none() && self.files.get(ino).is_none() {
            return Err(self.look_up_again(ino).await);
        }
        let mut file = self.files.open(inode, mode);
        while file.removal.try_read().is_err() {
            // Not counted meanwhile: for a handle the bytes would be kept.
            self.files.close(&file, mode);
            drop(file.removal.read().await);
            if self.namespace.table().place(ino).is_none() {
                return Err(self.look_up_again(ino).await);
            }
            file = self.files.open(self.namespace.inode(ino)?, mode);
        }
        // What was refused at its close, and the store never had.
        if file.is_bare() && self.namespace.table().place(ino).is_none() {
            self.files.close(&file, mode);
            return Err(self.look_up_again(ino).await);
        }
        self.awaited_opens.came(ino);
        Ok(file)
    }

    /// The file is about to lose its name.
    pub fn lose_name(&self, file: &OpenFile) {
        if let Some(place) = self.namespace.table().place(file.inode.ino) {
            self.awaited_opens.lose(file.inode.ino, place);
        }
    }

    /// The file has lost its name: whoever opens it comes to what has the name now,
    /// once that is not about to lose it too.
    async fn look_up_again(&self, ino: Ino) -> FsError {
        let Some((dir, name)) = self.awaited_opens.lost_name(ino) else {
            return FsError::STALE;
        };
        while let Some(successor) = self.namespace.table().child(dir, &name) {
            self.awaited_opens.add(successor.ino);
            let Some(file) = self.files.get(successor.ino) else {
                break;
            };
            if file.removal.try_read().is_ok() {
                break;
            }
            drop(file.removal.read().await);
        }
        FsError::STALE
    }

    /// From now on opens wait: the file is about to lose its name.
    pub async fn begin_removal<'a>(&self, file: &'a OpenFile) -> RwLockWriteGuard<'a, ()> {
        loop {
            self.awaited_opens.none_for(file.inode.ino).await;
            let removal = file.removal.write().await;
            if !self.awaited_opens.has(file.inode.ino) {
                return removal;
            }
        }
    }
}
