//! What all records come to.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rangemap::RangeSet;

use super::record::{FileTold, HandleTold, NodeKind, Place, Record, SessionTold, SetTold};
use crate::journal::{Durable, Replay, StageId};

/// What the kernel knows of a session, and what its open files are made of.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub session: Option<SessionTold>,
    /// Highest number given out so far.
    pub last_ino: u64,
    pub last_handle: u64,
    pub inodes: BTreeMap<u64, InodeTold>,
    pub files: BTreeMap<u64, FileTold>,
    pub stages: BTreeMap<StageId, StageTold>,
    pub handles: BTreeMap<u64, HandleTold>,
    pub dirs: BTreeMap<u64, DirTold>,
    /// Requests that nobody answered.
    pub under_way: BTreeSet<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InodeTold {
    pub kind: NodeKind,
    pub place: Option<Place>,
    pub lookups: u64,
    pub set: SetTold,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageTold {
    pub len: u64,
    pub base_len: u64,
    pub written: RangeSet<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirTold {
    pub ino: u64,
    pub request: u64,
    pub names: Vec<String>,
}

impl Told {
    fn inode(&mut self, ino: u64, kind: NodeKind) -> &mut InodeTold {
        self.last_ino = self.last_ino.max(ino);
        self.inodes.entry(ino).or_insert_with(|| InodeTold {
            kind,
            place: None,
            lookups: 0,
            set: SetTold::default(),
        })
    }

    fn apply_to_inode(&mut self, record: Record) {
        match record {
            Record::Placed { ino, kind, place } => self.inode(ino, kind).place = Some(place),
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
                    inode.set = set;
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
                let told = self.stages.entry(stage).or_default();
                (told.len, told.base_len) = (len, base_len);
            }
            Record::Wrote { stage, range, len } => {
                if let Some(told) = self.stages.get_mut(&stage) {
                    insert(&mut told.written, range);
                    told.len = told.len.max(len);
                }
            }
            Record::Truncated {
                stage,
                len,
                base_len,
            } => {
                if let Some(told) = self.stages.get_mut(&stage) {
                    (told.len, told.base_len) = (len, base_len);
                    cut(&mut told.written, len);
                }
            }
            Record::StageGone { stage } => {
                self.stages.remove(&stage);
            }
            _ => {}
        }
    }

    fn apply_to_handle(&mut self, record: Record) {
        match record {
            Record::Opened { handle, told } => {
                self.last_handle = self.last_handle.max(handle);
                self.handles.insert(handle, told);
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
                    DirTold {
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
                if let Some(told) = self.handles.get_mut(&handle) {
                    told.changed_by(process);
                }
            }
            Record::Released { handle } => {
                self.handles.remove(&handle);
                self.dirs.remove(&handle);
            }
            _ => {}
        }
    }

    fn stage_records(&self) -> impl Iterator<Item = Record> {
        self.stages.iter().flat_map(|(stage, told)| {
            let (stage, len, base_len) = (*stage, told.len, told.base_len);
            let staged = Record::Staged {
                stage,
                len,
                base_len,
            };
            let written = told.written.iter().cloned();
            let wrote = move |range| Record::Wrote { stage, range, len };
            std::iter::once(staged).chain(written.map(wrote))
        })
    }

    fn inode_records(&self) -> impl Iterator<Item = Record> {
        self.inodes.iter().flat_map(|(ino, told)| {
            let (ino, kind, count) = (*ino, told.kind, told.lookups);
            let placed = match told.place.clone() {
                Some(place) => Record::Placed { ino, kind, place },
                None => Record::Unplaced { ino, kind },
            };
            let set = (told.set != SetTold::default()).then(|| Record::Set {
                ino,
                set: told.set.clone(),
            });
            std::iter::once(placed)
                .chain((count > 0).then_some(Record::Lookup { ino, count }))
                .chain(set)
        })
    }

    fn handle_records(&self) -> impl Iterator<Item = Record> {
        let handles = self.handles.iter();
        let opened = handles.map(|(handle, told)| Record::Opened {
            handle: *handle,
            told: told.clone(),
        });
        let dirs = self.dirs.iter().flat_map(|(handle, told)| {
            let (handle, ino, request) = (*handle, told.ino, told.request);
            let opened = Record::DirOpened {
                handle,
                ino,
                request,
            };
            let names = told.names.clone();
            [opened, Record::Listed { handle, names }]
        });
        opened.chain(dirs)
    }
}

impl HandleTold {
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

fn cut(ranges: &mut RangeSet<u64>, len: u64) {
    // No range is empty, not one to take away either.
    if len < u64::MAX {
        ranges.remove(len..u64::MAX);
    }
}

/// Empty ranges are none.
fn insert(ranges: &mut RangeSet<u64>, range: Range<u64>) {
    if range.start < range.end {
        ranges.insert(range);
    }
}

impl Replay for Told {
    type Record = Record;
    const NAME: &'static str = "session";
    const VERSION: u32 = 1;
    const DURABLE: Durable = Durable::No;

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
            Record::Began { request } => {
                self.under_way.insert(request);
            }
            Record::Answered { request } => {
                self.under_way.remove(&request);
            }
            record @ (Record::Placed { .. }
            | Record::Unplaced { .. }
            | Record::Lookup { .. }
            | Record::Forget { .. }
            | Record::Set { .. }
            | Record::Gone { .. }) => self.apply_to_inode(record),
            record @ (Record::Staged { .. }
            | Record::Wrote { .. }
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

    fn records(&self) -> Vec<Record> {
        let session = self.session.clone().map(Record::Session);
        let numbers = Record::Numbers {
            ino: self.last_ino,
            handle: self.last_handle,
        };
        let files = self.files.iter().map(|(ino, file)| Record::File {
            ino: *ino,
            file: file.clone(),
        });
        let under_way = self.under_way.iter();
        let under_way = under_way.map(|request| Record::Began { request: *request });
        session
            .into_iter()
            .chain([numbers])
            .chain(self.inode_records())
            .chain(self.stage_records())
            .chain(files)
            .chain(self.handle_records())
            .chain(under_way)
            .collect()
    }
}
