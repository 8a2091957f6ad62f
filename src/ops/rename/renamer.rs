//! Renaming what has a name: checks that files and directories share.

use std::sync::Arc;
use std::time::SystemTime;

use super::directory::DirectoryRenamer;
use super::file::FileRenamer;
use super::log::{Finished, RenameLog};
use super::place::{Place, RenameMode};
use super::rebase::Rebase;
use crate::error::FsError;
use crate::files::{Delivery, KernelRequest, OpenFiles, check_awaited, to_the_end};
use crate::namespace::{
    EntryChange, Hold, Name, Namespace, Pin, SubtreeGuard, SubtreeLocks, Target,
};
use crate::ops::resent::CarriedOut;
use crate::vocabulary::{Ino, Kind};
use crate::writeback::Predecessor;

/// Whether what was held sufficed: more than names of files may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Enough,
    TooLittle,
}

/// Renames what has a name, and finishes what a predecessor was asked for.
#[derive(Debug)]
pub struct Renamer {
    pub namespace: Arc<Namespace>,
    pub files: Arc<OpenFiles>,
    pub subtrees: Arc<SubtreeLocks>,
    pub predecessor: Arc<Predecessor>,
    pub carried_out: Arc<CarriedOut>,
    pub rebase: Arc<Rebase>,
    pub mounted_at: SystemTime,
    pub log: Arc<RenameLog>,
    pub file: FileRenamer,
    pub directory: DirectoryRenamer,
}

impl Renamer {
    /// As `Ops::rename`, on a mount that takes changes.
    pub async fn rename(
        &self,
        from: (Ino, &Name),
        to: (Ino, &Name),
        mode: RenameMode,
        request: KernelRequest,
    ) -> Result<(), FsError> {
        let (from, to) = self.settled_places(from, to, request).await?;
        let request = match self.finished(&from, &to, request)? {
            Some(Finished::CarriedOut) => return Ok(()),
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
                Held::Enough => return Ok(()),
                Held::TooLittle => hold = Hold::Alone,
            }
        }
    }

    /// Both places, once no predecessor changes them.
    async fn settled_places<'a>(
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
            self.predecessor.wait_before_change().await?;
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
        let old = self.namespace.child_key(from.dir.ino, from.name)?;
        let new = self.namespace.child_key(to.dir.ino, to.name)?;
        Ok(self.log.take_finished(&old, &new))
    }

    /// Holds both names, and the one by whose way they are exchanged.
    async fn lock_names(
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
    ) -> Result<Held, FsError> {
        let attempt = request.attempt;
        if attempt == Delivery::Resent
            && mode == RenameMode::Exchange
            && self.finish_exchange(from, to, request).await?
        {
            return Ok(Held::Enough);
        }
        let known = self.namespace.table().child(from.dir.ino, from.name);
        let source = match self.namespace.lookup(&from.dir, from.name).await {
            Err(FsError::NotFound(_))
                if attempt == Delivery::Resent && mode != RenameMode::Exchange =>
            {
                self.finish_resent_rename(known, to).await?;
                return Ok(Held::Enough);
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
            return Ok(Held::TooLittle);
        }
        self.namespace.child_key(to.dir.ino, to.name)?;
        if let Some(target) = &target {
            if target.ino == source.ino {
                return Ok(Held::Enough);
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
        Ok(Held::Enough)
    }

    async fn move_inode(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        (source, target): (&Pin, Option<&Pin>),
        (mode, request): (RenameMode, Option<KernelRequest>),
    ) -> Result<(), FsError> {
        match source.kind {
            Kind::Directory if self.namespace.table().is_within(to.dir.ino, source.ino) => {
                return Err(FsError::InvalidArgument);
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
        self.namespace.entries_changed(&from.dir, went);
        let came = target.map_or(came, |_| EntryChange::Replaced);
        self.namespace.entries_changed(&to.dir, came);
        source.state().overrides.ctime = Some(SystemTime::now());
        self.namespace.keep_directory(source);
        if let Some(file) = self.files.get(source.ino) {
            file.record();
        }
        Ok(())
    }

    /// Three renames by way of a name that nobody uses. S3 has no exchange: other
    /// clients see the steps, and after a crash between them the first file's
    /// object has that name.
    async fn exchange(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        (source, target): (&Pin, &Pin),
        request: KernelRequest,
    ) -> Result<(), FsError> {
        let table = self.namespace.table();
        if table.is_within(to.dir.ino, source.ino) || table.is_within(from.dir.ino, target.ino) {
            return Err(FsError::InvalidArgument);
        }
        let name = self.aside(request)?;
        let aside = Place {
            dir: self.namespace.directory(from.dir.ino)?,
            name: &name,
        };
        check_awaited()?;
        let step = async |from, to, inode| {
            let moves = (inode, None);
            let how = (RenameMode::Exchange, None);
            self.move_inode(from, to, moves, how).await
        };
        // All of it or nothing.
        to_the_end(async {
            step(from, &aside, source).await?;
            if let Err(error) = step(to, from, target).await {
                step(&aside, from, source).await?;
                return Err(error);
            }
            self.carried_out.record(request);
            step(&aside, to, source).await
        })
        .await
    }

    /// The rest of an exchange that a predecessor began. False where none of it,
    /// or all, is done.
    async fn finish_exchange(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        request: KernelRequest,
    ) -> Result<bool, FsError> {
        let name = self.aside(request)?;
        let aside = Place {
            dir: self.namespace.directory(from.dir.ino)?,
            name: &name,
        };
        let source = match self.namespace.lookup(&aside.dir, &name).await {
            Err(FsError::NotFound(_)) => return Ok(false),
            found => found?,
        };
        let how = (RenameMode::Exchange, None);
        to_the_end(async {
            match self.namespace.lookup(&to.dir, to.name).await {
                Err(FsError::NotFound(_)) => {}
                target => self.move_inode(to, from, (&target?, None), how).await?,
            }
            self.carried_out.record(request);
            self.move_inode(&aside, to, (&source, None), how).await
        })
        .await?;
        Ok(true)
    }

    /// The last step of an exchange that counts as carried out, where a predecessor did
    /// not come to its end. What another client has put there since is replaced.
    pub async fn rest_of_exchange(
        &self,
        from: (Ino, &Name),
        to: (Ino, &Name),
        request: KernelRequest,
    ) -> Result<(), FsError> {
        let (from, to) = self.settled_places(from, to, request).await?;
        let _subtrees = self.lock_names(&from, &to, Hold::Alone, request).await?;
        let name = self.aside(request)?;
        let aside = Place {
            dir: self.namespace.directory(from.dir.ino)?,
            name: &name,
        };
        let source = match self.namespace.lookup(&aside.dir, &name).await {
            Err(FsError::NotFound(_)) => return Ok(()),
            found => found?,
        };
        let replaced = match self.namespace.lookup(&to.dir, to.name).await {
            Err(FsError::NotFound(_)) => None,
            found => Some(found?),
        };
        let moves = (&source, replaced.as_ref());
        let how = (RenameMode::Exchange, None);
        to_the_end(self.move_inode(&aside, &to, moves, how)).await
    }

    /// A name that nobody uses, the same when the request comes again.
    fn aside(&self, request: KernelRequest) -> Result<Name, FsError> {
        let since = self.mounted_at.duration_since(SystemTime::UNIX_EPOCH);
        let mount = since.unwrap_or_default().as_nanos() as u64;
        let name = format!(".mediafs-exchange-{mount:016x}-{:x}", request.number);
        Name::from_segment(&name).ok_or(FsError::InvalidArgument)
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
