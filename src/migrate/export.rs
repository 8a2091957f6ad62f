//! Makes a directory like a bucket: planned, approved, fetched, proved.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use rustix::fs::FlockOperation;

use super::connect::connect;
use super::directories::{give, own};
use super::export_run::ExportRun;
use super::failures::Failures;
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
use super::report::Report;
use super::run::{Summary, checkpoint, run};
use super::target_tree::{Ownership, TargetTree};
use super::throttle::Throttle;
use super::walk::{Symlinks, open_root};

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
            let why = "another export to this directory is running: wait for its end";
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
        guards::has_nothing_else(&job, &planned, &report)?;
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
        obstacles,
        beside,
        directories,
        counts,
        ..
    } = planned;
    begin(job.operator, &counts);
    let mut bringing = ExportRun {
        fetcher,
        scratch,
        report,
        failures: Failures::default(),
        beside,
        has_unseen: counts.unseen > 0,
    };
    bringing.failures.add_if(counts.failed.names > 0);
    let owned = own(&mut bringing, directories).await?;
    let brought = bringing.all(actions, obstacles).await;
    job.operator.ends();
    let deletes = brought?;
    let is_kept = counts.unseen > 0 && deletes.len() > 0;
    let keeps = if bringing.failures.any() {
        Some("something was not fetched")
    } else {
        is_kept.then_some("some listed keys cannot be read")
    };
    bringing.remove(deletes, keeps).await?;
    give(&mut bringing, owned).await?;
    let failures = bringing.failures;
    let tree = fetcher.tree.clone();
    let synced = blocking(move || tree.sync()).await;
    synced.context("the disk did not take what was fetched")?;
    match failures.outcome(job.operator, report) {
        // Another run would keep them too.
        Outcome::Equal if is_kept => Ok(Outcome::Differences),
        outcome => Ok(outcome),
    }
}
