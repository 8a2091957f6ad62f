//! A directory and a bucket, or two buckets: compared, and one made like the other.
//!
//! Owns: the walk, the plan, transfers, the checkpoint, the report, the guards. The
//! plan comes first and changes nothing; the report says of each name how it stands.
//! Must not know: how a report is printed, how an operator is asked.
//!
//! - Equality is by checksum: what a listing tells (an ETag that is an MD5, or one of
//!   parts), then what HEAD tells, then the bytes.
//! - Every change of the bucket carries the version that the plan saw: what an
//!   application writes meanwhile is never overwritten.
//! - A file is read as it was at one time, or not sent.
//! - Memory grows with the names of one directory alone: the listing is sorted on disk,
//!   the walk is in the same order, and what is to be done is a list on disk.
//! - Nothing is deleted where a part of the directory could not be looked at.

mod action;
mod checkpoint;
mod connect;
mod delete_objects;
mod described;
mod directories;
mod entry;
mod export;
mod export_run;
mod failures;
mod fetch;
mod guards;
mod import;
mod job;
mod judge;
mod judge_others;
mod listing;
mod local_file;
mod manifest;
mod marked;
mod merge;
mod move_objects;
mod move_plan;
mod mover;
mod moving;
mod named;
mod object_judge;
mod object_types;
mod obstacles;
mod odd_policy;
mod operator;
mod outbox;
mod outcome;
mod places;
mod plan;
mod plan_counts;
mod plan_one_side;
mod proof;
mod report;
mod run;
mod selection;
mod send;
mod sent_bytes;
mod spill;
mod sums;
mod target_tree;
mod throttle;
mod transfers;
mod unfinished;
mod unplaced;
mod unproved;
mod upload_source;
mod verify;
mod walk;

pub use entry::Odd;
pub use export::export;
pub use guards::{Force, Refused, outside, resolved};
pub use import::import;
pub use job::{Job, Source};
pub use judge::Comparison;
pub use manifest::verify_manifest;
pub use move_objects::{MoveJob, move_objects};
pub use moving::MoveSettings;
pub use object_types::Wrong;
pub use odd_policy::{HardLinks, OddPolicies, OddPolicy, Specials};
pub use operator::Operator;
pub use outcome::Outcome;
pub use plan_counts::{Extra, PlanCounts, Sides};
pub use report::{Done, Line, Report, Symbol, Tally};
pub use run::Summary;
pub use selection::Selection;
pub use verify::{VerifySettings, verify};
pub use walk::Symlinks;

#[cfg(test)]
mod tests;
