//! One case: the same steps on a mount and on a plain directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::side::{Answer, Node, Side, Told, Tree};
use super::step::{Clients, Step};
use crate::support::Mount;
use crate::support::programs::happens_within;

const KEYS_WITHIN: Duration = Duration::from_secs(30);

/// When the whole trees are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    EachStep,
    /// Looking refreshes what the mount remembers: without it, other answers are stale.
    AtEnd,
}

/// Where cases run, one after the other: each in a directory of its own.
#[derive(Debug)]
pub struct World {
    pub mount: Mount,
    clients: Clients,
    cases: u32,
}

/// What differs, in words.
pub type Difference = String;

impl World {
    pub fn new(mount: Mount, clients: Clients) -> Self {
        Self {
            mount,
            clients,
            cases: 0,
        }
    }

    /// Runs a case from the beginning: a daemon that knows nothing, an empty directory.
    pub fn run(&mut self, steps: &[Step], look: Look) -> Result<(), Difference> {
        self.mount.remount();
        self.cases += 1;
        let name = format!("case{}", self.cases);
        std::fs::create_dir(self.mount.path(&name)).unwrap();
        let plain = plain_directory();
        let mut case = Case {
            ours: Side::new(self.mount.path(&name)),
            plain: Side::new(plain.path().to_owned()),
            name,
            world: self,
        };
        for (number, step) in steps.iter().enumerate() {
            let told = case.step(step).and_then(|()| match look {
                Look::EachStep => case.compare_trees(),
                Look::AtEnd => Ok(()),
            });
            told.map_err(|why| {
                let held = case.plain.held();
                format!("step {number}, {step:?}: {why}\nopen: {held:?}")
            })?;
        }
        case.end()
    }
}

/// In memory where there is such a file system, as it is quick.
fn plain_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("mediafs-model-");
    if memory.is_dir() {
        builder.tempdir_in(memory).unwrap()
    } else {
        builder.tempdir().unwrap()
    }
}

struct Case<'a> {
    world: &'a mut World,
    name: String,
    ours: Side,
    plain: Side,
}

