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
    let inodes = Arc::new(InodeTable::new(
        Arc::default(),
        Numbers::default(),
        Default::default(),
    ));
    (
        inodes.clone(),
        SubtreeLocks::new(inodes, Duration::from_secs(30)),
    )
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
    const MAX_WAIT: Duration = Duration::from_secs(30);
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
    let waited = locks.settled(&below, MAX_WAIT).await;
    assert!(matches!(waited, Err(FsError::TimedOut(_))));
    assert_eq!(began.elapsed(), MAX_WAIT);
    let new_name = Target::Entry(ROOT, name("c"));
    assert!(locks.settled(&new_name, MAX_WAIT).await.is_err());
    for free in [Target::Inode(b.ino), Target::Inode(ROOT)] {
        locks.settled(&free, Duration::ZERO).await.unwrap();
    }
    let mut upload = Box::pin(locks.share([a.ino]));
    assert!(!is_granted(&mut upload).await);
    assert!(is_granted(locks.take(vec![entry(&root, "b", Hold::Alone)])).await);
    assert!(locks.names_settled_within(ROOT, MAX_WAIT).await.is_err());
    locks.names_settled_within(b.ino, MAX_WAIT).await.unwrap();
    drop(first);
    upload.await;
    locks.names_settled_within(ROOT, MAX_WAIT).await.unwrap();
    locks.settled(&below, MAX_WAIT).await.unwrap();
    let deeper = Target::Path(paths[0].join(&name("d")));
    assert!(locks.settled(&deeper, MAX_WAIT).await.is_err());
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
        let Ok(_guard) = timeout(self.max_wait(rng), request).await else {
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
    fn max_wait(&self, rng: &mut fastrand::Rng) -> Duration {
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

#[tokio::test(start_paused = true)]
async fn who_was_refused_a_path_hears_of_its_release() {
    let (inodes, locks) = tree();
    let (a, ab) = (dir(&inodes, "a"), dir(&inodes, "a/b"));
    let moving = locks.take(vec![entry(&a, "b", Hold::Alone)]).await;
    let releases = locks.releases();
    assert!(locks.try_share(ab.ino).is_none());
    drop(locks.share([a.ino]).await);
    assert!(!releases.has_changed().unwrap(), "it kept nobody off");
    drop(moving);
    assert!(releases.has_changed().unwrap());
    assert!(locks.try_share(ab.ino).is_some());
}
