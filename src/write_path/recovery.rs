//! What a predecessor left in a spool: sealed stages are uploaded, stages of
//! files that are still open stay as they are, the rest goes to lost+found.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::lost_found::{LostFile, LostReason};
use super::merge::absorb_again;
use super::spool::{Recovered, RecoveredStage, Spool};
use super::stage::Stage;
use crate::journal::SealRecord;
use crate::record_log::is_full;
use crate::session_state::{SavedFile, SavedStage, SessionState};
use crate::store::Key;
use crate::vocabulary::StageId;

impl Spool {
    /// To be called once, at the start.
    pub(super) fn recover(&self, saved: &SessionState) -> io::Result<Recovered> {
        self.finish_absorbing()?;
        let mut begun = HashMap::new();
        let mut sealed = Vec::new();
        let mut doubtful = HashSet::new();
        for (id, known) in self.journal.known() {
            if known.doubtful {
                doubtful.insert(id);
            }
            match known.sealed.filter(|_| !known.doubtful) {
                Some(stage) => sealed.push(stage),
                None => drop(begun.insert(id, known.key)),
            }
        }
        let has_file = |id: StageId| self.stage_dir.join(id.to_string()).exists();
        for over in take_over_doubtful(&mut sealed, &mut doubtful, has_file) {
            begun.insert(over.stage, over.key);
        }
        let recovered = self.recover_sealed(sealed)?;
        let is_sealed = |id| recovered.iter().any(|found| found.file.id() == id);
        let open = self.adopt(saved, is_sealed, &doubtful)?;
        for entry in fs::read_dir(&self.orphan_dir)? {
            let path = entry?.path();
            if !open.values().any(|stage| stage.file().path() == path) {
                fs::remove_file(&path)?;
            }
        }
        let mut files = recovered.iter().map(|found| &found.file);
        let known: HashSet<PathBuf> = files
            .by_ref()
            .chain(open.values().map(Stage::file))
            .map(|file| file.path())
            .collect();
        let mut stays = HashSet::new();
        for entry in fs::read_dir(&self.stage_dir)? {
            let path = entry?.path();
            if known.contains(&path) {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let id = name.parse().ok();
            let key = id.and_then(|id| begun.get(&id));
            if key.is_some() && id.is_some_and(|id| is_unwritten(&path, id, saved)) {
                fs::remove_file(&path)?;
                continue;
            }
            let lost = LostFile {
                key,
                reason: match &saved.refused {
                    _ if id.is_some_and(|id| doubtful.contains(&id)) => {
                        LostReason::Damaged("the journal's record")
                    }
                    Some(why) => LostReason::SessionRefused(why.clone()),
                    None => LostReason::DaemonEnded,
                },
                written: None,
            };
            let missing = id.and_then(|id| self.journal.offloaded(id));
            let missing = missing.map_or_else(Vec::new, |it| it.missing());
            if !self.keep(&path, &lost, &missing)? {
                stays.extend(id);
            }
        }
        let is_over = |id: &StageId| !open.contains_key(id) && !stays.contains(id);
        for id in begun.into_keys().filter(is_over) {
            self.done(id);
        }
        let sealed = recovered;
        Ok(Recovered { sealed, open })
    }

    /// Moves a stage to lost+found. False where the disk is too full for it: the next
    /// start does.
    fn keep(&self, path: &Path, lost: &LostFile<'_>, missing: &[Range<u64>]) -> io::Result<bool> {
        let key = lost.key.map(Key::as_str);
        match self.lost_found.take(path, lost, missing) {
            Ok(kept) => {
                tracing::warn!(path = %kept.display(), key, "the predecessor ended before this file was closed: its bytes are in lost+found");
                Ok(true)
            }
            Err(error) if is_full(&error) => {
                tracing::error!(path = %path.display(), key, %error, "the predecessor ended before this file was closed, and the disk is full: its bytes stay in the spool until the next start");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// A sealed stage may have taken over another one's bytes in part.
    fn finish_absorbing(&self) -> io::Result<()> {
        for absorbed in self.journal.absorbing() {
            let path = |id: StageId| self.stage_dir.join(id.to_string());
            let (below, from) = (path(absorbed.stage), path(absorbed.from));
            // Where one is gone, the other has all that counts.
            if fs::exists(&below)? && fs::exists(&from)? {
                absorb_again(&from, &below, &absorbed)?;
                fs::remove_file(&from)?;
                self.done(absorbed.from);
            }
        }
        Ok(())
    }

    fn recover_sealed(&self, sealed: Vec<SealRecord>) -> io::Result<Vec<RecoveredStage>> {
        let (wanted, obsolete) = in_order(sealed);
        let mut recovered = Vec::new();
        for sealed in wanted {
            let (id, key) = (sealed.stage, &sealed.key);
            match self.find_stage(&self.stage_dir, id, &sealed.sums) {
                Ok(file) => recovered.push(RecoveredStage {
                    file,
                    sealed,
                    sending: self.journal.sending(id),
                }),
                // Removing the file comes before saying so.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(%key, "a sealed stage has no file: it was uploaded, or removed by hand");
                    self.done(id);
                }
                Err(error) => return Err(error),
            }
        }
        for SealRecord { stage, key, .. } in obsolete {
            tracing::info!(%key, "skipping a stage of the predecessor: a later one replaces it");
            if let Ok(file) = self.find_stage(&self.stage_dir, stage, &[]) {
                self.discard(&file);
            } else {
                self.done(stage);
            }
        }
        Ok(recovered)
    }

    /// Stages of files that are still open, as they were.
    fn adopt(
        &self,
        saved: &SessionState,
        is_sealed: impl Fn(StageId) -> bool,
        doubtful: &HashSet<StageId>,
    ) -> io::Result<HashMap<StageId, Stage>> {
        let mut open = HashMap::new();
        let used = |file: &SavedFile| {
            let current = file.stage;
            // What is not sealed yet the journal says nothing of.
            let outcome_unknown = |id| Some(id) != current && doubtful.contains(&id);
            let stages = file.stages().into_iter();
            stages
                .map(|id| (id, outcome_unknown(id)))
                .collect::<Vec<_>>()
        };
        let used = saved.files.values().flat_map(used);
        for (id, outcome_unknown) in used.filter(|(id, _)| !is_sealed(*id)) {
            let is_damaged = outcome_unknown || saved.damaged_stages.contains(&id);
            let none = SavedStage::default();
            let Some(stage) = saved.stages.get(&id).or(is_damaged.then_some(&none)) else {
                continue;
            };
            let sums = stage.sums.list();
            let named = self.find_stage(&self.stage_dir, id, &sums);
            let file = match named {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match self.find_stage(&self.orphan_dir, id, &sums) {
                        // It was uploaded, and the file shows its object.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        orphan => orphan.inspect(|file| {
                            file.set_discarded();
                            file.unlink_on_drop();
                        })?,
                    }
                }
                named => named?,
            };
            let stage = if is_damaged {
                Stage::unusable(file, stage.len)?
            } else {
                Stage::adopted(file, stage)?
            };
            open.insert(id, stage);
        }
        Ok(open)
    }
}

