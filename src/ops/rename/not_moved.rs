//! How far a rename came that has failed.

use crate::error::FsError;
use crate::store::ETag;
use crate::vocabulary::ObjectVersion;

/// Why a rename failed.
#[derive(Debug)]
pub struct NotMoved {
    pub error: FsError,
    pub left: Left,
}

/// What the rename has left under the new name.
#[derive(Debug)]
pub enum Left {
    Nothing,
    /// A copy of the original, which S3 has not deleted.
    Copy {
        original: ObjectVersion,
        copy: ETag,
    },
    /// Nobody can tell: the only object may be under either name.
    Unknown,
}

impl NotMoved {
    /// Before anything was sent that may make the new name.
    pub fn untouched(error: FsError) -> Self {
        let left = Left::Nothing;
        Self { error, left }
    }

    pub fn unknown(error: FsError) -> Self {
        let left = Left::Unknown;
        Self { error, left }
    }

    /// Once the copy was made.
    pub fn copied(error: FsError, original: ObjectVersion, copy: ETag) -> Self {
        let left = match error.may_be_applied() {
            true => Left::Unknown,
            false => Left::Copy { original, copy },
        };
        Self { error, left }
    }
}

/// Before a copy was made.
impl From<FsError> for NotMoved {
    fn from(error: FsError) -> Self {
        let left = match error.may_be_applied() {
            true => Left::Unknown,
            false => Left::Nothing,
        };
        Self { error, left }
    }
}

impl From<NotMoved> for FsError {
    fn from(not_moved: NotMoved) -> Self {
        not_moved.error
    }
}
