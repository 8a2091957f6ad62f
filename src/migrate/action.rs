//! The steps of a plan.

use serde::{Deserialize, Serialize};

use super::entry::{Object, Stat};
use super::report::{Line, Symbol};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The object takes the file's bytes; `etag` is the version that it has.
    Send {
        path: String,
        size_bytes: u64,
        etag: Option<String>,
    },
    /// The object of the other bucket is brought into this one, where `etag` is the version
    /// that it takes the place of.
    Copy {
        object: Object,
        etag: Option<String>,
    },
    /// A directory gets its marker; `etag` is the one that it has.
    Mark {
        path: String,
        etag: Option<String>,
    },
    /// The file takes the object's bytes.
    Fetch {
        object: Object,
        replaces: Option<Stat>,
    },
    MakeDirectory {
        path: String,
    },
    /// One that the bucket does not have, once what was in it is removed.
    RemoveDirectory {
        path: String,
    },
    DeleteObject(Object),
    DeleteFile {
        path: String,
        stat: Stat,
    },
    /// An export that was killed has left it.
    RemoveUnfinished {
        path: String,
    },
}

impl Action {
    pub fn path(&self) -> &str {
        match self {
            Self::Send { path, .. }
            | Self::Mark { path, .. }
            | Self::MakeDirectory { path }
            | Self::RemoveDirectory { path }
            | Self::RemoveUnfinished { path }
            | Self::DeleteFile { path, .. } => path,
            Self::Fetch { object, .. } | Self::Copy { object, .. } | Self::DeleteObject(object) => {
                &object.path
            }
        }
    }

    /// How the name stands before it.
    pub fn line(&self) -> Line {
        let (symbol, bytes) = match self {
            Self::Send {
                size_bytes, etag, ..
            } => match etag {
                None => (Symbol::OnlyHere, *size_bytes),
                Some(_) => (Symbol::Different, *size_bytes),
            },
            Self::Copy { object, etag } => match etag {
                None => (Symbol::OnlyHere, object.size_bytes),
                Some(_) => (Symbol::Different, object.size_bytes),
            },
            Self::Fetch { object, replaces } => match replaces {
                None => (Symbol::OnlyThere, object.size_bytes),
                Some(_) => (Symbol::Different, object.size_bytes),
            },
            Self::Mark { etag: Some(_), .. } => (Symbol::Different, 0),
            Self::Mark { .. } | Self::RemoveUnfinished { .. } | Self::RemoveDirectory { .. } => {
                (Symbol::OnlyHere, 0)
            }
            Self::MakeDirectory { .. } => (Symbol::OnlyThere, 0),
            Self::DeleteObject(object) => (Symbol::OnlyThere, object.size_bytes),
            Self::DeleteFile { stat, .. } => (Symbol::OnlyHere, stat.size_bytes),
        };
        Line::new(symbol, self.path(), bytes)
    }

    pub fn is_delete(&self) -> bool {
        matches!(self, Self::DeleteObject(_) | Self::DeleteFile { .. })
    }
}
