//! Listings and lookups while names are made, uploaded, removed and renamed, with requests
//! that are late before and after the store carries them out: what was there before one
//! began, and has not been touched since, is in it, and what was removed is not. What is
//! in a directory is not touched where that gets another name.

mod renames;

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use tokio::task::JoinSet;

use super::*;
use crate::store::faulty::Faulty;
use crate::store::memory::Memory;
use crate::store::{
    DeletePending, DeleteQueue, LateChanges, LateObject, ObjectHeaders, PutRequest, RecoveredWork,
    StoreLog, UploadId, WriteCondition,
};

const SEEDS: u64 = 40;
const ACTORS: u64 = 6;
const STEPS: usize = 40;
const DELAY_LIMIT: Duration = Duration::from_secs(3);
/// Files come and go in all of them, `t/a/n` itself too. Parents come first.
const DIRS: [&str; 5] = ["t", "t/a", "t/b", "t/a/n", MOVING];
/// One that is in either of these directories; what is in it is called by its own name.
const MOVING: &str = "m";
const MOVES_IN: [&str; 2] = ["t/a", "t/b"];
const FILES: [&str; 3] = ["f", "g", "h"];

#[derive(Debug)]
struct NoLog;

impl StoreLog for NoLog {
    fn delete_pending(&self, _: &DeletePending) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn settled(&self, _: &[Key]) {}
    fn expect_late(&self, _: &Key, _: &[LateObject]) -> io::Result<()> {
        Ok(())
    }
    fn forget_late(&self, _: &Key) {}
    fn keep_late(&self, _: &Key) -> io::Result<()> {
        Ok(())
    }
    fn upload_begun(&self, _: Key, _: UploadId) {}
    fn upload_ended(&self, _: Key, _: UploadId) {}
}

/// What is known of a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    is_there: bool,
    /// How often a change of it, or of a directory above it, has begun.
    changes: u64,
    is_changing: bool,
}

/// A file that is not uploaded, or that somebody looks at.
#[derive(Debug, Clone)]
struct Made {
    inode: Arc<Pin>,
    upload: Arc<tokio::sync::Mutex<()>>,
}

struct World {
    queue: Arc<DeleteQueue>,
    names: Namespace,
    known: Mutex<HashMap<String, Known>>,
    made: Mutex<HashMap<String, Made>>,
    /// Which of `MOVES_IN` the directory is in.
    moved_to: Mutex<usize>,
    /// As the kernel lets one call at a time change a directory.
    locks: HashMap<&'static str, tokio::sync::Mutex<()>>,
    uploads: Mutex<JoinSet<()>>,
    told: String,
    _kernel: tokio::sync::mpsc::Receiver<Invalidation>,
}

fn parts(path: &str) -> (&str, Name) {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    (dir, Name::from_segment(name).unwrap())
}

impl World {
    fn new(seed: u64, ttl: Duration, markers: DirMarkers) -> Arc<Self> {
        let store = Arc::new(Faulty::new(Arc::new(Memory::default())));
        store.delay(seed, DELAY_LIMIT);
        let (invalidations, kernel) = Invalidations::channel();
        let queue = Arc::new(DeleteQueue::new(
            store,
            Arc::new(NoLog),
            Duration::from_secs(600),
            RecoveredWork::default(),
            LateChanges::default(),
        ));
        let names = Namespace::new(
            Origin {
                store: queue.clone(),
                health: StoreHealth::default(),
                late: LateChanges::default(),
            },
            KeySpace::new("p/"),
            Coherence {
                ttl,
                negative_ttl: Duration::from_secs(1),
                stale_ttl: Duration::from_secs(3600),
            },
            markers,
            invalidations,
            (None, Arc::default()),
            Arc::default(),
        );
        Arc::new(Self {
            queue,
            names,
            known: Mutex::default(),
            made: Mutex::default(),
            moved_to: Mutex::default(),
            locks: DIRS
                .into_iter()
                .map(|dir| (dir, Default::default()))
                .collect(),
            uploads: Mutex::default(),
            told: format!("seed {seed}, ttl {ttl:?}, {markers:?}"),
            _kernel: kernel,
        })
    }

    fn known(&self, path: &str) -> Known {
        self.known.lock().get(path).copied().unwrap_or_default()
    }

