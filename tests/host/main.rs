//! The machine around a mount: systemd, fstab, containers, installing, privileges.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod attach;
mod containers;
mod csi;
mod document_examples;
mod fstab;
mod install;
mod materialize;
mod metrics;
mod overlay;
mod packages;
mod privileges;
mod service;
mod setup_story;
mod status_page;
mod story_authentik;
mod systemd;
