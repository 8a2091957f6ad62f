//! A bucket that means harm: whatever its keys, metadata, sizes, ETags and XML
//! are, the mount stays inside itself, answers in time, and stays small.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

#[path = "hostile/attributes.rs"]
mod attributes;
#[path = "hostile/bytes.rs"]
mod bytes;
#[path = "hostile/keys.rs"]
mod keys;
#[path = "hostile/listings.rs"]
mod listings;
#[path = "hostile/mount.rs"]
mod mount;
#[path = "hostile/writes.rs"]
mod writes;
