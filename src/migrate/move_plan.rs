//! What a move is to bring from one bucket into another: every object compared, before
//! anything changes.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use super::action::Action;
use super::entry::{Object, Odd};
use super::judge::{COMPARED_AT_ONCE, Verdict};
use super::listing::{Listing, Unusable};
use super::object_judge::ObjectJudge;
use super::obstacles::Obstacles;
use super::odd_policy::{OddPolicies, OddPolicy};
use super::operator::Operator;
use super::places::{Listings, ObjectPair};
use super::plan::Plan;
use super::plan_counts::{Extra, PlanCounts};
use super::report::{Line, Report, Symbol};
use super::selection::Selection;
use super::spill::Spill;

/// What a plan is made of.
pub struct MovePlanSettings<'a> {
    pub extra: Extra,
    pub odd: OddPolicies,
    pub selection: &'a Selection,
    pub scratch: &'a Path,
    pub operator: &'a Arc<dyn Operator>,
}

struct MovePlanner<'a> {
    settings: &'a MovePlanSettings<'a>,
    report: &'a mut Report,
    actions: Spill<Action>,
    /// Only their bytes can tell.
    unproved: Spill<(Object, Object)>,
    unproved_bytes: u64,
    counts: PlanCounts,
}

/// Compares everything. Errors: the disk's.
pub async fn plan_move(
    (mut source, mut target): (Listing, Listing),
    judge: &Arc<ObjectJudge>,
    settings: &MovePlanSettings<'_>,
    report: &mut Report,
) -> io::Result<Plan> {
    let mut planner = MovePlanner {
        settings,
        report,
        actions: Spill::new(settings.scratch, "actions")?,
        unproved: Spill::new(settings.scratch, "unproved")?,
        unproved_bytes: 0,
        counts: PlanCounts::default(),
    };
    planner.unusable(Symbol::OnlyHere, source.take_unusable())?;
    planner.unusable(Symbol::OnlyThere, target.take_unusable())?;
    let listings = Listings::new(source, target)?;
    let pairs = stream::unfold(listings, |mut listings| async move {
        let next = listings.next().transpose()?;
        Some((next, listings))
    });
    let judged = pairs.map(|pair| async move {
        let pair = pair?;
        let verdict = match &pair {
            ObjectPair::Both(source, target) if settings.selection.takes(&source.path) => {
                Some(judge.compare(source, target).await)
            }
            _ => None,
        };
        io::Result::Ok((pair, verdict))
    });
    let mut judged = std::pin::pin!(judged.buffered(COMPARED_AT_ONCE));
    while let Some(next) = judged.next().await {
        let (pair, verdict) = next?;
        if settings.selection.takes(pair.path()) {
            planner.pair(pair, verdict)?;
        }
    }
    planner.read(judge).await?;
    Ok(Plan {
        actions: planner.actions,
        obstacles: Obstacles::new(settings.scratch)?,
        beside: BTreeSet::new(),
        directories: Spill::new(settings.scratch, "directories")?,
        counts: planner.counts,
        foreign: Vec::new(),
        walked: [0; 32],
    })
}

impl MovePlanner<'_> {
    fn unusable(&mut self, side: Symbol, unusable: Option<Spill<Unusable>>) -> io::Result<()> {
        let entries = unusable.map(Spill::read).transpose()?;
        for entry in entries.into_iter().flatten() {
            let Unusable { path, why } = entry?;
            if !self.settings.selection.takes(&path) {
                continue;
            }
            // It may be the object that NEW seems to have alone.
            self.counts.unseen += 1;
            if self.settings.odd.bad_names == OddPolicy::Refuse {
                self.counts.refused.add(0);
            }
            let line = self.settings.odd.line(side, &path, Odd::BadName, &why);
            self.report.line(&line)?;
        }
        Ok(())
    }

    fn pair(&mut self, pair: ObjectPair, verdict: Option<Verdict>) -> io::Result<()> {
        match pair {
            ObjectPair::Source(object) => {
                self.counts.source += 1;
                self.counts.new.add(object.size_bytes);
                self.actions.push(&Action::Copy { object, etag: None })
            }
            ObjectPair::Target(object) => {
                self.counts.target += 1;
                if self.settings.extra == Extra::Delete {
                    self.counts.to_delete.add(object.size_bytes);
                    return self.actions.push(&Action::DeleteObject(object));
                }
                let line = Line::new(Symbol::OnlyThere, &object.path, object.size_bytes);
                self.report.line(&line)
            }
            ObjectPair::Both(source, target) => {
                self.counts.source += 1;
                self.counts.target += 1;
                self.judged(source, target, verdict.unwrap_or(Verdict::Unproved))
            }
        }
    }

    fn judged(&mut self, source: Object, target: Object, verdict: Verdict) -> io::Result<()> {
        let bytes = source.size_bytes;
        match verdict {
            Verdict::Equal(proof) => {
                self.counts.add_equal(bytes, proof);
                self.report.line(&Line::proved(&source.path, bytes, proof))
            }
            Verdict::Different(_) => {
                self.counts.changed.add(bytes);
                self.actions.push(&Action::Copy {
                    object: source,
                    etag: Some(target.etag),
                })
            }
            Verdict::Unproved => {
                self.unproved_bytes += bytes;
                self.unproved.push(&(source, target))
            }
            Verdict::Failed(why) => {
                self.counts.failed.add(bytes);
                self.report.line(&Line::error(&source.path, why))
            }
        }
    }

    /// Reads what no checksum of both tells of.
    async fn read(&mut self, judge: &Arc<ObjectJudge>) -> io::Result<()> {
        let fresh = Spill::new(self.settings.scratch, "unproved")?;
        let pairs = std::mem::replace(&mut self.unproved, fresh);
        if pairs.len() == 0 {
            return Ok(());
        }
        self.settings.operator.tell(&format!(
            "{} objects have no checksum of the same kind on both sides: reading {} twice to compare",
            pairs.len(),
            bytesize::ByteSize(self.unproved_bytes)
        ));
        let read = stream::iter(pairs.read()?).map(|pair| async move {
            let (source, target): (Object, Object) = pair?;
            let verdict = match judge.read(&source, &target).await {
                Verdict::Unproved => Verdict::Failed("it cannot be compared".to_owned()),
                read => judge.with_headers(&source, &target, read).await,
            };
            io::Result::Ok((source, target, verdict))
        });
        let mut read = std::pin::pin!(read.buffered(COMPARED_AT_ONCE));
        while let Some(next) = read.next().await {
            let (source, target, verdict) = next?;
            self.judged(source, target, verdict)?;
        }
        Ok(())
    }
}
