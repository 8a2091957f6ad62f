//! What all records come to.

use std::collections::{BTreeMap, BTreeSet};

use super::done_requests::{BegunRequests, DoneRequests};
use super::encode::{self, kind};
use super::inodes::{SavedInode, SavedInodes};
use super::record::{Place, Record, SavedFile, SavedHandle, SavedSession};
use super::stage_state::SavedStage;
use crate::record_log::{Chain, Durable, Header, LogState, Subject};
use crate::vocabulary::{Kind, Overrides, StageId};

/// What a record takes in a file, about: of an inode besides its name, or of a request,
/// and of anything else.
const INODE_BYTES: usize = 44;
/// Least that the record of an inode takes in a file, and of this its name.
const RECORD_BYTES: usize = 44;
const NAME_BYTES: usize = 20;
/// Room for more inodes than this is not taken before they are there.
const EXPECTED_LIMIT: usize = 1_000_000;
const OTHER_BYTES: u64 = 1 << 10;

/// What the kernel knows of a session, and what its open files are made of.
#[derive(Debug, Clone, Default)]
pub struct SessionState {
    pub session: Option<SavedSession>,
    /// Highest number given out so far.
    pub last_ino: u64,
    pub last_handle: u64,
    pub inodes: SavedInodes,
    pub files: BTreeMap<u64, SavedFile>,
    pub stages: BTreeMap<StageId, SavedStage>,
    pub handles: BTreeMap<u64, SavedHandle>,
    pub dirs: BTreeMap<u64, SavedDir>,
    /// Requests that nobody answered.
    pub under_way: BTreeSet<u64>,
    pub done: DoneRequests,
    pub begun: BegunRequests,
    /// Stages of which a record was damaged.
    pub damaged_stages: BTreeSet<StageId>,
    /// Why nothing of it is to be used.
    pub unusable: Option<String>,
    /// Why the session of a predecessor is not resumed, where it might have been.
    pub refused: Option<String>,
    /// Where its file is appended to.
    pub append_at: Option<(Header, u64, Chain)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedDir {
    pub ino: u64,
    pub request: u64,
    /// Records of the names that were listed, as they stand in the file: most
    /// directories are closed again before anybody wants to know.
    listed: Vec<Vec<u8>>,
}

impl SavedDir {
    /// Names that may have been given out, in order; none where that is not known.
    pub fn names(&self) -> Option<Vec<String>> {
        let mut all = Vec::new();
        for payload in &self.listed {
            match serde_json::from_slice(payload) {
                Ok(Record::Listed { names, .. }) => all.extend(names),
                _ => return None,
            }
        }
        Some(all)
    }
}

impl SessionState {
    /// Returns whether it can be kept.
    fn place(&mut self, ino: u64, kind: Kind, place: (u64, &str), lookups: u64) -> bool {
        self.last_ino = self.last_ino.max(ino);
        self.inodes.place(ino, kind, place, lookups)
    }

    fn place_or_doubt(&mut self, ino: u64, kind: Kind, (parent, name): Place, lookups: u64) {
        if !self.place(ino, kind, (parent, &name), lookups) {
            self.unusable = Some("it has too many names".to_owned());
        }
    }

    fn apply_to_inode(&mut self, record: Record) {
        match record {
            Record::Placed { ino, kind, place } => self.place_or_doubt(ino, kind, place, 0),
            Record::Inode {
                ino,
                kind,
                place,
                lookups,
            } => self.place_or_doubt(ino, kind, place, lookups),
            Record::Unplaced { ino, kind } => {
                self.last_ino = self.last_ino.max(ino);
                self.inodes.unplace(ino, kind);
            }
            Record::Lookup { ino, count } => self.inodes.add_lookups(ino, count),
            Record::Forget { ino, count } => self.inodes.take_lookups(ino, count),
            Record::Set { ino, set } => {
                let set = (set != Overrides::default()).then_some(set);
                self.inodes.set(ino, set);
            }
            Record::Gone { ino } => self.inodes.remove(ino),
            _ => {}
        }
    }

    fn apply_to_stage(&mut self, record: Record) {
        match record {
            Record::Staged {
                stage,
                len,
                base_len,
            } => {
                // All of it is recorded again.
                self.damaged_stages.remove(&stage);
                let saved = SavedStage {
                    len,
                    base_len,
                    ..SavedStage::default()
                };
                self.stages.insert(stage, saved);
            }
            Record::StageGone { stage } => {
                self.stages.remove(&stage);
                self.damaged_stages.remove(&stage);
            }
            Record::Wrote { stage, .. }
            | Record::Overwriting { stage, .. }
            | Record::Summed { stage, .. }
            | Record::Truncated { stage, .. } => {
                if let Some(saved) = self.stages.get_mut(&stage) {
                    saved.apply(record);
                }
            }
            _ => {}
        }
    }

