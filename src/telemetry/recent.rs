//! The last warnings and errors that were logged, for whoever asks how a mount is.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::record::Record;

const LINES_LIMIT: usize = 20;
/// What a line has beyond is cut off.
const TEXT_LIMIT_BYTES: usize = 1000;

/// Of this process, as the subscriber of `tracing` is.
static RECENT: Recent = Recent(Mutex::new(VecDeque::new()));

struct Recent(Mutex<VecDeque<RecentLine>>);

/// A warning or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentLine {
    pub at: SystemTime,
    /// In capitals.
    pub level: &'static str,
    pub text: String,
}

/// The last of them, oldest first.
pub fn recent_lines() -> Vec<RecentLine> {
    RECENT.lines()
}

pub(super) fn keep(record: &Record) {
    RECENT.keep(record);
}

impl Recent {
    fn lines(&self) -> Vec<RecentLine> {
        self.0.lock().iter().cloned().collect()
    }

    fn keep(&self, record: &Record) {
        let mut text = record.text();
        if text.len() > TEXT_LIMIT_BYTES {
            text.truncate(text.floor_char_boundary(TEXT_LIMIT_BYTES));
            text.push_str(" ...");
        }
        let mut recent = self.0.lock();
        if recent.len() == LINES_LIMIT {
            recent.pop_front();
        }
        recent.push_back(RecentLine {
            at: record.at,
            level: record.level.as_str(),
            text,
        });
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn no_more_lines_are_kept_than_the_limit_and_none_is_longer() {
        let recent = Recent(Mutex::default());
        for _ in 0..LINES_LIMIT + 3 {
            recent.keep(&Record::new(Level::WARN, "x".repeat(5000)));
        }
        let lines = recent.lines();
        assert_eq!(lines.len(), LINES_LIMIT);
        assert!(lines.iter().all(|line| line.text.len() < 1100));
    }
}
