//! A disk that forgets what was not synced when its power goes.
//!
//! A file system in memory, mounted through FUSE for the daemon's spool: it sees
//! exactly the writes, syncs, renames and removals that the daemon asks its kernel
//! for, so that the daemon under test is the one that operators run, and neither a
//! device mapper nor a preloaded library is needed. It is stricter than ext4: bytes
//! count from fsync(2) of their file on, names from fsync(2) of their directory on.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

const TTL: Duration = Duration::from_secs(3600);

/// What is left of that which was not synced.
#[derive(Debug, Clone, Copy)]
pub enum Survives {
    Nothing,
    /// Each write and each change of a name by the toss of a coin.
    Some {
        seed: u64,
    },
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Since the last sync.
    unsynced: Vec<Change>,
}

/// Names of one directory.
type Names = BTreeMap<OsString, u64>;
/// Entries that change together: directory, name, what has it from now on.
type NameChange = Vec<(u64, OsString, Option<u64>)>;

#[derive(Debug, Default)]
struct State {
    files: HashMap<u64, Content>,
    directories: HashMap<u64, Names>,
    synced: HashMap<u64, Names>,
    unsynced: Vec<NameChange>,
    last_ino: u64,
    operations: u64,
    cut: Option<(u64, Option<Pid>)>,
    is_off: bool,
}

/// A mounted disk; unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk {
    state: Arc<Mutex<State>>,
    _session: BackgroundSession,
}

impl Disk {
    pub fn mount(at: &Path) -> Self {
        let root = State {
            directories: HashMap::from([(INodeNo::ROOT.0, Names::new())]),
            synced: HashMap::from([(INodeNo::ROOT.0, Names::new())]),
            last_ino: INodeNo::ROOT.0,
            ..State::default()
        };
        let state = Arc::new(Mutex::new(root));
        let served = Served(state.clone());
        let session = fuser::spawn_mount(served, at, &fuser::Config::default()).unwrap();
        Self {
            state,
            _session: session,
        }
    }

    /// Writes, syncs and changes of names so far.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// The power goes before this operation, for this process too; without one,
    /// every later operation fails.
    pub fn cut_at(&self, operation: u64, pid: Option<Pid>) {
        self.state.lock().cut = Some((operation, pid));
    }

    /// The power goes now, if it has not.
    pub fn cut(&self) {
        self.state.lock().is_off = true;
    }

    pub fn is_off(&self) -> bool {
        self.state.lock().is_off
    }

    /// What is on the disk when the power is back.
    pub fn write_image(&self, to: &Path, survives: Survives) {
        let mut state = self.state.lock();
        assert!(state.is_off, "the power is on");
        let mut coin = match survives {
            Survives::Nothing => None,
            Survives::Some { seed } => Some(Rng::with_seed(seed)),
        };
        let mut heads = || coin.as_mut().is_some_and(Rng::bool);
        for change in std::mem::take(&mut state.unsynced) {
            if heads() {
                apply(&mut state.synced, &change);
            }
        }
        for content in state.files.values_mut() {
            for change in std::mem::take(&mut content.unsynced) {
                if heads() {
                    change.apply(&mut content.synced);
                }
            }
        }
        write_directory(&state, INodeNo::ROOT.0, to);
    }
}

fn write_directory(state: &State, ino: u64, to: &Path) {
    for (name, child) in &state.synced[&ino] {
        let path = to.join(name);
        if let Some(content) = state.files.get(child) {
            fs::write(path, &content.synced).unwrap();
        } else {
            fs::create_dir_all(&path).unwrap();
            write_directory(state, *child, &path);
        }
    }
}

fn apply(directories: &mut HashMap<u64, Names>, change: &NameChange) {
    for (dir, name, ino) in change {
        let names = directories.entry(*dir).or_default();
        match ino {
            Some(ino) => names.insert(name.clone(), *ino),
            None => names.remove(name),
        };
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Truncate(len) => bytes.resize(*len as usize, 0),
            Self::Write(at, data) => {
                let end = *at as usize + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*at as usize..end].copy_from_slice(data);
            }
        }
    }
}

impl State {
    /// Counts an operation that changes the disk. Errors: the power is off.
    fn begin(&mut self) -> Result<(), Errno> {
        if let Some((_, pid)) = self.cut.filter(|(at, _)| *at == self.operations) {
            self.is_off = true;
            if let Some(pid) = pid {
                kill_process(pid, Signal::KILL).unwrap();
            }
        }
        if self.is_off {
            return Err(Errno::EIO);
        }
        self.operations += 1;
        Ok(())
    }

