//! A bucket that means harm: whatever its keys, metadata, sizes, ETags and XML
//! are, the mount stays inside itself, answers in time, and stays small.

mod attributes;
mod bytes;
mod keys;
mod listings;
mod mount;
mod writes;
