//! Makes a bucket like a directory: planned, approved, sent, and looked at once more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::stream::{self, StreamExt};
use tokio::time::timeout;

use super::action::Action;
use super::checkpoint::Checkpoint;
use super::connect::{Bucket, connect};
use super::entry::Object;
use super::guards;
use super::import_delete::BATCH_LIMIT;
use super::job::Job;
use super::judge::Judge;
use super::local_file::Tree;
use super::manifest;
use super::merge::{Merge, Walking};
use super::moving::{Approval, MoveSettings, approval, begin, outcome_of};
use super::plan::{Plan, plan};
use super::plan_counts::Work;
use super::report::{Line, Report, Symbol};
use super::run::{Outcome, Summary, run};
use super::send::{NOT_TRIED, Sender};
use super::spill::Spill;
use super::throttle::Throttle;
use super::unplaced::Unplaced;
use super::verify::types_of;
use crate::write_path::{CopyPartSize, PartSize, Uploader};

/// Files that are on their way at once.
const FILES_AT_ONCE: usize = 16;
/// Uploads that were given up are aborted within.
const ABORTS_WITHIN: Duration = Duration::from_secs(30);

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
        let checkpoint = Arc::new(Checkpoint::open(&scratch)?);
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
        let outcome = match approval(&job, settings, planned, &mut report).await? {
            Approval::Ended(outcome) => outcome,
            Approval::Approved(planned) => {
                let sender = sender(&job, throttle, &bucket, &tree, &checkpoint)?;
                act(&job, settings, *planned, sender, &mut report).await?
            }
        };
        checkpoint.flush();
        Ok(job.summary("import", outcome, &mut report, &bucket, began)?)
    })
}

fn sender(
    job: &Job<'_>,
    throttle: Arc<Throttle>,
    bucket: &Bucket,
    tree: &Tree,
    checkpoint: &Arc<Checkpoint>,
) -> anyhow::Result<Arc<Sender>> {
    let config = job.config;
    let part_size = PartSize::new(config.part_size_bytes);
    let part_size = part_size.context("--part-size must be from 5MiB to 512MiB")?;
    let copy_part_size = CopyPartSize::new(config.copy_part_size_bytes);
    let copy_part_size = copy_part_size.context("--copy-part-size must be from 5MiB to 5GiB")?;
    let (store, parts) = (bucket.store.clone(), config.memory.upload_concurrency);
    let uploader = Uploader::new(store, part_size, copy_part_size, parts);
    let types = types_of(job)?;
    let sender = Sender::new(job, bucket, uploader, tree, checkpoint, throttle, types);
    Ok(Arc::new(sender))
}

/// Does what is planned.
async fn act(
    job: &Job<'_>,
    settings: &MoveSettings,
    planned: Plan,
    sender: Arc<Sender>,
    report: &mut Report,
) -> anyhow::Result<Outcome> {
    let Plan {
        actions,
        beside,
        counts,
        walked,
    } = planned;
    let aborting = tokio::spawn({
        let sender = sender.clone();
        async move { sender.uploader.abort_abandoned().await }
    });
    begin(job, &counts);
    let transfers = Transfers {
        job,
        sender: &sender,
        beside: &beside,
    };
    let sent = transfers.send(actions, report).await;
    job.operator.ends();
    let aborts = timeout(ABORTS_WITHIN, sender.uploader.aborts_settled()).await;
    aborting.abort();
    if aborts.is_err() {
        job.operator
            .tell("some uploads that were given up are not aborted yet: run again");
    }
    let (deletes, mut failed) = sent?;
    failed |= counts.failed.names > 0;
    let mut walking = Walking::begin(&sender.tree, job.walk_settings());
    let mut unplaced = None;
    if let (Some(path), false) = (&settings.manifest, failed) {
        let written = manifest::write(&mut walking, &sender.tree, &beside, path).await;
        match written.with_context(|| format!("--manifest {}", path.display()))? {
            Ok(written) => unplaced = Some(written),
            Err(why) => job.operator.tell(&why),
        }
    }
    let has_changed = walking.digest().await? != walked;
    failed |= !placed(job, settings, unplaced.filter(|_| !has_changed))?;
    if has_changed {
        let why = "the directory changed while it was sent: run again to send what is new";
        job.operator.tell(why);
    }
    let is_kept = !failed && !has_changed && counts.unseen > 0 && deletes.len() > 0;
    let keeps = if failed {
        Some("something was not sent")
    } else if has_changed {
        Some("the directory changed meanwhile")
    } else {
        (counts.unseen > 0).then_some("some of the directory could not be looked at")
    };
    failed |= transfers.remove(deletes, keeps, report).await?;
    match failed || has_changed {
        true => Ok(Outcome::SomeFailed),
        // Another run would keep them too.
        false if is_kept => Ok(Outcome::Differences),
        false => Ok(outcome_of(report)),
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
            job.operator.tell(
                "no manifest is written, since the run did not bring everything over: run again",
            );
            Ok(false)
        }
    }
}

