//! Files and objects that only their bytes can tell apart.

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};

use super::entry::{Object, Stat};
use super::judge::{COMPARED_AT_ONCE, Judge, Verdict};
use super::object_types::{ObjectTypes, Typed, looked_at};
use super::operator::Operator;
use super::spill::Spill;

/// A file and an object. Only their bytes may tell whether they are equal.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unproved {
    pub path: String,
    pub stat: Stat,
    pub object: Object,
}

/// All of a plan.
#[derive(Debug)]
pub struct UnprovedPairs {
    pairs: Spill<Unproved>,
    bytes: u64,
}

impl UnprovedPairs {
    pub fn new(scratch: &Path) -> io::Result<Self> {
        Ok(Self {
            pairs: Spill::new(scratch, "unproved")?,
            bytes: 0,
        })
    }

    pub fn push(&mut self, pair: &Unproved) -> io::Result<()> {
        self.bytes += pair.stat.size_bytes;
        self.pairs.push(pair)
    }

    /// Reads what S3 has no checksum of, and says how each pair compares, in their order.
    ///
    /// Errors: the disk's; those of `judged`.
    pub async fn read(
        self,
        judge: &Arc<Judge>,
        types: Option<&ObjectTypes>,
        operator: &Arc<dyn Operator>,
        mut judged: impl FnMut(Unproved, Verdict, Option<Typed>) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.pairs.len() == 0 {
            return Ok(());
        }
        operator.tell(&format!(
            "{} objects have no usable checksum: reading {} to compare",
            self.pairs.len(),
            bytesize::ByteSize(self.bytes)
        ));
        let read = stream::iter(self.pairs.read()?).map(|entry| async move {
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
            judged(entry, verdict, typed)?;
        }
        Ok(())
    }
}
