//! The file system through real mounts: one file for each kind of behaviour.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod appends;
mod attribute_versions;
mod authentik;
mod bulk;
mod cancelled_uploads;
mod copies;
mod directories;
mod directory_attributes;
mod document_examples;
mod durability;
mod failures;
mod faults;
mod files;
mod full_log;
mod help_topics;
mod hostile;
mod inode_numbers;
mod integrity;
mod interop;
mod interrupts;
mod large_files;
mod late_requests;
mod limits;
mod man_pages;
mod model;
mod moto;
mod mount_errors;
mod mounting;
mod moving_directories;
mod names;
mod object_headers;
mod odd_files;
mod opens_in_the_middle;
mod other_clients;
mod outage;
mod panics;
mod permissions;
mod posix;
mod privilege_bits;
mod publishing;
mod refused_closes;
mod removal;
mod renames;
mod secrets;
mod shutdown;
mod sparse_files;
mod special_files;
mod spool;
mod spool_place;
mod spool_place_takeover;
mod state_integrity;
mod stored_attributes;
mod subtree_locks;
mod support_works;
mod takeover_notifications;
mod takeover_stuck;
mod takeover_umount;
mod takeover_watchdog;
mod two_mounts;
mod unsupported_calls;
mod uploads;
