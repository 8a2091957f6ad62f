//! How far the import has come, for whoever asks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Names that are told.
const NAMED_LIMIT: usize = 20;
/// The rate is that of so long.
const RATE_OF: Duration = Duration::from_secs(30);

/// A file that was not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub path: String,
    #[serde(rename = "error")]
    pub why: String,
}

/// What is told of an import.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ImportState {
    /// Every object was verified: the old directory is not needed any more.
    #[serde(rename = "ended")]
    pub is_ended: bool,
    /// False until the old directory was walked once.
    #[serde(rename = "counted")]
    pub is_counted: bool,
    pub files_left: u64,
    pub bytes_left: u64,
    /// By this daemon.
    pub files_sent: u64,
    pub bytes_sent: u64,
    /// Of the last `RATE_OF`.
    pub bytes_per_second: u64,
    /// Of the last walk.
    pub failed: u64,
    pub failures: Vec<Failed>,
    /// Neither files nor directories, or names that are not UTF-8: they are not shown.
    pub odd: u64,
    pub odd_names: Vec<String>,
    /// Files that were changed in the old directory after they were sent.
    pub changed: u64,
    pub changed_names: Vec<String>,
    /// Files that a program has open for writing: they are sent once it has closed them.
    #[serde(default)]
    pub open: u64,
    #[serde(default)]
    pub open_names: Vec<String>,
    /// Changes of the old directory that were seen by the kernel's word.
    pub outside_changes: u64,
    pub outside_names: Vec<String>,
    /// Who still sees the old directory, for which the import waits.
    #[serde(default)]
    pub waits_for: Vec<String>,
}

impl ImportState {
    /// Seconds, where the rate tells.
    pub fn eta_seconds(&self) -> Option<u64> {
        (self.bytes_per_second > 0).then(|| self.bytes_left.div_ceil(self.bytes_per_second))
    }
}

#[derive(Debug, Default)]
pub struct Progress(Mutex<Import>);

#[derive(Debug, Default)]
struct Import {
    state: ImportState,
    /// What was sent when.
    sent: VecDeque<(Instant, u64)>,
    /// Whether the overlay had ended when a change was told of last.
    told_at_end: Option<bool>,
}

impl Import {
    fn rate(&mut self) -> u64 {
        while self
            .sent
            .front()
            .is_some_and(|(at, _)| at.elapsed() > RATE_OF)
        {
            self.sent.pop_front();
        }
        let Some((first, _)) = self.sent.front() else {
            return 0;
        };
        let bytes: u64 = self.sent.iter().map(|(_, bytes)| bytes).sum();
        let seconds = first.elapsed().as_secs_f64().max(1.0);
        (bytes as f64 / seconds) as u64
    }
}

impl Progress {
    pub fn now(&self) -> ImportState {
        let mut inner = self.0.lock();
        let bytes_per_second = inner.rate();
        ImportState {
            bytes_per_second,
            ..inner.state.clone()
        }
    }

    /// The import does not begin yet.
    pub fn waits_for(&self, who: Vec<String>) {
        let limited = who.into_iter().take(NAMED_LIMIT);
        self.0.lock().state.waits_for = limited.collect();
    }

    /// A walk begins, which finds so much to do.
    pub fn begin_walk(&self, files: u64, bytes: u64, odd: Vec<String>) {
        let mut inner = self.0.lock();
        let state = &mut inner.state;
        state.is_counted = true;
        (state.files_left, state.bytes_left) = (files, bytes);
        (state.failed, state.changed, state.open) = (0, 0, 0);
        state.failures.clear();
        state.changed_names.clear();
        state.open_names.clear();
        state.odd = odd.len() as u64;
        state.odd_names = odd.into_iter().take(NAMED_LIMIT).collect();
    }

    /// A file of so many bytes is done with, by whoever.
    pub fn done(&self, bytes: u64) {
        let state = &mut self.0.lock().state;
        state.files_left = state.files_left.saturating_sub(1);
        state.bytes_left = state.bytes_left.saturating_sub(bytes);
    }

    pub fn sent(&self, bytes: u64) {
        let mut inner = self.0.lock();
        inner.state.files_sent += 1;
        inner.state.bytes_sent += bytes;
        inner.sent.push_back((Instant::now(), bytes));
    }

    pub fn failed(&self, path: &str, why: String) {
        let state = &mut self.0.lock().state;
        state.failed += 1;
        if state.failures.len() < NAMED_LIMIT {
            let path = path.to_owned();
            state.failures.push(Failed { path, why });
        }
    }

    pub fn changed(&self, path: &str) {
        let state = &mut self.0.lock().state;
        state.changed += 1;
        if state.changed_names.len() < NAMED_LIMIT {
            state.changed_names.push(path.to_owned());
        }
    }

    pub fn open(&self, path: &str) {
        let state = &mut self.0.lock().state;
        state.open += 1;
        if state.open_names.len() < NAMED_LIMIT {
            state.open_names.push(path.to_owned());
        }
    }

    /// Returns whether it is the first one, before the end or after it.
    pub fn changed_outside(&self, path: String) -> bool {
        let mut inner = self.0.lock();
        let is_first = inner.told_at_end != Some(inner.state.is_ended);
        inner.told_at_end = Some(inner.state.is_ended);
        let state = &mut inner.state;
        state.outside_changes += 1;
        if state.outside_names.len() < NAMED_LIMIT && !state.outside_names.contains(&path) {
            state.outside_names.push(path);
        }
        is_first
    }

    pub fn end(&self) {
        let state = &mut self.0.lock().state;
        state.is_ended = true;
        (state.files_left, state.bytes_left) = (0, 0);
    }
}
