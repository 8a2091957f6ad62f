//! An open file description: what came through it, and what its close has to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Durability;
use super::failed_read::FailedRead;
use super::file::OpenFile;
use super::given_up::{Closes, GivenUp};
use super::layers::ReadSegment;
use super::table::OpenFiles;
use super::writers::{Thread, Writers};
use crate::error::FsError;
use crate::read_path::Cursor;
use crate::session_state::SavedHandle;
use crate::vocabulary::{Ino, OpenMode};

/// Holes of a file that are filled in S3 though its program was killed: some hundred
/// copies, or ten minutes where zeros have to be sent.
const HOLES_LIMIT_BYTES: u64 = 64 << 30;

/// An open file description.
#[derive(Debug)]
pub struct FileHandle {
    pub file: Arc<OpenFile>,
    pub mode: OpenMode,
    /// Whether closing it uploads the file: it may write, or it made or emptied the file.
    pub uploads_on_close: bool,
    pub cursor: Mutex<Cursor>,
    pub failed_read: FailedRead,
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
            failed_read: FailedRead::default(),
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
        let is_killed = has_many_holes(&self.file) && closer.is_being_killed();
        if is_killed {
            self.closes.note_killed();
        }
        is_killed
    }

    /// To be called once no descriptor is left, before what was written is published.
    pub fn give_up_holes(&self, durability: Durability) -> Option<GivenUp<'_>> {
        let file = &self.file;
        if !self.closes.has_killed() || !file.is_last_writer(self.mode) || !has_many_holes(file) {
            return None;
        }
        give_up(file, durability)
    }
}

fn has_many_holes(file: &OpenFile) -> bool {
    if file.len() <= HOLES_LIMIT_BYTES {
        return false;
    }
    let zeros = file.plan(0..u64::MAX).into_iter();
    let zeros = zeros.filter_map(|piece| match piece {
        ReadSegment::Zero(len) => Some(len),
        ReadSegment::Local(..) | ReadSegment::Object(..) => None,
    });
    zeros.sum::<u64>() > HOLES_LIMIT_BYTES
}

/// None where some of it was acknowledged.
fn give_up(file: &OpenFile, durability: Durability) -> Option<GivenUp<'_>> {
    let mut content = file.edit();
    match content.base.sealed() {
        _ if content.is_nameless() => return None,
        None if content.dirty => content.failed = Some(FsError::Interrupted),
        None => return None,
        Some(sealed) => {
            let is_promised = content.has_uploader || sealed.base.sealed().is_some();
            if durability == Durability::Disk || is_promised {
                return None;
            }
        }
    }
    tracing::warn!(
        ino = file.inode.ino.0,
        "the program that wrote this file was killed, and it is mostly holes: not uploaded"
    );
    Some(file.given_up.begin())
}
