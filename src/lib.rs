//! mediafs: an S3 bucket as an application's media directory.

pub mod error;
pub mod store;
