//! The kernel's word of changes that others make in the old directory.
//!
//! A bounded number of directories is watched; what is changed in others, the next walk
//! finds. Source: inotify(7).

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::core::Core;
use super::old_directory::OldDirectory;

/// Of a user, all programs together have 8,192 by default.
const DIRECTORIES_LIMIT: usize = 4096;
const BUFFER_BYTES: usize = 16 << 10;
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct Watch(Option<Arc<WatchQueue>>);

#[derive(Debug)]
struct WatchQueue {
    queue: OwnedFd,
    /// Paths by the kernel's numbers, and those that are watched.
    watched: Mutex<HashMap<i32, String>>,
}

impl Watch {
    /// Nothing is watched where the kernel has no room for it.
    pub(super) fn start(core: &Arc<Core>) -> Self {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let queue = match queue {
            Ok(queue) => queue,
            Err(error) => {
                tracing::warn!(%error, "the old directory is not watched: the last walk alone finds what others change in it");
                return Self(None);
            }
        };
        let inner = Arc::new(WatchQueue {
            queue,
            watched: Mutex::default(),
        });
        tokio::spawn(listen(Arc::downgrade(&inner), core.clone()));
        Self(Some(inner))
    }

    /// Nothing is watched.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Watches a directory too, where it is not yet.
    pub(super) fn add(&self, old: &OldDirectory, path: &str) {
        let Some(inner) = &self.0 else { return };
        if inner.watched.lock().len() >= DIRECTORIES_LIMIT {
            return;
        }
        let Ok(Some(directory)) = old.directory(path) else {
            return;
        };
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        // By its descriptor: something may be mounted over its path.
        let by_descriptor = format!("/proc/self/fd/{}", directory.as_raw_fd());
        match inotify::add_watch(&inner.queue, by_descriptor, flags) {
            Ok(number) => drop(inner.watched.lock().insert(number, path.to_owned())),
            Err(error) => tracing::debug!(%error, path, "not watched"),
        }
    }
}

/// Tells of changes as long as somebody wants to know.
async fn listen(inner: Weak<WatchQueue>, core: Arc<Core>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        for path in inner.changed() {
            tell_of_change(&core, &path);
        }
    }
}

/// Somebody has changed the old directory.
pub(super) fn tell_of_change(core: &Core, path: &str) {
    if core.progress.changed_outside(path.to_owned()) {
        let dir = core.old.path().display();
        tracing::warn!(%dir, path, "somebody still changes the old directory: what is changed there after a file was sent does not reach the bucket");
    }
}

impl WatchQueue {
    /// What has changed since the last look.
    fn changed(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
        let mut changed = Vec::new();
        // An error says that there is nothing more.
        while let Ok(event) = reader.next() {
            let above = self.watched.lock().get(&event.wd()).cloned();
            let name = event.file_name().map(|name| name.to_string_lossy());
            if let (Some(above), Some(name)) = (above, name) {
                changed.push(format!("{above}{name}"));
            }
        }
        changed
    }
}
