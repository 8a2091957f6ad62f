//! Renaming what has a name: checks that files and directories share.

use std::sync::Arc;
use std::time::SystemTime;

use super::directory::DirectoryRenamer;
use super::file::FileRenamer;
use super::log::{Finished, RenameLog};
use super::not_moved::NotMoved;
use super::place::{Place, RenameMode, keys_of};
use super::rebase::Rebase;
use crate::error::FsError;
use crate::files::{Delivery, KernelRequest, OpenFiles};
use crate::namespace::{
    EntryChange, Hold, Name, Namespace, Pin, SubtreeGuard, SubtreeLocks, Target,
};
use crate::ops::resent::ExecutedRequests;
use crate::vocabulary::{Ino, Kind};
use crate::writeback::Predecessor;

/// Whether the locks covered everything that the rename moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locks {
    Enough,
    TooFew,
}

/// Renames what has a name, and finishes what a predecessor was asked for.
#[derive(Debug)]
pub struct Renamer {
    pub namespace: Arc<Namespace>,
    pub files: Arc<OpenFiles>,
    pub subtrees: Arc<SubtreeLocks>,
    pub predecessor: Arc<Predecessor>,
    pub executed: Arc<ExecutedRequests>,
    pub rebase: Arc<Rebase>,
    pub mounted_at: SystemTime,
    pub log: Arc<RenameLog>,
    pub file: FileRenamer,
    pub directory: DirectoryRenamer,
}

impl Renamer {
    /// As `ops::rename`, on a mount that takes changes.
    pub async fn rename(
        &self,
        from: (Ino, &Name),
        to: (Ino, &Name),
        mode: RenameMode,
        request: KernelRequest,
    ) -> Result<(), FsError> {
        let (from, to) = self.settled_places(from, to, request).await?;
        let request = match self.finished(&from, &to, request)? {
            Some(Finished::ExecutedRequests) => return Ok(()),
            // Nothing of it is done.
            Some(Finished::GivenUp) => KernelRequest {
                attempt: Delivery::First,
                ..request
            },
            None => request,
        };
        // The kernel has looked both names up.
        let known = [&from, &to].map(|at| self.namespace.table().child(at.dir.ino, at.name));
        let mut hold = if known.iter().flatten().any(|at| at.kind == Kind::Directory) {
            Hold::Alone
        } else {
            Hold::Shared
        };
        loop {
            let _subtrees = self.lock_names(&from, &to, hold, request).await?;
            match self.rename_held(&from, &to, mode, hold, request).await? {
                Locks::Enough => return Ok(()),
                Locks::TooFew => hold = Hold::Alone,
            }
        }
    }

