//! Files that S3 does not have as they are here.

use std::sync::Arc;
use std::time::SystemTime;

use crate::files::{OpenFile, OpenFiles};
use crate::namespace::InodeTable;
use crate::vocabulary::Ino;
use crate::write_path::StageFile;

/// Files that are named one by one, oldest first; the rest is counted.
const NAMED_LIMIT: usize = 20;

/// How far the bytes of a file have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnsentState {
    /// A program is writing it: neither closed nor synced since.
    Writing,
    /// It waits for its turn, or for the next attempt.
    Queued,
    Uploading,
    /// The upload failed for good, and it is still open.
    Failed(String),
}

/// One such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsentFile {
    /// Below the mountpoint.
    pub path: String,
    pub state: UnsentState,
    pub size_bytes: u64,
    /// When it was changed last.
    pub since: Option<SystemTime>,
}

/// Files in one state.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    pub files: usize,
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// All of them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unsent {
    pub writing: Amount,
    pub queued: Amount,
    pub uploading: Amount,
    pub failed: Amount,
    /// Of some, which are none of these any more, the bytes are on their way to lost+found.
    pub is_losing: bool,
    /// The first of them, oldest first.
    pub named: Vec<UnsentFile>,
}

impl Unsent {
    pub fn files(&self) -> usize {
        self.writing.files + self.queued.files + self.uploading.files + self.failed.files
    }

    fn amount_mut(&mut self, state: &UnsentState) -> &mut Amount {
        match state {
            UnsentState::Writing => &mut self.writing,
            UnsentState::Queued => &mut self.queued,
            UnsentState::Uploading => &mut self.uploading,
            UnsentState::Failed(_) => &mut self.failed,
        }
    }
}

/// One file, and its oldest stage.
struct Found {
    file: Arc<OpenFile>,
    state: UnsentState,
    size_bytes: u64,
    oldest: Arc<StageFile>,
}

/// Those below an inode, or it itself.
pub fn unsent(files: &OpenFiles, table: &InodeTable, below: Ino) -> Unsent {
    let all = files.all().into_iter();
    let within = all.filter(|file| table.is_within(file.inode.ino, below));
    let mut found: Vec<Found> = within.filter_map(look_at).collect();
    // Their numbers grow.
    found.sort_unstable_by_key(|it| it.oldest.id());
    let mut unsent = Unsent::default();
    for Found {
        state, size_bytes, ..
    } in &found
    {
        unsent.amount_mut(state).add(*size_bytes);
    }
    let named = found.into_iter().take(NAMED_LIMIT);
    // After the look at the files: none is missed in between.
    unsent.is_losing = files.are_leaving();
    unsent.named = named
        .map(|it| UnsentFile {
            path: path_of(table, it.file.inode.ino),
            state: it.state,
            size_bytes: it.size_bytes,
            since: it.oldest.modified(),
        })
        .collect();
    unsent
}

/// None for a file that S3 has, and for one without a name.
fn look_at(file: Arc<OpenFile>) -> Option<Found> {
    let is_uploading = file.upload_lock.is_locked();
    // Under one lock: a stage that is sealed meanwhile must not be missed.
    let content = file.content.lock();
    if content.is_nameless() {
        return None;
    }
    let staged = content.stage.as_ref().filter(|_| content.dirty);
    let sealed = std::iter::successors(content.base.sealed(), |it| it.base.sealed()).last();
    let state = match (&content.failed, staged, sealed) {
        (Some(error), Some(_), _) if content.handles > 0 => UnsentState::Failed(error.to_string()),
        // It is about to be in lost+found.
        (Some(_), Some(_), _) => UnsentState::Queued,
        (_, _, Some(_)) if is_uploading => UnsentState::Uploading,
        (_, _, Some(_)) => UnsentState::Queued,
        (None, Some(_), None) => UnsentState::Writing,
        (_, None, None) => return None,
    };
    let first = sealed.map(|sealed| &sealed.stage).or(staged)?;
    let oldest = first.file().clone();
    let size_bytes = match staged {
        Some(stage) => stage.len(),
        None => content.base.len(),
    };
    drop(content);
    Some(Found {
        file,
        state,
        size_bytes,
        oldest,
    })
}

/// Below the mountpoint; empty for the root.
pub fn path_of(table: &InodeTable, ino: Ino) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut at = ino;
    while let Some((parent, name)) = table.place(at) {
        names.push(name.as_str().to_owned());
        at = parent;
    }
    names.reverse();
    names.join("/")
}
