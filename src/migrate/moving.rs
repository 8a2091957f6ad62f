//! What import, export and move have in common: settings, and the question before.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::guards::{self, Force};
use super::obstacles::Obstacles;
use super::operator::{Asking, Operator};
use super::outcome::{Outcome, outcome_of};
use super::plan::Plan;
use super::plan_counts::{Extra, PlanCounts};
use super::report::Report;

#[derive(Debug, Clone)]
pub struct MoveSettings {
    pub extra: Extra,
    pub force: Force,
    /// Nothing is done but the plan.
    pub dry_run: bool,
    /// Bytes a second.
    pub bandwidth: Option<u64>,
    /// Where a list of the files with their checksums is written, once all are sent.
    pub manifest: Option<PathBuf>,
}

/// Whether a plan is carried out.
#[derive(Debug)]
pub enum Approval {
    Approved(Box<Plan>),
    Ended(Outcome),
}

/// Asks, where there is something to do. What is not approved is reported as it stands.
///
/// Errors: a guard's; the disk's.
pub async fn approval(
    asking: &Asking<'_>,
    settings: &MoveSettings,
    planned: Plan,
    report: &mut Report,
) -> anyhow::Result<Approval> {
    asking.tell_of_comparison();
    guards::not_too_much(asking, &planned.counts, settings.force)?;
    let obstacles = &planned.obstacles;
    let has_work = planned.actions.len() > 0 || !obstacles.are_none();
    if !settings.dry_run && (!has_work || asking.is_approved(&planned.counts).await?) {
        return Ok(Approval::Approved(Box::new(planned)));
    }
    let outcome = match (settings.dry_run, has_work) {
        (false, _) => Outcome::Declined,
        (true, true) => Outcome::Differences,
        (true, false) => outcome_of(report),
    };
    let mut told = BTreeSet::new();
    let Obstacles {
        removals,
        blocked,
        removed_early,
        ..
    } = planned.obstacles;
    for actions in [planned.actions, blocked, removals] {
        for action in actions.read()? {
            let action = action?;
            // Those have two.
            let is_second = action.is_delete() && told.contains(action.path());
            if action.is_delete() && removed_early.contains(action.path()) {
                told.insert(action.path().to_owned());
            }
            if !is_second {
                report.line(&action.line())?;
            }
        }
    }
    Ok(Approval::Ended(outcome))
}

/// Tells the operator what begins.
pub fn begin(operator: &Arc<dyn Operator>, counts: &PlanCounts) {
    let names = counts.new.names + counts.changed.names;
    let bytes = counts.new.bytes + counts.changed.bytes;
    operator.begins(names, bytes);
}
