//! The changes of a bucket that a plan has: all that is sent first, then what is deleted.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use super::action::Action;
use super::delete_objects::BATCH_LIMIT;
use super::entry::Object;
use super::failures::Failures;
use super::outbox::Outbox;
use super::report::{Line, Report, Symbol};
use super::spill::Spill;

/// Objects that are on their way at once.
const AT_ONCE: usize = 16;

pub struct Transfers<'a> {
    pub outbox: &'a Arc<Outbox>,
    pub scratch: &'a Path,
}

impl Transfers<'_> {
    /// Carries out every action but deletes, by `one`. Returns what is to be deleted, and
    /// what failed. Errors: the disk's.
    pub async fn send(
        &self,
        actions: Spill<Action>,
        one: impl AsyncFn(&Action) -> Option<Line>,
        report: &mut Report,
    ) -> anyhow::Result<(Spill<Object>, Failures)> {
        let aborting = self.outbox.aborts_given_up();
        let sent = self.send_all(actions, one, report).await;
        self.outbox.operator.ends();
        self.outbox.settles(aborting).await;
        sent
    }

    async fn send_all(
        &self,
        actions: Spill<Action>,
        one: impl AsyncFn(&Action) -> Option<Line>,
        report: &mut Report,
    ) -> anyhow::Result<(Spill<Object>, Failures)> {
        let mut tried = BTreeSet::new();
        let mut failures = Failures::default();
        let mut kept = Spill::new(self.scratch, "deletes")?;
        {
            let one = &one;
            let lines = stream::iter(actions.read()?).map(|action| async move {
                let action = action?;
                let line = one(&action).await;
                std::io::Result::Ok((action, line))
            });
            let mut lines = std::pin::pin!(lines.buffer_unordered(AT_ONCE));
            while let Some(next) = lines.next().await {
                match next? {
                    (Action::DeleteObject(object), _) => kept.push(&object)?,
                    (action, Some(line)) => {
                        failures.add(&line);
                        let begun = || self.outbox.checkpoint.begun(action.path());
                        if line.is_error() && begun().is_some() {
                            tried.insert(action.path().to_owned());
                        }
                        report.line(&line)?;
                    }
                    (_, None) => {}
                }
            }
        }
        if let Err(why) = self.outbox.end_others(&tried).await {
            let text = format!("an unfinished upload of an earlier run is not aborted: {why}");
            self.outbox.operator.tell(&text);
            failures.add_if(true);
        }
        Ok((kept, failures))
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
