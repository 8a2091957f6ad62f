//! What every job has: its places, its choices, its operator.

use std::path::Path;
use std::sync::Arc;

use super::judge::Comparison;
use super::odd_policy::OddPolicies;
use super::operator::Operator;
use super::selection::Selection;
use super::walk::Symlinks;
use crate::config::Config;

/// Where the files of a directory are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Directory,
    /// Under the mount on it. What is stored is what programs see: it is not replaced.
    Hidden,
}

/// What is common to all jobs.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub config: &'a Config,
    /// Absolute.
    pub directory: &'a Path,
    pub source: Source,
    pub selection: &'a Selection,
    pub symlinks: Symlinks,
    pub odd: OddPolicies,
    pub comparison: Comparison,
    pub allow_empty: bool,
    /// Though something else should be mounted on the directory.
    pub allow_unmounted: bool,
    pub operator: &'a Arc<dyn Operator>,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Job").field(&self.directory).finish()
    }
}
