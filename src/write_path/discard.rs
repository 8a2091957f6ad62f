//! What an operator removes from a spool.

use std::fs;

use super::inspect::{Entry, EntryState};
use super::spool::Spool;
use super::spool_error::SpoolError;
use crate::journal::SealedBase;
use crate::vocabulary::StageId;

/// Removes an entry for good.
///
/// Errors: `InUse`, for what waits while a daemon may be uploading it; `Needed`.
pub fn discard_entry(entry: &Entry) -> Result<(), SpoolError> {
    match entry.state {
        EntryState::Kept => {
            // The bytes first: a sidecar without bytes is passed over.
            fs::remove_file(&entry.path)
                .and_then(|()| fs::remove_file(entry.path.with_extension("json")))
                .map_err(|source| SpoolError::Io {
                    path: entry.spool.clone(),
                    source,
                })
        }
        EntryState::Waiting | EntryState::Writing => {
            let (spool, recovered) = Spool::open(&entry.spool, u64::MAX)?;
            let is_it = |id: StageId| id.to_string() == entry.id;
            let needs_it = |base: &SealedBase| matches!(base, SealedBase::Stage(id) if is_it(*id));
            if let Some(needing) = recovered.iter().find(|it| needs_it(&it.sealed.base)) {
                return Err(SpoolError::Needed {
                    id: entry.id.clone(),
                    by: needing.sealed.stage.to_string(),
                });
            }
            if let Some(it) = recovered.iter().find(|it| is_it(it.sealed.stage)) {
                spool.discard(&it.file);
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::SealRecord;
    use crate::record_log::Durable;
    use crate::store::{Key, ObjectHeaders, WriteCondition};
    use crate::write_path::SpoolView;

    fn seal(spool: &Spool, key: &str, base: SealedBase) -> StageId {
        let stage = spool.create(Some(&Key::new(key))).unwrap();
        stage.write(0, b"bytes").unwrap();
        let sealed = SealRecord {
            stage: stage.id(),
            key: Key::new(key),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::Always,
            known: WriteCondition::Always,
            len: 5,
            base_len: 0,
            written: std::iter::once(0..5).collect(),
            sums: stage.sums(),
            completing: None,
            attempted: Vec::new(),
            base,
        };
        spool.seal(&stage, sealed, Durable::No).unwrap();
        stage.id()
    }

    #[test]
    fn what_waits_is_discarded_only_without_a_daemon_and_when_nothing_builds_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), u64::MAX).unwrap();
        let first = seal(&spool, "k", SealedBase::Empty);
        seal(&spool, "k", SealedBase::Stage(first));
        let view = SpoolView::at(dir.path()).unwrap();
        let entries = view.entries().unwrap();
        assert_eq!(entries.len(), 2);
        assert!(entries[0].whole && !entries[1].whole);

        let error = discard_entry(&entries[0]).unwrap_err();
        assert!(matches!(error, SpoolError::InUse { .. }), "{error}");
        drop(spool);
        let error = discard_entry(&entries[0]).unwrap_err();
        assert!(matches!(error, SpoolError::Needed { .. }), "{error}");
        discard_entry(&entries[1]).unwrap();
        discard_entry(&entries[0]).unwrap();
        assert!(view.entries().unwrap().is_empty());
    }
}
