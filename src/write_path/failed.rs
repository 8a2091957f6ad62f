//! Why an upload failed, and what the store may have done all the same.

use crate::error::FsError;
use crate::store::{StoreError, StoreErrorKind, StoreOp};

/// Why an upload failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub error: FsError,
    /// The store may have applied it all the same.
    pub outcome_unknown: bool,
}

impl Failed {
    /// Whether the upload was to be completed while another write of the key was under way.
    pub fn is_write_conflict(&self) -> bool {
        match &self.error {
            FsError::Store(error) => {
                error.kind == StoreErrorKind::Conflict && error.op == StoreOp::CompleteMultipart
            }
            _ => false,
        }
    }
}

impl From<FsError> for Failed {
    fn from(error: FsError) -> Self {
        Self {
            error,
            outcome_unknown: false,
        }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self {
            outcome_unknown: error.maybe_applied,
            error: error.into(),
        }
    }
}