/// Takes out what lies over bytes that are in doubt: a part of it is too. So is what lies
/// over a stage that the journal does not have, or that has no file: uploaded, it would
/// have holes.
fn take_over_doubtful(
    sealed: &mut Vec<SealRecord>,
    doubtful: &mut HashSet<StageId>,
    has_file: impl Fn(StageId) -> bool,
) -> Vec<SealRecord> {
    let known = sealed.iter().map(|it| it.stage);
    let known: HashSet<StageId> = known.filter(|id| has_file(*id)).collect();
    let mut taken = Vec::new();
    while let Some(at) = sealed.iter().position(|it| {
        let below = it.base.stage();
        below.is_some_and(|below| doubtful.contains(&below) || !known.contains(&below))
    }) {
        let over = sealed.remove(at);
        doubtful.insert(over.stage);
        taken.push(over);
    }
    taken
}

/// Of each key's stages, told of in this order, the last that no other is based
/// on with those it is based on, the lowest first; and the rest.
///
/// The rest are versions that a later one took the place of, by an upload, a
/// merge or a rename, when the daemon died before it could say that they are done.
fn in_order(sealed: Vec<SealRecord>) -> (Vec<SealRecord>, Vec<SealRecord>) {
    let below = |sealed: &SealRecord| sealed.base.stage();
    let is_below: HashSet<StageId> = sealed.iter().filter_map(below).collect();
    let tops = sealed.iter().filter(|it| !is_below.contains(&it.stage));
    let tops: HashMap<Key, StageId> = tops.map(|it| (it.key.clone(), it.stage)).collect();
    let mut all: HashMap<StageId, SealRecord> =
        sealed.into_iter().map(|it| (it.stage, it)).collect();
    let mut wanted = Vec::new();
    for top in tops.into_values() {
        let mut chain = Vec::new();
        let mut next = Some(top);
        let mut key = None;
        while let Some(mut it) = next.and_then(|id| all.remove(&id)) {
            next = below(&it);
            // A rename was telling the new place of one stage after the other.
            it.key = key.get_or_insert_with(|| it.key.clone()).clone();
            chain.push(it);
        }
        wanted.extend(chain.into_iter().rev());
    }
    (wanted, all.into_values().collect())
}

