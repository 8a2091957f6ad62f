//! Names that keep others from having their place: a file where a directory is to be, or a
//! directory where a file is to be.
//!
//! What the target alone has is removed first where it is in the way, if it is to be
//! deleted; what it is in the way of waits for that. All else goes before, so that nothing
//! is removed where something failed.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::action::Action;
use super::entry::Odd;
use super::merge::{Above, Pair};
use super::plan_counts::{Extra, Work};
use super::spill::Spill;
use super::walk::Found;

/// What is removed before all else is, and what waits for it.
#[derive(Debug)]
pub struct Obstacles {
    names: Above<Seen>,
    /// What is in the way, in the order of paths; a directory comes before what is in it.
    pub removals: Spill<Action>,
    /// What has its place only once that is removed.
    pub blocked: Spill<Action>,
    /// Are removed early, and have an action to be deleted at the end too.
    pub removed_early: BTreeSet<String>,
    /// Were found to be blocked when their action was among the others.
    found_blocked: BTreeSet<String>,
}

/// All actions of a plan: what nothing is in the way of, what is in the way of others, and
/// what is carried out once that is removed.
#[derive(Debug)]
pub struct Ordered {
    pub first: Spill<Action>,
    pub removals: Spill<Action>,
    pub blocked: Spill<Action>,
}

/// A name that is no directory, and where it is.
#[derive(Debug, Clone)]
enum Seen {
    /// In the source alone: it is to be moved.
    Moved,
    Both,
    /// In the target alone, with what removes it, where that is asked for.
    Extra(Option<Action>),
    Odd(Odd),
}

/// What becomes of a name, for those above it.
#[derive(Debug, Default)]
pub struct Way {
    /// Files that lie beside a directory which this name shows.
    pub beside: Vec<String>,
    /// Objects whose place is taken by what is not deleted, and why.
    pub taken: Vec<(String, String)>,
    /// Its own place is.
    pub refused: Option<(Odd, String)>,
    pub place: Place,
}

/// Where its action belongs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    #[default]
    Actions,
    Blocked,
    Removals,
}

/// What a plan is of.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub work: Work,
    pub extra: Extra,
    /// A policy keeps what the target alone has of this name.
    pub is_kept: bool,
}

impl Obstacles {
    pub fn new(scratch: &Path) -> io::Result<Self> {
        Ok(Self {
            names: Above::default(),
            removals: Spill::new(scratch, "removals")?,
            blocked: Spill::new(scratch, "blocked")?,
            removed_early: BTreeSet::new(),
            found_blocked: BTreeSet::new(),
        })
    }

    /// Whether there is nothing to remove, and so nothing that is blocked.
    pub fn are_none(&self) -> bool {
        self.removals.len() + self.blocked.len() == 0
    }

    /// The actions in the order in which they are carried out. Errors: the disk's.
    pub fn ordered(self, actions: Spill<Action>, scratch: &Path) -> io::Result<Ordered> {
        let Self {
            removals,
            mut blocked,
            removed_early,
            found_blocked,
            ..
        } = self;
        if removed_early.is_empty() && found_blocked.is_empty() {
            return Ok(Ordered {
                first: actions,
                removals,
                blocked,
            });
        }
        let mut first = Spill::new(scratch, "first")?;
        for action in actions.read()? {
            let action = action?;
            match action.is_delete() {
                true if removed_early.contains(action.path()) => {}
                false if found_blocked.contains(action.path()) => blocked.push(&action)?,
                _ => first.push(&action)?,
            }
        }
        Ok(Ordered {
            first,
            removals,
            blocked,
        })
    }

