//! What is to be done: every name compared, before anything changes.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use super::action::Action;
use super::entry::Odd;
use super::job::Source;
use super::judge::{COMPARED_AT_ONCE, Judge, Verdict};
use super::listing::Unusable;
use super::merge::{Above, Beside, Merge, Pair, WalkDigest, is_directory};
use super::object_types::{ObjectTypes, Typed, looked_at};
use super::odd_policy::{OddPolicies, OddPolicy};
use super::operator::Operator;
use super::plan_counts::{Extra, PlanCounts, Work};
use super::report::{Line, Report, Symbol};
use super::selection::Selection;
use super::spill::Spill;
use super::unproved::{Unproved, UnprovedPairs};
use super::walk::Found;
use crate::config::DirMarkersConfig;

#[derive(Debug)]
pub struct Plan {
    pub actions: Spill<Action>,
    /// Their files are not to be moved.
    pub beside: BTreeSet<String>,
    pub counts: PlanCounts,
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
    pub scratch: &'a Path,
    /// Told how much has to be read to compare.
    pub operator: &'a Arc<dyn Operator>,
}

pub(super) struct Planner<'a> {
    pub(super) settings: &'a PlanSettings<'a>,
    pub(super) report: &'a mut Report,
    pub(super) actions: Spill<Action>,
    pub(super) unproved: UnprovedPairs,
    pub(super) beside: BTreeSet<String>,
    /// What a policy leaves out, and what may lie below.
    pub(super) skipped: Above,
    /// Objects to be deleted: what lies below them takes their names.
    pub(super) deleted: Above,
    /// Objects that a mount shows, under which files are looked for.
    pub(super) shown: Above,
    pub(super) counts: PlanCounts,
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
        unproved: UnprovedPairs::new(settings.scratch)?,
        beside: BTreeSet::new(),
        skipped: Above::default(),
        deleted: Above::default(),
        shown: Above::default(),
        counts: PlanCounts::default(),
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
        let mut beside = Beside::default();
        while let Some(next) = judged.next().await {
            let compared = next?;
            let path = compared.pair.path();
            let is_ours = matches!(compared.pair, Pair::Here(Found::Unfinished { .. }));
            let is_taken = is_ours || compared.pair.is_taken_by(settings.selection);
            let hides = planner.would_hide(&compared.pair);
            if !is_taken {
                continue;
            }
            if let Some(why) = hides {
                planner.odd(path, Odd::BesideDirectory, &why)?;
                continue;
            }
            let file = match compared.pair {
                Pair::Here(Found::Odd { .. }) => beside.pass(path),
                _ => beside.see(path),
            };
            if let Some(file) = file {
                planner.beside(file)?;
            }
            planner.pair(compared)?;
        }
    }
    planner.read(judge).await?;
    let walked = merge.digest().await?;
    Ok(Plan {
        actions: planner.actions,
        beside: planner.beside,
        counts: planner.counts,
        walked,
    })
}

/// A name, and how it was compared.
struct Compared {
    pair: Pair,
    verdict: Option<Verdict>,
    typed: Option<Typed>,
}

