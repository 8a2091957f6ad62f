//! One writer of a soak: what it did, and what must be there therefore.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;

use crate::support::data::{KIB, MIB};
use crate::support::{pattern, sys, wait_until};

const NAMES: u64 = 12;
const HISTORY: usize = 60;
/// Files of several parts are made this seldom.
const LONG_ONE_IN: u8 = 40;

/// A file's bytes; none, where it does not exist.
type Content = Option<Vec<u8>>;

/// What an operation was about to change when it failed.
#[derive(Debug, Clone)]
enum Pending {
    Change { name: String, after: Content },
    Rename { from: String, to: String },
}

/// Works in a directory of its own.
#[derive(Debug)]
pub struct Worker {
    dir: String,
    random: Rng,
    acked: BTreeMap<String, Vec<u8>>,
    pending: Option<Pending>,
    /// Targets of renames under way at a kill: their own edits may be left over.
    replaced: Vec<String>,
    /// The last operations, for who looks into a failure.
    history: VecDeque<String>,
    pub operations: u64,
}

impl Worker {
    pub fn new(number: u64, seed: u64) -> Self {
        Self {
            dir: format!("w{number}"),
            random: Rng::with_seed(seed ^ (number << 32)),
            acked: BTreeMap::new(),
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
        let dir = PathBuf::from(format!("/proc/self/fd/{}/{}", root.as_raw_fd(), self.dir));
        while !until() {
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
        let choice = self.random.u8(..10);
        match (choice, known) {
            (0..=2, Some(mut body)) => self.edit(&path, name, &mut body),
            (3, Some(_)) => {
                self.pending = Some(Pending::Change {
                    name: name.clone(),
                    after: None,
                });
                fs::remove_file(&path)?;
                self.acked.remove(&name);
                Ok(())
            }
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
                self.acked.insert(name, body);
                Ok(())
            }
        }
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
        self.acked.remove(&from);
        self.acked.insert(to, body);
        Ok(())
    }

    /// Compares every byte that was acknowledged. What was under way when the
    /// daemon died may have happened or not, but not by half; what is there counts from now on.
    pub fn verify(&mut self, root: &Path) {
        let pending = self.pending.take();
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
        self.settle(pending, root);
    }

    fn may_be(&self, pending: Option<&Pending>, name: &str, seen: &Content) -> bool {
        match pending {
            None => false,
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
            None => Vec::new(),
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
    }
}