    /// Takes the next name. Errors: the disk's.
    pub fn meet(&mut self, pair: &Pair, ask: Ask) -> io::Result<Way> {
        let mut way = Way::default();
        if is_no_name(pair) {
            return Ok(way);
        }
        for (name, seen) in self.names.all_of(pair.path()) {
            match ask.work {
                Work::Export => self.in_export((&name, seen), pair, ask, &mut way)?,
                Work::Import => self.in_import((&name, seen), pair, ask, &mut way)?,
                Work::Verify(_) if matches!(seen, Seen::Odd(_)) => {}
                Work::Verify(_) => way.beside.push(name),
            }
        }
        if let Some(seen) = seen(pair, ask)
            && !pair.path().ends_with('/')
        {
            self.names.push_with(pair.path(), seen);
        }
        Ok(way)
    }

    fn in_export(
        &mut self,
        (name, seen): (&str, Seen),
        pair: &Pair,
        ask: Ask,
        way: &mut Way,
    ) -> io::Result<()> {
        match (pair, seen) {
            (Pair::Here(Found::Odd { path, .. } | Found::NotUtf8 { path }), Seen::Moved) => {
                let why = format!("a directory is in its place here, with {path}");
                way.taken.push((name.to_owned(), why));
            }
            (Pair::Here(_), Seen::Moved) if ask.extra == Extra::Delete => {
                self.found_blocked.insert(name.to_owned());
                way.place = Place::Removals;
            }
            (Pair::Here(_), Seen::Moved) => {
                let why = "a directory is in its place here, which --delete removes";
                way.taken.push((name.to_owned(), why.to_owned()));
            }
            // A symlink of the directory may lead to one.
            (Pair::Here(_), _) => {}
            (_, Seen::Moved) => way.beside.push(name.to_owned()),
            (_, Seen::Both) => {
                way.beside.push(name.to_owned());
                let why = format!("the file {name} is in its way here, and in the bucket too");
                way.refused = Some((Odd::BesideDirectory, why));
            }
            (_, Seen::Extra(Some(removal))) => {
                self.remove_early(name, &removal)?;
                way.place = Place::Blocked;
            }
            (_, Seen::Extra(None)) => {
                let why = format!("the file {name} is in its way here, which --delete removes");
                way.refused = Some((Odd::BesideDirectory, why));
            }
            (_, Seen::Odd(odd)) => {
                let why = format!("{name} is in its way here: {}", odd.words());
                way.refused = Some((odd, why));
            }
        }
        Ok(())
    }

    fn in_import(
        &mut self,
        (name, seen): (&str, Seen),
        pair: &Pair,
        ask: Ask,
        way: &mut Way,
    ) -> io::Result<()> {
        let is_deleted = ask.extra == Extra::Delete && !ask.is_kept;
        match (pair, seen) {
            (_, Seen::Odd(_)) => {}
            (Pair::There(_), Seen::Moved) if is_deleted => {
                self.found_blocked.insert(name.to_owned());
                way.place = Place::Removals;
            }
            (Pair::There(_), Seen::Both) if is_deleted => {}
            (Pair::Here(Found::File { .. } | Found::Directory { .. }), Seen::Extra(Some(it))) => {
                self.remove_early(name, &it)?;
                way.place = Place::Blocked;
            }
            // It is deleted at the end.
            (_, Seen::Extra(Some(_))) => {}
            (_, Seen::Moved | Seen::Both | Seen::Extra(None)) => way.beside.push(name.to_owned()),
        }
        Ok(())
    }

    fn remove_early(&mut self, name: &str, removal: &Action) -> io::Result<()> {
        match self.removed_early.insert(name.to_owned()) {
            true => self.removals.push(removal),
            false => Ok(()),
        }
    }
}

/// Whether no file can have this name, and so it is in nobody's way.
fn is_no_name(pair: &Pair) -> bool {
    match pair {
        Pair::There(object) | Pair::Both(_, object) => object.why_no_file().is_some(),
        Pair::Here(_) => false,
    }
}

