//! RENAME_EXCHANGE: three renames by way of a name that nobody uses.
//!
//! S3 has no exchange: other clients see the steps, and after a crash between them the
//! first file's object has that name. What another client puts under one of the names
//! while it is free has come after the exchange, or after one that has failed: it stays,
//! and the file that was to have the name is what it has replaced.
//!
//! A step that fails says what it has left (`Left`). Only where that is sure are the
//! steps before it taken back. Else nothing is deleted: the first file keeps the name
//! aside, which the log tells.
//!
//! The request counts as carried out before its last step, or a successor would not know
//! the rest of it from an exchange that is asked for. So where that step fails and all is
//! taken back, and the daemon dies before it answers, the successor answers that the
//! files have changed places, though they have not.

use std::time::SystemTime;

use super::not_moved::{Left, NotMoved};
use super::place::{Place, RenameMode};
use super::renamer::Renamer;
use crate::error::FsError;
use crate::files::{KernelRequest, MovedObject, check_awaited, to_the_end};
use crate::namespace::{Hold, Name, Pin};
use crate::store::{DeletePending, DeleteRequest, ObjectStore};
use crate::vocabulary::Ino;

/// What came of a step to a name that was free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepOutcome {
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
            match self.step(from, &aside, source).await {
                Ok(StepOutcome::Moved) => self.second_steps(names, request).await,
                Ok(StepOutcome::Taken) => Err(FsError::EXISTS),
                Err(failed) => {
                    let back = self.delete_copy((from, &aside), source, &failed).await;
                    Err(half_done(failed.error, back, &aside))
                }
            }
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
        let Some(mut source) = self.found(&aside).await? else {
            return Ok(false);
        };
        let table = self.namespace.table();
        let [known, known_at_to] = [from, to].map(|at| table.child(at.dir.ino, at.name));
        let target = match (known, known_at_to) {
            (Some(known), Some(_)) => {
                // One of them is another client's, and nobody can tell which.
                if self.found(from).await?.is_some() {
                    return Err(left_aside(FsError::EXISTS, &aside));
                }
                // It died before it knew that the first file is aside.
                self.finish_resent_rename(Some(known), &aside).await?;
                source = self.namespace.lookup(&aside.dir, aside.name).await?;
                self.found(to).await?
            }
            (Some(_), None) => None,
            (None, _) => self.found(to).await?,
        };
        to_the_end(async {
            let Some(target) = &target else {
                self.executed.record(request);
                return self.resumed_step(&aside, to, &source).await;
            };
            let names = ((from, &source), (to, target), &aside);
            self.second_steps(names, request).await
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
        // Where another client took the first name, the second file may have its own still.
        let is_free = self.namespace.table().child(to.dir.ino, to.name).is_none();
        let Some(source) = self.found(&aside).await? else {
            return Ok(());
        };
        to_the_end(async {
            if !is_free {
                return self.resumed_step(&aside, &to, &source).await;
            }
            let done = self.last_step(&aside, &to, &source).await;
            done.map_err(|failed| left_aside(failed.error, &aside))
        })
        .await
    }

    /// Once the first file is aside.
    async fn second_steps(
        &self,
        ((from, source), (to, target), aside): (At<'_>, At<'_>, &Place<'_>),
        request: KernelRequest,
    ) -> Result<(), FsError> {
        match self.step(to, from, target).await {
            Ok(StepOutcome::Moved) => {}
            Ok(StepOutcome::Taken) => {
                self.executed.record(request);
                let (both, how) = ((source, Some(target)), (RenameMode::Replace, None));
                let moved = self.move_inode(aside, to, both, how).await;
                return moved.map_err(|failed| left_aside(failed.error, aside));
            }
            Err(failed) => {
                let back = async {
                    self.delete_copy((to, from), target, &failed).await?;
                    self.step_back(aside, from, source).await
                };
                let back = back.await;
                return Err(half_done(failed.error, back, aside));
            }
        }
        self.executed.record(request);
        let Err(failed) = self.last_step(aside, to, source).await else {
            return Ok(());
        };
        let back = async {
            self.delete_copy((aside, to), source, &failed).await?;
            self.step_back(from, to, target).await?;
            self.step_back(aside, from, source).await
        };
        let back = back.await;
        Err(half_done(failed.error, back, aside))
    }

    async fn last_step(
        &self,
        aside: &Place<'_>,
        to: &Place<'_>,
        source: &Pin,
    ) -> Result<(), NotMoved> {
        match self.step(aside, to, source).await? {
            StepOutcome::Moved => Ok(()),
            StepOutcome::Taken => {
                let given_up = self.give_up(aside, source).await;
                given_up.map_err(NotMoved::unknown)
            }
        }
    }

    /// The last step where that it comes next is likely, and not sure: what is under the
    /// name may be the second file.
    async fn resumed_step(
        &self,
        aside: &Place<'_>,
        to: &Place<'_>,
        source: &Pin,
    ) -> Result<(), FsError> {
        let error = match self.step(aside, to, source).await {
            Ok(StepOutcome::Moved) => return Ok(()),
            Ok(StepOutcome::Taken) => FsError::EXISTS,
            Err(failed) => failed.error,
        };
        Err(left_aside(error, aside))
    }

    /// Takes back a step of an exchange that has failed. Of a later step, no copy is left.
    async fn step_back(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        inode: &Pin,
    ) -> Result<(), FsError> {
        match self.step(from, to, inode).await? {
            StepOutcome::Moved => Ok(()),
            StepOutcome::Taken => self.give_up(from, inode).await,
        }
    }

    /// Deletes what a step has left that has failed.
    ///
    /// Errors: where that may be the only object.
    async fn delete_copy(
        &self,
        (from, to): (&Place<'_>, &Place<'_>),
        inode: &Pin,
        failed: &NotMoved,
    ) -> Result<(), FsError> {
        let (original, copy) = match &failed.left {
            Left::Nothing => return Ok(()),
            Left::Copy { original, copy } => (original, copy),
            Left::Unknown => return Err(failed.error.clone()),
        };
        let old_key = self.namespace.child_key(from.dir.ino, from.name)?;
        let there = self.file.deletes.object_at(&old_key).await?;
        if there.is_none_or(|there| there.etag != original.etag) {
            return Err(FsError::STALE);
        }
        // Readers go back before the copy goes.
        let file = self.files.hold(inode.ino)?;
        file.edit()
            .rebase(&MovedObject::of(copy.clone(), original.clone()), old_key);
        let request = DeleteRequest {
            key: self.namespace.child_key(to.dir.ino, to.name)?,
            if_match: Some(copy.clone()),
        };
        self.file.store.delete(request).await?;
        self.namespace.record(to.dir.ino, to.name, None);
        Ok(())
    }

    async fn step(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        inode: &Pin,
    ) -> Result<StepOutcome, NotMoved> {
        let how = (RenameMode::Exchange, None);
        match self.move_inode(from, to, (inode, None), how).await {
            Ok(()) => Ok(StepOutcome::Moved),
            Err(NotMoved {
                error: FsError::Exists(_),
                left: Left::Nothing,
            }) => Ok(StepOutcome::Taken),
            Err(failed) => Err(failed),
        }
    }

    /// Another client has put something under the name that was the file's.
    async fn give_up(&self, place: &Place<'_>, inode: &Pin) -> Result<(), FsError> {
        let key = self.namespace.child_key(place.dir.ino, place.name)?;
        tracing::warn!(%key, "another client wrote this key during an exchange of two files: its file stays, ours is replaced");
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

/// Why an exchange has failed, of which what was done is taken back, or is not.
fn half_done(error: FsError, back: Result<(), FsError>, aside: &Place<'_>) -> FsError {
    match back {
        Ok(()) => error,
        Err(not_back) => {
            left_aside(not_back, aside);
            error
        }
    }
}

/// Why an exchange is left as it is.
fn left_aside(error: FsError, aside: &Place<'_>) -> FsError {
    let name = aside.name.as_str();
    tracing::error!(name, %error, "exchange of two files failed: one of them may have this name now");
    error
}
