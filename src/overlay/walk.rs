//! What counts of the old directory, in the order of keys, a page at a time.

use std::io;

use super::core::Core;
use super::marks::{Marks, Moment, hash_of};
use super::old_directory::{OldDirectory, OldStat};
use crate::store::FoldDirectories;

/// One key that the old directory has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// That of an empty directory, or of one that stands for all below it, ends in `/`.
    pub path: String,
    /// None of a directory that stands for all below it.
    pub stat: Option<OldStat>,
}

/// Which old files a walk gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that were shown by themselves at a moment. Of one that is not since then, the
    /// bucket may have been asked before it had the object.
    Shown(Moment),
    /// And those whose objects are shown in their place.
    NotHidden,
}

/// What of the keys is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub prefix: String,
    pub fold: FoldDirectories,
    /// Keys behind this one; none before it, nor below it if it stands for a directory.
    pub after: String,
    /// Up to this one, with it.
    pub up_to: Option<String>,
    pub limit: usize,
    pub which: Which,
}

/// Errors: the old directory's disk.
pub fn walk(core: &Core, old: &OldDirectory, asked: &Asked) -> io::Result<Vec<Below>> {
    let mut steps = BelowWalk {
        core,
        old,
        asked,
        found: Vec::new(),
    };
    let (directory, begins_with) = match asked.prefix.rfind('/') {
        Some(at) => asked.prefix.split_at(at + 1),
        None => ("", asked.prefix.as_str()),
    };
    // Only what is below a directory that is asked for can be a marker of its own.
    let is_whole = begins_with.is_empty() && !directory.is_empty();
    if !is_whole || steps.marker(directory)? == Step::GoOn {
        steps.enter(directory, begins_with)?;
    }
    Ok(steps.found)
}

/// Whether anything below a directory was shown at a moment.
fn is_alive(core: &Core, old: &OldDirectory, directory: &str, at: Moment) -> io::Result<bool> {
    let hash = hash_of(directory);
    let is_whole = |marks: &Marks| !marks.hid_below(hash, at) && marks.counted(hash, at);
    if core.marks.with(is_whole) {
        return Ok(true);
    }
    let is_dead = |since: &Moment| *since <= at;
    if core.dead.lock().get(&hash).is_some_and(is_dead) {
        return Ok(false);
    }
    let asked = Asked {
        prefix: directory.to_owned(),
        fold: FoldDirectories::No,
        after: String::new(),
        up_to: None,
        limit: 1,
        which: Which::Shown(at),
    };
    let is_alive = !walk(core, old, &asked)?.is_empty();
    if !is_alive {
        let mut dead = core.dead.lock();
        let since = dead.entry(hash).or_insert(at);
        *since = at.min(*since);
    }
    Ok(is_alive)
}

/// Whether a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    GoOn,
    Over,
}

struct BelowWalk<'a> {
    core: &'a Core,
    old: &'a OldDirectory,
    asked: &'a Asked,
    found: Vec<Below>,
}

impl BelowWalk<'_> {
    fn is_over(&self, path: &str) -> bool {
        let is_behind = |last: &String| path > last.as_str();
        self.found.len() >= self.asked.limit || self.asked.up_to.as_ref().is_some_and(is_behind)
    }

    /// `directory` is empty, or ends in `/`.
    fn enter(&mut self, directory: &str, begins_with: &str) -> io::Result<Step> {
        let names = match self.old.names(directory) {
            // An import sends the rest.
            Err(error) if self.asked.which == Which::NotHidden => {
                self.core.progress.failed(directory, error.to_string());
                return Ok(Step::GoOn);
            }
            names => names?,
        };
        let Some(names) = names else {
            return Ok(Step::GoOn);
        };
        let first = names.names.partition_point(|name| **name < *begins_with);
        for name in names.names.get(first..).unwrap_or_default() {
            if !name.starts_with(begins_with) {
                break;
            }
            let path = format!("{directory}{name}");
            if self.is_over(&path) {
                return Ok(Step::Over);
            }
            let step = match name.ends_with('/') {
                true => self.directory(&path)?,
                false => self.file(path)?,
            };
            if step == Step::Over {
                return Ok(step);
            }
        }
        Ok(Step::GoOn)
    }

    fn directory(&mut self, path: &str) -> io::Result<Step> {
        let after = self.asked.after.as_str();
        let is_within = after.starts_with(path);
        if path <= after && !is_within {
            return Ok(Step::GoOn);
        }
        if self.asked.fold == FoldDirectories::Yes {
            let Which::Shown(at) = self.asked.which else {
                // An import sends files.
                return Ok(Step::GoOn);
            };
            if !is_within && is_alive(self.core, self.old, path, at)? {
                self.found.push(Below {
                    path: path.to_owned(),
                    stat: None,
                });
            }
            return Ok(Step::GoOn);
        }
        match self.marker(path)? {
            Step::GoOn => self.enter(path, ""),
            Step::Over => Ok(Step::Over),
        }
    }

    /// A directory that has a marker is an object. Over, where the page is full.
    fn marker(&mut self, path: &str) -> io::Result<Step> {
        if path > self.asked.after.as_str() && self.old.has_marker(path)? {
            return self.file(path.to_owned());
        }
        Ok(Step::GoOn)
    }

    fn file(&mut self, path: String) -> io::Result<Step> {
        if path.as_str() <= self.asked.after.as_str() {
            return Ok(Step::GoOn);
        }
        let hash = hash_of(&path);
        let is_shown = self.core.marks.with(|marks| match self.asked.which {
            Which::Shown(at) => marks.counted(hash, at),
            Which::NotHidden => marks.may_count(hash),
        });
        if !is_shown {
            return Ok(Step::GoOn);
        }
        if let Some(stat) = self.old.stat(&path)? {
            let stat = Some(stat);
            self.found.push(Below { path, stat });
        }
        match self.found.len() >= self.asked.limit {
            true => Ok(Step::Over),
            false => Ok(Step::GoOn),
        }
    }
}