/// Whether no write to a stage was answered: its first one comes again. The
/// predecessor may have died before it told anybody of the stage.
fn is_unwritten(path: &Path, id: StageId, saved: &SessionState) -> bool {
    if saved.session.is_none() || saved.refused.is_some() || saved.damaged_stages.contains(&id) {
        return false;
    }
    match saved.stages.get(&id) {
        Some(stage) => stage.written.is_empty(),
        None => fs::metadata(path).is_ok_and(|file| file.len() == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::SealedBase;

    fn sealed(id: u64, key: &str, base: SealedBase) -> SealRecord {
        SealRecord {
            stage: StageId(id),
            key: Key::new(key),
            headers: crate::store::ObjectHeaders::default(),
            condition: crate::store::WriteCondition::Always,
            known: crate::store::WriteCondition::Always,
            len: 0,
            base_len: 0,
            written: Vec::new(),
            sums: Vec::new(),
            completing: None,
            attempted: Vec::new(),
            base,
        }
    }

    #[test]
    fn a_stage_goes_where_the_one_over_it_goes_though_a_kill_cut_the_telling() {
        // Of a rename from `old` to `new` the journal knows only the first half.
        let first = sealed(1, "new", SealedBase::Empty);
        let over = sealed(2, "old", SealedBase::Stage(StageId(1)));
        let (wanted, obsolete) = in_order(vec![over, first]);
        let places = wanted.iter().map(|it| (it.stage.0, it.key.as_str()));
        assert_eq!(places.collect::<Vec<_>>(), [(1, "old"), (2, "old")]);
        assert!(obsolete.is_empty());
    }

    #[test]
    fn what_lies_over_a_stage_that_is_done_is_not_uploaded_with_holes() {
        let over = |id| SealedBase::Stage(StageId(id));
        let mut stages = vec![
            sealed(2, "k", over(1)),
            sealed(3, "k", over(2)),
            sealed(4, "other", SealedBase::Empty),
        ];
        let taken = take_over_doubtful(&mut stages, &mut HashSet::new(), |_| true);
        let ids = |stages: &[SealRecord]| stages.iter().map(|it| it.stage.0).collect::<Vec<_>>();
        assert_eq!((ids(&taken), ids(&stages)), (vec![2, 3], vec![4]));
    }

    #[test]
    fn versions_that_a_later_one_took_the_place_of_are_passed_over() {
        let over = |id| SealedBase::Stage(StageId(id));
        let ids = |stages: &[SealRecord]| stages.iter().map(|it| it.stage.0).collect::<Vec<_>>();
        // 1 was told of again once it had all of its file.
        let (wanted, rest) = in_order(vec![
            sealed(2, "k", over(1)),
            sealed(1, "k", SealedBase::Empty),
        ]);
        assert_eq!((ids(&wanted), ids(&rest)), (vec![1, 2], vec![]));
        // 2 was merged into 3; or 2 was uploaded, and 3 is over its object.
        let (wanted, rest) = in_order(vec![
            sealed(1, "k", SealedBase::Empty),
            sealed(2, "k", over(1)),
            sealed(3, "k", over(1)),
        ]);
        assert_eq!((ids(&wanted), ids(&rest)), (vec![1, 3], vec![2]));
        // 1 was renamed over 2.
        let (wanted, rest) = in_order(vec![
            sealed(2, "k", SealedBase::Empty),
            sealed(1, "k", SealedBase::Empty),
        ]);
        assert_eq!((ids(&wanted), ids(&rest)), (vec![1], vec![2]));
    }
}
