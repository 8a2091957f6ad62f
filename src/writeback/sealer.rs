//! Fixes the bytes of a stage for its upload, and tells the journal.

use std::io;
use std::sync::Arc;

use tokio::sync::MutexGuard;
use tokio::task::spawn_blocking;

use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::files::{
    AttributeView, Durability, OpenFile, SealedStage, Sealing, StageFactory, long_files,
};
use crate::journal::{SealRecord, SealedHeaders};
use crate::namespace::{Name, Namespace};
use crate::record_log::Durable;
use crate::store::ObjectHeaders;
use crate::task::caught_now;
use crate::vocabulary::{Ino, StageId};

/// Fixes the bytes of stages for their upload, and tells the journal.
#[derive(Debug)]
pub struct Sealer {
    pub namespace: Arc<Namespace>,
    pub attributes: Arc<AttributeView>,
    pub stage_factory: Arc<StageFactory>,
    pub durability: Durability,
}

impl Sealer {
    /// Seals what was written and tells the journal.
    pub async fn seal(&self, file: &Arc<OpenFile>) -> Result<(), FsError> {
        let _guard = file.seal_lock.lock().await;
        match file.seal()? {
            Some(Sealing::Whole { sealed, superseded }) => {
                self.journal_or_revert(file, &sealed, superseded).await?;
            }
            Some(Sealing::Absorbed { sealed, below }) => {
                self.absorb(file, &sealed, &below).await?;
            }
            None => {}
        }
        if self.durability == Durability::Disk && !long_files::has_sealed_offloaded(file) {
            file.made_safe();
        }
        Ok(())
    }

    async fn journal_or_revert(
        &self,
        file: &Arc<OpenFile>,
        sealed: &Arc<SealedStage>,
        superseded: Option<Arc<SealedStage>>,
    ) -> Result<(), FsError> {
        match (self.journal_seal(file, sealed).await, self.durability) {
            (Ok(()), _) => {}
            // Nobody is told that the spool has it.
            (Err(error), Durability::S3) => {
                tracing::warn!(%error, "journal write failed: after a crash this upload is not resumed");
            }
            (Err(error), Durability::Disk) => {
                file.revert_seal(&error);
                return Err(error);
            }
        }
        if let Some(superseded) = superseded {
            let left = caught_now("seal", || failpoint::at(Point::SealSupersededLeft));
            self.stage_factory.spool.discard(superseded.stage.file());
            left?;
        }
        Ok(())
    }

    /// Has the sealed stage below take over the bytes of a shorter one. To be called
    /// with the file's `seal_lock`.
    ///
    /// Errors: the spool's; what is sealed has failed then.
    async fn absorb(
        &self,
        file: &OpenFile,
        sealed: &Arc<SealedStage>,
        below: &Arc<SealedStage>,
    ) -> Result<(), FsError> {
        let Some((_, name)) = self.namespace.table().place(file.inode.ino) else {
            return Ok(());
        };
        let headers = self.headers_of(file, below, &name);
        if let Ok(headers) = &headers {
            sealed.sent.replace_recorded(headers);
        }
        let (stage_factory, into, from) =
            (self.stage_factory.clone(), below.clone(), sealed.clone());
        let absorbing = move || {
            let conditions = (from.condition.clone(), from.known.clone());
            let absorbed = from.stage.as_absorbed(&into.stage, headers?, conditions)?;
            into.stage
                .with_absorbed(&from.stage, absorbed, &stage_factory.spool)
        };
        let whole = spawn_blocking(absorbing).await;
        let whole = whole.map_err(|error| io::Error::other(error).into());
        match whole.flatten() {
            Ok(whole) => {
                if file.absorbed(sealed, whole) {
                    self.stage_factory.spool.discard(sealed.stage.file());
                }
                Ok(())
            }
            Err(error) => {
                file.revert_seal(&error);
                Err(error)
            }
        }
    }

    /// Tells the journal what is to be stored with a file's sealed stages by now.
    ///
    /// Errors: the journal's; `NoSpace` when it does not fit the object's metadata.
    pub async fn journal_attributes(&self, file: &OpenFile) -> Result<(), FsError> {
        let _guard = file.seal_lock.lock().await;
        let spool = self.stage_factory.clone();
        let set = self.sealed_headers(file)?;
        match self.durability {
            // Nobody is told that the spool has it.
            Durability::S3 => {
                if let Err(error) = set_headers(&spool, set, Durable::No) {
                    tracing::warn!(%error, "journal write failed: a crash before the upload loses attributes that were set since the close");
                }
            }
            Durability::Disk => {
                let synced = spawn_blocking(move || set_headers(&spool, set, Durable::Yes));
                synced.await.map_err(io::Error::other)??;
            }
        }
        Ok(())
    }

