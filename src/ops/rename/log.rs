//! Begin and end of a rename in the journal.

use std::io;
use std::sync::Arc;

use crate::error::FsError;
use crate::files::{Durability, StageFactory};
use crate::journal::{Durable, RenameIntent};
use crate::store::Key;

/// Whether the journal has the end of a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Yes,
    /// A successor may take it for unfinished.
    Unknown,
}

/// What the journal knows of renames.
#[derive(Debug)]
pub struct RenameLog {
    pub stage_factory: Arc<StageFactory>,
    pub durability: Durability,
}

impl RenameLog {
    /// Notes a rename of what the store has before its first step.
    pub async fn begin_rename(&self, intent: RenameIntent) -> Result<(), FsError> {
        let (stage_factory, durable) = (self.stage_factory.clone(), self.durability.durable());
        if durable == Durable::No {
            return Ok(stage_factory.spool.begin_rename(intent, durable)?);
        }
        let noted =
            tokio::task::spawn_blocking(move || stage_factory.spool.begin_rename(intent, durable));
        Ok(noted.await.map_err(io::Error::other)??)
    }

    /// A rename is finished, or given up. In what a loss of power leaves of the
    /// journal it does not end before what it dooms is known: else both names stay.
    pub async fn end_rename(&self, from: &Key) -> Ended {
        if self.durability == Durability::Disk
            && let Err(error) = self.stage_factory.spool.sync().await
        {
            tracing::warn!(%error, "the next mount looks whether a rename is finished");
            return Ended::Unknown;
        }
        match self.stage_factory.spool.end_rename(from) {
            Ok(()) => Ended::Yes,
            Err(error) => {
                tracing::warn!(%error, "the next mount looks whether a rename is finished");
                Ended::Unknown
            }
        }
    }
}
