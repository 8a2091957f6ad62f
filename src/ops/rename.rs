//! rename: checks that files and directories share.

use super::Ops;
use crate::error::FsError;
use crate::namespace::{Ino, Kind, Name, Pin};

/// What happens to a file that has the new name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    Replace,
    /// RENAME_NOREPLACE.
    NoReplace,
}

/// One end of a rename.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub dir: Pin,
    pub name: &'a Name,
}

impl Ops {
    /// Errors: `NotFound`, `Exists`, `NotEmpty`, `IsADirectory`, `NotADirectory`,
    /// `InvalidArgument` for a directory into itself, `CrossDevice` where the
    /// application must copy by itself, `ReadOnly`, the store's.
    pub async fn rename(
        &self,
        parent: Ino,
        name: &Name,
        new_parent: Ino,
        new_name: &Name,
        mode: RenameMode,
    ) -> Result<(), FsError> {
        self.check_writable()?;
        let from = Place {
            dir: self.namespace.directory(parent)?,
            name,
        };
        let to = Place {
            dir: self.namespace.directory(new_parent)?,
            name: new_name,
        };
        let source = self.namespace.lookup(&from.dir, name).await?;
        let target = match self.namespace.lookup(&to.dir, new_name).await {
            Ok(target) => Some(target),
            Err(FsError::NotFound) => None,
            Err(error) => return Err(error),
        };
        self.namespace.child_key(to.dir.ino, new_name)?;
        if let Some(target) = &target {
            if target.ino == source.ino {
                return Ok(());
            }
            check_replaceable(&source, target, mode)?;
        }
        match source.kind {
            Kind::File => self.rename_file(&from, &to, &source, target.as_ref()).await,
            Kind::Directory if self.namespace.table().is_within(to.dir.ino, source.ino) => {
                Err(FsError::InvalidArgument)
            }
            Kind::Directory => self.rename_dir(&from, &to, &source, target.as_ref()).await,
        }
    }
}

fn check_replaceable(source: &Pin, target: &Pin, mode: RenameMode) -> Result<(), FsError> {
    match (mode, source.kind, target.kind) {
        (RenameMode::NoReplace, _, _) => Err(FsError::Exists),
        (RenameMode::Replace, Kind::File, Kind::Directory) => Err(FsError::IsADirectory),
        (RenameMode::Replace, Kind::Directory, Kind::File) => Err(FsError::NotADirectory),
        (RenameMode::Replace, _, _) => Ok(()),
    }
}
