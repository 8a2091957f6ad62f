//! What the integration tests stand on: real S3 servers, a client of them that
//! shares no code with the daemon, and the daemon's binary mounted for real.
//!
//! A test file starts with `mod support;` and usually says
//! `let mount = Mount::fresh();`: a bucket of its own on this binary's server,
//! mounted on a folder of its own, unmounted when the value is dropped.
//! No call here blocks for ever: waits have a deadline, and a watchdog kills a
//! daemon that outlives its test's time, which wakes whatever is stuck in it.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

pub mod amount;
pub mod blocked;
pub mod browser;
pub mod bucket_removal;
pub mod client;
pub mod collector;
pub mod container;
pub mod control;
pub mod csi;
pub mod data;
pub mod disk;
pub mod examples;
pub mod forward_proxy;
pub mod frozen;
pub mod garage;
pub mod hostile;
pub mod late;
pub mod line;
pub mod machine;
pub mod metrics;
pub mod migration;
pub mod mount;
pub mod notify;
pub mod plan;
pub mod podman;
pub mod processes;
pub mod programs;
pub mod proxy;
pub mod quirks;
pub mod requests;
pub mod rule;
pub mod servers;
pub mod service;
pub mod spool;
pub mod suite;
pub mod supervised_mount;
pub mod sys;
pub mod tls_front;
pub mod web_server;
pub mod wire;
pub mod worker;

pub use amount::Amount;
pub use client::Client;
pub use data::{pattern, sha256};
pub use disk::{DiskKind, SmallDisk};
pub use machine::Machine;
pub use migration::Migration;
pub use mount::Mount;
pub use plan::{DURABILITIES, MountBuilder, WAITS_FOR_LATE};
pub use programs::{python, run_python, wait_until};
pub use servers::Server;
pub use supervised_mount::SupervisedMount;
pub use worker::Worker;
