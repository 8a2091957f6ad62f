//! What is to be done: every name compared, before anything changes.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use super::action::Action;
use super::directories::Marked;
use super::entry::{Odd, Stat};
use super::job::Source;
use super::judge::{COMPARED_AT_ONCE, Judge, Verdict};
use super::listing::Unusable;
use super::merge::{Above, Merge, Pair, WalkDigest, is_directory};
use super::object_types::{ObjectTypes, Typed, looked_at};
use super::obstacles::{Ask, Obstacles, Place};
use super::odd_policy::OddPolicies;
use super::operator::Operator;
use super::plan_counts::{Extra, PlanCounts, Work};
use super::proof::Proof;
use super::report::{Line, Report, Symbol};
use super::selection::Selection;
use super::spill::Spill;
use super::unproved::{Unproved, UnprovedPairs};
use super::walk::Found;
use crate::config::DirMarkersConfig;

#[derive(Debug)]
pub struct Plan {
    pub actions: Spill<Action>,
    pub obstacles: Obstacles,
    /// Their files are not to be moved.
    pub beside: BTreeSet<String>,
    /// Those whose markers say what they are like.
    pub directories: Spill<Marked>,
    pub counts: PlanCounts,
    /// Of a directory that is to have all that a mount shows: what it has beside that, or
    /// in the place of it. The first of them, in words.
    pub foreign: Vec<String>,
    pub walked: WalkDigest,
}

/// What a plan is made of.
pub struct PlanSettings<'a> {
    pub work: Work,
    pub source: Source,
    pub extra: Extra,
    pub odd: OddPolicies,
    pub selection: &'a Selection,
    /// Where the Content-Types of equal objects are looked at.
    pub types: Option<ObjectTypes>,
    /// Whether empty directories are objects.
    pub markers: DirMarkersConfig,
    /// Whether symlinks of the bucket become symlinks of the directory.
    pub makes_links: bool,
    /// Whether what directories are like is stored with their markers.
    pub stores_directories: bool,
    pub scratch: &'a Path,
    /// Told how much has to be read to compare.
    pub operator: &'a Arc<dyn Operator>,
}

pub(super) struct Planner<'a> {
    pub(super) settings: &'a PlanSettings<'a>,
    pub(super) report: &'a mut Report,
    actions: Spill<Action>,
    obstacles: Obstacles,
    /// Where the actions of the name belong that is looked at.
    place: Place,
    pub(super) unproved: UnprovedPairs,
    pub(super) beside: BTreeSet<String>,
    /// What a policy leaves out, and what may lie below.
    pub(super) skipped: Above,
    /// Objects that a mount shows, under which files are looked for.
    pub(super) shown: Above,
    pub(super) directories: Spill<Marked>,
    pub(super) counts: PlanCounts,
    pub(super) foreign: Vec<String>,
}

/// Compares everything. Errors: the disk's.
pub async fn plan(
    merge: Merge,
    judge: &Arc<Judge>,
    settings: &PlanSettings<'_>,
    report: &mut Report,
) -> io::Result<Plan> {
    let mut planner = Planner {
        settings,
        report,
        actions: Spill::new(settings.scratch, "actions")?,
        obstacles: Obstacles::new(settings.scratch)?,
        place: Place::Actions,
        unproved: UnprovedPairs::new(settings.scratch)?,
        beside: BTreeSet::new(),
        skipped: Above::default(),
        shown: Above::default(),
        directories: Spill::new(settings.scratch, "directories")?,
        counts: PlanCounts::default(),
        foreign: Vec::new(),
    };
    let mut merge = merge;
    planner.unusable(merge.take_unusable())?;
    {
        let pairs = stream::unfold(&mut merge, |merge| async move {
            let next = merge.next().await.transpose()?;
            Some((next, merge))
        });
        let judged = pairs.map(|pair| compared(pair, judge, settings));
        let mut judged = std::pin::pin!(judged.buffered(COMPARED_AT_ONCE));
        while let Some(next) = judged.next().await {
            planner.take(next?)?;
        }
    }
    planner.place = Place::Actions;
    planner.read(judge).await?;
    let walked = merge.digest().await?;
    Ok(Plan {
        actions: planner.actions,
        obstacles: planner.obstacles,
        beside: planner.beside,
        directories: planner.directories,
        counts: planner.counts,
        foreign: planner.foreign,
        walked,
    })
}

/// A name, and how it was compared.
struct Compared {
    pair: Pair,
    verdict: Option<Verdict>,
    typed: Option<Typed>,
    /// Of a directory that has a marker.
    directory: Option<Stat>,
}

