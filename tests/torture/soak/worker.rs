//! One writer of a soak: what it did, and what must be there therefore.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;

use crate::support::data::{KIB, MIB};
use crate::support::{pattern, sys, wait_until};

const NAMES: u64 = 18;
const HISTORY: usize = 60;
/// Files of several parts are made this seldom.
const LONG_ONE_IN: u8 = 40;

/// A file's bytes; none, where it does not exist.
type Content = Option<Vec<u8>>;

/// What an operation was about to change when it failed.
#[derive(Debug, Clone)]
enum Pending {
    Change {
        name: String,
        after: Content,
    },
    Rename {
        from: String,
        to: String,
    },
    Mode {
        name: String,
    },
    /// Of the worker's directory, with all that is in it.
    Move {
        to: String,
    },
}

/// Whether modes and times are kept with the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attributes {
    Stored,
    Fixed,
}

/// Works in a directory of its own.
#[derive(Debug)]
pub struct Worker {
    dir: String,
    random: Rng,
    acked: BTreeMap<String, Vec<u8>>,
    /// Permissions that a file may have: more than one where the last change of
    /// them need not outlive a kill.
    modes: BTreeMap<String, BTreeSet<u32>>,
    attributes: Attributes,
    pending: Option<Pending>,
    /// Targets of renames under way at a kill: their own edits may be left over.
    replaced: Vec<String>,
    /// The last operations, for who looks into a failure.
    history: VecDeque<String>,
    pub operations: u64,
}

impl Worker {
    pub fn new(number: u64, seed: u64, attributes: Attributes) -> Self {
        Self {
            dir: format!("w{number}"),
            random: Rng::with_seed(seed ^ (number << 32)),
            acked: BTreeMap::new(),
            modes: BTreeMap::new(),
            attributes,
            pending: None,
            replaced: Vec::new(),
            history: VecDeque::new(),
            operations: 0,
        }
    }

    /// Makes its directory, where there is none.
    pub fn begin(&self, root: &Path) {
        fs::create_dir_all(root.join(&self.dir)).unwrap();
    }

    /// Works until something fails; returns what.
    ///
    /// The root is reached through a descriptor, so that nothing is ever written
    /// below a mount that is gone.
    pub fn run(&mut self, root: &File, until: impl Fn() -> bool) -> Result<(), String> {
        while !until() {
            let dir = PathBuf::from(format!("/proc/self/fd/{}/{}", root.as_raw_fd(), self.dir));
            self.step(&dir).map_err(|error| {
                let what = describe(self.pending.as_ref());
                format!("{}: {what}: {error}", self.dir)
            })?;
            self.operations += 1;
            self.note(describe(self.pending.as_ref()));
            self.pending = None;
        }
        Ok(())
    }