    /// Of each sealed stage, from the lowest one up.
    fn sealed_headers(&self, file: &OpenFile) -> Result<Vec<(StageId, SealedHeaders)>, FsError> {
        let Some((_, name)) = self.namespace.table().place(file.inode.ino) else {
            return Ok(Vec::new());
        };
        let sealed = file.sealed_stages();
        let headers = sealed.iter().map(|sealed| {
            let headers = self.headers_of(file, sealed, &name)?;
            let attempted = sealed.sent.replace_recorded(&headers);
            let set = SealedHeaders { headers, attempted };
            Ok((sealed.stage.file().id(), set))
        });
        headers.collect()
    }

    fn headers_of(
        &self,
        file: &OpenFile,
        sealed: &SealedStage,
        name: &Name,
    ) -> Result<ObjectHeaders, FsError> {
        self.attributes
            .upload_headers(&file.inode, name, &sealed.base, None)
    }

    /// Tells the journal of a sealed stage.
    pub async fn journal_seal(&self, file: &OpenFile, sealed: &SealedStage) -> Result<(), FsError> {
        match self.namespace.table().place(file.inode.ino) {
            Some((dir, name)) => self.journal_seal_at(file, sealed, dir, &name).await,
            None => Ok(()),
        }
    }

    async fn journal_seal_at(
        &self,
        file: &OpenFile,
        sealed: &SealedStage,
        dir: Ino,
        name: &Name,
    ) -> Result<(), FsError> {
        let record = self.record_of(file, sealed, dir, name)?;
        let (stages, stage) = (self.stage_factory.clone(), sealed.stage.file().clone());
        match self.durability {
            Durability::S3 => stages.spool.seal(&stage, record, Durable::No)?,
            Durability::Disk => {
                let synced =
                    spawn_blocking(move || stages.spool.seal(&stage, record, Durable::Yes));
                synced.await.map_err(io::Error::other)??;
            }
        }
        Ok(())
    }

    fn record_of(
        &self,
        file: &OpenFile,
        sealed: &SealedStage,
        dir: Ino,
        name: &Name,
    ) -> Result<SealRecord, FsError> {
        let headers = self.headers_of(file, sealed, name)?;
        Ok(SealRecord {
            stage: sealed.stage.file().id(),
            key: self.namespace.child_key(dir, name)?,
            attempted: sealed.sent.replace_recorded(&headers),
            headers,
            condition: sealed.condition.clone(),
            known: sealed.known.clone(),
            len: sealed.stage.len(),
            base_len: sealed.stage.base_len(),
            written: sealed.stage.written(),
            sums: sealed.stage.file().sums(),
            completing: sealed.sent.as_version(),
            base: sealed.base.as_sealed(),
        })
    }

    /// The journal has what was sealed over a stage as over its object, and then the
    /// stage no more. To be called with `seal_lock`.
    pub async fn discard_stored(
        &self,
        file: &OpenFile,
        stored: &SealedStage,
        over: Option<Arc<SealedStage>>,
    ) {
        let stored = stored.stage.file();
        if let Some(over) = over
            && let Err(error) = self.journal_seal(file, &over).await
        {
            tracing::warn!(ino = file.inode.ino.0, %error, "journal write failed: a crash before the next upload of the file repeats the one before");
            over.stage.file().keep_below(stored.clone());
            return;
        }
        failpoint::at(Point::PublishUploaded);
        self.stage_factory.spool.discard(stored);
    }

    /// Tells the journal that a file's sealed stages have another place and base.
    ///
    /// Nothing more is sealed while the guard that it returns is held: who moves the
    /// file holds it until the inode has its new place too.
    pub async fn journal_seal_again<'a>(
        &self,
        file: &'a OpenFile,
        dir: Ino,
        name: &Name,
    ) -> MutexGuard<'a, ()> {
        let guard = file.seal_lock.lock().await;
        for sealed in file.sealed_stages() {
            if let Err(error) = self.journal_seal_at(file, &sealed, dir, name).await {
                tracing::error!(ino = file.inode.ino.0, %error, "journal write failed: after a crash these bytes go to their old key");
            }
        }
        guard
    }
}

fn set_headers(
    stages: &StageFactory,
    set: Vec<(StageId, SealedHeaders)>,
    durable: Durable,
) -> io::Result<()> {
    let mut set = set.into_iter();
    set.try_for_each(|(stage, headers)| stages.spool.set_headers(stage, headers, durable))
}