    fn change_names(&mut self, change: NameChange) {
        apply(&mut self.directories, &change);
        self.unsynced.push(change);
    }

    fn change(&mut self, ino: u64, change: Change) {
        let content = self.files.get_mut(&ino).unwrap();
        change.apply(&mut content.bytes);
        content.unsynced.push(change);
    }

    fn sync(&mut self, ino: u64) {
        let content = self.files.get_mut(&ino).unwrap();
        content.synced = content.bytes.clone();
        content.unsynced.clear();
    }

    fn sync_directory(&mut self, ino: u64) {
        let touches = |change: &NameChange| change.iter().any(|(dir, ..)| *dir == ino);
        let (synced, rest) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition::<Vec<_>, _>(touches);
        self.unsynced = rest;
        for change in &synced {
            apply(&mut self.synced, change);
        }
    }

    fn child(&self, dir: u64, name: &OsStr) -> Result<u64, Errno> {
        let names = self.directories.get(&dir).ok_or(Errno::ENOTDIR)?;
        names.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn make(&mut self, dir: u64, name: &OsStr, kind: FileType) -> Result<FileAttr, Errno> {
        self.begin()?;
        self.last_ino += 1;
        let ino = self.last_ino;
        if kind == FileType::Directory {
            self.directories.insert(ino, Names::new());
            self.synced.insert(ino, Names::new());
        } else {
            self.files.insert(ino, Content::default());
        }
        self.change_names(vec![(dir, name.to_owned(), Some(ino))]);
        Ok(self.attr(ino))
    }

    fn attr(&self, ino: u64) -> FileAttr {
        let file = self.files.get(&ino);
        let size = file.map_or(0, |content| content.bytes.len() as u64);
        let now = SystemTime::now();
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind: file.map_or(FileType::Directory, |_| FileType::RegularFile),
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// What the kernel talks to.
#[derive(Debug)]
struct Served(Arc<Mutex<State>>);

macro_rules! answer {
    ($reply:ident, $outcome:expr, $value:ident => $ok:expr) => {
        match $outcome {
            Ok($value) => $ok,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.0.lock();
        let found = state.child(parent.0, name).map(|ino| state.attr(ino));
        answer!(reply, found, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.0.lock().attr(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.0.lock();
        let outcome = match size {
            Some(len) => state
                .begin()
                .map(|()| state.change(ino.0, Change::Truncate(len))),
            None => Ok(()),
        };
        answer!(reply, outcome, _done => reply.attr(&TTL, &state.attr(ino.0)));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let made = self.0.lock().make(parent.0, name, FileType::Directory);
        answer!(reply, made, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.0.lock().make(parent.0, name, FileType::RegularFile);
        let (handle, flags) = (FileHandle(0), FopenFlags::empty());
        answer!(reply, made, attr => reply.created(&TTL, &attr, Generation(0), handle, flags));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        let change = vec![(parent.0, name.to_owned(), None)];
        let outcome = state.begin().map(|()| state.change_names(change));
        answer!(reply, outcome, _done => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.0.lock();
        let outcome = state.begin().and_then(|()| {
            let ino = state.child(parent.0, name)?;
            state.change_names(vec![
                (parent.0, name.to_owned(), None),
                (to.0, new_name.to_owned(), Some(ino)),
            ]);
            Ok(())
        });
        answer!(reply, outcome, _done => reply.ok());
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.0.lock();
        let bytes = &state.files[&ino.0].bytes;
        let start = bytes.len().min(offset as usize);
        let end = bytes.len().min(start + size as usize);
        reply.data(&bytes[start..end]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.0.lock();
        let change = Change::Write(offset, data.to_vec());
        let outcome = state.begin().map(|()| state.change(ino.0, change));
        answer!(reply, outcome, _done => reply.written(data.len() as u32));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        let outcome = state.begin().map(|()| state.sync(ino.0));
        answer!(reply, outcome, _done => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        let outcome = state.begin().map(|()| state.sync_directory(ino.0));
        answer!(reply, outcome, _done => reply.ok());
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let state = self.0.lock();
        let names = state.directories[&ino.0].iter().zip(1..);
        for ((name, child), next) in names.skip(offset as usize) {
            let kind = state.attr(*child).kind;
            if reply.add(INodeNo(*child), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        // The workload punches no holes.
        reply.error(Errno::EOPNOTSUPP);
    }
}