    fn note(&mut self, what: String) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(what);
    }

    fn step(&mut self, dir: &Path) -> io::Result<()> {
        let name = format!("f{}", self.random.u64(..NAMES));
        let path = dir.join(&name);
        let known = self.acked.get(&name).cloned();
        let choice = self.random.u8(..14);
        match (choice, known) {
            (0..=2, Some(mut body)) => self.edit(&path, name, &mut body),
            (3, Some(_)) => {
                self.pending = Some(Pending::Change {
                    name: name.clone(),
                    after: None,
                });
                fs::remove_file(&path)?;
                self.forget(&name);
                Ok(())
            }
            (8 | 9, Some(_)) => self.change_mode(&path, name),
            (10, _) if self.random.u8(..8) == 0 => self.remove_all(dir),
            (10, _) if self.random.u8(..3) == 0 => self.move_directory(dir),
            (4 | 5, Some(body)) => self.rename(dir, name, body),
            (6 | 7, Some(body)) => {
                assert!(
                    fs::read(&path)? == body,
                    "{}: not what was written",
                    path.display()
                );
                Ok(())
            }
            _ => {
                let body = self.body();
                self.pending = Some(Pending::Change {
                    name: name.clone(),
                    after: Some(body.clone()),
                });
                let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
                let mut file = sys::open(&path, flags)?;
                for piece in body.chunks(256 * KIB) {
                    file.write_all(piece)?;
                }
                sys::close(file)?;
                let new = BTreeSet::from([0o644]);
                self.modes.entry(name.clone()).or_insert(new);
                self.acked.insert(name, body);
                Ok(())
            }
        }
    }

    fn forget(&mut self, name: &str) {
        self.acked.remove(name);
        self.modes.remove(name);
    }

    fn change_mode(&mut self, path: &Path, name: String) -> io::Result<()> {
        let mode = [0o600, 0o640, 0o644, 0o755][self.random.usize(..4)];
        self.pending = Some(Pending::Mode { name: name.clone() });
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        let known = self.modes.entry(name).or_default();
        known.clear();
        known.insert(mode);
        assert_eq!(fs::metadata(path)?.mode() & 0o7777, mode);
        Ok(())
    }

    /// In a row, which is done in bulk.
    fn remove_all(&mut self, dir: &Path) -> io::Result<()> {
        for name in self.acked.clone().into_keys() {
            self.pending = Some(Pending::Change {
                name: name.clone(),
                after: None,
            });
            fs::remove_file(dir.join(&name))?;
            self.forget(&name);
        }
        Ok(())
    }

    fn move_directory(&mut self, dir: &Path) -> io::Result<()> {
        let to = match self.dir.strip_suffix("-moved") {
            Some(first) => first.to_owned(),
            None => format!("{}-moved", self.dir),
        };
        self.pending = Some(Pending::Move { to: to.clone() });
        fs::rename(dir, dir.with_file_name(&to))?;
        self.dir = to;
        Ok(())
    }

    fn body(&mut self) -> Vec<u8> {
        let len = if self.random.u8(..LONG_ONE_IN) == 0 {
            self.random.usize(8 * MIB..12 * MIB)
        } else {
            self.random.usize(..64 * KIB)
        };
        pattern(len, self.random.u64(..))
    }

    /// Overwrites or appends; closed, or only synced before it is closed.
    fn edit(&mut self, path: &Path, name: String, body: &mut Vec<u8>) -> io::Result<()> {
        let at = self.random.usize(..=body.len());
        let len = self.random.usize(1..8 * KIB);
        let data = pattern(len, self.random.u64(..));
        body.resize(body.len().max(at + len), 0);
        body[at..at + len].copy_from_slice(&data);
        self.pending = Some(Pending::Change {
            name: name.clone(),
            after: Some(body.clone()),
        });
        let file = sys::open(path, libc::O_RDWR)?;
        file.write_all_at(&data, at as u64)?;
        if self.random.bool() {
            file.sync_all()?;
            self.acked.insert(name.clone(), body.clone());
        }
        sys::close(file)?;
        self.acked.insert(name, body.clone());
        Ok(())
    }

    fn rename(&mut self, dir: &Path, from: String, body: Vec<u8>) -> io::Result<()> {
        let to = format!("f{}", self.random.u64(..NAMES));
        self.pending = Some(Pending::Rename {
            from: from.clone(),
            to: to.clone(),
        });
        fs::rename(dir.join(&from), dir.join(&to))?;
        if from != to {
            let modes = self.modes.remove(&from).unwrap_or_default();
            self.modes.insert(to.clone(), modes);
        }
        self.acked.remove(&from);
        self.acked.insert(to, body);
        Ok(())
    }

    /// Compares every byte that was acknowledged. What was under way when the
    /// daemon died may have happened or not, but not by half; what is there counts from now on.
    pub fn verify(&mut self, root: &Path) {
        let pending = self.pending.take();
        if let Some(Pending::Move { to }) = &pending {
            self.find_directory(root, to);
        }
        for number in 0..NAMES {
            let name = format!("f{number}");
            let path = root.join(&self.dir).join(&name);
            let is_target = matches!(&pending, Some(Pending::Rename { to, .. }) if *to == name);
            if is_target {
                self.replaced.push(format!("\"{}/{name}\"", self.dir));
                // An edit of what the rename was replacing first has to be given up.
                wait_until(Duration::from_secs(20), &name, || {
                    let stale = io::ErrorKind::StaleNetworkFileHandle;
                    !fs::read(&path).is_err_and(|error| error.kind() == stale)
                });
            }
            let seen = match fs::read(&path) {
                Ok(body) => Some(body),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            let before = self.acked.get(&name).cloned();
            let allowed = seen == before || self.may_be(pending.as_ref(), &name, &seen);
            assert!(
                allowed,
                "{}: {:?} bytes instead of {:?}; under way: {}; before: {:#?}",
                path.display(),
                seen.map(|body| body.len()),
                before.map(|body| body.len()),
                describe(pending.as_ref()),
                self.history,
            );
        }
        self.note("kill".to_owned());
        self.verify_modes(pending.as_ref(), root);
        self.settle(pending, root);
    }

    /// All of a directory whose rename was under way is under one of its names.
    fn find_directory(&mut self, root: &Path, to: &str) {
        let has_files = |dir: &str| {
            let entries = fs::read_dir(root.join(dir));
            entries.is_ok_and(|mut entries| entries.next().is_some())
        };
        let places = [&*self.dir, to].map(has_files);
        assert_ne!(places, [true, true], "{} is at {to} too", self.dir);
        if places[1] || !root.join(&self.dir).exists() {
            self.dir = to.to_owned();
        }
    }

    /// Where they are stored; those of what was under way count from now on.
    fn verify_modes(&mut self, pending: Option<&Pending>, root: &Path) {
        for number in 0..NAMES {
            let name = format!("f{number}");
            let path = root.join(&self.dir).join(&name);
            let Ok(metadata) = fs::metadata(&path) else {
                self.modes.remove(&name);
                continue;
            };
            let seen = metadata.mode() & 0o7777;
            let is_pending = match pending {
                Some(Pending::Change { name: of, .. } | Pending::Mode { name: of }) => *of == name,
                Some(Pending::Rename { from, to }) => *from == name || *to == name,
                Some(Pending::Move { .. }) | None => false,
            };
            let known = self.modes.insert(name, BTreeSet::from([seen]));
            let may_be = known.as_ref().is_some_and(|known| known.contains(&seen));
            assert!(
                may_be || is_pending || self.attributes == Attributes::Fixed,
                "{}: {seen:o} instead of {known:?}; under way: {}; before: {:#?}",
                path.display(),
                describe(pending),
                self.history,
            );
        }
    }

    fn may_be(&self, pending: Option<&Pending>, name: &str, seen: &Content) -> bool {
        match pending {
            None | Some(Pending::Mode { .. } | Pending::Move { .. }) => false,
            Some(Pending::Change { name: of, after }) => name == of && seen == after,
            Some(Pending::Rename { from, to }) => {
                let moved = self.acked.get(from);
                (name == to && seen.as_ref() == moved) || (name == from && seen.is_none())
            }
        }
    }

    /// Takes over what the operation under way came to.
    fn settle(&mut self, pending: Option<Pending>, root: &Path) {
        let read = |name: &str| fs::read(root.join(&self.dir).join(name)).ok();
        let names = match &pending {
            None | Some(Pending::Mode { .. } | Pending::Move { .. }) => Vec::new(),
            Some(Pending::Change { name, .. }) => vec![name.clone()],
            Some(Pending::Rename { from, to }) => {
                let body = self.acked.get(from);
                assert!(
                    [from, to].iter().any(|name| read(name).as_ref() == body),
                    "{}/{from}: neither there nor at {to} after a rename under way",
                    self.dir
                );
                vec![from.clone(), to.clone()]
            }
        };
        let found: Vec<_> = names.into_iter().map(|name| (read(&name), name)).collect();
        for (body, name) in found {
            match body {
                Some(body) => self.acked.insert(name, body),
                None => self.acked.remove(&name),
            };
        }
    }

    /// Keys, in quotes, whose object a rename under way at a kill had replaced.
    pub fn replaced(&self) -> impl Iterator<Item = &String> {
        self.replaced.iter()
    }

    /// Keys and bytes that the bucket must have in the end.
    pub fn objects(&self) -> impl Iterator<Item = (String, &Vec<u8>)> {
        let files = self.acked.iter();
        files.map(|(name, body)| (format!("{}/{name}", self.dir), body))
    }
}

fn describe(pending: Option<&Pending>) -> String {
    match pending {
        None => "nothing".to_owned(),
        Some(Pending::Change { name, after }) => {
            format!("{name}, to {:?} bytes", after.as_ref().map(Vec::len))
        }
        Some(Pending::Rename { from, to }) => format!("rename of {from} to {to}"),
        Some(Pending::Mode { name }) => format!("permissions of {name}"),
        Some(Pending::Move { to }) => format!("rename of the directory to {to}"),
    }
}
