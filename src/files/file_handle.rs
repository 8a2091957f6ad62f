//! An open file description: what came through it, and what its close has to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Durability;
use super::file::OpenFile;
use super::given_up::{Closes, GivenUp};
use super::table::OpenFiles;
use super::writers::{Thread, Writers};
use crate::error::FsError;
use crate::read_path::Cursor;
use crate::session_state::SavedHandle;
use crate::vocabulary::{Ino, OpenMode};

/// An open file description.
#[derive(Debug)]
pub struct FileHandle {
    pub file: Arc<OpenFile>,
    pub mode: OpenMode,
    /// Whether closing it uploads the file: it may write, or it made or emptied the file.
    pub uploads_on_close: bool,
    pub cursor: Mutex<Cursor>,
    pub writers: Mutex<Writers>,
    /// The kernel's request that it answers.
    pub request: u64,
    pub closes: Closes,
    pub pages: PagesAtOpen,
}

/// What the kernel was told of its cached pages when a file was opened.
#[derive(Debug)]
pub struct PagesAtOpen {
    /// Of the file's content then.
    generation: u64,
    /// The kernel has taken the answer.
    is_taken: AtomicBool,
}

impl PagesAtOpen {
    pub fn of(generation: u64) -> Self {
        Self {
            generation,
            is_taken: AtomicBool::new(false),
        }
    }

    /// Of a handle that a predecessor gave out: nobody knows of which content.
    pub fn unknown() -> Self {
        Self {
            generation: 0,
            is_taken: AtomicBool::new(true),
        }
    }
}

impl FileHandle {
    /// One that a predecessor gave out. Errors: `Stale`.
    pub fn restored(saved: &SavedHandle, files: &OpenFiles) -> Result<Self, FsError> {
        let inode = files.namespace.inode(Ino(saved.ino))?;
        let mode = saved.mode;
        inode.state().unprivileged_writers |= mode.writes();
        let file = files.open(inode, mode);
        let change = file.last_change();
        Ok(Self {
            file,
            mode,
            uploads_on_close: saved.uploads_on_close,
            cursor: Mutex::new(Cursor::default()),
            writers: Mutex::new(Writers::restored(saved.writers.as_ref(), change)),
            request: saved.request,
            closes: Closes::default(),
            pages: PagesAtOpen::unknown(),
        })
    }

    /// The kernel uses the handle: it has dropped the pages that it was to drop. Before
    /// that, whoever else opens the file has it drop them too.
    pub fn note_use(&self) {
        if self.pages.is_taken.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut state = self.file.inode.state();
        if state.content_generation == self.pages.generation {
            state.kernel_generation = Some(self.pages.generation);
        }
    }

    /// Whether closing the handle has to make safe what came through it, where
    /// this thread closes it; or what came through no handle, and it answers for.
    pub fn publishes_for(&self, closer: Thread) -> bool {
        if !self.uploads_on_close {
            return false;
        }
        let writers = self.writers.lock();
        let own = self.file.is_unsafe(writers.last_change()) && writers.may_include(closer);
        own || self.file.has_shared_changes(self.mode)
    }

    /// The same where nobody closes it later.
    pub fn publishes_at_last(&self) -> bool {
        if !self.uploads_on_close {
            return false;
        }
        let last_change = self.writers.lock().last_change();
        self.file.is_unsafe(last_change)
            || self.file.has_shared_changes(self.mode)
            || self.file.is_last_writer(self.mode) && self.file.needs_upload()
    }

    /// Whether a thread that closes a descriptor of a file of many holes is being killed.
    pub fn is_closed_by_killed(&self, closer: Thread) -> bool {
        let is_killed = self.file.has_many_holes() && closer.is_being_killed();
        if is_killed {
            self.closes.note_killed();
        }
        is_killed
    }

    /// To be called once no descriptor is left, before what was written is published.
    pub fn give_up_holes(&self, durability: Durability) -> Option<GivenUp<'_>> {
        let file = &self.file;
        if !self.closes.has_killed() || !file.is_last_writer(self.mode) || !file.has_many_holes() {
            return None;
        }
        file.give_up(durability)
    }
}
