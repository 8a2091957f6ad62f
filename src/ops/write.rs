//! write: bytes into the spool.

use super::Ops;
use super::attr::Caller;
use super::handles::HandleId;
use crate::error::FsError;
use crate::failpoint::{self, Point};

/// Whether a file that runs as its owner goes on to, now that it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    Keep,
    Drop,
    /// The kernel does not know who wrote.
    Unknown,
}

impl Ops {
    /// Errors: `BadHandle`, `NoSpace`, `TooLarge`, and that of an upload that failed before.
    pub fn write(
        &self,
        handle: HandleId,
        caller: Caller,
        privileges: Privileges,
        offset: u64,
        data: &[u8],
    ) -> Result<(), FsError> {
        let handle = self.handles.file(handle)?;
        handle.writers.lock().note(caller.thread);
        let inode = &handle.file.inode;
        match privileges {
            Privileges::Drop => drop(self.take_privileges(inode)),
            // Out of a mapping: who wrote it is not told.
            Privileges::Unknown if inode.state().unprivileged_writers => {
                self.take_privileges(inode);
            }
            Privileges::Keep | Privileges::Unknown => {}
        }
        failpoint::at(Point::WriteBegins);
        handle.file.write(offset, data)?;
        failpoint::at(Point::WriteStaged);
        self.queue_full_parts(&handle.file);
        Ok(())
    }
}
