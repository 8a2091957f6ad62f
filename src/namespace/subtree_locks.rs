//! Locks of subtrees: no name changes below a directory that moves.
//!
//! An operation that changes a name, or the object of one, shares the path of that
//! name; whoever moves a directory has its old and its new path alone. A path that
//! is held alone conflicts with every path at or below it, so that sharing a path
//! shares each directory above it too. What is held shared never conflicts with what
//! is held shared, and paths beside each other never conflict.
//!
//! Lock order: these come before every other lock of `ops`, and nobody asks for a
//! second set while holding one. The mutex of the table is held for no wait; the
//! inode table's is taken under it.
//!
//! No deadlock: a request gets all that it asks for or nothing, and waits for those
//! that hold something and for those that asked before it. No starvation: whoever
//! asks later waits for who waits already, where the two conflict; others pass.
//!
//! A name may move while somebody waits for it: a request names inodes, and each
//! look at whether it can be granted takes their paths again. What is held keeps its
//! path, since only who has a directory alone moves it.

mod unfinished;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::{DirPath, InodeTable, Name};
use crate::error::FsError;
use crate::vocabulary::Ino;

/// How a path is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    Shared,
    Alone,
}

/// What a request wants to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The path of an inode; nothing where it has no name.
    Inode(Ino),
    /// The path of a name in a directory, whether anything has the name or not.
    Entry(Ino, Name),
    Path(DirPath),
}

pub type Claim = (Target, Hold);

/// Who holds which subtrees, and who waits for them.
#[derive(Debug)]
pub struct SubtreeLocks {
    inodes: Arc<InodeTable>,
    max_wait: Duration,
    table: Mutex<Table>,
    /// Renames of a predecessor that are not finished.
    unfinished: watch::Sender<usize>,
    /// How often a path was released that somebody had, or wanted, alone.
    released: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    last_ticket: u64,
    /// Everybody, in the order in which they asked.
    requests: BTreeMap<u64, Request>,
    /// Those that want, or have, a path alone.
    alone: BTreeSet<u64>,
    waiting: BTreeSet<u64>,
}

#[derive(Debug)]
struct Request {
    claims: Vec<Claim>,
    state: State,
    /// The new path of a rename that a predecessor began.
    unfinished_to: Option<DirPath>,
}

#[derive(Debug)]
enum State {
    Waits(oneshot::Sender<()>),
    Holds(Paths),
}

type Paths = Vec<(DirPath, Hold)>;

/// Releases what it holds, or gives up the wait for it, when it is dropped.
#[derive(Debug)]
pub struct SubtreeGuard {
    locks: Arc<SubtreeLocks>,
    ticket: u64,
}

impl Drop for SubtreeGuard {
    fn drop(&mut self) {
        self.locks.release(self.ticket);
    }
}

impl SubtreeLocks {
    /// `max_wait` is the longest wait for a rename that a predecessor began.
    pub fn new(inodes: Arc<InodeTable>, max_wait: Duration) -> Arc<Self> {
        Arc::new(Self {
            inodes,
            max_wait,
            table: Mutex::default(),
            unfinished: watch::Sender::new(0),
            released: watch::Sender::new(0),
        })
    }

    /// Returns once all of it is held. Cancel-safe.
    pub async fn take(self: &Arc<Self>, claims: Vec<Claim>) -> SubtreeGuard {
        let (guard, granted) = self.ask(claims);
        if let Some(granted) = granted {
            // The sender stays in the table for as long as the guard lives.
            granted.await.ok();
        }
        guard
    }

    /// As `take`, of the paths of inodes.
    pub async fn share<const N: usize>(self: &Arc<Self>, inodes: [Ino; N]) -> SubtreeGuard {
        let claims = inodes.map(|ino| (Target::Inode(ino), Hold::Shared));
        self.take(claims.to_vec()).await
    }

    /// For an operation that changes a name in a directory.
    ///
    /// Errors: `TimedOut` while a rename of a predecessor moves it.
    pub async fn share_entry(
        self: &Arc<Self>,
        dir: Ino,
        name: &Name,
    ) -> Result<SubtreeGuard, FsError> {
        self.entry_settled(dir, name).await?;
        let target = Target::Entry(dir, name.clone());
        Ok(self.take(vec![(target, Hold::Shared)]).await)
    }

    /// For one that changes, or copies, what the store has of inodes.
    ///
    /// Errors: as `share_entry`.
    pub async fn share_inodes<const N: usize>(
        self: &Arc<Self>,
        inodes: [Ino; N],
    ) -> Result<SubtreeGuard, FsError> {
        for ino in inodes {
            self.inode_settled(ino).await?;
        }
        Ok(self.share(inodes).await)
    }

