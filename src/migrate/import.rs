//! Makes a bucket like a directory: planned, approved, sent, and looked at once more.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::action::Action;
use super::connect::connect;
use super::guards;
use super::job::Job;
use super::judge::Judge;
use super::local_file::Tree;
use super::manifest;
use super::merge::{Merge, Walking};
use super::moving::{Approval, MoveSettings, approval, begin};
use super::outbox::{NOT_TRIED, Outbox};
use super::outcome::Outcome;
use super::plan::{Plan, plan};
use super::plan_counts::Work;
use super::report::{Line, Report};
use super::run::{Summary, checkpoint, run};
use super::send::Sender;
use super::throttle::Throttle;
use super::transfers::Transfers;
use super::unplaced::Unplaced;
use super::verify::types_of;

/// None where a signal ended it. Errors: what keeps it from moving anything.
pub fn import(
    job: Job<'_>,
    settings: &MoveSettings,
    mut report: Report,
) -> anyhow::Result<Option<Summary>> {
    run(async move {
        let began = Instant::now();
        let root = guards::source(&job)?;
        guards::not_itself(&job)?;
        let bucket = connect(job.config).await?;
        let scratch = job.scratch()?;
        let checkpoint = checkpoint(&scratch)?;
        let listing = job.listing(&bucket, &scratch).await?;
        let tree = Tree {
            root: Arc::new(root),
            symlinks: job.symlinks,
        };
        let walking = Walking::begin(&tree, job.walk_settings());
        let throttle = Arc::new(Throttle::new(settings.bandwidth));
        let (store, judge_settings) = (
            bucket.store.clone(),
            job.judge(Work::Import, throttle.clone()),
        );
        let known = Some(checkpoint.clone());
        let judge = Judge::new(store, tree.clone(), judge_settings, known);
        let plan_settings = job.plan(Work::Import, settings.extra, None, &scratch);
        let merge = Merge::new(walking, listing).await?;
        let planned = plan(merge, &Arc::new(judge), &plan_settings, &mut report).await?;
        let outcome = match approval(&job.asking(), settings, planned, &mut report).await? {
            Approval::Ended(outcome) => outcome,
            Approval::Approved(planned) => {
                let (config, operator) = (job.config, job.operator);
                let outbox = Outbox::new(config, &bucket, &checkpoint, throttle, operator)?;
                let sender = Sender::new(&job, Arc::new(outbox), &tree, types_of(&job)?);
                act(&job, settings, *planned, (sender, &scratch), &mut report).await?
            }
        };
        checkpoint.flush();
        Ok(job.summary("import", outcome, &mut report, &bucket, began)?)
    })
}

/// Does what is planned.
async fn act(
    job: &Job<'_>,
    settings: &MoveSettings,
    planned: Plan,
    (sender, scratch): (Sender, &Path),
    report: &mut Report,
) -> anyhow::Result<Outcome> {
    let Plan {
        actions,
        obstacles,
        beside,
        counts,
        walked,
        ..
    } = planned;
    begin(job.operator, &counts);
    let transfers = Transfers {
        outbox: &sender.outbox,
        scratch,
        has_unseen: counts.unseen > 0,
    };
    let one = async |action: &Action| one(&sender, &beside, action).await;
    let (deletes, mut failures) = transfers.send(actions, obstacles, one, report).await?;
    failures.add_if(counts.failed.names > 0);
    let mut walking = Walking::begin(&sender.tree, job.walk_settings());
    let mut unplaced = None;
    if let (Some(path), false) = (&settings.manifest, failures.any()) {
        let written = manifest::write(&mut walking, &sender.tree, &beside, path).await;
        match written.with_context(|| format!("--manifest {}", path.display()))? {
            Ok(written) => unplaced = Some(written),
            Err(why) => job.operator.tell(&why),
        }
    }
    let has_changed = walking.digest().await? != walked;
    let is_placed = placed(job, settings, unplaced.filter(|_| !has_changed))?;
    // Where something was not sent, that is why there is none.
    failures.add_if(!is_placed && !failures.any());
    if has_changed {
        let why = "the directory changed while it was sent: run again to send what is new";
        job.operator.tell(why);
    }
    let is_kept = !failures.any() && !has_changed && counts.unseen > 0 && deletes.len() > 0;
    let keeps = if failures.any() {
        Some("something was not sent")
    } else if has_changed {
        Some("the directory changed meanwhile")
    } else {
        (counts.unseen > 0).then_some("some of the directory could not be looked at")
    };
    transfers
        .remove(deletes, keeps, report, &mut failures)
        .await?;
    failures.add_if(has_changed);
    match failures.outcome(job.operator, report) {
        // Another run would keep them too.
        Outcome::Equal if is_kept => Ok(Outcome::Differences),
        outcome => Ok(outcome),
    }
}

/// Puts a manifest in its place. Returns false where one is wanted and there is none.
/// Errors: the disk's.
fn placed(
    job: &Job<'_>,
    settings: &MoveSettings,
    unplaced: Option<Unplaced>,
) -> anyhow::Result<bool> {
    match (&settings.manifest, unplaced) {
        (None, _) => Ok(true),
        (Some(path), Some(unplaced)) => {
            let placed = unplaced.place();
            placed.with_context(|| format!("--manifest {}", path.display()))?;
            Ok(true)
        }
        (Some(_), None) => {
            job.operator
                .tell("no manifest is written, since not everything was sent: run again");
            Ok(false)
        }
    }
}

/// Carries out what is not among the files that no mount would show.
async fn one(sender: &Sender, beside: &BTreeSet<String>, action: &Action) -> Option<Line> {
    if beside.contains(action.path()) {
        return None;
    }
    match action {
        _ if sender.outbox.is_silent() && !action.is_delete() => {
            Some(Line::error(action.path(), NOT_TRIED))
        }
        Action::Send {
            path,
            etag,
            size_bytes: _,
        } => {
            let line = sender.send(path, etag.as_deref()).await;
            sender.outbox.operator.moved(1, 0);
            Some(line)
        }
        Action::Mark { path, etag } => Some(sender.mark(path, etag.as_deref()).await),
        Action::DeleteObject(_)
        | Action::Copy { .. }
        | Action::Fetch { .. }
        | Action::MakeDirectory { .. }
        | Action::RemoveUnfinished { .. }
        | Action::RemoveDirectory { .. }
        | Action::DeleteFile { .. } => None,
    }
}
