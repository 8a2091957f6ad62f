//! RENAME_EXCHANGE: three renames by way of a name that nobody uses.
//!
//! S3 has no exchange: other clients see the steps, and after a crash between them the
//! first file's object has that name. What another client puts under one of the names
//! while it is free has come after the exchange, or after one that has failed: it stays,
//! and the file that was to have the name is what it has replaced.

use std::time::SystemTime;

use super::place::{Place, RenameMode};
use super::renamer::Renamer;
use crate::error::FsError;
use crate::files::{KernelRequest, check_awaited, to_the_end};
use crate::namespace::{Hold, Name, Pin};
use crate::store::{DeletePending, DeleteRequest, ETag, ObjectStore};
use crate::vocabulary::Ino;

/// What came of a step to a name that was free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stepped {
    Moved,
    /// Another client has put something there.
    Taken,
}

/// A file or directory and the name that it has, or is to have again.
type At<'a> = (&'a Place<'a>, &'a Pin);

impl Renamer {
    /// All of it, or nothing.
    pub(super) async fn exchange(
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
        let aside = self.aside_of(from, &name)?;
        check_awaited()?;
        let names = ((from, source), (to, target), &aside);
        to_the_end(async {
            self.step(from, &aside, source).await?;
            self.second_steps(names, request).await
        })
        .await
    }

    /// The rest of an exchange that a predecessor began. False where none of it,
    /// or all, is done.
    pub(super) async fn finish_exchange(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        request: KernelRequest,
    ) -> Result<bool, FsError> {
        let name = self.aside(request)?;
        let aside = self.aside_of(from, &name)?;
        let Some(source) = self.found(&aside).await? else {
            return Ok(false);
        };
        // Then what has the other name by now is another client's.
        let is_moved = self.namespace.table().child(from.dir.ino, from.name);
        let target = match is_moved {
            Some(_) => None,
            None => self.found(to).await?,
        };
        to_the_end(async {
            match &target {
                Some(target) => {
                    let names = ((from, &source), (to, target), &aside);
                    self.second_steps(names, request).await
                }
                None => {
                    self.carried_out.record(request);
                    self.last_step(&aside, to, &source).await
                }
            }
        })
        .await?;
        Ok(true)
    }

    /// The last step of an exchange that counts as carried out, where a predecessor did
    /// not come to its end.
    pub async fn rest_of_exchange(
        &self,
        from: (Ino, &Name),
        to: (Ino, &Name),
        request: KernelRequest,
    ) -> Result<(), FsError> {
        let (from, to) = self.settled_places(from, to, request).await?;
        let _subtrees = self.lock_names(&from, &to, Hold::Alone, request).await?;
        let name = self.aside(request)?;
        let aside = self.aside_of(&from, &name)?;
        match self.found(&aside).await? {
            Some(source) => to_the_end(self.last_step(&aside, &to, &source)).await,
            None => Ok(()),
        }
    }

