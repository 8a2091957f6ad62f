//! A file of records, open for appending.
//!
//! Behind its frames it has room: zeros that the disk has blocks for already, so that a
//! record that is appended needs nothing of a disk that is full by then.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::frame::{Chain, Header, Subject};
use super::log_state::Durable;
use super::room::{STEP_BYTES, allocate, wanted_bytes, zero};
use super::spare;
use crate::failpoint::{self, Point};
use crate::private;

/// A disk that had none is asked for room again after this time.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// The file itself, and where its next frame goes.
#[derive(Debug)]
pub struct LogFile {
    pub file: File,
    pub header: Header,
    pub bytes: u64,
    pub chain: Chain,
    room: Room,
}

#[derive(Debug, Clone, Copy)]
struct Room {
    /// Of the file with it.
    len: u64,
    /// What its spare is to have.
    wanted: u64,
    has_spare: bool,
    again_at: Option<Instant>,
}

impl LogFile {
    /// A file with frames up to `bytes` and nothing that counts behind them. With its
    /// room it is to have `wanted` bytes; where the disk lacks them it has less.
    ///
    /// Errors: the disk's.
    pub(super) fn new(
        file: File,
        header: Header,
        (bytes, chain): (u64, Chain),
        wanted: u64,
    ) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let mut this = Self {
            room: Room {
                len,
                wanted,
                has_spare: false,
                again_at: None,
            },
            file,
            header,
            bytes,
            chain,
        };
        zero(&this.file, bytes..len)?;
        this.take_room(wanted.max(bytes + STEP_BYTES));
        Ok(this)
    }

    /// Appends to a file that has nothing that counts behind its last frame.
    ///
    /// Errors: the disk's.
    pub fn resume(
        path: &Path,
        (header, bytes, chain): (Header, u64, Chain),
        needed: u64,
    ) -> io::Result<Self> {
        let file = private::open(path, OpenOptions::new().read(true).write(true))?;
        Self::new(file, header, (bytes, chain), wanted_bytes(needed))
    }

    /// Appends frames that go on from the last one. Errors: the disk's; then
    /// nothing was appended.
    pub fn append(&mut self, frames: &[u8], after: Chain) -> io::Result<()> {
        self.append_some(frames, after)?.count();
        Ok(())
    }

    /// The same, and notes that the file ends behind them.
    pub fn append_to_end(&mut self, frames: &[u8], after: Chain) -> io::Result<()> {
        let appended = self.append_some(frames, after)?;
        appended.file.note_end(appended.file.bytes)?;
        appended.count();
        Ok(())
    }

    /// The same; they are taken back unless they are said to count.
    fn append_some(&mut self, frames: &[u8], after: Chain) -> io::Result<Appended<'_>> {
        let before = (self.bytes, self.chain);
        let appended = Appended {
            file: self,
            before: Some(before),
        };
        let file = &mut *appended.file;
        let end = file.bytes + frames.len() as u64;
        let written = file.file.write_all_at(frames, file.bytes);
        file.bytes = end;
        written?;
        file.chain = after;
        file.room.len = file.room.len.max(end);
        Ok(appended)
    }

    /// Appends one record, which is on disk with `Durable::Yes`. Errors: the disk's; then
    /// it does not count.
    pub(super) fn append_record(
        &mut self,
        subject: Subject,
        payload: &[u8],
        durable: Durable,
    ) -> io::Result<()> {
        let (mut frame, mut chain) = (Vec::new(), self.chain);
        chain.push(&mut frame, subject, payload);
        failpoint::at(Point::JournalAppendBegins);
        let appended = self.append_some(&frame, chain)?;
        failpoint::at(Point::JournalWritten);
        if durable == Durable::Yes {
            let file = &appended.file;
            file.file.sync_data()?;
            failpoint::at(Point::JournalSynced);
            // Only what is on disk: a power loss may keep this and lose the rest.
            file.note_end(file.bytes)?;
        }
        appended.count();
        Ok(())
    }

    /// The same file as it is now. Errors: no descriptor is left.
    pub fn copy(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            ..*self
        })
    }

    /// Frames up to here are there for good, or the file is damaged.
    pub fn note_end(&self, end: u64) -> io::Result<()> {
        let field = self.header.end_field(end);
        self.file.write_all_at(&field, self.header.end_at())
    }

    /// Frames of so many bytes need nothing of the disk.
    pub fn room_bytes(&self) -> u64 {
        self.room.len - self.bytes
    }

    /// Takes room for the records to come, here and in the file beside it. To be called
    /// after each append.
    pub fn keep_room(&mut self, path: &Path) {
        let is_short = self.room_bytes() < STEP_BYTES / 2;
        let is_due = self.room.again_at.is_none_or(|at| Instant::now() >= at);
        if !is_due || (!is_short && self.room.has_spare) {
            return;
        }
        self.room.again_at = None;
        if is_short {
            self.take_room(self.bytes + STEP_BYTES);
        }
        if !self.room.has_spare {
            self.keep_spare(path);
        }
    }

    /// Has a file beside this one for its successor. Returns whether the disk had room
    /// for all that is wanted.
    pub fn keep_spare(&mut self, path: &Path) -> bool {
        let outcome = spare::keep(path, self.room.wanted);
        self.room.has_spare = outcome.is_ok();
        if let Err(error) = outcome {
            tracing::debug!(path = %path.display(), %error, "no spare file");
            self.room.again_at = Some(Instant::now() + AGAIN);
        }
        self.room.has_spare && self.room.len >= self.room.wanted
    }

    /// Never asked again for room that is there: one that fails may take it away.
    /// Source: Linux, mm/shmem.c, `shmem_fallocate`.
    fn take_room(&mut self, upto: u64) {
        let from = self.room.len;
        if from >= upto {
            return;
        }
        let outcome = allocate(&self.file, from, upto).and_then(|()| self.file.metadata());
        match outcome {
            Ok(found) => self.room.len = found.len(),
            Err(error) => {
                tracing::debug!(%error, "no room for records to come");
                self.room.again_at = Some(Instant::now() + AGAIN);
                // Some of it may be there.
                let found = self.file.metadata().map(|found| found.len());
                self.room.len = found.unwrap_or(self.room.len).max(self.bytes);
            }
        }
    }
}

/// Frames that a successor would read, and whose records do not count yet.
#[derive(Debug)]
pub struct Appended<'a> {
    pub(super) file: &'a mut LogFile,
    before: Option<(u64, Chain)>,
}

impl Appended<'_> {
    pub fn count(mut self) {
        self.before = None;
    }
}

impl Drop for Appended<'_> {
    /// What the disk or a panic kept from counting must not stand before the next record.
    fn drop(&mut self) {
        let Some(before) = self.before else {
            return;
        };
        let end = self.file.bytes;
        (self.file.bytes, self.file.chain) = before;
        let LogFile {
            file, room, bytes, ..
        } = &mut *self.file;
        // Within the room it is made room again; cut off, its blocks would be anybody's.
        let taken_back = file
            .set_len(room.len)
            .and_then(|()| zero(file, *bytes..end.min(room.len)));
        if let Err(error) = taken_back {
            tracing::error!(%error, "a record that was refused stays in its file");
        }
    }
}
