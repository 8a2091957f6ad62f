//! Makes one bucket like another: planned, approved, copied or sent, and compared.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::action::Action;
use super::connect::{Bucket, connect, connect_copying};
use super::guards;
use super::judge::Comparison;
use super::move_plan::{MovePlanSettings, plan_move};
use super::mover::Mover;
use super::moving::{Approval, MoveSettings, approval, begin};
use super::object_judge::ObjectJudge;
use super::odd_policy::OddPolicies;
use super::operator::{Asking, Operator};
use super::outbox::Outbox;
use super::outcome::Outcome;
use super::places::ObjectPlace;
use super::plan::Plan;
use super::report::{Line, Report};
use super::run::{Summary, checkpoint, listing, requests_of, run, scratch};
use super::selection::Selection;
use super::throttle::Throttle;
use super::transfers::Transfers;
use crate::config::Config;
use crate::store::COPY_LIMIT_BYTES;
use crate::store::s3::inspect;

/// A move of objects from one bucket to another, or within one.
#[derive(Clone, Copy)]
pub struct MoveJob<'a> {
    pub source: &'a Config,
    pub target: &'a Config,
    pub selection: &'a Selection,
    pub odd: OddPolicies,
    pub comparison: Comparison,
    pub allow_empty: bool,
    pub operator: &'a Arc<dyn Operator>,
}

impl std::fmt::Debug for MoveJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MoveJob").field(&self.source()).finish()
    }
}

impl MoveJob<'_> {
    fn source(&self) -> String {
        format!("s3://{}/{}", self.source.bucket, self.source.prefix)
    }

    fn asking(&self) -> Asking<'_> {
        Asking {
            operator: self.operator,
            allow_empty: self.allow_empty,
            comparison: self.comparison,
        }
    }

    /// One for each pair of places.
    fn scratch(&self, source: &Bucket, target: &Bucket) -> anyhow::Result<PathBuf> {
        let endpoints = [source, target].map(|bucket| bucket.s3.endpoint().to_string());
        let [of_source, of_target] = &endpoints;
        let places = [
            of_source.as_str(),
            &self.source.bucket,
            &self.source.prefix,
            of_target,
            &self.target.bucket,
            &self.target.prefix,
        ];
        scratch(self.target.state_dir(), places.map(str::as_bytes))
    }
}

/// None where a signal ended it. Errors: what keeps it from moving anything.
pub fn move_objects(
    job: MoveJob<'_>,
    settings: &MoveSettings,
    mut report: Report,
) -> anyhow::Result<Option<Summary>> {
    run(async move {
        let began = Instant::now();
        let source = connect(job.source).await?;
        let target = connect_copying(job.target, &job.source.bucket).await?;
        guards::not_the_same((job.source, &source), (job.target, &target))?;
        let scratch = job.scratch(&source, &target)?;
        let checkpoint = checkpoint(&scratch)?;
        let (listed_source, listed_target) = tokio::try_join!(
            listing(job.source, &source, &scratch),
            listing(job.target, &target, &scratch)
        )?;
        let throttle = Arc::new(Throttle::new(settings.bandwidth));
        let place = |bucket: &Bucket, config: &Config| ObjectPlace {
            store: bucket.store.clone(),
            prefix: config.prefix.clone(),
        };
        let judge = Arc::new(ObjectJudge::new(
            (place(&source, job.source), place(&target, job.target)),
            job.comparison,
            job.target.attributes.mode,
            throttle.clone(),
            checkpoint.clone(),
        ));
        let plan_settings = MovePlanSettings {
            extra: settings.extra,
            odd: job.odd,
            selection: job.selection,
            scratch: &scratch,
            operator: job.operator,
        };
        let listings = (listed_source, listed_target);
        let planned = plan_move(listings, &judge, &plan_settings, &mut report).await?;
        let outcome = match approval(&job.asking(), settings, planned, &mut report).await? {
            Approval::Ended(outcome) => outcome,
            Approval::Approved(planned) => {
                let (config, operator) = (job.target, job.operator);
                let outbox = Outbox::new(config, &target, &checkpoint, throttle, operator)?;
                let copies = copies_itself((job.source, &source), (config, &target)).await;
                let limit = config.copy_part_size_bytes.min(COPY_LIMIT_BYTES);
                let mover = Mover::new(Arc::new(outbox), judge, limit, copies);
                act(*planned, &mover, &scratch, &mut report).await?
            }
        };
        checkpoint.flush();
        let summary = Summary {
            source: Some(job.source()),
            ..Summary::new("move", outcome, job.target, &report, began)
        };
        let summary = summary.with_requests(requests_of(&[&source, &target]));
        report.end(&summary)?;
        Ok(summary)
    })
}

/// Whether the store can be asked to copy from one bucket to the other: one service, and
/// one set of credentials and of terms for both.
async fn copies_itself(
    (from, source): (&Config, &Bucket),
    (to, target): (&Config, &Bucket),
) -> bool {
    let (from, to) = (&from.s3.requests, &to.s3.requests);
    let has_own_key = from.sse_customer_key_file.is_some() || to.sse_customer_key_file.is_some();
    let is_one_owner = from.expected_bucket_owner == to.expected_bucket_owner;
    if has_own_key || !is_one_owner || source.s3.endpoint() != target.s3.endpoint() {
        return false;
    }
    let (source, target) = tokio::join!(
        inspect::credentials(&source.s3),
        inspect::credentials(&target.s3)
    );
    source.is_ok() && source == target
}

/// Does what is planned.
async fn act(
    planned: Plan,
    mover: &Mover,
    scratch: &Path,
    report: &mut Report,
) -> anyhow::Result<Outcome> {
    let Plan {
        actions,
        obstacles,
        counts,
        ..
    } = planned;
    begin(&mover.outbox.operator, &counts);
    let transfers = Transfers {
        outbox: &mover.outbox,
        scratch,
        has_unseen: counts.unseen > 0,
    };
    let one = async |action: &Action| one(mover, action).await;
    let (deletes, mut failures) = transfers.send(actions, obstacles, one, report).await?;
    failures.add_if(counts.failed.names > 0);
    let is_kept = counts.unseen > 0 && deletes.len() > 0;
    let keeps = match failures.any() {
        true => Some("something was not copied"),
        false => is_kept.then_some("some listed keys cannot be read"),
    };
    transfers
        .remove(deletes, keeps, report, &mut failures)
        .await?;
    match failures.outcome(&mover.outbox.operator, report) {
        // Another run would keep them too.
        Outcome::Equal if is_kept => Ok(Outcome::Differences),
        outcome => Ok(outcome),
    }
}

async fn one(mover: &Mover, action: &Action) -> Option<Line> {
    let Action::Copy { object, etag } = action else {
        return None;
    };
    let line = mover.bring(object, etag.as_deref()).await;
    mover.outbox.operator.moved(1, 0);
    Some(line)
}
