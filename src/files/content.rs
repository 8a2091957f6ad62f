//! What an open file has: its stage over a lower layer, and how far both have come.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::changes::Changes;
use super::layers::{LowerLayer, SealedStage};
use super::moved_object::MovedObject;
use crate::error::FsError;
use crate::namespace::{InodeState, Pin};
use crate::session_state::{Record, SavedFile, SavedLayer, SessionLog};
use crate::store::{Key, WriteCondition};
use crate::vocabulary::{Intent, NameState, ObjectId};
use crate::write_path::{PriorAttempt, Stage};

/// What the session log has of an open file.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Recorded {
    #[default]
    Nothing,
    File(SavedFile),
    /// Nobody has the file open and nobody uploads it: nothing more is recorded of it.
    Closed,
}

/// The bytes of an open file, and what is to become of them.
#[derive(Debug)]
pub struct Content {
    pub base: LowerLayer,
    pub stage: Option<Stage>,
    pub intent: Intent,
    /// The stage differs from what the store has.
    pub dirty: bool,
    /// Set by the first upload that failed; every later flush reports it.
    pub failed: Option<FsError>,
    pub name: NameState,
    /// Someone uploads what is sealed, and goes on until nothing is.
    pub has_uploader: bool,
    pub handles: u32,
    pub writers: u32,
    /// Operations that change the file's name.
    pub holders: u32,
    pub recorded: Recorded,
    pub changes: Changes,
}

impl Content {
    pub fn new(base: LowerLayer) -> Self {
        Self {
            base,
            stage: None,
            intent: Intent::Edit,
            name: NameState::Own,
            dirty: false,
            failed: None,
            has_uploader: false,
            handles: 0,
            writers: 0,
            holders: 0,
            recorded: Recorded::Nothing,
            changes: Changes::default(),
        }
    }

    /// Whether the successor has any use for knowing it.
    fn is_of_use(&self) -> bool {
        let staged = self.stage.is_some() || self.base.sealed().is_some();
        match &self.recorded {
            Recorded::Nothing => self.handles > 0 || staged,
            Recorded::File(_) => true,
            Recorded::Closed => false,
        }
    }

    pub fn is_nameless(&self) -> bool {
        self.name == NameState::Gone
    }

    /// What the successor needs to know of it.
    pub fn to_saved(&self, state: &InodeState) -> SavedFile {
        SavedFile {
            base: (&self.base).into(),
            stage: self.stage.as_ref().map(|stage| stage.file().id()),
            intent: self.intent,
            dirty: self.dirty,
            failed: self.failed.is_some(),
            name: self.name,
            remote: state.remote.clone(),
            stored: state
                .attributes
                .as_ref()
                .map(|attributes| Box::new(attributes.headers.clone())),
        }
    }

    /// The sealed stage to be uploaded first, which counts as sent from now on:
    /// nothing takes its place any more.
    pub fn begin_upload(&self) -> Option<(Arc<SealedStage>, PriorAttempt)> {
        let top = self.base.sealed()?;
        if self.is_nameless() || self.failed.is_some() {
            return None;
        }
        let first = top.base.sealed().unwrap_or(top);
        let prior = if first.sent.mark_maybe_sent() {
            PriorAttempt::Maybe
        } else {
            PriorAttempt::None
        };
        Some((first.clone(), prior))
    }

    /// The file took its new name, under which the store is known to have this.
    ///
    /// Returns the stage that is not wanted any more, as `detach_from_object` does.
    pub fn renamed(&mut self, known: &WriteCondition) -> Option<Arc<SealedStage>> {
        if self.intent == Intent::Exclusive {
            self.intent = Intent::Replace;
        }
        let superseded = self.drop_superseded();
        self.base = self.base.map_sealed(|sealed| {
            let condition = match sealed.condition.clone() {
                WriteCondition::IfAbsent => WriteCondition::Always,
                other => other,
            };
            (sealed.base.clone(), condition, known.clone())
        });
        self.base = self.base.unsent();
        superseded
    }

