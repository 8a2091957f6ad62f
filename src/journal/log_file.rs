//! A file of records, open for appending.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::frame::{Chain, Header};

/// The file itself, and where its next frame goes.
#[derive(Debug)]
pub struct LogFile {
    pub file: File,
    pub header: Header,
    pub bytes: u64,
    pub chain: Chain,
}

impl LogFile {
    /// Appends frames that go on from the last one. Errors: the disk's; then
    /// nothing was appended.
    pub fn append(&mut self, frames: &[u8], after: Chain) -> io::Result<()> {
        self.append_some(frames, after)?.count();
        Ok(())
    }

    /// The same; they are taken back unless they are said to count.
    pub(super) fn append_some(&mut self, frames: &[u8], after: Chain) -> io::Result<Appended<'_>> {
        let before = (self.bytes, self.chain);
        let appended = Appended {
            file: self,
            before: Some(before),
        };
        let file = &mut *appended.file;
        file.file.write_all_at(frames, file.bytes)?;
        file.bytes += frames.len() as u64;
        file.chain = after;
        Ok(appended)
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
        (self.file.bytes, self.file.chain) = before;
        if let Err(error) = self.file.file.set_len(self.file.bytes) {
            tracing::error!(%error, "a record that was refused stays in its file");
        }
    }
}
