//! Compares a directory with a bucket, and changes nothing but Content-Types.

use std::sync::Arc;
use std::time::Instant;

use super::connect::connect;
use super::guards;
use super::job::Job;
use super::judge::Judge;
use super::local_file::Tree;
use super::merge::{Merge, Walking};
use super::object_types::{ObjectTypes, Wrong};
use super::outcome::outcome_of_all;
use super::plan::plan;
use super::plan_counts::{Extra, Sides, Work};
use super::report::Report;
use super::run::{Summary, run};
use super::throttle::Throttle;
use crate::files::ContentTypes;

#[derive(Debug, Clone)]
pub struct VerifySettings {
    pub sides: Sides,
    /// Whether Content-Types are looked at, which takes one request for each object.
    pub types: Option<Wrong>,
}

/// None where a signal ended it. Errors: what keeps it from comparing.
pub fn verify(
    job: Job<'_>,
    settings: &VerifySettings,
    mut report: Report,
) -> anyhow::Result<Option<Summary>> {
    run(async move {
        let began = Instant::now();
        let root = guards::source(&job)?;
        guards::not_itself(&job)?;
        let bucket = connect(job.config).await?;
        let scratch = job.scratch()?;
        let listing = job.listing(&bucket, &scratch).await?;
        let tree = Tree {
            root: Arc::new(root),
            symlinks: job.symlinks,
        };
        let walking = Walking::begin(&tree, job.walk_settings());
        let store = bucket.store.clone();
        let work = Work::Verify(settings.sides);
        let judge_settings = job.judge(work, Arc::new(Throttle::new(None)));
        let judge = Arc::new(Judge::new(store, tree, judge_settings, None));
        let merge = Merge::new(walking, listing).await?;
        let types = settings.types.map(|wrong| content_types(&job, wrong));
        let plan_settings = job.plan(work, Extra::Keep, types.transpose()?, &scratch);
        let planned = plan(merge, &judge, &plan_settings, &mut report).await?;
        let counts = &planned.counts;
        guards::not_nothing(&job, counts.source + counts.target)?;
        let outcome = outcome_of_all(&report);
        Ok(job.summary("verify", outcome, &mut report, &bucket, began)?)
    })
}

fn content_types(job: &Job<'_>, wrong: Wrong) -> anyhow::Result<ObjectTypes> {
    Ok(ObjectTypes {
        types: types_of(job)?,
        wrong,
    })
}

/// Errors: the file of the operator's own types.
pub fn types_of(job: &Job<'_>) -> anyhow::Result<ContentTypes> {
    let Some(path) = &job.config.mime else {
        return Ok(ContentTypes::default());
    };
    let types = ContentTypes::read(path);
    types.map_err(|why| anyhow::anyhow!("--mime {}: {why}", path.display()))
}
