//! The changes of a bucket that a plan has: all that is sent first, then what is deleted.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use super::action::Action;
use super::delete_objects::BATCH_LIMIT;
use super::entry::Object;
use super::failures::{Failures, NotMoved};
use super::obstacles::{Obstacles, Ordered};
use super::outbox::Outbox;
use super::report::{Again, Line, Report, Symbol};
use super::spill::Spill;

/// Objects that are on their way at once.
const AT_ONCE: usize = 16;

pub struct Transfers<'a> {
    pub outbox: &'a Arc<Outbox>,
    pub scratch: &'a Path,
    /// Something may be in the source that could not be looked at.
    pub has_unseen: bool,
}

/// What came of those that were sent.
struct Sent {
    /// To be deleted.
    deletes: Spill<Object>,
    failures: Failures,
    /// Uploads that failed, and that the next run resumes.
    tried: BTreeSet<String>,
}

impl Transfers<'_> {
    /// Carries out every action but deletes, by `one`. Returns what is to be deleted, and
    /// what failed. Errors: the disk's.
    pub async fn send(
        &self,
        actions: Spill<Action>,
        obstacles: Obstacles,
        one: impl AsyncFn(&Action) -> Option<Line>,
        report: &mut Report,
    ) -> anyhow::Result<(Spill<Object>, Failures)> {
        let aborting = self.outbox.aborts_given_up();
        let mut sent = Sent {
            deletes: Spill::new(self.scratch, "deletes")?,
            failures: Failures::default(),
            tried: BTreeSet::new(),
        };
        let done = self.send_both(actions, obstacles, one, report, &mut sent);
        let done = done.await;
        if let Err(why) = self.outbox.end_others(&sent.tried).await {
            let text = format!("an unfinished upload of an earlier run is not aborted: {why}");
            self.outbox.operator.tell(&text);
            sent.failures.add_if(true);
        }
        self.outbox.operator.ends();
        self.outbox.settles(aborting).await;
        done?;
        Ok((sent.deletes, sent.failures))
    }

    /// Sends what nothing is in the way of, and then what waits for what is removed.
    async fn send_both(
        &self,
        actions: Spill<Action>,
        obstacles: Obstacles,
        one: impl AsyncFn(&Action) -> Option<Line>,
        report: &mut Report,
        sent: &mut Sent,
    ) -> anyhow::Result<()> {
        let Ordered {
            first,
            removals,
            blocked,
        } = obstacles.ordered(actions, self.scratch)?;
        self.send_all(first, &one, report, sent).await?;
        let keeps = match sent.failures.any() {
            true => Some(("something was not sent", Again::Helps)),
            false if self.has_unseen && removals.len() > 0 => {
                Some(("some of the source could not be looked at", Again::Fails))
            }
            false => None,
        };
        let mut removed = Spill::new(self.scratch, "removed")?;
        for removal in removals.read()? {
            if let Action::DeleteObject(object) = removal? {
                removed.push(&object)?;
            }
        }
        self.remove(removed, keeps.map(|it| it.0), report, &mut sent.failures)
            .await?;
        // Who changed it meanwhile keeps it.
        let is_left = keeps.is_none() && sent.failures.any();
        let keeps = keeps.or(is_left.then_some(("that failed", Again::Helps)));
        let Some((why, again)) = keeps else {
            return self.send_all(blocked, &one, report, sent).await;
        };
        for action in blocked.read()? {
            let why = format!("not sent: what is in its place is not deleted, since {why}");
            let line = NotMoved { why, again }.line(action?.path());
            sent.failures.add(&line);
            report.line(&line)?;
        }
        Ok(())
    }

    async fn send_all(
        &self,
        actions: Spill<Action>,
        one: &impl AsyncFn(&Action) -> Option<Line>,
        report: &mut Report,
        sent: &mut Sent,
    ) -> anyhow::Result<()> {
        let lines = stream::iter(actions.read()?).map(|action| async move {
            let action = action?;
            let line = one(&action).await;
            std::io::Result::Ok((action, line))
        });
        let mut lines = std::pin::pin!(lines.buffer_unordered(AT_ONCE));
        while let Some(next) = lines.next().await {
            match next? {
                (Action::DeleteObject(object), _) => sent.deletes.push(&object)?,
                (action, Some(line)) => {
                    sent.failures.add(&line);
                    let begun = || self.outbox.checkpoint.begun(action.path());
                    if line.is_error() && begun().is_some() {
                        sent.tried.insert(action.path().to_owned());
                    }
                    report.line(&line)?;
                }
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Deletes, unless something `keeps` it from that. Errors: the disk's.
    pub async fn remove(
        &self,
        objects: Spill<Object>,
        keeps: Option<&str>,
        report: &mut Report,
        failures: &mut Failures,
    ) -> anyhow::Result<()> {
        let mut deletes = Vec::new();
        for object in objects.read()? {
            let object: Object = object?;
            if let Some(why) = keeps {
                let line = Line::new(Symbol::OnlyThere, &object.path, object.size_bytes);
                report.line(&line.because(format!("not deleted, since {why}")))?;
                continue;
            }
            deletes.push(object);
            if deletes.len() == BATCH_LIMIT {
                self.delete(std::mem::take(&mut deletes), report, failures)
                    .await?;
            }
        }
        self.delete(deletes, report, failures).await
    }

    async fn delete(
        &self,
        objects: Vec<Object>,
        report: &mut Report,
        failures: &mut Failures,
    ) -> anyhow::Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        for line in self.outbox.delete(objects).await {
            failures.add(&line);
            report.line(&line)?;
        }
        Ok(())
    }
}
