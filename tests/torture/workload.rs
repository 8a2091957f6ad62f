//! What an application does while the daemon is going to be killed, and what must
//! be there therefore.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use libc::{O_CREAT, O_EXCL, O_RDWR, O_TRUNC, O_WRONLY};

use crate::support::data::{KIB, MIB, files_below};
use crate::support::{pattern, sha256, sys};

/// Names of files, with their bytes.
pub type Tree = BTreeMap<String, Vec<u8>>;

/// What a call that has not returned is about to change.
#[derive(Debug, Clone)]
enum Change {
    Content(String, Option<Vec<u8>>),
    Rename(String, String),
    RenameDirectory(String, String),
}

/// A fixed series of calls; each one's outcome counts once it has returned.
#[derive(Debug)]
pub struct Workload {
    root: PathBuf,
    acked: Tree,
    under_way: Option<Change>,
    /// Digests of every content that a name may ever show.
    legal: BTreeSet<(String, String)>,
    /// Written to and not closed when the daemon dies.
    left_open: Option<(File, Vec<u8>)>,
}

impl Workload {
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            acked: Tree::new(),
            under_way: None,
            legal: BTreeSet::new(),
            left_open: None,
        }
    }

    /// On files that are there already.
    pub fn over(root: &Path, acked: Tree) -> Self {
        let digests = acked.iter();
        let legal = digests.map(|(name, body)| (name.clone(), sha256(body)));
        Self {
            legal: legal.collect(),
            acked,
            ..Self::at(root)
        }
    }

    /// Runs all of it, or until a call fails because the daemon is dead.
    pub fn run(&mut self) -> io::Result<()> {
        self.leave_open("open", pattern(3 * KIB, 1))?;
        self.write("small.txt", pattern(900, 2), O_CREAT | O_TRUNC)?;
        self.write("long", pattern(11 * MIB + 5, 3), O_CREAT | O_TRUNC)?;
        // While it is uploaded these wait: the first one absorbs the second, the third
        // is in the place of both.
        self.edit("long", 6 * MIB as u64, b"an edit in the middle")?;
        self.edit("long", 7 * MIB as u64, b"an edit after it")?;
        self.edit("long", 8 * MIB as u64, &pattern(100, 30))?;
        self.append("small.txt", b"appended and synced")?;
        self.write("exclusive", pattern(70 * KIB, 4), O_CREAT | O_EXCL)?;
        for seed in 5..8 {
            self.write("small.txt", pattern(1000 + seed, seed as u64), O_TRUNC)?;
        }
        self.rename("small.txt", "renamed.html")?;
        self.rename_while_written("draft", "published", pattern(2 * KIB, 8))?;
        self.write("target", pattern(10, 9), O_CREAT | O_TRUNC)?;
        self.write("replaces", pattern(20, 10), O_CREAT | O_TRUNC)?;
        self.rename("replaces", "target")?;
        self.rename("long", "longer")?;
        self.directory()?;
        self.unlink("exclusive")?;
        self.unlink("target")
    }

    /// The same with a file that is longer than the spool.
    pub fn run_longer_than(&mut self, spool_bytes: usize) -> io::Result<()> {
        self.leave_open("open", pattern(3 * KIB, 1))?;
        self.write("small.txt", pattern(900, 2), O_CREAT | O_TRUNC)?;
        self.write("long", pattern(3 * spool_bytes + 5, 3), O_CREAT | O_TRUNC)?;
        self.append("small.txt", b"appended and synced")?;
        self.write("long", pattern(3 * spool_bytes + 7, 4), O_TRUNC)?;
        self.unlink("small.txt")
    }

    /// What old files are, on which `run_on_old` works.
    pub fn old() -> Tree {
        let long = ("long".to_owned(), pattern(12 * MIB + 7, 40));
        let names = [
            "removed", "renamed", "appended", "replaced", "taken", "d/1", "d/2", "d/sub/3", "f/1",
            "f/2", "left/4",
        ];
        let short = (41..).zip(names);
        let short = short.map(|(seed, name)| (name.to_owned(), pattern(900, seed)));
        short.chain([long]).collect()
    }

    /// Hides old files.
    pub fn run_on_old(&mut self) -> io::Result<()> {
        self.unlink_old("removed")?;
        self.rename("renamed", "renamed.html")?;
        self.append("appended", b"appended and synced")?;
        self.edit("long", 6 * MIB as u64, b"an edit in the middle")?;
        self.write("replaced", pattern(1000, 60), O_TRUNC)?;
        self.rename("taken", "replaced")?;
        self.unlink_old("d/1")?;
        self.rename("d/sub/3", "3")?;
        self.unlink_old("f/1")?;
        self.unlink_old("f/2")?;
        fs::remove_dir(self.root.join("f"))?;
        self.write("removed", pattern(1100, 61), O_CREAT | O_EXCL)?;
        self.rename("long", "longer")
    }

    /// Closes what was left open, too.
    pub fn finish(&mut self) -> io::Result<()> {
        let Some((file, body)) = self.left_open.take() else {
            return Ok(());
        };
        self.begin(Change::Content("open".to_owned(), Some(body)));
        sys::close(file)?;
        self.done();
        Ok(())
    }

    /// A directory with files that are stored, one that is edited and one that
    /// is new when it is renamed.
    fn directory(&mut self) -> io::Result<()> {
        fs::create_dir(self.root.join("d"))?;
        fs::create_dir(self.root.join("d/sub"))?;
        for number in 0..4 {
            let name = format!("d/{number}");
            self.write(&name, pattern(500 + number, 20), O_CREAT | O_TRUNC)?;
        }
        self.write("d/sub/deep", pattern(600, 21), O_CREAT | O_TRUNC)?;
        self.edit("d/1", 100, b"edited just before")?;
        self.write("d/new", pattern(700, 22), O_CREAT | O_TRUNC)?;
        self.begin(Change::RenameDirectory("d/".to_owned(), "e/".to_owned()));
        fs::rename(self.root.join("d"), self.root.join("e"))?;
        self.done();
        self.append("e/1", b"and after")
    }

    fn leave_open(&mut self, name: &str, body: Vec<u8>) -> io::Result<()> {
        let mut file = sys::open(self.root.join(name), O_WRONLY | O_CREAT)?;
        file.write_all(&body)?;
        self.left_open = Some((file, body));
        Ok(())
    }

    fn write(&mut self, name: &str, body: Vec<u8>, flags: i32) -> io::Result<()> {
        self.begin(Change::Content(name.to_owned(), Some(body.clone())));
        let mut file = sys::open(self.root.join(name), O_WRONLY | flags)?;
        for piece in body.chunks(MIB) {
            file.write_all(piece)?;
        }
        sys::close(file)?;
        self.done();
        Ok(())
    }

    fn edit(&mut self, name: &str, at: u64, data: &[u8]) -> io::Result<()> {
        let mut body = self.acked[name].clone();
        let end = at as usize + data.len();
        body.resize(body.len().max(end), 0);
        body[at as usize..end].copy_from_slice(data);
        self.begin(Change::Content(name.to_owned(), Some(body)));
        let file = sys::open(self.root.join(name), O_RDWR)?;
        file.write_all_at(data, at)?;
        sys::close(file)?;
        self.done();
        Ok(())
    }

    /// Appends twice: synced, then closed.
    fn append(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        let file = sys::open(self.root.join(name), O_RDWR)?;
        for round in 0..2 {
            let mut body = self.acked[name].clone();
            let at = body.len() as u64;
            body.extend_from_slice(data);
            self.begin(Change::Content(name.to_owned(), Some(body)));
            file.write_all_at(data, at)?;
            if round == 0 {
                file.sync_all()?;
                self.done();
            }
        }
        sys::close(file)?;
        self.done();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.begin(Change::Rename(from.to_owned(), to.to_owned()));
        fs::rename(self.root.join(from), self.root.join(to))?;
        self.done();
        Ok(())
    }

    /// Until its close nothing of the file need be there, whatever its name.
    fn rename_while_written(&mut self, from: &str, to: &str, body: Vec<u8>) -> io::Result<()> {
        let mut file = sys::open(self.root.join(from), O_WRONLY | O_CREAT)?;
        file.write_all(&body)?;
        fs::rename(self.root.join(from), self.root.join(to))?;
        self.begin(Change::Content(to.to_owned(), Some(body)));
        sys::close(file)?;
        self.done();
        Ok(())
    }

    fn unlink(&mut self, name: &str) -> io::Result<()> {
        self.begin(Change::Content(name.to_owned(), None));
        fs::remove_file(self.root.join(name))?;
        // A removal outlives a power loss once its directory is synced.
        let path = self.root.join(name);
        File::open(path.parent().unwrap_or(&self.root))?.sync_all()?;
        self.done();
        Ok(())
    }

    /// One that outlives a power loss by itself.
    fn unlink_old(&mut self, name: &str) -> io::Result<()> {
        self.begin(Change::Content(name.to_owned(), None));
        fs::remove_file(self.root.join(name))?;
        self.done();
        Ok(())
    }

    fn begin(&mut self, change: Change) {
        if let Change::RenameDirectory(from, to) = &change {
            // An edit of a file is uploaded after the version that it is an edit of, which
            // may be under the new name till then.
            let earlier = self.legal.iter().filter_map(|(name, digest)| {
                let rest = name.strip_prefix(from.as_str())?;
                Some((format!("{to}{rest}"), digest.clone()))
            });
            let earlier: Vec<_> = earlier.collect();
            self.legal.extend(earlier);
        }
        self.under_way = Some(change);
        for (name, body) in self.after() {
            self.legal.insert((name, sha256(&body)));
        }
    }

    fn done(&mut self) {
        self.acked = self.after();
        self.under_way = None;
    }

    /// The files once the call that is under way has had its effect.
    fn after(&self) -> Tree {
        let mut tree = self.acked.clone();
        match self.under_way.clone() {
            None => {}
            Some(Change::Content(name, Some(body))) => drop(tree.insert(name, body)),
            Some(Change::Content(name, None)) => drop(tree.remove(&name)),
            Some(Change::Rename(from, to)) => {
                let body = tree.remove(&from).unwrap();
                tree.insert(to, body);
            }
            Some(Change::RenameDirectory(from, to)) => {
                let moved = |name: String| match name.strip_prefix(&from) {
                    Some(rest) => format!("{to}{rest}"),
                    None => name,
                };
                tree = tree
                    .into_iter()
                    .map(|(name, body)| (moved(name), body))
                    .collect();
            }
        }
        tree
    }

    /// What was under way has happened or not, and all else is as it was acknowledged.
    pub fn check(&self, seen: &Tree) -> Result<(), String> {
        let after = self.after();
        if *seen == self.acked || *seen == after {
            return Ok(());
        }
        Err(format!(
            "under way: {}; seen {}\ninstead of {}\nor {}",
            self.describe(),
            names(seen),
            names(&self.acked),
            names(&after),
        ))
    }

    /// The same. A rename whose record went with the power before it was answered may leave
    /// both names.
    pub fn check_or_both(&self, seen: &Tree) -> Result<(), String> {
        if let Some(Change::Rename(from, to)) = &self.under_way {
            let mut both = self.acked.clone();
            both.insert(to.clone(), both[from].clone());
            if *seen == both {
                return Ok(());
            }
        }
        self.check(seen)
    }

    /// No object is half of anything.
    pub fn check_objects(&self, objects: &Tree) -> Result<(), String> {
        let half = objects
            .iter()
            .find(|(name, body)| !self.legal.contains(&((*name).clone(), sha256(body))));
        match half {
            None => Ok(()),
            Some((name, body)) => Err(format!("half an object: {name}, {} bytes", body.len())),
        }
    }

    fn describe(&self) -> String {
        match &self.under_way {
            None => "nothing".to_owned(),
            Some(Change::Content(name, body)) => {
                format!("{name} to {:?} bytes", body.as_ref().map(Vec::len))
            }
            Some(Change::Rename(from, to) | Change::RenameDirectory(from, to)) => {
                format!("rename of {from} to {to}")
            }
        }
    }
}

fn names(tree: &Tree) -> String {
    let short =
        |(name, body): (&String, &Vec<u8>)| format!("{name}:{}:{}", body.len(), &sha256(body)[..6]);
    tree.iter().map(short).collect::<Vec<_>>().join(" ")
}

/// Every file below a folder.
pub fn read_tree(root: &Path) -> io::Result<Tree> {
    let files = files_below(root)?.into_iter();
    files
        .map(|(name, path)| Ok((name, fs::read(path)?)))
        .collect()
}
