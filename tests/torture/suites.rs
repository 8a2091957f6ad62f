//! Suites and programs that others wrote, run on a real mount.
//!
//! Each test prints its figures in a line that starts with `suite `.

mod archives;
mod backups;
mod copies;
mod django;
mod editors;
mod fio;
mod fsx;
mod http;
mod logrotate;
mod media;
mod nginx;
mod php;
mod pjdfstest;
mod samba;
mod sqlite;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Amount;
use crate::support::programs::{run_within, said};
use crate::support::{Mount, MountBuilder, Server};

/// What an application may expect of a local directory, for every user.
const OPTIONS: [&str; 3] = ["--allow-other", "--attributes", "stored"];

fn builder() -> MountBuilder {
    Mount::builder().args(OPTIONS).within(Amount::deadline())
}

/// On a server that keeps what is stored with directories.
fn builder_with_directories() -> MountBuilder {
    let builder = Mount::on(Server::moto());
    builder.args(OPTIONS).within(Amount::deadline())
}

/// A program that `cargo install` has put where the scripts keep the suites.
fn suite(name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/suites/bin");
    program_at(path.join(name))
}

/// A program of the system.
fn tool(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
    program_at(
        places
            .find(|place| place.exists())
            .unwrap_or_else(|| name.into()),
    )
}

fn program_at(path: PathBuf) -> Command {
    assert!(
        path.exists(),
        "no {}: run scripts/test once, it installs what the tests need",
        path.display()
    );
    let mut command = Command::new(path);
    // A panic of a suite is told in one line.
    command.env("RUST_BACKTRACE", "0").env("LC_ALL", "C");
    command
}

/// Runs a program that must end with 0, and returns what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = run_within(Amount::deadline(), command);
    let told = said(&output);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{told}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}
