//! New files.

use std::sync::Arc;

use crate::error::FsError;
use crate::files::{AttributeView, Caller, ChangeNumber, OpenFile, OpenFiles, check_awaited};
use crate::namespace::{Name, Namespace, Pin};
use crate::vocabulary::{Intent, Kind, OpenMode};
use crate::writeback::Uploads;

/// Whether the name must be free (O_EXCL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusive {
    Yes,
    No,
}

/// When an exclusive create (O_EXCL) learns that another client was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExclusiveCreate {
    /// At close: the upload fails.
    Lazy,
    /// At open, by an empty object that claims the name.
    Strict,
}

/// What is made, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct NewFile {
    pub mode: OpenMode,
    pub exclusive: Exclusive,
    /// Whether an object claims the name before anything is written.
    pub claim: ExclusiveCreate,
    pub permissions: u16,
    pub maker: Caller,
}

/// Makes files.
#[derive(Debug)]
pub struct FileMaker {
    pub namespace: Arc<Namespace>,
    pub attributes: Arc<AttributeView>,
    pub files: Arc<OpenFiles>,
    pub uploads: Arc<Uploads>,
}

impl FileMaker {
    /// Errors: `Exists`, `NameTooLong`, the store's; nothing is made then.
    pub async fn make(
        &self,
        parent: &Pin,
        name: &Name,
        new: NewFile,
    ) -> Result<(Pin, Arc<OpenFile>, ChangeNumber), FsError> {
        check_awaited()?;
        let inode = self.namespace.create_local(parent, name, Kind::File)?;
        self.attributes
            .init_attributes(parent, &inode, new.permissions, new.maker);
        let file = self.files.open(self.namespace.inode(inode.ino)?, new.mode);
        let intent = match new.exclusive {
            Exclusive::Yes => Intent::Exclusive,
            Exclusive::No => Intent::Replace,
        };
        let outcome = async {
            let made = file.start_over(intent)?;
            if new.claim == ExclusiveCreate::Strict {
                self.uploads.upload(&file).await?;
            }
            Ok(made)
        };
        let made = match outcome.await {
            Ok(made) => made,
            Err(error) => {
                file.orphan();
                self.files.close(&file, new.mode);
                self.namespace.roll_back_create(&inode);
                return Err(error);
            }
        };
        self.attributes.record_overrides(&inode);
        Ok((inode, file, made))
    }
}