    /// The path of an inode, unless somebody has it or wants it alone.
    pub fn try_share(self: &Arc<Self>, ino: Ino) -> Option<SubtreeGuard> {
        let (guard, wait) = self.ask(vec![(Target::Inode(ino), Hold::Shared)]);
        wait.is_none().then_some(guard)
    }

    /// Changes whenever `try_share` may have another answer.
    pub fn releases(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    fn ask(self: &Arc<Self>, claims: Vec<Claim>) -> (SubtreeGuard, Option<oneshot::Receiver<()>>) {
        let mut table = self.table.lock();
        let ticket = table.next_ticket(&claims);
        let paths = self.paths_of(&claims);
        let (state, granted) = if self.is_blocked(&table, ticket, &paths) {
            table.waiting.insert(ticket);
            let (grant, granted) = oneshot::channel();
            (State::Waits(grant), Some(granted))
        } else {
            (State::Holds(paths), None)
        };
        let request = Request {
            claims,
            state,
            unfinished_to: None,
        };
        table.requests.insert(ticket, request);
        drop(table);
        let guard = SubtreeGuard {
            locks: self.clone(),
            ticket,
        };
        (guard, granted)
    }

    fn release(&self, ticket: u64) {
        let mut table = self.table.lock();
        let was_alone = table.alone.remove(&ticket);
        table.waiting.remove(&ticket);
        let gone = table.requests.remove(&ticket);
        for ticket in table.waiting.clone() {
            self.grant_if_free(&mut table, ticket);
        }
        drop(table);
        if was_alone {
            self.released.send_modify(|released| *released += 1);
        }
        if gone.is_some_and(|gone| gone.unfinished_to.is_some()) {
            self.unfinished.send_modify(|count| *count -= 1);
        }
    }

    fn grant_if_free(&self, table: &mut Table, ticket: u64) {
        let Some(request) = table.requests.get(&ticket) else {
            return;
        };
        let paths = self.paths_of(&request.claims);
        if self.is_blocked(table, ticket, &paths) {
            return;
        }
        table.waiting.remove(&ticket);
        if let Some(request) = table.requests.get_mut(&ticket) {
            let waited = std::mem::replace(&mut request.state, State::Holds(paths));
            if let State::Waits(grant) = waited {
                // Who does not wait any more is about to drop the guard.
                grant.send(()).ok();
            }
        }
    }

    /// Whether another request holds, or asked before for, what conflicts.
    fn is_blocked(&self, table: &Table, ticket: u64, paths: &Paths) -> bool {
        let conflicts = |other: &u64| {
            let Some(request) = table.requests.get(other) else {
                return false;
            };
            match &request.state {
                State::Holds(held) => conflict(paths, held),
                State::Waits(_) => {
                    *other < ticket && conflict(paths, &self.paths_of(&request.claims))
                }
            }
        };
        if paths.iter().any(|(_, hold)| *hold == Hold::Alone) {
            let mut others = table.requests.keys().filter(|other| **other != ticket);
            return others.any(conflicts);
        }
        table.alone.iter().any(conflicts)
    }

    fn paths_of(&self, claims: &[Claim]) -> Paths {
        let paths = claims
            .iter()
            .filter_map(|(target, hold)| Some((self.path_of(target)?, *hold)));
        paths.collect()
    }

    fn path_of(&self, target: &Target) -> Option<DirPath> {
        match target {
            Target::Inode(ino) => self.inodes.dir_path(*ino).ok(),
            Target::Entry(dir, name) => Some(self.inodes.dir_path(*dir).ok()?.join(name)),
            Target::Path(path) => Some(path.clone()),
        }
    }
}

impl Table {
    fn next_ticket(&mut self, claims: &[Claim]) -> u64 {
        self.last_ticket += 1;
        if claims.iter().any(|(_, hold)| *hold == Hold::Alone) {
            self.alone.insert(self.last_ticket);
        }
        self.last_ticket
    }
}

fn conflict(some: &Paths, others: &Paths) -> bool {
    let below = |(path, _): &(DirPath, Hold), (above, hold): &(DirPath, Hold)| {
        *hold == Hold::Alone && path.is_within(above)
    };
    some.iter().any(|one| {
        others
            .iter()
            .any(|other| below(one, other) || below(other, one))
    })
}

#[cfg(test)]
mod tests;
