//! Programs that are too big to be installed for every run, on a real mount:
//! `scripts/suites` runs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod backups;
mod media;
mod pjdfstest;
mod samba;
