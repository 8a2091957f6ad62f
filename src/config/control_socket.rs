//! Where a mount answers who asks how it is.

use std::path::{Path, PathBuf};

use super::NO_PATH;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlSocketConfig {
    /// In the directory of the user who mounts.
    Default,
    /// Absolute.
    At(PathBuf),
    None,
}

impl ControlSocketConfig {
    pub(super) fn resolve(given: Option<PathBuf>) -> Self {
        match given {
            None => Self::Default,
            Some(none) if none == Path::new(NO_PATH) => Self::None,
            Some(path) => Self::At(path),
        }
    }
}
