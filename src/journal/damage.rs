//! What a damaged record makes unknown.

use std::path::Path;

use super::JournalState;
use super::record::Record;
use crate::record_log::Subject;
use crate::store::Key;
use crate::vocabulary::StageId;

/// What records are about: numbers that stay, since files have them.
mod kind {
    pub const BEGUN: u8 = 1;
    pub const SEALED: u8 = 2;
    pub const COMPLETION_EXPECTED: u8 = 3;
    pub const UPLOAD_STARTED: u8 = 4;
    pub const DONE: u8 = 5;
    pub const DELETE_PENDING: u8 = 6;
    pub const DELETED: u8 = 7;
    pub const UPLOADING: u8 = 8;
    pub const UPLOADED: u8 = 9;
    pub const RENAMING: u8 = 10;
    pub const RENAMED: u8 = 11;
    pub const DOUBTFUL: u8 = 12;
    pub const ABSORBED: u8 = 13;
    pub const OFFLOADED: u8 = 14;
    pub const OFFLOADED_CUT: u8 = 15;
    pub const SENT: u8 = 16;
    pub const ANSWERED: u8 = 17;
    pub const GIVEN_UP: u8 = 18;
    pub const LATE: u8 = 19;
    pub const LATE_OVER: u8 = 20;
    pub const HEARD_SINCE: u8 = 21;
    pub const BOOT: u8 = 22;
    pub const HEADERS_SET: u8 = 23;
}

/// Stages by their number, keys by a checksum of them.
pub(super) fn subject(record: &Record) -> Subject {
    let (kind, id) = match record {
        Record::Begun { stage, .. } => (kind::BEGUN, stage.0),
        Record::Sealed(sealed) => (kind::SEALED, sealed.stage.0),
        Record::Absorbed(absorbed) => (kind::ABSORBED, absorbed.stage.0),
        Record::CompletionExpected { stage, .. } => (kind::COMPLETION_EXPECTED, stage.0),
        Record::HeadersSet { stage, .. } => (kind::HEADERS_SET, stage.0),
        Record::UploadStarted { stage, .. } => (kind::UPLOAD_STARTED, stage.0),
        Record::Offloaded { stage, .. } => (kind::OFFLOADED, stage.0),
        Record::OffloadedCut { stage, .. } => (kind::OFFLOADED_CUT, stage.0),
        Record::Done { stage } => (kind::DONE, stage.0),
        Record::Doubtful { stage } => (kind::DOUBTFUL, stage.0),
        Record::DeletePending { key, .. } => (kind::DELETE_PENDING, short(key)),
        Record::Deleted { key } => (kind::DELETED, short(key)),
        Record::Uploading { key, .. } => (kind::UPLOADING, short(key)),
        Record::Uploaded { key, .. } => (kind::UPLOADED, short(key)),
        Record::Renaming(intent) => (kind::RENAMING, short(&intent.from)),
        Record::Renamed { from } => (kind::RENAMED, short(from)),
        Record::Sent { number, .. } => (kind::SENT, *number),
        Record::Answered { number } => (kind::ANSWERED, *number),
        Record::GivenUp { number, .. } => (kind::GIVEN_UP, *number),
        Record::HeardSince { number, .. } => (kind::HEARD_SINCE, *number),
        Record::Late { key, .. } => (kind::LATE, short(key)),
        Record::LateOver { key } => (kind::LATE_OVER, short(key)),
        Record::Boot { .. } => (kind::BOOT, 0),
    };
    Subject { kind, id }
}

fn short(key: &Key) -> u64 {
    u64::from(crc32fast::hash(key.as_str().as_bytes()))
}

impl JournalState {
    /// A record of this is damaged, or any number of anything.
    pub(super) fn doubt(&mut self, subject: Option<Subject>) {
        self.damage.push(subject);
        let Some(Subject { kind, id }) = subject else {
            return self.doubt_all();
        };
        let stage = StageId(id);
        match kind {
            kind::BEGUN
            | kind::SEALED
            | kind::ABSORBED
            | kind::OFFLOADED
            | kind::OFFLOADED_CUT
            | kind::DOUBTFUL => {
                if let Some(known) = self.stages.get_mut(&stage) {
                    known.doubtful = true;
                }
            }
            // By another upload than the last its parts would be mixed up.
            kind::UPLOAD_STARTED => {
                if let Some(known) = self.stages.get_mut(&stage) {
                    known.sending = None;
                }
            }
            // Its file was removed before.
            kind::DONE => drop(self.stages.remove(&stage)),
            // Whoever has made the name again must not lose it.
            kind::DELETED => self.pending.retain(|key, _| short(key) != id),
            kind::LATE_OVER => self.late.retain(|key, _| short(key) != id),
            kind::RENAMED => self.renames.retain(|from, _| short(from) != id),
            // Where an upload stays, or is not known for ours, nothing is lost; what was to
            // be deleted or moved stays where it is.
            _ => {}
        }
    }

    fn doubt_all(&mut self) {
        for known in self.stages.values_mut() {
            known.doubtful = true;
            known.sending = None;
        }
        // With a version a repeated delete takes nothing that came since.
        self.pending.retain(|_, (etag, _)| etag.is_some());
        self.late.clear();
        self.renames.clear();
    }

    /// Keeps a copy of a damaged journal, for a person, and says what is in doubt.
    pub(super) fn keep_damaged(&self, path: &Path) {
        if self.damage.is_empty() {
            return;
        }
        let copy = path.with_extension("damaged");
        if let Err(error) = std::fs::copy(path, &copy) {
            tracing::warn!(%error, "cannot copy the damaged journal");
        }
        tracing::error!(
            records = self.damage.len(), copy = %copy.display(),
            "the journal is damaged: stages whose last record may be missing go to lost+found; a removal or a rename that was not finished may be undone"
        );
    }
}
