//! The original pjdfstest, of which the tests of every run are a port to Rust: thousands of
//! checks of each system call, on every kind of file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use crate::support::Amount;
use crate::support::programs::run_within;
use crate::support::suite::{builder, tool};

const EXPECTED: &str = include_str!("pjdfstest.expected");
const AT_ONCE: usize = 4;

/// Checks of a file, and those that it does not pass.
#[derive(Default)]
struct Checks {
    total: usize,
    failed: Vec<String>,
}

#[test]
fn every_check_passes_but_those_of_listed_files() {
    let mount = builder().start();
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/suites/pjdfstest");
    let is_built = suite.join("pjdfstest").exists();
    assert!(is_built, "no pjdfstest: scripts/suites builds it");
    let files = Mutex::new(files_below(&suite.join("tests")));
    let found = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(file) = files.lock().unwrap().pop() else {
                        return;
                    };
                    let mut shell = tool("sh");
                    shell.current_dir(&mount.root).arg(&file);
                    let output = run_within(Amount::deadline(), &mut shell);
                    let tap = String::from_utf8_lossy(&output.stdout).into_owned();
                    let name = file.display().to_string();
                    found.lock().unwrap().insert(name, checks(&tap));
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    let lines = EXPECTED.lines().filter(|line| !line.starts_with('#'));
    let listed: Vec<&str> = lines.filter_map(|line| line.split(' ').next()).collect();
    let is_listed = |file: &str| listed.iter().any(|it| file.ends_with(it));
    let unlisted = found.iter().filter(|(file, _)| !is_listed(file));
    let wrong =
        unlisted.flat_map(|(file, it)| it.failed.iter().map(move |it| format!("{file}: {it}")));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let total: usize = found.values().map(|it| it.total).sum();
    let failed: usize = found.values().map(|it| it.failed.len()).sum();
    assert!(total > 5000, "only {total} checks ran");
    println!(
        "suite pjdfstest (original): {} files, {total} checks, {failed} failed in {} listed files",
        found.len(),
        listed.len()
    );
    let left: Vec<_> = fs::read_dir(&mount.root).unwrap().collect();
    assert!(left.is_empty(), "left in the mount: {left:?}");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|it| it == "t") {
            files.push(path);
        }
    }
    files
}

/// What a file printed, in lines of TAP.
/// One that is marked TODO is expected to fail on Linux, by the suite itself.
fn checks(tap: &str) -> Checks {
    let mut checks = Checks::default();
    for line in tap.lines() {
        let is_failed = line.starts_with("not ok ");
        checks.total += usize::from(is_failed || line.starts_with("ok "));
        if is_failed && !line.contains("# TODO") {
            checks.failed.push(line.to_owned());
        }
    }
    checks
}
