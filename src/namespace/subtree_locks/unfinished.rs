//! Renames that a predecessor began and that are not finished: what they move is
//! neither shown nor changed meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::{Claim, Hold, Paths, Request, State, SubtreeGuard, SubtreeLocks, Target};
use crate::error::FsError;
use crate::namespace::{DirPath, Name};
use crate::vocabulary::Ino;

/// Longest wait of a listing for a rename that gives one of its names to another
/// directory: where S3 answers it is finished by then, also where it first waits for
/// what a predecessor had sent (`LATE_LIMIT` of the store).
const LISTING_MAX_WAIT: Duration = Duration::from_secs(10);

impl SubtreeLocks {
    /// Holds the two paths of a rename that a predecessor began, before anybody
    /// else asks. Such renames may overlap: one task finishes them one by one.
    pub fn hold_unfinished(self: &Arc<Self>, from: DirPath, to: DirPath) -> SubtreeGuard {
        let paths = [from, to.clone()].into_iter();
        // A key that is none of this mount has no path.
        let paths = paths.filter(|path| !path.is_root());
        let paths: Paths = paths.map(|path| (path, Hold::Alone)).collect();
        let mut table = self.table.lock();
        let claims = paths.iter().cloned();
        let claims: Vec<Claim> = claims
            .map(|(path, hold)| (Target::Path(path), hold))
            .collect();
        let ticket = table.next_ticket(&claims);
        let request = Request {
            claims,
            state: State::Holds(paths),
            unfinished_to: Some(to),
        };
        table.requests.insert(ticket, request);
        self.unfinished.send_modify(|count| *count += 1);
        SubtreeGuard {
            locks: self.clone(),
            ticket,
        }
    }

    /// Renames of a predecessor that are not finished.
    pub fn unfinished(&self) -> usize {
        *self.unfinished.borrow()
    }

    /// Returns once no unfinished rename moves what is at the target.
    ///
    /// Errors: `TimedOut` after `max_wait`.
    pub(super) async fn settled(&self, target: &Target, max_wait: Duration) -> Result<(), FsError> {
        self.until(max_wait, || !self.is_unsettled(target)).await
    }

    /// Returns once no unfinished rename has to do with a name in the directory.
    ///
    /// Errors: `TimedOut` after `max_wait`.
    pub(super) async fn names_settled_within(
        &self,
        dir: Ino,
        max_wait: Duration,
    ) -> Result<(), FsError> {
        let settled = || {
            let path = self.inodes.dir_path(dir).ok();
            path.is_none_or(|path| !self.moves(|it| it.parent().as_ref() == Some(&path)))
        };
        self.until(max_wait, settled).await
    }

    async fn until(&self, max_wait: Duration, settled: impl Fn() -> bool) -> Result<(), FsError> {
        if self.unfinished() == 0 {
            return Ok(());
        }
        let mut unfinished = self.unfinished.subscribe();
        let settled = unfinished.wait_for(|_| settled());
        match tokio::time::timeout(max_wait, settled).await {
            Ok(_) => Ok(()),
            Err(_) => Err(FsError::TIMED_OUT),
        }
    }

    /// Returns once every unfinished rename is finished.
    pub async fn all_settled(&self) {
        // The sender is in `self`.
        let mut unfinished = self.unfinished.subscribe();
        unfinished.wait_for(|count| *count == 0).await.ok();
    }

    /// Whether an unfinished rename gives something this name.
    pub(super) fn is_new_name(&self, dir: Ino, name: &Name) -> bool {
        let path = self.path_of(&Target::Entry(dir, name.clone()));
        let table = self.table.lock();
        let mut alone = table.alone.iter().filter_map(|it| table.requests.get(it));
        path.is_some() && alone.any(|request| request.unfinished_to == path)
    }

    fn is_unsettled(&self, target: &Target) -> bool {
        let path = self.path_of(target);
        path.is_some_and(|path| self.moves(|moving| path.is_within(moving)))
    }

    /// Whether an unfinished rename has such a path.
    fn moves(&self, path: impl Fn(&DirPath) -> bool) -> bool {
        let table = self.table.lock();
        let mut alone = table.alone.iter().filter_map(|it| table.requests.get(it));
        alone.any(|request| match &request.state {
            State::Holds(paths) if request.unfinished_to.is_some() => {
                paths.iter().any(|(moving, _)| path(moving))
            }
            State::Holds(_) | State::Waits(_) => false,
        })
    }

    /// To be called before an inode is shown: while a rename of a predecessor
    /// is not finished, what is below its directories may have two names.
    ///
    /// Errors: `TimedOut`.
    pub async fn inode_settled(&self, ino: Ino) -> Result<(), FsError> {
        let target = Target::Inode(ino);
        self.settled(&target, self.max_wait).await
    }

    /// The same of a name in a directory.
    pub async fn entry_settled(&self, dir: Ino, name: &Name) -> Result<(), FsError> {
        if self.unfinished() == 0 {
            return Ok(());
        }
        let target = Target::Entry(dir, name.clone());
        self.settled(&target, self.max_wait).await
    }

    /// To be called before names in a directory are listed, which does not wait as
    /// long as others do: what an unfinished rename moves has its old name alone then.
    pub async fn names_settled(&self, dir: Ino) {
        let max_wait = self.max_wait.min(LISTING_MAX_WAIT);
        if self.names_settled_within(dir, max_wait).await.is_err() {
            tracing::debug!(ino = dir.0, "listed before the end of an unfinished rename");
        }
    }

    /// Whether a name is not to be listed.
    pub fn hides(&self, dir: Ino, name: &Name) -> bool {
        self.unfinished() > 0 && self.is_new_name(dir, name)
    }
}