    fn apply_to_handle(&mut self, record: Record) {
        match record {
            Record::Opened { handle, saved } => {
                self.last_handle = self.last_handle.max(handle);
                self.handles.insert(handle, saved);
            }
            Record::DirOpened {
                handle,
                ino,
                request,
            } => {
                self.last_handle = self.last_handle.max(handle);
                let listed = Vec::new();
                let dir = SavedDir {
                    ino,
                    request,
                    listed,
                };
                self.dirs.insert(handle, dir);
            }
            Record::Listed { handle, .. } => {
                if let (Some(dir), Ok(payload)) =
                    (self.dirs.get_mut(&handle), serde_json::to_vec(&record))
                {
                    dir.listed.push(payload);
                }
            }
            Record::Rewound { handle } => {
                if let Some(dir) = self.dirs.get_mut(&handle) {
                    dir.listed.clear();
                }
            }
            Record::Changed { handle, process } => {
                if let Some(saved) = self.handles.get_mut(&handle) {
                    saved.changed_by(process);
                }
            }
            Record::Released { handle } => {
                self.handles.remove(&handle);
                self.dirs.remove(&handle);
            }
            _ => {}
        }
    }

    fn inode_record(ino: u64, saved: &SavedInode<'_>, give: &mut dyn FnMut(Record)) {
        let (kind, lookups) = (saved.kind, saved.lookups);
        match saved.place {
            Some((parent, name)) => give(Record::Inode {
                ino,
                kind,
                place: (parent, name.into()),
                lookups,
            }),
            None => {
                give(Record::Unplaced { ino, kind });
                if lookups > 0 {
                    let count = lookups;
                    give(Record::Lookup { ino, count });
                }
            }
        }
        if let Some(set) = saved.set.cloned() {
            give(Record::Set { ino, set });
        }
    }

    /// About what its file takes where it says nothing twice.
    pub(super) fn needed_bytes(&self) -> u64 {
        let ranges = |stage: &SavedStage| stage.written.len() as u64;
        let others = self.files.len() + self.stages.len() + self.handles.len() + self.dirs.len();
        let stages: u64 = self.stages.values().map(ranges).sum();
        let small = (self.inodes.len() + self.done.len() + self.begun.len()) * INODE_BYTES;
        let small = small + self.inodes.name_bytes();
        small as u64 + (others as u64 + stages) * OTHER_BYTES
    }

    /// What a damaged record makes unknown, where that is less than everything.
    fn doubt(&mut self, subject: Subject) -> Result<(), String> {
        let Subject { kind, id } = subject;
        match kind {
            kind::LOOKUP | kind::FORGET => self.inodes.doubt_lookups(id),
            kind::STAGED
            | kind::WROTE
            | kind::TRUNCATED
            | kind::OVERWRITING
            | kind::SUMMED
            | kind::STAGE_DOUBTFUL => drop(self.damaged_stages.insert(StageId(id))),
            // By anybody, then.
            kind::CHANGED => {
                if let Some(saved) = self.handles.get_mut(&id) {
                    saved.changed_by(None);
                }
            }
            // Its entries would be missing, or come twice.
            kind::DIR_OPENED | kind::LISTED | kind::REWOUND => drop(self.dirs.remove(&id)),
            // What is gone stays a while longer; what is done may be done again.
            kind::GONE
            | kind::FILE_GONE
            | kind::STAGE_GONE
            | kind::RELEASED
            | kind::BEGAN
            | kind::ANSWERED
            | kind::DONE => {}
            _ => return Err(format!("a record of kind {kind} about {id} has changed")),
        }
        Ok(())
    }

    fn handle_records(&self) -> impl Iterator<Item = Record> {
        let handles = self.handles.iter();
        let opened = handles.map(|(handle, saved)| Record::Opened {
            handle: *handle,
            saved: saved.clone(),
        });
        let dirs = self.dirs.iter().flat_map(|(handle, saved)| {
            let (handle, ino, request) = (*handle, saved.ino, saved.request);
            let opened = Record::DirOpened {
                handle,
                ino,
                request,
            };
            let listed = saved.listed.iter();
            let listed = listed.filter_map(|payload| serde_json::from_slice(payload).ok());
            std::iter::once(opened).chain(listed)
        });
        opened.chain(dirs)
    }
}

impl LogState for SessionState {
    type Record = Record;
    const NAME: &'static str = "session";
    const VERSION: u32 = 2;
    const DURABLE: Durable = Durable::No;

