//! Files and objects that only their bytes can tell apart.

use std::io;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};

use super::entry::{Object, Stat};
use super::judge::{Judge, Verdict};
use super::object_types::looked_at;
use super::plan::{COMPARED_AT_ONCE, Planner};
use super::spill::Spill;

/// A file and an object. Only their bytes may tell whether they are equal.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unproved {
    pub path: String,
    pub stat: Stat,
    pub object: Object,
}

impl Planner<'_> {
    /// Reads what S3 has no checksum of.
    pub(super) async fn read(&mut self, judge: &Arc<Judge>) -> io::Result<()> {
        let fresh = Spill::new(self.settings.scratch, "unproved")?;
        let unproved = std::mem::replace(&mut self.unproved, fresh);
        if unproved.len() == 0 {
            return Ok(());
        }
        self.settings.operator.tell(&format!(
            "{} objects have no checksum that says anything of their bytes: reading {} to compare",
            unproved.len(),
            bytesize::ByteSize(self.unproved_bytes)
        ));
        let types = self.settings.types.as_ref();
        let read = stream::iter(unproved.read()?).map(|entry| async move {
            let entry: Unproved = entry?;
            let verdict = judge.read(&entry.path, &entry.object).await;
            let typed = looked_at(judge, types, (&entry.stat, &entry.object), &verdict).await;
            io::Result::Ok((entry, verdict, typed))
        });
        let mut read = std::pin::pin!(read.buffered(COMPARED_AT_ONCE));
        while let Some(next) = read.next().await {
            let (entry, verdict, typed) = next?;
            let verdict = match verdict {
                Verdict::Unproved => Verdict::Failed("it cannot be compared".to_owned()),
                told => told,
            };
            self.judged(entry, verdict, typed)?;
        }
        Ok(())
    }
}
