//! access: asked only where the kernel does not check permissions itself.

use super::Ops;
use crate::error::FsError;
use crate::namespace::Ino;

impl Ops {
    /// Errors: `Stale`.
    pub fn access(&self, ino: Ino) -> Result<(), FsError> {
        self.namespace.inode(ino).map(drop)
    }
}
