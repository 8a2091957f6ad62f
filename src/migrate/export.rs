//! Makes a directory like a bucket: planned, approved, fetched, proved.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use futures::stream::{self, StreamExt};
use rustix::fs::FlockOperation;

use super::action::Action;
use super::connect::connect;
use super::entry::Stat;
use super::failures::{Failures, NotMoved};
use super::fetch::Fetcher;
use super::guards;
use super::job::Job;
use super::judge::Judge;
use super::local_file::{Tree, blocking};
use super::merge::{Merge, Walking};
use super::moving::{Approval, MoveSettings, approval, begin};
use super::outcome::Outcome;
use super::plan::{Plan, plan};
use super::plan_counts::Work;
use super::report::{Done, Line, Report, Symbol};
use super::run::{Summary, checkpoint, run};
use super::spill::Spill;
use super::target_tree::{Ownership, TargetTree};
use super::throttle::Throttle;
use super::walk::{Symlinks, open_root};

/// Objects that are on their way at once.
const OBJECTS_AT_ONCE: usize = 16;

/// None where a signal ended it. Errors: what keeps it from moving anything.
pub fn export(
    job: Job<'_>,
    settings: &MoveSettings,
    mut report: Report,
) -> anyhow::Result<Option<Summary>> {
    run(async move {
        let began = Instant::now();
        guards::not_itself(&job)?;
        make(job.directory)?;
        let root = Arc::new(guards::source(&job)?);
        // Files on their way have the same names whatever prefix they are of.
        let alone = rustix::fs::flock(&*root, FlockOperation::NonBlockingLockExclusive);
        if alone.is_err_and(|error| io::Error::from(error).kind() == io::ErrorKind::WouldBlock) {
            let why = "another export brings files into this directory: wait for its end";
            return Err(guards::Refused(why.to_owned()).into());
        }
        let bucket = connect(job.config).await?;
        let scratch = job.scratch()?;
        let checkpoint = checkpoint(&scratch)?;
        let listing = job.listing(&bucket, &scratch).await?;
        let tree = Tree {
            root: root.clone(),
            // Nothing is read or written through a symlink of the target.
            symlinks: Symlinks::Name,
        };
        let mut walk_settings = job.walk_settings();
        walk_settings.symlinks = Symlinks::Name;
        let walking = Walking::begin(&tree, walk_settings);
        let known = Some(checkpoint.clone());
        let throttle = Arc::new(Throttle::new(settings.bandwidth));
        let (store, judge_settings) = (
            bucket.store.clone(),
            job.judge(Work::Export, throttle.clone()),
        );
        let judge = Arc::new(Judge::new(store, tree, judge_settings, known));
        let plan_settings = job.plan(Work::Export, settings.extra, None, &scratch);
        let merge = Merge::new(walking, listing).await?;
        let planned = plan(merge, &judge, &plan_settings, &mut report).await?;
        let fetcher = Fetcher::new(
            judge,
            TargetTree::new(root, directories(&job)),
            throttle,
            job.config.attributes,
            (job.symlinks, job.odd),
            job.operator.clone(),
        );
        let outcome = match approval(&job.asking(), settings, planned, &mut report).await? {
            Approval::Ended(outcome) => outcome,
            Approval::Approved(planned) => {
                act(&job, *planned, &fetcher, &scratch, &mut report).await?
            }
        };
        checkpoint.flush();
        Ok(job.summary("export", outcome, &mut report, &bucket, began)?)
    })
}

fn make(directory: &Path) -> anyhow::Result<()> {
    if open_root(directory).is_ok() {
        return Ok(());
    }
    let made = std::fs::create_dir(directory);
    made.with_context(|| format!("cannot make {}", directory.display()))
}

fn directories(job: &Job<'_>) -> Ownership {
    let attributes = job.config.attributes;
    Ownership {
        uid: attributes.uid,
        gid: attributes.gid,
        mode: u32::from(attributes.dir_mode),
        modified: None,
    }
}