impl Case<'_> {
    fn step(&mut self, step: &Step) -> Result<(), Difference> {
        match step {
            Step::Remount => {
                self.close_all()?;
                self.world.mount.remount();
                Ok(())
            }
            Step::Put(path, data) => self.put(path, &data.bytes()),
            Step::Delete(path) => self.delete(path),
            step => same(self.ours.perform(step), self.plain.perform(step)),
        }
    }

    fn close_all(&mut self) -> Result<(), Difference> {
        let (ours, plain) = (self.ours.close_all(), self.plain.close_all());
        for (ours, plain) in ours.into_iter().zip(plain) {
            same(ours, plain)?;
        }
        Ok(())
    }

    /// Another client's object shows as a file, unless a directory has its name
    /// or a file stands where one of its directories would.
    fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), Difference> {
        let file = self.plain.root.join(path);
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        let hidden = file.is_dir() || above.clone().any(|dir| self.plain.root.join(dir).is_file());
        if hidden {
            return Ok(());
        }
        self.let_go(path)?;
        let key = format!("{}/{path}", self.name);
        self.world.mount.put_object(&key, bytes);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
        Ok(())
    }

    /// A directory whose last key another client deletes may stay or go, as the
    /// store likes: such a delete is left out.
    fn delete(&mut self, path: &str) -> Result<(), Difference> {
        let file = self.plain.root.join(path);
        if !file.is_file() {
            return Ok(());
        }
        // What is not uploaded yet is no key.
        self.close_all()?;
        let siblings = std::fs::read_dir(file.parent().unwrap()).unwrap().count();
        if siblings < 2 {
            return Ok(());
        }
        let key = format!("{}/{path}", self.name);
        let mount = &self.world.mount;
        mount.client().delete(mount.bucket(), &key);
        std::fs::remove_file(file).unwrap();
        Ok(())
    }

    /// Closes a file that another client is about to replace: what its reader
    /// and writer see is for the tests with two mounts.
    fn let_go(&mut self, path: &str) -> Result<(), Difference> {
        for slot in self.plain.slots_of(path) {
            let close = Step::Close(slot);
            same(self.ours.perform(&close), self.plain.perform(&close))?;
        }
        Ok(())
    }

    fn compare_trees(&self) -> Result<(), Difference> {
        same_trees(&self.ours.tree(), &self.plain.tree())
    }

    /// The trees once more, and what another client finds in the bucket.
    fn end(&mut self) -> Result<(), Difference> {
        self.compare_trees()
            .and_then(|()| self.close_all())
            .and_then(|()| self.compare_trees())
            .and_then(|()| self.compare_keys_in_the_end())
            .map_err(|why| format!("at the end: {why}"))
    }

    /// Many removals in a row reach the bucket a little later.
    fn compare_keys_in_the_end(&self) -> Result<(), Difference> {
        let mut told = Ok(());
        happens_within(KEYS_WITHIN, || {
            told = self.compare_keys();
            told.is_ok()
        });
        told
    }

    /// Each file is one object; an empty directory is a marker, and one that is
    /// not has none, but where another client filled it.
    fn compare_keys(&self) -> Result<(), Difference> {
        let mount = &self.world.mount;
        let prefix = format!("{}/", self.name);
        let keys = mount.client().list(mount.bucket(), &prefix);
        let mut found: BTreeMap<String, u64> = keys
            .into_iter()
            .filter_map(|(key, size)| Some((key.strip_prefix(&prefix)?.to_owned(), size)))
            .collect();
        let tree = self.plain.tree();
        let mut wanted = BTreeMap::new();
        for (path, node) in &tree {
            match node {
                Node::File(bytes) => drop(wanted.insert(path.clone(), bytes.len() as u64)),
                _ if is_empty(&tree, path) => drop(wanted.insert(format!("{path}/"), 0)),
                _ if self.world.clients == Clients::AnotherToo => {
                    found.remove(&format!("{path}/"));
                }
                _ => {}
            }
        }
        if tree.is_empty() {
            wanted.insert(String::new(), 0);
        } else if self.world.clients == Clients::AnotherToo {
            found.remove("");
        }
        if found != wanted {
            return Err(format!("keys {found:?} instead of {wanted:?}"));
        }
        for (path, node) in &tree {
            let object = || mount.object(&format!("{prefix}{path}"));
            if matches!(node, Node::File(bytes) if object().as_ref() != Some(bytes)) {
                return Err(format!("the object of {path} has other bytes"));
            }
        }
        Ok(())
    }
}

fn is_empty(tree: &Tree, dir: &str) -> bool {
    let below = format!("{dir}/");
    !tree.keys().any(|path| path.starts_with(&below))
}

fn same(ours: Answer, plain: Answer) -> Result<(), Difference> {
    if ours == plain {
        return Ok(());
    }
    let brief = |answer: Answer| match answer {
        Ok(Told::Bytes(bytes)) => format!("{} bytes, {:?}", bytes.len(), digest(&bytes)),
        Ok(told) => format!("{told:?}"),
        Err(errno) => std::io::Error::from_raw_os_error(errno).to_string(),
    };
    Err(format!("{} instead of {}", brief(ours), brief(plain)))
}

fn same_trees(ours: &Tree, plain: &Tree) -> Result<(), Difference> {
    if ours == plain {
        return Ok(());
    }
    let mut told = String::from("the trees differ:");
    let paths: std::collections::BTreeSet<_> = ours.keys().chain(plain.keys()).collect();
    for path in paths {
        let (ours, plain) = (ours.get(path), plain.get(path));
        if ours != plain {
            told += &format!("\n  {path}: {} instead of {}", brief(ours), brief(plain));
        }
    }
    Err(told)
}

fn brief(node: Option<&Node>) -> String {
    match node {
        Some(Node::File(bytes)) => format!("file of {} {:?}", bytes.len(), digest(bytes)),
        Some(node) => format!("{node:?}"),
        None => "nothing".to_owned(),
    }
}

/// The first bytes, and how many zeros there are: enough to see what went wrong.
fn digest(bytes: &[u8]) -> (&[u8], usize) {
    let zeros = bytes.iter().filter(|byte| **byte == 0).count();
    (&bytes[..bytes.len().min(4)], zeros)
}