    /// A change of the path begins, and with it what is known of all below ends.
    fn begin(&self, path: &str) {
        let below = format!("{path}/");
        let mut known = self.known.lock();
        known.entry(path.to_owned()).or_default().is_changing = true;
        let concerned = known.iter_mut();
        let concerned = concerned.filter(|(at, _)| *at == path || at.starts_with(&below));
        concerned.for_each(|(_, known)| known.changes += 1);
    }

    fn end(&self, path: &str, is_there: bool) {
        let mut known = self.known.lock();
        let known = known.get_mut(path).unwrap();
        (known.is_there, known.is_changing) = (is_there, false);
    }

    /// Where a path is now.
    fn place(&self, path: &str) -> String {
        match path.strip_prefix(MOVING) {
            Some(rest) => format!("{}/{MOVING}{rest}", MOVES_IN[*self.moved_to.lock()]),
            None => path.to_owned(),
        }
    }

    async fn directory(&self, path: &str) -> Result<Pin, FsError> {
        let mut at = self.names.inode(ROOT)?;
        let path = self.place(path);
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            at = self.names.lookup(&at, &parts(segment).1).await?;
        }
        Ok(at)
    }

    async fn mkdir(&self, path: &'static str) {
        let (dir, name) = parts(path);
        let parent = self.directory(dir).await.unwrap();
        self.begin(path);
        let looked = self.names.lookup(&parent, &name).await;
        assert!(
            matches!(looked, Err(FsError::NotFound(_))),
            "{path}, {}",
            self.told
        );
        let made = self
            .names
            .create_local(&parent, &name, Kind::Directory)
            .unwrap();
        persist_directory(&self.names, &parent, &made)
            .await
            .unwrap();
        self.end(path, true);
    }

    async fn rmdir(&self, path: &'static str) {
        let (dir, name) = parts(path);
        let parent = self.directory(dir).await.unwrap();
        self.begin(path);
        let gone = self.names.lookup(&parent, &name).await.unwrap();
        if let Err(error) = check_empty(&self.names, &gone).await {
            assert!(matches!(error, FsError::NotEmpty), "{error}, {}", self.told);
            return self.end(path, true);
        }
        before_entry_removed(&self.names, &parent, &name)
            .await
            .unwrap();
        remove_marker(&self.names, &gone).await.unwrap();
        self.names.record(parent.ino, &name, None);
        self.names.directories().forget(&gone);
        self.names.table().detach(gone.ino);
        self.end(path, false);
    }

    async fn create(self: &Arc<Self>, path: String, waits: bool) {
        let (dir, name) = parts(&path);
        let parent = self.directory(dir).await.unwrap();
        self.begin(&path);
        let inode = self.names.create_local(&parent, &name, Kind::File).unwrap();
        let made = Made {
            inode: Arc::new(inode),
            upload: Arc::default(),
        };
        self.made.lock().insert(path.clone(), made.clone());
        let turn = made.upload.clone().lock_owned().await;
        let (this, of_path) = (self.clone(), path.clone());
        let upload = async move {
            let key = this.names.file_key(made.inode.ino).unwrap();
            let request = PutRequest {
                key,
                body: Bytes::from(of_path),
                headers: ObjectHeaders::default(),
                condition: WriteCondition::Always,
            };
            let version = ObjectVersion {
                size_bytes: request.body.len() as u64,
                etag: this.queue.put(request).await.unwrap().etag,
                last_modified: SystemTime::now(),
            };
            this.names.record_uploaded(&made.inode, version);
            made.inode.state().local = None;
            entry_added(&this.names, &parent).await;
            drop(turn);
        };
        if waits {
            upload.await;
        } else {
            self.uploads.lock().spawn(upload);
        }
        self.end(&path, true);
    }

    async fn unlink(&self, path: &str) {
        let (dir, name) = parts(path);
        let parent = self.directory(dir).await.unwrap();
        self.begin(path);
        let inode = self.names.lookup(&parent, &name).await.unwrap();
        let made = self.made.lock().remove(path).unwrap();
        let _turn = made.upload.lock().await;
        before_entry_removed(&self.names, &parent, &name)
            .await
            .unwrap();
        let key = self.names.child_key(parent.ino, &name).unwrap();
        let etag = inode.state().remote.clone().map(|version| version.etag);
        let pending = DeletePending::of_version(key, etag);
        self.queue.delete_later(pending).unwrap();
        self.names.record(parent.ino, &name, None);
        self.names.table().detach(inode.ino);
        self.end(path, false);
    }

    /// Makes a name in one directory, or removes it.
    async fn change(self: &Arc<Self>, random: &mut Rng) {
        let dir = random.choice(DIRS).unwrap();
        let place = self.place(dir);
        let (above, _) = parts(&place);
        // Nobody removes the directory meanwhile.
        let _above = match self.locks.get(above) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        let _lock = self.locks[dir].lock().await;
        if !self.known(dir).is_there {
            return self.mkdir(dir).await;
        }
        if dir == DIRS[3] && random.u8(..) < 64 {
            return self.rmdir(dir).await;
        }
        let path = format!("{dir}/{}", random.choice(FILES).unwrap());
        match self.known(&path).is_there {
            true => self.unlink(&path).await,
            false => self.create(path, random.bool()).await,
        }
    }

    /// What is known of each path in a directory.
    fn known_in(&self, dir: &str) -> HashMap<String, Known> {
        let moving = MOVES_IN.map(|dir| format!("{dir}/{MOVING}"));
        let paths = DIRS.into_iter().map(str::to_owned).chain(moving);
        let files = FILES.iter().map(|file| format!("{dir}/{file}"));
        let inside = paths.chain(files).filter(|path| parts(path).0 == dir);
        inside
            .map(|path| (path.clone(), self.known(&path)))
            .collect()
    }

    async fn list(&self, dir: &str) {
        let of_dir = self.known(dir);
        let known = self.known_in(dir);
        let Ok(pin) = self.directory(dir).await else {
            let is_same = of_dir == self.known(dir) && dir != MOVING;
            let is_sure = of_dir.is_there && !of_dir.is_changing && is_same;
            return assert!(!is_sure, "{dir} is there, {}", self.told);
        };
        let mut stream = DirStream::new(pin);
        let mut listed = Vec::new();
        // A directory that is removed meanwhile can fail.
        while let Ok(Some(entries)) = next_entries(&self.names, &mut stream).await {
            listed.extend(entries.into_iter().map(|entry| entry.name));
        }
        for (path, before) in known {
            if before.is_changing || before != self.known(&path) || of_dir != self.known(dir) {
                continue;
            }
            let count = listed
                .iter()
                .filter(|name| **name == parts(&path).1)
                .count();
            assert_eq!(count, usize::from(before.is_there), "{path}, {}", self.told);
        }
    }

    async fn look_up(&self, path: &str) {
        let before = self.known(path);
        let (dir, name) = parts(path);
        // It may have moved while it was looked for.
        let looked = match self.directory(dir).await {
            Ok(parent) => self.names.lookup(&parent, &name).await,
            Err(_) if dir == MOVING => return,
            Err(error) => Err(error),
        };
        if !before.is_changing && before == self.known(path) {
            assert_eq!(looked.is_ok(), before.is_there, "{path}, {}", self.told);
        }
    }
}

