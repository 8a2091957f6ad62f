//! What was not moved, and what another run would make of it.

use std::io;
use std::sync::Arc;

use super::operator::Operator;
use super::outcome::{Outcome, outcome_of};
use super::report::{Again, Line, Report};
use super::target_tree::Taken;
use crate::error::{FsError, is_symlink_on_the_way};
use crate::store::{StoreError, StoreErrorKind};

/// Why a name was not moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotMoved {
    pub why: String,
    pub again: Again,
}

/// Of a whole run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failures {
    helps: bool,
    fails: bool,
    replaces: bool,
}

impl NotMoved {
    /// Another run may succeed.
    pub fn now(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            again: Again::Helps,
        }
    }

    pub fn line(self, path: &str) -> Line {
        Line {
            again: self.again,
            ..Line::error(path, self.why)
        }
    }
}

impl From<&FsError> for NotMoved {
    fn from(error: &FsError) -> Self {
        let again = match error {
            FsError::Store(error) => again_after(error),
            FsError::TooLarge(_) | FsError::NameTooLong | FsError::InvalidArgument => Again::Fails,
            _ => Again::Helps,
        };
        let why = error.to_string();
        Self { why, again }
    }
}

/// Of a directory that files are brought into.
impl From<io::Error> for NotMoved {
    fn from(error: io::Error) -> Self {
        let taken = error.get_ref().and_then(|it| it.downcast_ref::<Taken>());
        let (again, why) = match (taken, error.kind()) {
            (Some(Taken::Changed), _) => (Again::Replaces, error.to_string()),
            (Some(Taken::Directory), _) => (Again::Fails, error.to_string()),
            (None, io::ErrorKind::NotADirectory) => {
                (Again::Fails, "a file is in its way here".to_owned())
            }
            (None, io::ErrorKind::DirectoryNotEmpty) => (Again::Fails, error.to_string()),
            _ if is_symlink_on_the_way(&error) => {
                (Again::Fails, "a symlink is in its way here".to_owned())
            }
            _ => (Again::Helps, error.to_string()),
        };
        Self { why, again }
    }
}

impl From<&StoreError> for NotMoved {
    fn from(error: &StoreError) -> Self {
        Self {
            why: error.to_string(),
            again: again_after(error),
        }
    }
}

fn again_after(error: &StoreError) -> Again {
    match error.kind {
        StoreErrorKind::Rejected | StoreErrorKind::TooLarge => Again::Fails,
        _ => Again::Helps,
    }
}

impl Failures {
    /// What a policy refuses is none.
    pub fn add(&mut self, line: &Line) {
        if !line.is_error() || line.odd.is_some() {
            return;
        }
        match line.again {
            Again::Helps => self.helps = true,
            Again::Fails => self.fails = true,
            Again::Replaces => self.replaces = true,
        }
    }

    /// Something failed that has no line of its own, or that was not compared.
    pub fn add_if(&mut self, failed: bool) {
        self.helps |= failed;
    }

    pub fn any(self) -> bool {
        self.helps || self.fails || self.replaces
    }

    /// How a run ends. Nobody is told to run it again where that would replace what is newer.
    pub fn outcome(self, operator: &Arc<dyn Operator>, report: &Report) -> Outcome {
        if self.replaces {
            operator.tell(
                "what somebody else has written meanwhile is kept; the same command would replace it: look at it first, and leave out with --exclude what is to stay",
            );
            return Outcome::NotMoved;
        }
        match self.helps {
            true => Outcome::SomeFailed,
            // Another run would fail too.
            false if self.fails => Outcome::NotMoved,
            false => outcome_of(report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::tests::Quiet;

    #[test]
    fn a_run_that_would_replace_what_is_newer_is_not_asked_for() {
        let operator: Arc<dyn Operator> = Arc::new(Quiet);
        for (again, outcome) in [
            (&[][..], Outcome::Equal),
            (&[Again::Helps, Again::Fails], Outcome::SomeFailed),
            (&[Again::Fails], Outcome::NotMoved),
            (&[Again::Helps, Again::Replaces], Outcome::NotMoved),
        ] {
            let mut report = Report::new(None, Box::new(|_| {}));
            let mut failures = Failures::default();
            for again in again {
                let why = "x".to_owned();
                let line = NotMoved { why, again: *again }.line("a");
                failures.add(&line);
                report.line(&line).unwrap();
            }
            assert_eq!(failures.outcome(&operator, &report), outcome, "{again:?}");
            assert_eq!(failures.any(), !again.is_empty());
        }
    }
}
