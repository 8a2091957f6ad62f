//! The file system through real mounts: one file for each kind of behaviour.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod interrupts;

#[path = "../support/mod.rs"]
mod support;