fn seen(pair: &Pair, ask: Ask) -> Option<Seen> {
    let removal = |action: Action| (ask.extra == Extra::Delete && !ask.is_kept).then_some(action);
    match (ask.work, pair) {
        (_, Pair::Here(Found::NotUtf8 { .. } | Found::Unfinished { .. })) => None,
        (Work::Export, Pair::Here(Found::Odd { odd, .. })) => Some(Seen::Odd(*odd)),
        (_, Pair::Here(Found::Odd { .. })) => None,
        (_, Pair::Both(Found::Odd { odd, .. }, _)) => Some(Seen::Odd(*odd)),
        (Work::Export, Pair::There(_)) => Some(Seen::Moved),
        (Work::Export, Pair::Here(Found::File { path, stat, .. })) => {
            let (path, stat) = (path.clone(), *stat);
            Some(Seen::Extra(removal(Action::DeleteFile { path, stat })))
        }
        (Work::Import, Pair::There(object)) => {
            Some(Seen::Extra(removal(Action::DeleteObject(object.clone()))))
        }
        (Work::Import, Pair::Here(_)) => Some(Seen::Moved),
        (_, Pair::Here(_) | Pair::There(_) | Pair::Both(..)) => Some(Seen::Both),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::entry::Object;
    use crate::migrate::tests::some_stat;

    fn there(path: &str) -> Pair {
        Pair::There(Object {
            path: path.to_owned(),
            etag: "e".to_owned(),
            size_bytes: 0,
            modified: 0,
        })
    }

    fn here(path: &str) -> Pair {
        let path = path.to_owned();
        Pair::Here(match path.ends_with('/') {
            true => Found::Directory {
                path,
                is_empty: false,
            },
            false => Found::File {
                path,
                stat: some_stat(),
                names: 1,
            },
        })
    }

    /// How each name stands: `w` waits for a removal, `x` is removed, `b` shows one beside
    /// it, `r` is refused, `t` takes the place of another.
    fn stands(work: Work, extra: Extra, pairs: &[Pair]) -> (String, Obstacles) {
        let scratch = tempfile::tempdir().unwrap();
        let mut obstacles = Obstacles::new(scratch.path()).unwrap();
        let ask = Ask {
            work,
            extra,
            is_kept: false,
        };
        let stands = pairs.iter().map(|pair| {
            let way = obstacles.meet(pair, ask).unwrap();
            match (way.place, &way) {
                (Place::Blocked, _) => 'w',
                (Place::Removals, _) => 'x',
                (_, way) if way.refused.is_some() => 'r',
                (_, way) if !way.beside.is_empty() => 'b',
                (_, way) if !way.taken.is_empty() => 't',
                _ => '.',
            }
        });
        (stands.collect(), obstacles)
    }

    #[test]
    fn what_is_in_the_way_is_removed_where_it_is_to_be_deleted_and_else_named() {
        // `a` became a directory, and the directory `d` an object.
        let export = [
            here("a"),
            there("a-b"),
            there("a/b"),
            there("d"),
            here("d/"),
            here("d/x"),
        ];
        let (stood, obstacles) = stands(Work::Export, Extra::Delete, &export);
        assert_eq!(stood, "..w.xx");
        assert!(obstacles.removed_early.contains("a") && obstacles.found_blocked.contains("d"));
        assert_eq!(stands(Work::Export, Extra::Keep, &export).0, "..r.tt");
        let import = [
            there("a"),
            here("a/"),
            here("a/b"),
            here("d"),
            there("d/x"),
            there("e"),
            there("e/f"),
        ];
        let (stood, obstacles) = stands(Work::Import, Extra::Delete, &import);
        assert_eq!(stood, ".ww.x..");
        assert!(obstacles.removed_early.contains("a") && obstacles.found_blocked.contains("d"));
        assert_eq!(stands(Work::Import, Extra::Keep, &import).0, ".bb.b.b");
        // Both are in the bucket; a key that no file has is in nobody's way.
        let beside = [there(".."), there("../x"), there("a"), there("a/b")];
        assert_eq!(stands(Work::Export, Extra::Delete, &beside).0, "...b");
    }
}