/// Errors: those of the pair.
async fn compared(
    pair: io::Result<Pair>,
    judge: &Judge,
    settings: &PlanSettings<'_>,
) -> io::Result<Compared> {
    let pair = pair?;
    let mut directory = None;
    let (verdict, typed) = match &pair {
        Pair::Both(Found::Directory { path, .. }, marker)
            if settings.stores_directories && settings.selection.takes(path) =>
        {
            let compared = judge.compare_directory(path, marker).await;
            let (verdict, stat) = match compared {
                Ok((verdict, stat)) => (verdict, Some(stat)),
                Err(error) => (Verdict::Failed(error.to_string()), None),
            };
            directory = stat;
            (Some(verdict), None)
        }
        Pair::Here(Found::Directory {
            path,
            is_empty: false,
        }) if settings.stores_directories && settings.work == Work::Import => {
            let is_there = judge.is_without_marker(path).await;
            let equal = Verdict::Equal(Proof::Checkpoint);
            (is_there.then_some(equal), None)
        }
        Pair::Both(Found::File { path, stat, .. }, object) if settings.selection.takes(path) => {
            let verdict = judge.compare(path, stat, object).await;
            let types = settings.types.as_ref();
            let typed = looked_at(judge, types, (stat, object), &verdict).await;
            (Some(verdict), typed)
        }
        Pair::Both(
            Found::Odd {
                path,
                odd: Odd::Symlink,
                ..
            },
            object,
        ) if settings.makes_links && settings.selection.takes(path) => {
            (Some(judge.compare_link(path, object).await), None)
        }
        Pair::Both(
            Found::Odd {
                path,
                odd: Odd::Special,
                ..
            },
            _,
        ) if settings.stores_directories && settings.odd.wants_all() => {
            (Some(judge.compare_special(path).await), None)
        }
        _ => (None, None),
    };
    Ok(Compared {
        pair,
        verdict,
        typed,
        directory,
    })
}