    /// Both places, once no predecessor changes them.
    pub(super) async fn settled_places<'a>(
        &self,
        (parent, name): (Ino, &'a Name),
        (new_parent, new_name): (Ino, &'a Name),
        request: KernelRequest,
    ) -> Result<(Place<'a>, Place<'a>), FsError> {
        let from = Place {
            dir: self.namespace.directory(parent)?,
            name,
        };
        let to = Place {
            dir: self.namespace.directory(new_parent)?,
            name: new_name,
        };
        self.subtrees.entry_settled(parent, name).await?;
        self.subtrees.entry_settled(new_parent, new_name).await?;
        if request.attempt == Delivery::Resent {
            let keys = keys_of(&self.namespace, &from, &to)?;
            self.predecessor.wait_before_change(&keys).await?;
        }
        Ok((from, to))
    }

    /// What came of it, where it is a rename that a predecessor began.
    fn finished(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        request: KernelRequest,
    ) -> Result<Option<Finished>, FsError> {
        if request.attempt == Delivery::First {
            return Ok(None);
        }
        let [old, new] = keys_of(&self.namespace, from, to)?;
        Ok(self.log.take_finished(&old, &new))
    }

    /// Holds both names, and the one by whose way they are exchanged.
    pub(super) async fn lock_names(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        hold: Hold,
        request: KernelRequest,
    ) -> Result<SubtreeGuard, FsError> {
        let aside = self.aside(request)?;
        let names = [
            (from.dir.ino, from.name),
            (to.dir.ino, to.name),
            (from.dir.ino, &aside),
        ];
        let claims = names.map(|(dir, name)| (Target::Entry(dir, name.clone()), hold));
        Ok(self.subtrees.take(claims.to_vec()).await)
    }

    async fn rename_held(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        mode: RenameMode,
        hold: Hold,
        request: KernelRequest,
    ) -> Result<Locks, FsError> {
        let attempt = request.attempt;
        if attempt == Delivery::Resent
            && mode == RenameMode::Exchange
            && self.finish_exchange(from, to, request).await?
        {
            return Ok(Locks::Enough);
        }
        let known = self.namespace.table().child(from.dir.ino, from.name);
        let source = match self.namespace.lookup(&from.dir, from.name).await {
            Err(FsError::NotFound(_))
                if attempt == Delivery::Resent && mode != RenameMode::Exchange =>
            {
                self.finish_resent_rename(known, to).await?;
                return Ok(Locks::Enough);
            }
            found => found?,
        };
        let target = match self.namespace.lookup(&to.dir, to.name).await {
            Ok(target) => Some(target),
            Err(FsError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let mut both = std::iter::once(&source).chain(&target);
        if hold == Hold::Shared && both.any(|at| at.kind == Kind::Directory) {
            return Ok(Locks::TooFew);
        }
        self.namespace.child_key(to.dir.ino, to.name)?;
        if let Some(target) = &target {
            if target.ino == source.ino {
                return Ok(Locks::Enough);
            }
            let mode = match attempt {
                Delivery::Resent if same_object(&source, target) => RenameMode::Replace,
                Delivery::First | Delivery::Resent => mode,
            };
            check_replaceable(&source, target, mode)?;
        }
        match (mode, target) {
            (RenameMode::Exchange, None) => return Err(FsError::NOT_FOUND),
            (RenameMode::Exchange, Some(target)) => {
                self.exchange(from, to, (&source, &target), request).await?;
            }
            (RenameMode::Replace | RenameMode::NoReplace, target) => {
                let moves = (&source, target.as_ref());
                let how = (mode, Some(request));
                self.move_inode(from, to, moves, how).await?;
            }
        }
        Ok(Locks::Enough)
    }

    pub(super) async fn move_inode(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        (source, target): (&Pin, Option<&Pin>),
        (mode, request): (RenameMode, Option<KernelRequest>),
    ) -> Result<(), NotMoved> {
        match source.kind {
            Kind::Directory if self.namespace.table().is_within(to.dir.ino, source.ino) => {
                return Err(FsError::InvalidArgument.into());
            }
            Kind::Directory => {
                let renamed = self.directory.rename_dir(from, to, source, target, request);
                renamed.await?;
            }
            _ => {
                let files = (source, target);
                let how = (mode, request);
                self.file.rename_file(from, to, files, how).await?;
            }
        }
        let (went, came) = (EntryChange::Went(from.name), EntryChange::Came(to.name));
        self.namespace
            .directories()
            .entries_changed(&from.dir, went);
        let came = target.map_or(came, |_| EntryChange::Replaced);
        self.namespace.directories().entries_changed(&to.dir, came);
        source.state().overrides.ctime = Some(SystemTime::now());
        self.namespace.directories().keep(source);
        if let Some(file) = self.files.get(source.ino) {
            file.record();
        }
        Ok(())
    }

    /// The rest of a rename whose object a predecessor moved: the kernel has the
    /// inode under its new name once this is answered.
    ///
    /// Errors: `NotFound` when nothing has either name, and no predecessor moved it;
    /// the store's.
    pub async fn finish_resent_rename(
        &self,
        source: Option<Pin>,
        to: &Place<'_>,
    ) -> Result<(), FsError> {
        let target = match self.namespace.lookup(&to.dir, to.name).await {
            // The predecessor moved it, and another client has removed it since.
            Err(FsError::NotFound(_)) if source.is_none() => return Ok(()),
            found => found?,
        };
        let Some(source) = source.filter(|source| source.ino != target.ino) else {
            return Ok(());
        };
        if let Some(file) = self.files.get(target.ino) {
            file.orphan();
        }
        let version = target.state().remote.clone();
        self.namespace
            .table()
            .rename(source.ino, to.dir.ino, to.name)?;
        if source.kind == Kind::Directory {
            return self.rebase.rebase_moved_files(&source).await;
        }
        if let Some(version) = version {
            self.rebase.rebase_moved(&source, version)?;
        }
        Ok(())
    }
}

/// Whether a copy of the source may be what stands in its new place.
fn same_object(source: &Pin, target: &Pin) -> bool {
    let version = source.state().remote.clone();
    let there = target.state().remote.clone();
    match (version, there) {
        (Some(version), Some(there)) => {
            (version.etag, version.size_bytes) == (there.etag, there.size_bytes)
        }
        _ => false,
    }
}

fn check_replaceable(source: &Pin, target: &Pin, mode: RenameMode) -> Result<(), FsError> {
    let (source, target) = (
        source.kind == Kind::Directory,
        target.kind == Kind::Directory,
    );
    match mode {
        RenameMode::NoReplace => Err(FsError::EXISTS),
        RenameMode::Exchange => Ok(()),
        RenameMode::Replace if target && !source => Err(FsError::IsADirectory),
        RenameMode::Replace if source && !target => Err(FsError::NotADirectory),
        RenameMode::Replace => Ok(()),
    }
}
