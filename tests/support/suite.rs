//! Programs that others wrote, and the mount that they run on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs::{run_python, run_within, said};
use super::{Amount, Mount, MountBuilder, Server};

/// What an application may expect of a local directory, for every user.
const OPTIONS: [&str; 3] = ["--allow-other", "--attributes", "stored"];

pub fn builder() -> MountBuilder {
    Mount::builder().args(OPTIONS).within(Amount::deadline())
}

/// On a server that keeps what is stored with directories.
pub fn builder_with_directories() -> MountBuilder {
    let builder = Mount::on(Server::moto());
    builder.args(OPTIONS).within(Amount::deadline())
}

/// A program that `cargo install` has put where the scripts keep the suites.
pub fn suite(name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/suites/bin");
    program_at(path.join(name))
}

/// A program of the system.
pub fn tool(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
    program_at(
        places
            .find(|place| place.exists())
            .unwrap_or_else(|| name.into()),
    )
}

pub fn program_at(path: PathBuf) -> Command {
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
pub fn run(command: &mut Command) -> String {
    let output = run_within(Amount::deadline(), command);
    let told = said(&output);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{told}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a folder of files of many lengths, modes and dates below `$1`, `$2` in number.
const TREE: &str = r#"
import os, pathlib, random, sys
root, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
random.seed(1)
for number in range(count):
    path = root / f"d{number % 7}" / f"e{number % 3}" / f"file {number:04}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.randbytes(random.choice([0, 1, 100, 4096, 70000])))
    path.chmod(random.choice([0o644, 0o755, 0o600, 0o444]))
    os.utime(path, (1_500_000_000, 1_400_000_000 + number * 86_400))
(root / "empty").mkdir()
# A folder's time lasts where it was set, and rsync sets what differs by a second.
for folder in [root, *root.rglob("*/")]:
    os.utime(folder, (1_500_000_000, 1_450_000_000))
"#;

/// Files of `make_tree`.
pub fn files() -> usize {
    Amount::of(60, 1000)
}

/// A new folder of files of many lengths, modes and dates.
pub fn make_tree(root: &Path) {
    fs::create_dir(root).unwrap();
    run_python(TREE, &[root, Path::new(&files().to_string())]);
}
