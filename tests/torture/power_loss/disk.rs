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
use std::time::SystemTime;

use fastrand::Rng;
use fuser::{BackgroundSession, Errno, FileAttr, FileType, INodeNo};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::served::Served;

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
pub enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Debug, Default)]
pub struct Content {
    pub bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Since the last sync.
    unsynced: Vec<Change>,
}

/// Names of one directory.
pub type Names = BTreeMap<OsString, u64>;
/// Entries that change together: directory, name, what has it from now on.
pub type NameChange = Vec<(u64, OsString, Option<u64>)>;

#[derive(Debug, Default)]
pub struct State {
    pub files: HashMap<u64, Content>,
    pub directories: HashMap<u64, Names>,
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
    pub fn begin(&mut self) -> Result<(), Errno> {
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

    pub fn change_names(&mut self, change: NameChange) {
        apply(&mut self.directories, &change);
        self.unsynced.push(change);
    }

    pub fn change(&mut self, ino: u64, change: Change) {
        let content = self.files.get_mut(&ino).unwrap();
        change.apply(&mut content.bytes);
        content.unsynced.push(change);
    }

    pub fn sync(&mut self, ino: u64) {
        let content = self.files.get_mut(&ino).unwrap();
        content.synced = content.bytes.clone();
        content.unsynced.clear();
    }

    pub fn sync_directory(&mut self, ino: u64) {
        let touches = |change: &NameChange| change.iter().any(|(dir, ..)| *dir == ino);
        let (synced, rest) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition::<Vec<_>, _>(touches);
        self.unsynced = rest;
        for change in &synced {
            apply(&mut self.synced, change);
        }
    }

    pub fn child(&self, dir: u64, name: &OsStr) -> Result<u64, Errno> {
        let names = self.directories.get(&dir).ok_or(Errno::ENOTDIR)?;
        names.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub fn make(&mut self, dir: u64, name: &OsStr, kind: FileType) -> Result<FileAttr, Errno> {
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

    pub fn attr(&self, ino: u64) -> FileAttr {
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