    /// What is sealed stands alone, under whatever name: the object is not needed.
    ///
    /// Returns the stage whose upload was cancelled and that the one above it
    /// replaces whole. It is to be discarded once the journal knows.
    pub fn detach_from_object(&mut self, known: &WriteCondition) -> Option<Arc<SealedStage>> {
        self.intent = Intent::Replace;
        let superseded = self.drop_superseded();
        self.base = self.base.map_sealed(|sealed| {
            let base = match &sealed.base {
                LowerLayer::Object(_) => LowerLayer::Empty,
                other => other.clone(),
            };
            (base, WriteCondition::Always, known.clone())
        });
        self.base = self.base.unsent();
        superseded
    }

    /// The same bytes are another object now: the file was renamed. What is based on
    /// another version stays so, and finds out that it is gone.
    pub fn rebase(&mut self, moved: &MovedObject, key: Key) {
        let object = moved.at(key);
        let is_moved = |base: &ObjectId| moved.has_bytes_of(&base.etag, base.size_bytes);
        self.base = match &self.base {
            LowerLayer::Object(base) if is_moved(base) => LowerLayer::Object(object),
            sealed @ LowerLayer::Sealed(_) => sealed.map_sealed(|sealed| {
                let known = WriteCondition::IfMatch(object.etag.clone());
                match &sealed.base {
                    LowerLayer::Object(base) if is_moved(base) => {
                        let condition = match &sealed.condition {
                            WriteCondition::IfMatch(_) => known.clone(),
                            other => other.clone(),
                        };
                        (LowerLayer::Object(object.clone()), condition, known)
                    }
                    LowerLayer::Object(_) => {
                        let SealedStage {
                            base,
                            condition,
                            known,
                            ..
                        } = sealed;
                        (base.clone(), condition.clone(), known.clone())
                    }
                    base => (base.clone(), sealed.condition.clone(), known),
                }
            }),
            other => other.clone(),
        };
    }

    /// Takes the lower sealed stage away where the upper one shows nothing of it: it
    /// would be seen under the new name, as a version from before the rename.
    fn drop_superseded(&mut self) -> Option<Arc<SealedStage>> {
        let top = self.base.sealed()?;
        let superseded = top.base.sealed()?.clone();
        if top.stage.depends_on_base() {
            return None;
        }
        self.base = self.base.map_sealed(|top| {
            let (condition, known) = (top.condition.clone(), top.known.clone());
            (LowerLayer::Empty, condition, known)
        });
        Some(superseded)
    }
}

/// Content while it is changed; what comes of it is told to the successor.
#[derive(Debug)]
pub struct Edit<'a> {
    inode: &'a Pin,
    session_log: &'a SessionLog,
    content: MutexGuard<'a, Content>,
}

impl<'a> Edit<'a> {
    pub fn new(
        inode: &'a Pin,
        session_log: &'a SessionLog,
        content: MutexGuard<'a, Content>,
    ) -> Self {
        Self {
            inode,
            session_log,
            content,
        }
    }

    pub fn record(&mut self) {
        if !self.session_log.is_kept() || !self.content.is_of_use() {
            return;
        }
        let saved = Recorded::File(self.content.to_saved(&self.inode.state()));
        if self.content.recorded != saved
            && let Recorded::File(file) = &saved
        {
            self.session_log.record(|| Record::File {
                ino: self.inode.ino.0,
                file: file.clone(),
            });
            self.content.recorded = saved;
        }
    }
}

impl Deref for Edit<'_> {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.content
    }
}

impl DerefMut for Edit<'_> {
    fn deref_mut(&mut self) -> &mut Content {
        &mut self.content
    }
}

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        self.record();
    }
}

impl From<&LowerLayer> for SavedLayer {
    fn from(base: &LowerLayer) -> Self {
        match base {
            LowerLayer::Empty => Self::Empty,
            LowerLayer::Object(object) => Self::Object((**object).clone()),
            LowerLayer::Sealed(sealed) => {
                Self::Sealed(sealed.stage.file().id(), Box::new((&sealed.base).into()))
            }
        }
    }
}
