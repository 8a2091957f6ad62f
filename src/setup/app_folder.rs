//! The folder that authentik wants to find in the bucket.

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;

use super::bucket::{Bucket, is_missing};
use super::plan::{Found, Task};
use crate::session::AppFolder;

#[derive(Debug)]
pub struct MakeAppFolder {
    pub bucket: Arc<Bucket>,
    pub folder: AppFolder,
}

#[async_trait(?Send)]
impl Task for MakeAppFolder {
    fn name(&self) -> &'static str {
        "folder"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        let marker = self.folder.marker();
        Ok(match self.folder.is_there(&*self.bucket.store).await {
            Ok(true) => Found::Done(format!("{marker} is there")),
            Ok(false) => Found::ToDo(format!("make {marker}, which authentik 2025.12 asks for")),
            // It is made first.
            Err(error) if is_missing(&error) => Found::ToDo(format!("make {marker}")),
            Err(error) => return Err(error.into()),
        })
    }

    async fn change(&self) -> anyhow::Result<()> {
        let made = self.folder.make(&*self.bucket.store).await;
        made.with_context(|| format!("{} cannot be made", self.folder.marker()))
    }
}
