//! mediafs: an S3 bucket as an application's media directory.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

pub mod error;
pub mod fuse;
pub mod namespace;
pub mod ops;
pub mod read_path;
pub mod store;
pub mod write_path;