    fn expect(&mut self, bytes: usize) {
        let inodes = (bytes / RECORD_BYTES).min(EXPECTED_LIMIT);
        self.inodes.reserve(inodes, inodes * NAME_BYTES);
    }

    fn expect_about(&self, subjects: impl Iterator<Item = Subject>) {
        self.inodes.fetch(subjects.map(|subject| subject.id));
    }

    fn subject(record: &Record) -> Subject {
        encode::subject(record)
    }

    fn encode(record: &Record) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        encode::encode(record, &mut bytes)?;
        Ok(bytes)
    }

    fn decode(subject: Subject, payload: &[u8]) -> Option<Record> {
        encode::decode(subject, payload)
    }

    fn replay(&mut self, subject: Subject, payload: &[u8]) -> bool {
        let Subject { kind, id } = subject;
        match kind {
            kind::PLACED | kind::INODE => {
                let placed = encode::placed(kind, payload);
                placed.is_some_and(|(node, lookups, place)| self.place(id, node, place, lookups))
            }
            kind::LISTED => {
                if let Some(dir) = self.dirs.get_mut(&id) {
                    dir.listed.push(payload.to_vec());
                }
                true
            }
            _ => {
                let record = encode::decode(subject, payload);
                record.map(|record| self.apply(record)).is_some()
            }
        }
    }

    fn damaged(&mut self, subject: Option<Subject>) {
        let doubted = subject.map(|subject| self.doubt(subject));
        let unknown = || Err("records have changed or are missing".to_owned());
        if let Err(what) = doubted.unwrap_or_else(unknown) {
            self.unusable = Some(what);
        }
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Session(session) => self.session = Some(session),
            Record::Numbers { ino, handle } => (self.last_ino, self.last_handle) = (ino, handle),
            Record::File { ino, file } => {
                self.files.insert(ino, file);
            }
            Record::FileGone { ino } => {
                self.files.remove(&ino);
            }
            Record::StageDoubtful { stage } => drop(self.damaged_stages.insert(stage)),
            Record::Began { request } => {
                self.under_way.insert(request);
            }
            Record::Answered { request } => {
                self.under_way.remove(&request);
            }
            Record::Changes { request, basis } => self.begun.add(request, basis),
            Record::Done { request } => {
                self.begun.remove(request);
                self.done.add(request);
            }
            record @ (Record::Placed { .. }
            | Record::Inode { .. }
            | Record::Unplaced { .. }
            | Record::Lookup { .. }
            | Record::Forget { .. }
            | Record::Set { .. }
            | Record::Gone { .. }) => self.apply_to_inode(record),
            record @ (Record::Staged { .. }
            | Record::Wrote { .. }
            | Record::Overwriting { .. }
            | Record::Summed { .. }
            | Record::Truncated { .. }
            | Record::StageGone { .. }) => self.apply_to_stage(record),
            record @ (Record::Opened { .. }
            | Record::DirOpened { .. }
            | Record::Listed { .. }
            | Record::Rewound { .. }
            | Record::Changed { .. }
            | Record::Released { .. }) => self.apply_to_handle(record),
        }
    }

    fn for_each(&self, give: &mut dyn FnMut(Record)) {
        if let Some(session) = self.session.clone() {
            give(Record::Session(session));
        }
        let (ino, handle) = (self.last_ino, self.last_handle);
        give(Record::Numbers { ino, handle });
        let inodes = self.inodes.iter();
        inodes.for_each(|(ino, saved)| Self::inode_record(ino, &saved, give));
        for (stage, saved) in &self.stages {
            saved.for_each(*stage, give);
        }
        for (ino, file) in &self.files {
            let (ino, file) = (*ino, file.clone());
            give(Record::File { ino, file });
        }
        for stage in self.damaged_stages.iter().copied() {
            give(Record::StageDoubtful { stage });
        }
        self.handle_records().for_each(&mut *give);
        for request in self.under_way.iter().copied() {
            give(Record::Began { request });
        }
        self.begun.records().for_each(&mut *give);
        for request in self.done.iter() {
            give(Record::Done { request });
        }
    }
}
