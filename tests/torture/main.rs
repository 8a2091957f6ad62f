//! Crashes, losses of power, takeovers under load, leaks, fuzz inputs and other projects' suites.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod crash_matrix;
mod fuzz_corpus;
mod handover;
mod leaks;
mod migrate;
mod power_loss;
mod scale;
mod soak;
mod stops_of_successors;
mod suites;
mod takeover_scale;
mod workload;