    /// Once the first file is aside.
    async fn second_steps(
        &self,
        ((from, source), (to, target), aside): (At<'_>, At<'_>, &Place<'_>),
        request: KernelRequest,
    ) -> Result<(), FsError> {
        match self.step(to, from, target).await {
            Ok(Stepped::Moved) => {}
            Ok(Stepped::Taken) => {
                self.carried_out.record(request);
                let how = (RenameMode::Replace, None);
                return self
                    .move_inode(aside, to, (source, Some(target)), how)
                    .await;
            }
            Err(error) => {
                let copy = copy_left(&error, target);
                let back = self.step_back(aside, from, source, copy).await;
                return Err(half_done(error, back, aside));
            }
        }
        self.carried_out.record(request);
        let Err(error) = self.last_step(aside, to, source).await else {
            return Ok(());
        };
        let copy = copy_left(&error, source);
        let mut back = self.step_back(from, to, target, copy).await;
        if back.is_ok() {
            back = self.step_back(aside, from, source, None).await;
        }
        Err(half_done(error, back, aside))
    }

    async fn last_step(
        &self,
        aside: &Place<'_>,
        to: &Place<'_>,
        source: &Pin,
    ) -> Result<(), FsError> {
        match self.step(aside, to, source).await? {
            Stepped::Moved => Ok(()),
            Stepped::Taken => self.give_up(aside, source).await,
        }
    }

    /// Takes back a step of an exchange that has failed. Of a later step, this copy may
    /// be there, though that has failed.
    async fn step_back(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        inode: &Pin,
        copy: Option<ETag>,
    ) -> Result<(), FsError> {
        let mut stepped = self.step(from, to, inode).await?;
        if stepped == Stepped::Taken && copy.is_some() {
            let request = DeleteRequest {
                key: self.namespace.child_key(to.dir.ino, to.name)?,
                if_match: copy,
            };
            if self.file.store.delete(request).await.is_ok() {
                stepped = self.step(from, to, inode).await?;
            }
        }
        match stepped {
            Stepped::Moved => Ok(()),
            Stepped::Taken => self.give_up(from, inode).await,
        }
    }

    async fn step(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        inode: &Pin,
    ) -> Result<Stepped, FsError> {
        let how = (RenameMode::Exchange, None);
        match self.move_inode(from, to, (inode, None), how).await {
            Ok(()) => Ok(Stepped::Moved),
            Err(FsError::Exists(_)) => Ok(Stepped::Taken),
            Err(error) => Err(error),
        }
    }

    /// Another client has put something under the name that was the file's.
    async fn give_up(&self, place: &Place<'_>, inode: &Pin) -> Result<(), FsError> {
        let key = self.namespace.child_key(place.dir.ino, place.name)?;
        tracing::warn!(%key, "another client has put a file under its name while two files changed places: it has replaced this one");
        let file = self.files.hold(inode.ino)?;
        let version = inode.state().remote.clone();
        let pending = DeletePending::of_version(key, version.map(|version| version.etag));
        self.file.deletes.delete_object(pending, None).await?;
        self.namespace.record(place.dir.ino, place.name, None);
        file.orphan();
        self.file.named_opens.lose_name(&file);
        self.namespace.table().detach(inode.ino);
        Ok(())
    }

    /// A name that nobody uses, the same when the request comes again.
    pub(super) fn aside(&self, request: KernelRequest) -> Result<Name, FsError> {
        let since = self.mounted_at.duration_since(SystemTime::UNIX_EPOCH);
        let mount = since.unwrap_or_default().as_nanos() as u64;
        let name = format!(".mediafs-exchange-{mount:016x}-{:x}", request.number);
        Name::from_segment(&name).ok_or(FsError::InvalidArgument)
    }

    fn aside_of<'a>(&self, from: &Place<'_>, name: &'a Name) -> Result<Place<'a>, FsError> {
        let dir = self.namespace.directory(from.dir.ino)?;
        Ok(Place { dir, name })
    }

    async fn found(&self, place: &Place<'_>) -> Result<Option<Pin>, FsError> {
        match self.namespace.lookup(&place.dir, place.name).await {
            Ok(found) => Ok(Some(found)),
            Err(FsError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The copy that a step may leave though it has failed.
fn copy_left(error: &FsError, inode: &Pin) -> Option<ETag> {
    match error {
        FsError::NotFound(_) | FsError::Stale(_) => None,
        _ => inode.state().remote.clone().map(|version| version.etag),
    }
}

/// Why an exchange has failed, of which what was done is taken back, or is not.
fn half_done(error: FsError, back: Result<(), FsError>, aside: &Place<'_>) -> FsError {
    if let Err(not_back) = back {
        let name = aside.name.as_str();
        tracing::error!(name, error = %not_back, "two files have not changed places, and one of them has this name now");
    }
    error
}