impl Planner<'_> {
    /// Plans what becomes of the next name.
    fn take(&mut self, compared: Compared) -> io::Result<()> {
        let pair = &compared.pair;
        let path = pair.path();
        let is_export = self.settings.work == Work::Export;
        let is_ours = is_export && matches!(pair, Pair::Here(Found::Unfinished { .. }));
        let is_taken = is_ours || pair.is_taken_by(self.settings.selection);
        let hides = self.would_hide(pair);
        if !is_taken {
            return Ok(());
        }
        if let Some(why) = hides {
            return self.odd(path, Odd::BesideDirectory, &why);
        }
        let ask = Ask {
            work: self.settings.work,
            extra: self.settings.extra,
            is_kept: self.skipped.of(path).is_some(),
        };
        let way = self.obstacles.meet(pair, ask)?;
        for file in way.beside {
            let why = "there is also a directory of this name, which a mount shows in its place";
            self.beside(file, Symbol::OnlyHere, why)?;
        }
        for (object, why) in way.taken {
            match self.settings.odd.wants_all() && self.beside.insert(object.clone()) {
                true => self.has_no_place(&object, why)?,
                false => self.beside(object, Symbol::OnlyThere, &why)?,
            }
        }
        match way.refused {
            Some((_, why)) if self.settings.odd.wants_all() => return self.has_no_place(path, why),
            Some((odd, why)) => return self.told(Symbol::OnlyThere, path, odd, &why),
            None => {}
        }
        self.place = way.place;
        self.pair(compared)
    }

    /// Notes what is to be done. Errors: the disk's.
    pub(super) fn act(&mut self, action: &Action) -> io::Result<()> {
        match self.place {
            Place::Actions => self.actions.push(action),
            Place::Blocked => self.obstacles.blocked.push(action),
            Place::Removals => self.obstacles.removals.push(action),
        }
    }

    /// Whether what is looked at is removed first, since something is to have its place.
    pub(super) fn is_removed_early(&self) -> bool {
        self.place == Place::Removals
    }

    /// Decides what only the bytes can tell.
    async fn read(&mut self, judge: &Arc<Judge>) -> io::Result<()> {
        let fresh = UnprovedPairs::new(self.settings.scratch)?;
        let unproved = std::mem::replace(&mut self.unproved, fresh);
        let types = self.settings.types.as_ref();
        let operator = self.settings.operator;
        let judged = |pair, verdict, typed| self.judged(pair, verdict, typed);
        unproved.read(judge, types, operator, judged).await
    }

    fn pair(&mut self, compared: Compared) -> io::Result<()> {
        let Compared {
            pair,
            verdict,
            typed,
            directory,
        } = compared;
        match pair {
            Pair::Here(Found::Unfinished { path, .. }) => self.unfinished(path),
            Pair::Both(Found::Unfinished { path, stat }, object) => {
                self.beside_unfinished(path, stat, object)
            }
            Pair::Here(Found::NotUtf8 { path }) | Pair::Both(Found::NotUtf8 { path }, _) => {
                // Which keys may lie below is not known.
                self.counts.unseen += u64::from(is_directory(&path));
                let why = "its name is not UTF-8";
                self.told(Symbol::OnlyHere, &path, Odd::BadName, why)
            }
            Pair::Here(Found::Directory { .. }) if verdict.is_some() => Ok(()),
            Pair::Here(Found::Directory { path, is_empty }) => self.directory_here(path, is_empty),
            // One that has files needs no marker, and may have one.
            Pair::Both(Found::Directory { .. }, object) => match object.why_no_file() {
                Some(why) => self.no_file(&object.path, why),
                None => self.directory_in_both(object, verdict, directory),
            },
            Pair::Both(Found::Odd { path, .. }, object)
                if matches!(verdict, Some(Verdict::Equal(_))) =>
            {
                let verdict = verdict.unwrap_or(Verdict::Unproved);
                self.link(&path, &object, verdict)
            }
            Pair::Here(Found::Odd { path, odd, why })
            | Pair::Both(Found::Odd { path, odd, why }, _) => self.odd(&path, odd, &why),
            Pair::Here(Found::File { path, stat, names }) => {
                self.hard_link(&path, names)?;
                self.only_here(path, stat)
            }
            Pair::There(object) => self.only_there(object),
            Pair::Both(Found::File { path, stat, names }, object) => {
                self.hard_link(&path, names)?;
                self.counts.source += 1;
                self.counts.target += 1;
                let verdict = verdict.unwrap_or(Verdict::Unproved);
                self.judged(Unproved { path, stat, object }, verdict, typed)
            }
        }
    }

    /// Names what the listing has and cannot be compared.
    fn unusable(&mut self, unusable: Option<Spill<Unusable>>) -> io::Result<()> {
        let entries = unusable.map(Spill::read).transpose()?;
        for entry in entries.into_iter().flatten() {
            let Unusable { path, why } = entry?;
            if self.settings.selection.takes(&path) {
                // It may be the object of a file that seems to be here alone.
                self.counts.unseen += 1;
                self.no_file(&path, &why)?;
            }
        }
        Ok(())
    }

    /// Names a file that is not to be moved. Once is enough.
    fn beside(&mut self, file: String, side: Symbol, why: &str) -> io::Result<()> {
        if self.beside.contains(&file) {
            return Ok(());
        }
        self.told(side, &file, Odd::BesideDirectory, why)?;
        self.beside.insert(file);
        Ok(())
    }

    /// Whether nothing becomes of what is different.
    pub(super) fn only_names(&self) -> bool {
        let is_verify = matches!(self.settings.work, Work::Verify(_));
        is_verify || self.settings.source == Source::Hidden
    }

    fn judged(&mut self, both: Unproved, verdict: Verdict, typed: Option<Typed>) -> io::Result<()> {
        let Unproved { path, stat, object } = both;
        let bytes = stat.size_bytes;
        let verdict = match &typed {
            Some(Typed::Attributes(why)) => Verdict::Different(why.clone()),
            _ => verdict,
        };
        match (verdict, self.settings.work) {
            (Verdict::Equal(proof), _) => {
                match typed {
                    Some(Typed::Failed(_)) => self.counts.failed.add(bytes),
                    _ => self.counts.add_equal(bytes, proof),
                }
                self.report.line(&match typed {
                    Some(typed) => typed.line(&path, bytes, proof),
                    None => Line::proved(&path, bytes, proof),
                })
            }
            (Verdict::Unproved, _) => self.unproved.push(&Unproved { path, stat, object }),
            (Verdict::Failed(why), _) => self.failed(&path, bytes, why),
            (Verdict::Different(why), _) if self.only_names() => {
                let line = Line::new(Symbol::Different, &path, bytes).because(why);
                self.report.line(&line)
            }
            (Verdict::Different(_), Work::Import | Work::Verify(_)) => {
                self.counts.changed.add(bytes);
                self.act(&Action::Send {
                    path,
                    size_bytes: bytes,
                    etag: Some(object.etag),
                })
            }
            (Verdict::Different(_), Work::Export) => {
                self.counts.changed.add(object.size_bytes);
                self.act(&Action::Fetch {
                    object,
                    replaces: Some(stat),
                })
            }
        }
    }
}
