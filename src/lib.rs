//! mediafs: an S3 bucket as an application's media directory.
//!
//! Layers, each importing only what is right of it:
//! `main -> cli -> session -> fuse -> ops -> {namespace, read_path, write_path} -> store`.
//!
//! Invariants:
//! - One file is one object under prefix + path; nothing else is in the bucket
//!   but markers of empty directories.
//! - Bytes leave the spool when S3 has confirmed them, never before.
//! - An object is visible whole or not at all.
//! - No read mixes two versions of an object.
//! - No FUSE thread waits for S3; no lock but those named in `ops` is held across a request.
//!
//! Glossary: a *block* is cached, a *part* is uploaded, a *stage* is local and
//! not yet in S3; to *seal* a stage is to fix its bytes for an upload; a
//! *marker* is the zero-byte object `dir/` of an empty directory.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

pub mod cli;
pub mod config;
pub mod error;
pub mod failpoint;
pub mod fuse;
pub mod journal;
pub mod namespace;
pub mod ops;
pub mod private;
pub mod read_path;
pub mod session;
pub mod session_state;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod vocabulary;
pub mod write_path;
