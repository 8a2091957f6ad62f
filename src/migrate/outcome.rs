//! How a job ends.

use serde::Serialize;

use super::report::{Report, Symbol};

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All is equal, and proved.
    Equal,
    Differences,
    /// Some were not moved: another run goes on.
    SomeFailed,
    /// Some were not moved, and another run would fail too, or replace what is newer.
    NotMoved,
    /// It was not approved.
    Declined,
    Interrupted,
}

impl Outcome {
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Equal => 0,
            Self::Differences | Self::NotMoved => 3,
            Self::SomeFailed => 4,
            Self::Declined => 5,
            Self::Interrupted => 6,
        }
    }
}

/// Where everything was done that could be.
pub fn outcome_of(report: &Report) -> Outcome {
    match report.counts.errors.names + report.counts.different.names {
        0 => Outcome::Equal,
        _ => Outcome::Differences,
    }
}

/// Where every name was compared.
pub fn outcome_of_all(report: &Report) -> Outcome {
    let differs = |symbol: &Symbol| report.counts.of(*symbol).names > 0;
    if Symbol::ALL.iter().skip(1).any(differs) {
        Outcome::Differences
    } else {
        Outcome::Equal
    }
}
