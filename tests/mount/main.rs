//! The file system through real mounts: one file for each kind of behaviour.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod appends;
mod attribute_versions;
mod cancelled_uploads;
mod directory_attributes;
mod document_examples;
mod full_log;
mod help_topics;
mod inode_numbers;
mod interrupts;
mod late_requests;
mod man_pages;
mod moving_directories;
mod object_headers;
mod opens_in_the_middle;
mod other_clients;
mod panics;
mod privilege_bits;
mod publishing;
mod removal;
mod special_files;
mod state_integrity;
mod subtree_locks;

#[path = "../support/mod.rs"]
mod support;
mod takeover_notifications;
mod takeover_scale;
mod takeover_stuck;
mod takeover_umount;
mod takeover_watchdog;
mod unsupported_calls;
