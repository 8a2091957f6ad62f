//! What all records come to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::encode::{self, kind};
use super::record::{Place, Record, SavedFile, SavedHandle, SavedSession};
use super::stage_state::SavedStage;
use crate::journal::{Chain, Durable, Header, LogState, Subject};
use crate::vocabulary::{Kind, Overrides, StageId};

/// References that an inode has for ever, whose own number is not known.
const UNKNOWN_LOOKUPS: u64 = 1 << 40;
/// What a record takes in a file, about: of an inode, and of anything else.
const INODE_BYTES: u64 = 64;
const OTHER_BYTES: u64 = 1 << 10;

/// What the kernel knows of a session, and what its open files are made of.
#[derive(Debug, Clone, Default)]
pub struct SessionState {
    pub session: Option<SavedSession>,
    /// Highest number given out so far.
    pub last_ino: u64,
    pub last_handle: u64,
    pub inodes: HashMap<u64, SavedInode>,
    pub files: BTreeMap<u64, SavedFile>,
    pub stages: BTreeMap<StageId, SavedStage>,
    pub handles: BTreeMap<u64, SavedHandle>,
    pub dirs: BTreeMap<u64, SavedDir>,
    /// Requests that nobody answered.
    pub under_way: BTreeSet<u64>,
    /// Stages of which a record was damaged.
    pub damaged_stages: BTreeSet<StageId>,
    /// Why nothing of it is to be used.
    pub unusable: Option<String>,
    /// Why an earlier session is not gone on with, where it might have been.
    pub refused: Option<String>,
    /// Where its file is gone on with.
    pub append_at: Option<(Header, u64, Chain)>,
}

/// There are many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedInode {
    pub kind: Kind,
    pub place: Option<Place>,
    pub lookups: u64,
    pub set: Option<Box<Overrides>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedDir {
    pub ino: u64,
    pub request: u64,
    pub names: Vec<String>,
}

impl SessionState {
    fn inode(&mut self, ino: u64, kind: Kind) -> &mut SavedInode {
        self.last_ino = self.last_ino.max(ino);
        self.inodes.entry(ino).or_insert_with(|| SavedInode {
            kind,
            place: None,
            lookups: 0,
            set: None,
        })
    }

    fn apply_to_inode(&mut self, record: Record) {
        match record {
            Record::Placed { ino, kind, place } => self.inode(ino, kind).place = Some(place),
            Record::Inode {
                ino,
                kind,
                place,
                lookups,
            } => {
                let inode = self.inode(ino, kind);
                inode.place = Some(place);
                inode.lookups = inode.lookups.saturating_add(lookups);
            }
            Record::Unplaced { ino, kind } => self.inode(ino, kind).place = None,
            Record::Lookup { ino, count } => {
                if let Some(inode) = self.inodes.get_mut(&ino) {
                    inode.lookups = inode.lookups.saturating_add(count);
                }
            }
            Record::Forget { ino, count } => {
                if let Some(inode) = self.inodes.get_mut(&ino) {
                    inode.lookups = inode.lookups.saturating_sub(count);
                }
            }
            Record::Set { ino, set } => {
                if let Some(inode) = self.inodes.get_mut(&ino) {
                    inode.set = (set != Overrides::default()).then(|| Box::new(set));
                }
            }
            Record::Gone { ino } => {
                self.inodes.remove(&ino);
            }
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
                // All of it is told anew.
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
                let names = Vec::new();
                self.dirs.insert(
                    handle,
                    SavedDir {
                        ino,
                        request,
                        names,
                    },
                );
            }
            Record::Listed { handle, names } => {
                if let Some(dir) = self.dirs.get_mut(&handle) {
                    dir.names.extend(names);
                }
            }
            Record::Rewound { handle } => {
                if let Some(dir) = self.dirs.get_mut(&handle) {
                    dir.names.clear();
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

    fn inode_record(ino: u64, saved: &SavedInode, give: &mut dyn FnMut(Record)) {
        let (kind, lookups) = (saved.kind, saved.lookups);
        match saved.place.clone() {
            Some(place) => give(Record::Inode {
                ino,
                kind,
                place,
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
        if let Some(set) = saved.set.as_deref() {
            let set = set.clone();
            give(Record::Set { ino, set });
        }
    }

    /// About what its file takes where it says nothing twice.
    pub(super) fn needed_bytes(&self) -> u64 {
        let ranges = |stage: &SavedStage| stage.written.len() as u64;
        let others = self.files.len() + self.stages.len() + self.handles.len() + self.dirs.len();
        let stages: u64 = self.stages.values().map(ranges).sum();
        self.inodes.len() as u64 * INODE_BYTES + (others as u64 + stages) * OTHER_BYTES
    }

    /// What a damaged record makes unknown, where that is less than everything.
    fn doubt(&mut self, subject: Subject) -> Result<(), String> {
        let Subject { kind, id } = subject;
        match kind {
            kind::LOOKUP | kind::FORGET => {
                if let Some(inode) = self.inodes.get_mut(&id) {
                    inode.lookups = inode.lookups.saturating_add(UNKNOWN_LOOKUPS);
                }
            }
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
            // What is gone stays a while longer.
            kind::GONE
            | kind::FILE_GONE
            | kind::STAGE_GONE
            | kind::RELEASED
            | kind::BEGAN
            | kind::ANSWERED => {}
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
            let names = saved.names.clone();
            [opened, Record::Listed { handle, names }]
        });
        opened.chain(dirs)
    }
}

impl SavedHandle {
    fn changed_by(&mut self, process: Option<u32>) {
        // Of a handle whose writers were never recorded they stay unknown.
        let Some(writers) = &mut self.writers else {
            return;
        };
        writers.changed = true;
        match process {
            Some(process) => {
                writers.processes.insert(process);
            }
            None => writers.unknown = true,
        }
    }
}

impl LogState for SessionState {
    type Record = Record;
    const NAME: &'static str = "session";
    const VERSION: u32 = 2;
    const DURABLE: Durable = Durable::No;

    fn expect(&mut self, bytes: usize) {
        self.inodes.reserve(bytes / INODE_BYTES as usize);
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
        give(Record::Numbers {
            ino: self.last_ino,
            handle: self.last_handle,
        });
        let mut inodes: Vec<_> = self.inodes.iter().collect();
        inodes.sort_unstable_by_key(|(ino, _)| **ino);
        for (ino, saved) in inodes {
            Self::inode_record(*ino, saved, give);
        }
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
    }
}
