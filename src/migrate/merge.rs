//! A directory and a bucket side by side, name by name in one order.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::entry::{Object, Odd};
use super::listing::{Listing, Unusable};
use super::local_file::Tree;
use super::selection::Selection;
use super::spill::Spill;
use super::walk::{Found, WalkSettings, walk};

/// Names that the walk may be ahead.
const AHEAD_LIMIT: usize = 4096;

/// A name, and where it is.
#[derive(Debug, Clone)]
pub enum Pair {
    Here(Found),
    There(Object),
    Both(Found, Object),
}

/// Whether the path of something odd is that of a directory, or of the root.
pub fn is_directory(path: &str) -> bool {
    path.ends_with('/') || matches!(path, "" | ".")
}

impl Pair {
    /// Whether it takes part. What is below a directory that cannot be read, or behind a
    /// symlink that is not followed, may be what is included: the walk gives no others.
    pub fn is_taken_by(&self, selection: &Selection) -> bool {
        let may_hide = match self {
            Self::Here(Found::Odd { odd, .. }) | Self::Both(Found::Odd { odd, .. }, _) => {
                is_directory(self.path()) || matches!(odd, Odd::Symlink | Odd::Unreadable)
            }
            _ => false,
        };
        if let Self::Here(Found::NotUtf8 { .. }) = self {
            // The walk gives no others.
            return true;
        }
        if may_hide {
            return !selection.skips_below(self.path().trim_end_matches('/'));
        }
        selection.takes(self.path())
    }

    pub fn path(&self) -> &str {
        match self {
            Self::Here(found) | Self::Both(found, _) => found.path(),
            Self::There(object) => &object.path,
        }
    }
}

/// Names everything that a walk met, as it was.
pub type WalkDigest = [u8; 32];

/// A walk that goes on in a thread of its own.
#[derive(Debug)]
pub struct Walking {
    found: mpsc::Receiver<Found>,
    digest: JoinHandle<WalkDigest>,
}

impl Walking {
    pub fn begin(tree: &Tree, settings: WalkSettings) -> Self {
        let (give, found) = mpsc::channel(AHEAD_LIMIT);
        let root = tree.root.clone();
        let digest = tokio::task::spawn_blocking(move || {
            let mut digest = Sha256::new();
            let outcome = walk(root.as_fd(), &settings, &mut |it| {
                digest.update(it.text() + "\n");
                match give.blocking_send(it) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            });
            if outcome.is_break() {
                tracing::debug!("nobody waits for the walk any more");
            }
            digest.finalize().into()
        });
        Self { found, digest }
    }

    pub async fn next(&mut self) -> Option<Found> {
        self.found.recv().await
    }

    /// Walks to the end, and tells what the directory was like.
    pub async fn digest(mut self) -> io::Result<WalkDigest> {
        while self.next().await.is_some() {}
        self.digest.await.map_err(io::Error::other)
    }
}

#[derive(Debug)]
pub struct Merge {
    here: Walking,
    next_here: Option<Found>,
    there: Listing,
    next_there: Option<Object>,
    last: String,
}

impl Merge {
    pub async fn new(mut here: Walking, mut there: Listing) -> io::Result<Self> {
        Ok(Self {
            next_here: here.next().await,
            here,
            next_there: there.next()?,
            there,
            last: String::new(),
        })
    }

    /// The next name in the order of bytes. Errors: the disk's.
    pub async fn next(&mut self) -> io::Result<Option<Pair>> {
        let here = self.next_here.as_ref().map(Found::path);
        let there = self.next_there.as_ref().map(|object| object.path.as_str());
        let is_key = !matches!(self.next_here, Some(Found::NotUtf8 { .. }));
        let (takes_here, takes_there) = match (here, there) {
            (Some(here), Some(there)) if !is_key => (here <= there, there < here),
            (Some(here), Some(there)) => (here <= there, there <= here),
            (here, there) => (here.is_some(), there.is_some()),
        };
        let mut found = None;
        if takes_here {
            found = self.next_here.take();
            self.next_here = self.here.next().await;
        }
        let mut object = None;
        if takes_there {
            object = self.next_there.take();
            self.next_there = self.there.next()?;
        }
        let pair = match (found, object) {
            (Some(found), Some(object)) => Pair::Both(found, object),
            (Some(found), None) => Pair::Here(found),
            (None, Some(object)) => Pair::There(object),
            (None, None) => return Ok(None),
        };
        // Sides that are in different orders would make what both have look like what one has.
        if pair.path() < self.last.as_str() {
            let why = format!(
                "names are not in order ({:?} after {:?}): the run ends before it changes anything",
                pair.path(),
                self.last
            );
            return Err(io::Error::other(why));
        }
        pair.path().clone_into(&mut self.last);
        Ok(Some(pair))
    }

    /// What the listing has and cannot be compared, once.
    pub fn take_unusable(&mut self) -> Option<Spill<Unusable>> {
        self.there.take_unusable()
    }

    pub async fn digest(self) -> io::Result<WalkDigest> {
        self.here.digest().await
    }
}

/// Names that those which follow in the order of bytes may lie below, with what is known
/// of each.
#[derive(Debug)]
pub struct Above<T = ()> {
    /// Each begins with those before it, and so does the last name.
    open: Vec<(String, T)>,
}

impl<T> Default for Above<T> {
    fn default() -> Self {
        Self { open: Vec::new() }
    }
}

impl<T: Clone> Above<T> {
    /// Those that this next name lies below.
    pub fn all_of(&mut self, path: &str) -> Vec<(String, T)> {
        self.pass(path);
        let is_above = |name: &str| path.as_bytes().get(name.len()) == Some(&b'/');
        let open = self.open.iter().filter(|(name, _)| is_above(name));
        open.cloned().collect()
    }

    /// The first one of them.
    pub fn of(&mut self, path: &str) -> Option<String> {
        self.all_of(path).into_iter().next().map(|(name, _)| name)
    }

    /// Takes this next name for one.
    pub fn push_with(&mut self, path: &str, known: T) {
        let name = path.trim_end_matches('/');
        self.pass(name);
        self.open.push((name.to_owned(), known));
    }

    fn pass(&mut self, path: &str) {
        let is_over = |last: &(String, T)| !path.starts_with(last.0.as_str());
        while self.open.last().is_some_and(is_over) {
            self.open.pop();
        }
    }
}

impl Above {
    pub fn push(&mut self, path: &str) {
        self.push_with(path, ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lies_below_those_that_its_path_leads_through() {
        let mut above = Above::default();
        let names = [
            "a", "a-b", "a-c/d", "a/b", "a/b/c", "b", "b0", "c/", "c/d", "d", "d/",
        ];
        let seen: Vec<_> = names
            .iter()
            .map(|name| {
                let found = above.all_of(name);
                if !name.ends_with('/') {
                    above.push(name);
                }
                found.into_iter().map(|(name, ())| name).collect::<Vec<_>>()
            })
            .collect();
        let mut expected = vec![Vec::<String>::new(); names.len()];
        expected[3] = vec!["a".to_owned()];
        expected[4] = vec!["a".to_owned(), "a/b".to_owned()];
        expected[10] = vec!["d".to_owned()];
        assert_eq!(seen, expected);
    }
}
