//! `mediafs doctor`: what a mount needs, asked of this host and of the bucket, one line each.
//!
//! Owns: the checks, their order and their words. It writes scratch objects under the
//! mount's own prefix, and takes the spool's directory away from other users, as a mount
//! does. Must not know: how the report is printed.

mod bucket;
mod checksums;
mod containers;
mod host;
mod keys;
mod left;
mod mountpoint;
mod objects;
mod permissions;
mod scratch;

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::config::{Config, config_files, in_words};

pub use scratch::LeftScratch;

/// What to do where the store said nothing to a question.
const NO_ANSWER: &str = "run it again; if it stays so, look at the store's own log and at the network between it and this host";

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// It works, with less than it could.
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check; stable.
    pub check: &'static str,
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to type or to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Whether there is a mountpoint to look at, or only a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Mount,
    Bucket,
    /// A bucket, by a word that could be the name of a mount and is none.
    Word,
}

/// What is looked at, and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Examination {
    pub scope: Scope,
    pub extent: Extent,
    pub left_scratch: LeftScratch,
}

/// How many objects are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The first ones.
    Sample,
    /// All: a request for each.
    All,
}

impl Extent {
    /// How many of those are named that have a fault.
    fn named_limit(self) -> usize {
        match self {
            Self::Sample => 3,
            Self::All => 1000,
        }
    }
}

/// The lines of a report, in their order.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(check, State::Ok, found, None);
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(check, State::Warn, found, Some(advice.into()));
    }

    fn fail(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(check, State::Fail, found, Some(advice.into()));
    }

    fn add(
        &mut self,
        check: &'static str,
        state: State,
        found: impl Into<String>,
        advice: Option<String>,
    ) {
        let found = found.into();
        self.0.push(Finding {
            check,
            state,
            found,
            advice,
        });
    }
}

/// Asks everything. Errors: only what keeps it from asking at all.
pub fn examine(config: &Config, asked: Examination) -> anyhow::Result<Vec<Finding>> {
    if config.read_only && asked.left_scratch == LeftScratch::Delete {
        anyhow::bail!(
            "--delete-scratch deletes, and a read-only mount may not: leave --read-only away"
        );
    }
    let mut report = Findings::default();
    for note in config.capped.iter().chain(&config.notes) {
        report.warn("configuration", note.clone(), "change the setting");
    }
    if asked.scope == Scope::Word {
        let files = in_words(&config_files(&config.bucket));
        let bucket = &config.bucket;
        let found = format!("understood; there is no {files}: {bucket} was taken for a bucket");
        report.ok("configuration", found);
    } else if report.0.is_empty() {
        report.ok("configuration", "understood");
    }
    host::examine(config, &mut report);
    if asked.scope == Scope::Mount {
        mountpoint::examine(config, &mut report);
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(bucket::examine(config, asked, &mut report));
    Ok(report.0)
}

/// A path, as a message has it.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