/// Errors: those of the pair.
async fn compared(
    pair: io::Result<Pair>,
    judge: &Judge,
    settings: &PlanSettings<'_>,
) -> io::Result<Compared> {
    let pair = pair?;
    let (verdict, typed) = match &pair {
        Pair::Both(Found::File { path, stat }, object) if settings.selection.takes(path) => {
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
        _ => (None, None),
    };
    Ok(Compared {
        pair,
        verdict,
        typed,
    })
}

impl Planner<'_> {
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
        } = compared;
        match pair {
            Pair::Here(Found::Unfinished { path }) => match self.settings.work {
                Work::Export => self.actions.push(&Action::RemoveUnfinished { path }),
                Work::Import | Work::Verify(_) => Ok(()),
            },
            Pair::Both(Found::Unfinished { path }, _) => {
                let why = "its name is that of an unfinished file of an export";
                self.odd(&path, Odd::BadName, why)
            }
            Pair::Here(Found::Directory { path, is_empty }) => self.directory_here(path, is_empty),
            // One that has files needs no marker, and may have one.
            Pair::Both(Found::Directory { .. }, object) => match object.why_no_file() {
                Some(why) => self.no_file(&object.path, why),
                None => Ok(()),
            },
            Pair::Both(Found::Odd { path, .. }, object)
                if matches!(verdict, Some(Verdict::Equal(_))) =>
            {
                let verdict = verdict.unwrap_or(Verdict::Unproved);
                self.link(&path, &object, verdict)
            }
            Pair::Here(Found::Odd { path, odd, why })
            | Pair::Both(Found::Odd { path, odd, why }, _) => self.odd(&path, odd, &why),
            Pair::Here(Found::File { path, stat }) => self.only_here(path, stat),
            Pair::There(object) => self.only_there(object),
            Pair::Both(Found::File { path, stat }, object) => {
                self.counts.source += 1;
                self.counts.target += 1;
                let verdict = verdict.unwrap_or(Verdict::Unproved);
                self.judged(Unproved { path, stat, object }, verdict, typed)
            }
        }
    }

    pub(super) fn odd(&mut self, path: &str, odd: Odd, why: &str) -> io::Result<()> {
        let policy = self.settings.odd.of(odd);
        if is_directory(path) || matches!(odd, Odd::Unreadable | Odd::Symlink) {
            match policy {
                OddPolicy::Skip if is_name(path, odd) => self.skipped.push(path),
                OddPolicy::Skip | OddPolicy::Refuse => self.counts.unseen += 1,
            }
        }
        self.told(Symbol::OnlyHere, path, odd, why)
    }

    /// One that only the bucket has.
    pub(super) fn no_file(&mut self, path: &str, why: &str) -> io::Result<()> {
        self.told(Symbol::OnlyThere, path, Odd::BadName, why)
    }

    fn told(&mut self, side: Symbol, path: &str, odd: Odd, why: &str) -> io::Result<()> {
        if self.settings.odd.of(odd) == OddPolicy::Refuse {
            self.counts.refused.add(0);
        }
        let line = self.settings.odd.line(side, path, odd, why);
        self.report.line(&line)
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

    fn beside(&mut self, file: String) -> io::Result<()> {
        if self.beside.contains(&file) || self.deleted.has(&file) {
            return Ok(());
        }
        let why = "there is also a directory of this name, which a mount shows in its place";
        self.odd(&file, Odd::BesideDirectory, why)?;
        self.beside.insert(file);
        Ok(())
    }

    /// Whether nothing becomes of what is different.
    fn only_names(&self) -> bool {
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
            (Verdict::Failed(why), _) => {
                self.counts.failed.add(bytes);
                self.report.line(&Line::error(&path, why))
            }
            (Verdict::Different(why), _) if self.only_names() => {
                let line = Line::new(Symbol::Different, &path, bytes).because(why);
                self.report.line(&line)
            }
            (Verdict::Different(_), Work::Import | Work::Verify(_)) => {
                self.counts.changed.add(bytes);
                self.actions.push(&Action::Send {
                    path,
                    size_bytes: bytes,
                    etag: Some(object.etag),
                })
            }
            (Verdict::Different(_), Work::Export) => {
                self.counts.changed.add(object.size_bytes);
                self.actions.push(&Action::Fetch {
                    object,
                    replaces: Some(stat),
                })
            }
        }
    }
}

/// Whether the path of something odd tells which keys may be of it or of what is below it.
fn is_name(path: &str, odd: Odd) -> bool {
    let is_root = matches!(path, "" | ".");
    let is_lossy = odd == Odd::BadName && path.contains(char::REPLACEMENT_CHARACTER);
    !is_root && !is_lossy
}