async fn act(
    job: &Job<'_>,
    planned: Plan,
    fetcher: &Fetcher,
    scratch: &Path,
    report: &mut Report,
) -> anyhow::Result<Outcome> {
    let Plan {
        actions,
        beside,
        counts,
        ..
    } = planned;
    begin(job.operator, &counts);
    let mut deletes = Spill::new(scratch, "deletes")?;
    let moved = bring(fetcher, actions, &beside, &mut deletes, report).await;
    job.operator.ends();
    let mut failures = moved?;
    failures.add_if(counts.failed.names > 0);
    let is_kept = counts.unseen > 0 && deletes.len() > 0;
    let keeps = if failures.any() {
        Some("something was not fetched")
    } else {
        is_kept.then_some("some of what is listed cannot be told")
    };
    remove(fetcher, deletes, keeps, report, &mut failures).await?;
    let tree = fetcher.tree.clone();
    let synced = blocking(move || tree.sync()).await;
    synced.context("the disk did not take what was fetched")?;
    match failures.outcome(job.operator, report) {
        // Another run would keep them too.
        Outcome::Equal if is_kept => Ok(Outcome::Differences),
        outcome => Ok(outcome),
    }
}

/// Fetches; what is to be deleted is put aside. Returns what failed.
async fn bring(
    fetcher: &Fetcher,
    actions: Spill<Action>,
    beside: &BTreeSet<String>,
    deletes: &mut Spill<(String, Stat)>,
    report: &mut Report,
) -> anyhow::Result<Failures> {
    let mut failures = Failures::default();
    let mut left = Vec::new();
    let lines = stream::iter(actions.read()?).map(|action| async move {
        let action = action?;
        let line = match &action {
            _ if beside.contains(action.path()) => None,
            Action::Fetch { object, replaces } => {
                let line = fetcher.fetch(object, replaces.as_ref()).await;
                fetcher.operator.moved(1, 0);
                Some(line)
            }
            Action::MakeDirectory { path } => fetcher.make_directory(path).await,
            Action::DeleteFile { .. }
            | Action::RemoveUnfinished { .. }
            | Action::Send { .. }
            | Action::Copy { .. }
            | Action::Mark { .. }
            | Action::DeleteObject(_) => None,
        };
        std::io::Result::Ok((action, line))
    });
    let mut lines = std::pin::pin!(lines.buffer_unordered(OBJECTS_AT_ONCE));
    while let Some(next) = lines.next().await {
        let (action, line) = next?;
        match action {
            Action::DeleteFile { path, stat } => deletes.push(&(path, stat))?,
            Action::RemoveUnfinished { path } => left.push(path),
            _ => {}
        }
        if let Some(line) = line {
            failures.add(&line);
            report.line(&line)?;
        }
    }
    // Those of objects that were fetched have taken their places.
    for path in left {
        let (tree, own) = (fetcher.tree.clone(), path.clone());
        match blocking(move || tree.remove(&own, None)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let line = NotMoved::from(error).line(&path);
                failures.add(&line);
                report.line(&line)?;
            }
            _ => {}
        }
    }
    Ok(failures)
}

/// Removes files that the bucket does not have, unless something `keeps` them.
async fn remove(
    fetcher: &Fetcher,
    deletes: Spill<(String, Stat)>,
    keeps: Option<&str>,
    report: &mut Report,
    failures: &mut Failures,
) -> anyhow::Result<()> {
    for delete in deletes.read()? {
        let (path, stat) = delete?;
        let line = Line::new(Symbol::OnlyHere, &path, stat.size_bytes);
        if let Some(why) = keeps {
            report.line(&line.because(format!("not deleted, since {why}")))?;
            continue;
        }
        let (tree, own) = (fetcher.tree.clone(), path.clone());
        let removed = blocking(move || tree.remove(&own, Some(&stat))).await;
        let line = match removed {
            Ok(()) => line.done(Done::Deleted),
            Err(error) => {
                let NotMoved { why, again } = error.into();
                let why = format!("not deleted: {why}");
                NotMoved { why, again }.line(&path)
            }
        };
        failures.add(&line);
        report.line(&line)?;
    }
    Ok(())
}
