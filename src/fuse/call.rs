//! A request of the kernel: as the log names it, and what it locks.

use fuser::INodeNo;

use super::in_flight::Locked;

#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub operation: &'static str,
    /// Of the file, or of the directory with the name.
    pub ino: u64,
    pub locked: Locked,
}

impl Call {
    /// One that locks nothing.
    pub fn on(operation: &'static str, ino: INodeNo) -> Self {
        Self {
            operation,
            ino: ino.0,
            locked: Locked::Nothing,
        }
    }

    pub fn locking(self, locked: Locked) -> Self {
        Self { locked, ..self }
    }
}
