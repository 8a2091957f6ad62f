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
//! look at whether it can be granted takes their paths anew. What is held keeps its
//! path, since only who has a directory alone moves it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::Ops;
use crate::error::FsError;
use crate::namespace::{DirPath, InodeTable, Name};
use crate::vocabulary::Ino;

/// Longest wait of a listing for a rename that gives one of its names to another
/// directory: where S3 answers it is finished by then, also where it first waits for
/// what a predecessor had sent (`LATE_LIMIT` of the store).
const LISTING_PATIENCE: Duration = Duration::from_secs(10);

/// How a path is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Shared,
    Alone,
}

/// What a request wants to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The path of an inode; nothing where it has no name.
    Inode(Ino),
    /// The path of a name in a directory, whether anything has the name or not.
    Entry(Ino, Name),
    Path(DirPath),
}

pub(super) type Claim = (Target, Hold);

/// Who holds which subtrees, and who waits for them.
#[derive(Debug)]
pub(super) struct SubtreeLocks {
    inodes: Arc<InodeTable>,
    table: Mutex<Table>,
    /// Renames of a predecessor that are not finished.
    unfinished: watch::Sender<usize>,
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
pub(super) struct SubtreeGuard {
    locks: Arc<SubtreeLocks>,
    ticket: u64,
}

impl Drop for SubtreeGuard {
    fn drop(&mut self) {
        self.locks.release(self.ticket);
    }
}

impl SubtreeLocks {
    pub fn new(inodes: Arc<InodeTable>) -> Arc<Self> {
        Arc::new(Self {
            inodes,
            table: Mutex::default(),
            unfinished: watch::Sender::new(0),
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

    /// The path of an inode, unless somebody has it or wants it alone.
    pub fn try_share(self: &Arc<Self>, ino: Ino) -> Option<SubtreeGuard> {
        let (guard, wait) = self.ask(vec![(Target::Inode(ino), Hold::Shared)]);
        wait.is_none().then_some(guard)
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
    /// Errors: `TimedOut` after `patience`.
    pub async fn settled(&self, target: &Target, patience: Duration) -> Result<(), FsError> {
        self.until(patience, || !self.is_unsettled(target)).await
    }

    /// Returns once no unfinished rename has to do with a name in the directory.
    ///
    /// Errors: `TimedOut` after `patience`.
    pub async fn names_settled(&self, dir: Ino, patience: Duration) -> Result<(), FsError> {
        let settled = || {
            let path = self.inodes.dir_path(dir).ok();
            path.is_none_or(|path| !self.moves(|it| it.parent().as_ref() == Some(&path)))
        };
        self.until(patience, settled).await
    }

    async fn until(&self, patience: Duration, settled: impl Fn() -> bool) -> Result<(), FsError> {
        if self.unfinished() == 0 {
            return Ok(());
        }
        let mut unfinished = self.unfinished.subscribe();
        let settled = unfinished.wait_for(|_| settled());
        match tokio::time::timeout(patience, settled).await {
            Ok(_) => Ok(()),
            Err(_) => Err(FsError::TimedOut),
        }
    }

    /// Returns once every unfinished rename is finished.
    pub async fn all_settled(&self) {
        // The sender is in `self`.
        let mut unfinished = self.unfinished.subscribe();
        unfinished.wait_for(|count| *count == 0).await.ok();
    }

    /// Whether an unfinished rename gives something this name.
    fn is_new_name(&self, dir: Ino, name: &Name) -> bool {
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

    fn release(&self, ticket: u64) {
        let mut table = self.table.lock();
        table.alone.remove(&ticket);
        table.waiting.remove(&ticket);
        let gone = table.requests.remove(&ticket);
        for ticket in table.waiting.clone() {
            self.grant_if_free(&mut table, ticket);
        }
        drop(table);
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

impl Ops {
    /// For an operation that changes a name in a directory.
    ///
    /// Errors: `TimedOut` while a rename of a predecessor moves it.
    pub(super) async fn share_entry(&self, dir: Ino, name: &Name) -> Result<SubtreeGuard, FsError> {
        self.entry_settled(dir, name).await?;
        let target = Target::Entry(dir, name.clone());
        Ok(self.subtrees.take(vec![(target, Hold::Shared)]).await)
    }

    /// For one that changes, or copies, what the store has of inodes.
    ///
    /// Errors: as `share_entry`.
    pub(super) async fn share_inodes<const N: usize>(
        &self,
        inodes: [Ino; N],
    ) -> Result<SubtreeGuard, FsError> {
        for ino in inodes {
            self.inode_settled(ino).await?;
        }
        Ok(self.subtrees.share(inodes).await)
    }

    /// To be called before an inode is shown: while a rename of a predecessor
    /// is not finished, what is below its directories may have two names.
    ///
    /// Errors: `TimedOut`.
    pub(super) async fn inode_settled(&self, ino: Ino) -> Result<(), FsError> {
        let target = Target::Inode(ino);
        self.subtrees.settled(&target, self.settings.patience).await
    }

    /// The same of a name in a directory.
    pub(super) async fn entry_settled(&self, dir: Ino, name: &Name) -> Result<(), FsError> {
        if self.subtrees.unfinished() == 0 {
            return Ok(());
        }
        let target = Target::Entry(dir, name.clone());
        self.subtrees.settled(&target, self.settings.patience).await
    }

    /// To be called before names in a directory are listed, which does not wait as
    /// long as others do: what an unfinished rename moves has its old name alone then.
    pub(super) async fn names_settled(&self, dir: Ino) {
        let patience = self.settings.patience.min(LISTING_PATIENCE);
        if self.subtrees.names_settled(dir, patience).await.is_err() {
            tracing::debug!(ino = dir.0, "listed before the end of an unfinished rename");
        }
    }

    /// Whether a name is not to be listed.
    pub(super) fn hides(&self, dir: Ino, name: &Name) -> bool {
        self.subtrees.unfinished() > 0 && self.subtrees.is_new_name(dir, name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::namespace::{Numbers, Pin};
    use crate::vocabulary::{Kind, ROOT};

    /// Longer than every turn of a test together.
    const NEVER: Duration = Duration::from_secs(3600);

    fn name(text: &str) -> Name {
        Name::from_segment(text).unwrap()
    }

    fn tree() -> (Arc<InodeTable>, Arc<SubtreeLocks>) {
        let inodes = Arc::new(InodeTable::new(Arc::default(), Numbers::default()));
        (inodes.clone(), SubtreeLocks::new(inodes))
    }

    fn dir(inodes: &Arc<InodeTable>, path: &str) -> Pin {
        let root = inodes.get(ROOT).unwrap();
        path.split('/').fold(root, |at, part| {
            inodes
                .child_or_new(at.ino, &name(part), Kind::Directory)
                .unwrap()
        })
    }

    fn entry(parent: &Pin, text: &str, hold: Hold) -> Claim {
        (Target::Entry(parent.ino, name(text)), hold)
    }

    async fn is_granted(request: impl Future<Output = SubtreeGuard>) -> bool {
        timeout(Duration::from_millis(1), request).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_held_alone_keeps_off_what_is_at_and_below_it_and_nothing_else() {
        let (inodes, locks) = tree();
        let (root, a) = (inodes.get(ROOT).unwrap(), dir(&inodes, "a"));
        let (ab, abc) = (dir(&inodes, "a/b"), dir(&inodes, "a/b/c"));
        let moving = locks.take(vec![entry(&a, "b", Hold::Alone)]).await;
        for (parent, text, hold, free) in [
            (&ab, "x", Hold::Shared, false),
            (&abc, "x", Hold::Shared, false),
            (&a, "b", Hold::Shared, false),
            (&root, "a", Hold::Alone, false),
            (&root, "a", Hold::Shared, true),
            (&a, "bc", Hold::Shared, true),
            (&a, "x", Hold::Alone, true),
            (&root, "b", Hold::Alone, true),
        ] {
            let request = locks.take(vec![entry(parent, text, hold)]);
            assert_eq!(is_granted(request).await, free, "{text} {hold:?}");
        }
        drop(moving);
        assert!(is_granted(locks.take(vec![entry(&abc, "x", Hold::Alone)])).await);
        assert!(locks.table.lock().requests.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_directory_holds_up_those_alone_who_want_it_too() {
        let (inodes, locks) = tree();
        let (root, a, b) = (
            inodes.get(ROOT).unwrap(),
            dir(&inodes, "a"),
            dir(&inodes, "b"),
        );
        let upload = locks.take(vec![entry(&a, "x", Hold::Shared)]).await;
        let rename = locks.take(vec![
            entry(&root, "a", Hold::Alone),
            entry(&root, "c", Hold::Alone),
        ]);
        let mut rename = Box::pin(rename);
        assert!(!is_granted(&mut rename).await);
        let elsewhere = locks.take(vec![entry(&b, "y", Hold::Shared)]);
        assert!(is_granted(elsewhere).await);
        // Else uploads without a gap between them would keep the rename off for ever.
        let later = locks.take(vec![entry(&a, "y", Hold::Shared)]);
        let mut later = Box::pin(later);
        assert!(!is_granted(&mut later).await);
        assert!(locks.try_share(a.ino).is_none());
        drop(upload);
        let held = rename.await;
        assert!(!is_granted(&mut later).await);
        drop(held);
        later.await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_holds_up_nobody() {
        let (inodes, locks) = tree();
        let (root, a) = (inodes.get(ROOT).unwrap(), dir(&inodes, "a"));
        let upload = locks.take(vec![entry(&a, "x", Hold::Shared)]).await;
        let rename = locks.take(vec![entry(&root, "a", Hold::Alone)]);
        assert!(!is_granted(rename).await, "and is dropped");
        assert!(is_granted(locks.take(vec![entry(&a, "y", Hold::Shared)])).await);
        drop(upload);
        assert!(locks.table.lock().requests.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_unfinished_rename_moves_is_shown_once_it_is_finished_or_not_at_all() {
        const PATIENCE: Duration = Duration::from_secs(30);
        let (inodes, locks) = tree();
        let (root, a, b) = (
            inodes.get(ROOT).unwrap(),
            dir(&inodes, "a"),
            dir(&inodes, "b"),
        );
        let paths = ["a", "c"].map(|text| DirPath::root().join(&name(text)));
        let first = locks.hold_unfinished(paths[0].clone(), paths[1].clone());
        // They may overlap, and are finished one by one.
        let second = locks.hold_unfinished(paths[0].join(&name("d")), DirPath::root());
        assert!(locks.is_new_name(ROOT, &name("c")) && !locks.is_new_name(ROOT, &name("a")));
        let below = Target::Entry(a.ino, name("f"));
        let began = Instant::now();
        let waited = locks.settled(&below, PATIENCE).await;
        assert!(matches!(waited, Err(FsError::TimedOut)));
        assert_eq!(began.elapsed(), PATIENCE);
        let new_name = Target::Entry(ROOT, name("c"));
        assert!(locks.settled(&new_name, PATIENCE).await.is_err());
        for free in [Target::Inode(b.ino), Target::Inode(ROOT)] {
            locks.settled(&free, Duration::ZERO).await.unwrap();
        }
        let mut upload = Box::pin(locks.share([a.ino]));
        assert!(!is_granted(&mut upload).await);
        assert!(is_granted(locks.take(vec![entry(&root, "b", Hold::Alone)])).await);
        assert!(locks.names_settled(ROOT, PATIENCE).await.is_err());
        locks.names_settled(b.ino, PATIENCE).await.unwrap();
        drop(first);
        upload.await;
        locks.names_settled(ROOT, PATIENCE).await.unwrap();
        locks.settled(&below, PATIENCE).await.unwrap();
        let deeper = Target::Path(paths[0].join(&name("d")));
        assert!(locks.settled(&deeper, PATIENCE).await.is_err());
        let all = tokio::spawn({
            let locks = locks.clone();
            async move { locks.all_settled().await }
        });
        drop(second);
        all.await.unwrap();
        assert_eq!(locks.unfinished(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_wants_the_path_that_an_inode_has_in_the_end() {
        let (inodes, locks) = tree();
        let (root, a, file) = (
            inodes.get(ROOT).unwrap(),
            dir(&inodes, "a"),
            dir(&inodes, "a/f"),
        );
        let rename = locks.take(vec![
            entry(&root, "a", Hold::Alone),
            entry(&root, "b", Hold::Alone),
        ]);
        let rename = rename.await;
        let mut upload = Box::pin(locks.share([file.ino]));
        assert!(!is_granted(&mut upload).await);
        inodes.rename(a.ino, ROOT, &name("b")).unwrap();
        drop(rename);
        let upload = upload.await;
        assert!(is_granted(locks.take(vec![entry(&root, "a", Hold::Alone)])).await);
        assert!(!is_granted(locks.take(vec![entry(&root, "b", Hold::Alone)])).await);
        drop(upload);
    }

    /// What the tasks of one random run have to agree on.
    struct World {
        inodes: Arc<InodeTable>,
        locks: Arc<SubtreeLocks>,
        dirs: Vec<Ino>,
        /// Paths that are in use now.
        shared: Mutex<Vec<DirPath>>,
        alone: Mutex<Vec<DirPath>>,
    }

    impl World {
        fn random(rng: &mut fastrand::Rng) -> Self {
            let (inodes, locks) = tree();
            let mut dirs = vec![ROOT];
            for number in 0..rng.usize(5..20) {
                let parent = dirs[rng.usize(..dirs.len())];
                let text = name(&format!("d{number}"));
                let made = inodes.child_or_new(parent, &text, Kind::Directory).unwrap();
                inodes.add_lookup(made.ino);
                dirs.push(made.ino);
            }
            Self {
                inodes,
                locks,
                dirs,
                shared: Mutex::default(),
                alone: Mutex::default(),
            }
        }

        fn any_dir(&self, rng: &mut fastrand::Rng) -> Ino {
            self.dirs[rng.usize(..self.dirs.len())]
        }

        /// A change of a name takes a while, in which no directory above it moves.
        async fn change_name(&self, rng: &mut fastrand::Rng) {
            let parent = self.any_dir(rng);
            let file = name(&format!("f{}", rng.u8(..4)));
            let claims = vec![(Target::Entry(parent, file.clone()), Hold::Shared)];
            let request = self.locks.take(claims);
            let Ok(_guard) = timeout(self.patience(rng), request).await else {
                return;
            };
            let path = self.inodes.dir_path(parent).unwrap().join(&file);
            self.shared.lock().push(path.clone());
            let moves = |path: &DirPath| self.alone.lock().iter().any(|it| path.is_within(it));
            assert!(!moves(&path), "{path:?} moves");
            sleep(Duration::from_millis(rng.u64(..20))).await;
            let now = self.inodes.dir_path(parent).unwrap().join(&file);
            assert_eq!(path, now);
            let mut shared = self.shared.lock();
            let at = shared.iter().position(|it| *it == path).unwrap();
            shared.swap_remove(at);
        }

        async fn move_directory(&self, rng: &mut fastrand::Rng) {
            let (moved, to) = (self.any_dir(rng), self.any_dir(rng));
            let Some((from, old)) = self.inodes.place(moved) else {
                return;
            };
            let new = if rng.bool() {
                old.clone()
            } else {
                name(&format!("m{}", rng.u32(..)))
            };
            let claims = vec![
                (Target::Entry(from, old.clone()), Hold::Alone),
                (Target::Entry(to, new.clone()), Hold::Alone),
            ];
            let _guard = self.locks.take(claims).await;
            let is_there = self.inodes.place(moved) == Some((from, old.clone()));
            let is_free = self.inodes.child(to, &new).is_none();
            if !is_there || !is_free || self.inodes.is_within(to, moved) {
                return;
            }
            let path = |dir, name| self.inodes.dir_path(dir).unwrap().join(name);
            let both = [path(from, &old), path(to, &new)];
            let below = |other: &DirPath| both.iter().any(|it| other.is_within(it));
            assert!(!self.shared.lock().iter().any(below), "{both:?}");
            {
                let alone = self.alone.lock();
                let overlap = |a: &DirPath, b: &DirPath| a.is_within(b) || b.is_within(a);
                let mut others = alone.iter();
                assert!(!others.any(|other| both.iter().any(|it| overlap(it, other))));
            }
            self.alone.lock().extend(both.clone());
            sleep(Duration::from_millis(rng.u64(..20))).await;
            assert_eq!(path(from, &old), both[0]);
            self.alone.lock().retain(|it| !both.contains(it));
            self.inodes.rename(moved, to, &new).unwrap();
        }

        /// Some give up while they wait.
        fn patience(&self, rng: &mut fastrand::Rng) -> Duration {
            if rng.u8(..10) == 0 {
                Duration::from_millis(rng.u64(..10))
            } else {
                NEVER
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn in_random_trees_nothing_changes_below_what_moves_and_all_come_to_an_end() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let world = Arc::new(World::random(&mut rng));
            let tasks: Vec<_> = (0..16)
                .map(|task| {
                    let (world, mut rng) = (world.clone(), rng.fork());
                    tokio::spawn(async move {
                        for _ in 0..20 {
                            if task % 4 == 0 {
                                world.move_directory(&mut rng).await;
                            } else {
                                world.change_name(&mut rng).await;
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                let ended = timeout(NEVER, task).await;
                ended
                    .unwrap_or_else(|_| panic!("seed {seed}: a deadlock"))
                    .unwrap();
            }
            assert!(world.locks.table.lock().requests.is_empty(), "seed {seed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rename_among_uploads_without_a_gap_waits_for_those_that_came_before_alone() {
        const UPLOAD: Duration = Duration::from_millis(100);
        let (inodes, locks) = tree();
        let (root, a) = (inodes.get(ROOT).unwrap(), dir(&inodes, "a"));
        let uploaders: Vec<_> = (0..8)
            .map(|number| {
                let (locks, ino) = (locks.clone(), a.ino);
                tokio::spawn(async move {
                    sleep(UPLOAD * number / 8).await;
                    loop {
                        let _held = locks.share([ino]).await;
                        sleep(UPLOAD).await;
                    }
                })
            })
            .collect();
        sleep(UPLOAD * 3).await;
        let asked = Instant::now();
        let held = locks.take(vec![entry(&root, "a", Hold::Alone)]).await;
        assert!(asked.elapsed() <= UPLOAD, "{:?}", asked.elapsed());
        drop(held);
        uploaders.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[test]
    fn threads_that_cross_each_other_all_come_to_an_end() {
        const TURNS: usize = 2000;
        let (inodes, locks) = tree();
        let pins: Vec<Pin> = ["a", "a/b", "c", "c/e"]
            .map(|path| dir(&inodes, path))
            .into();
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(4).enable_time().build().unwrap();
        let at_work = Arc::new(Mutex::new(HashSet::new()));
        let crossing = [
            (0, "b", 2, "d"),
            (2, "e", 0, "f"),
            (2, "d", 0, "b"),
            (0, "f", 2, "e"),
        ];
        let tasks: Vec<_> = crossing
            .into_iter()
            .enumerate()
            .map(|(number, (from, old, to, new))| {
                let (locks, at_work) = (locks.clone(), at_work.clone());
                let claims = vec![
                    entry(&pins[from], old, Hold::Alone),
                    entry(&pins[to], new, Hold::Alone),
                ];
                runtime.spawn(async move {
                    for _ in 0..TURNS {
                        let _held = locks.take(claims.clone()).await;
                        // The first and the third want the same, so do the others.
                        assert!(at_work.lock().insert(number % 2));
                        tokio::task::yield_now().await;
                        at_work.lock().remove(&(number % 2));
                    }
                })
            })
            .collect();
        runtime.block_on(async {
            for task in tasks {
                timeout(Duration::from_secs(60), task)
                    .await
                    .unwrap()
                    .unwrap();
            }
        });
        assert!(locks.table.lock().requests.is_empty());
    }
}