struct Transfers<'a> {
    job: &'a Job<'a>,
    sender: &'a Arc<Sender>,
    /// Files that no mount would show.
    beside: &'a BTreeSet<String>,
}

impl Transfers<'_> {
    /// Sends. Returns what is to be deleted, and whether something failed. Errors: the disk's.
    async fn send(
        &self,
        actions: Spill<Action>,
        report: &mut Report,
    ) -> anyhow::Result<(Spill<Object>, bool)> {
        let mut tried = BTreeSet::new();
        let mut failed = false;
        let mut kept = Spill::new(&self.job.scratch()?, "deletes")?;
        {
            let lines = stream::iter(actions.read()?).map(|action| async move {
                let action = action?;
                let line = self.one(&action).await;
                std::io::Result::Ok((action, line))
            });
            let mut lines = std::pin::pin!(lines.buffer_unordered(FILES_AT_ONCE));
            while let Some(next) = lines.next().await {
                match next? {
                    (Action::DeleteObject(object), _) => kept.push(&object)?,
                    (action, Some(line)) => {
                        failed |= line.is_error();
                        let begun = || self.sender.checkpoint.begun(action.path());
                        if line.is_error() && begun().is_some() {
                            tried.insert(action.path().to_owned());
                        }
                        report.line(&line)?;
                    }
                    (_, None) => {}
                }
            }
        }
        if let Err(why) = self.sender.end_others(&tried).await {
            let text = format!("an unfinished upload of an earlier run is not aborted: {why}");
            self.job.operator.tell(&text);
            failed = true;
        }
        Ok((kept, failed))
    }

    /// Deletes, unless something `keeps` it from that. Returns whether something could not
    /// be deleted. Errors: the disk's.
    async fn remove(
        &self,
        objects: Spill<Object>,
        keeps: Option<&str>,
        report: &mut Report,
    ) -> anyhow::Result<bool> {
        let (mut deletes, mut failed) = (Vec::new(), false);
        for object in objects.read()? {
            let object: Object = object?;
            if let Some(why) = keeps {
                let line = Line::new(Symbol::OnlyThere, &object.path, object.size_bytes);
                report.line(&line.because(format!("not deleted, since {why}")))?;
                continue;
            }
            deletes.push(object);
            if deletes.len() == BATCH_LIMIT {
                failed |= self.delete(std::mem::take(&mut deletes), report).await?;
            }
        }
        failed |= self.delete(deletes, report).await?;
        Ok(failed)
    }

    async fn one(&self, action: &Action) -> Option<Line> {
        if self.beside.contains(action.path()) {
            return None;
        }
        match action {
            _ if self.sender.is_silent() && !action.is_delete() => {
                Some(Line::error(action.path(), NOT_TRIED))
            }
            Action::Send {
                path,
                etag,
                size_bytes: _,
            } => {
                let line = self.sender.send(path, etag.as_deref()).await;
                self.job.operator.moved(1, 0);
                Some(line)
            }
            Action::Mark { path } => Some(self.sender.mark(path).await),
            Action::DeleteObject(_)
            | Action::Fetch { .. }
            | Action::MakeDirectory { .. }
            | Action::RemoveUnfinished { .. }
            | Action::DeleteFile { .. } => None,
        }
    }

    /// Returns whether something failed.
    async fn delete(&self, objects: Vec<Object>, report: &mut Report) -> anyhow::Result<bool> {
        if objects.is_empty() {
            return Ok(false);
        }
        let mut failed = false;
        for line in self.sender.delete(objects).await {
            failed |= line.is_error();
            report.line(&line)?;
        }
        Ok(failed)
    }
}