async fn act(world: Arc<World>, mut random: Rng) {
    for _ in 0..STEPS {
        let dir = random.choice(DIRS).unwrap();
        match random.u8(..8) {
            0 => world.change_name(&mut random).await,
            1..4 => world.change(&mut random).await,
            4..7 => world.list(dir).await,
            _ => world.look_up(&format!("{dir}/{}", FILES[0])).await,
        }
        if random.bool() {
            tokio::time::sleep(DELAY_LIMIT.mul_f64(random.f64())).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_shows_what_was_there_however_late_requests_are() {
    for seed in 0..SEEDS {
        let ttl = Duration::from_secs(if seed % 2 == 0 { 60 } else { 1 });
        let markers = match seed % 3 {
            0 => DirMarkers::Always,
            _ => DirMarkers::Auto,
        };
        let world = World::new(seed, ttl, markers);
        let deletes = tokio::spawn(world.queue.clone().run());
        for dir in &DIRS[..3] {
            world.mkdir(dir).await;
        }
        world.begin(MOVING);
        world.mkdir("t/a/m").await;
        world.end(MOVING, true);
        let actors = (0..ACTORS).map(|actor| Rng::with_seed(seed << 8 | actor));
        let mut actors: JoinSet<()> = actors.map(|it| act(world.clone(), it)).collect();
        while let Some(ended) = actors.join_next().await {
            ended.unwrap();
        }
        let mut uploads = std::mem::take(&mut *world.uploads.lock());
        while let Some(ended) = uploads.join_next().await {
            ended.unwrap();
        }
        for dir in DIRS {
            world.list(dir).await;
        }
        deletes.abort();
    }
}
