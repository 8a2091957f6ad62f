//! The original pjdfstest, of which the tests of every run are a port to Rust: thousands of
//! checks of each system call, on every kind of file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::Amount;
use crate::support::programs::{run_within, said};
use crate::support::suite::{builder, tool};

const EXPECTED: &str = include_str!("pjdfstest.expected");
const JOBS: &str = "4";

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
    let results = mount.scratch().join("results");
    let mut prove = tool("prove");
    prove
        .current_dir(&mount.root)
        .args(["--recurse", "--jobs", JOBS, "--archive"])
        .arg(&results)
        .arg(suite.join("tests"));
    let told = said(&run_within(Amount::deadline(), &mut prove));
    let mut found = BTreeMap::new();
    read_results(&results, &results, &mut found);
    let lines = EXPECTED.lines().filter(|line| !line.starts_with('#'));
    let listed: Vec<&str> = lines.filter_map(|line| line.split(' ').next()).collect();
    let is_listed = |file: &str| listed.iter().any(|it| file.ends_with(it));
    let unlisted = found.iter().filter(|(file, _)| !is_listed(file));
    let wrong =
        unlisted.flat_map(|(file, it)| it.failed.iter().map(move |it| format!("{file}: {it}")));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{told}\n{}", wrong.join("\n"));
    let total: usize = found.values().map(|it| it.total).sum();
    let failed: usize = found.values().map(|it| it.failed.len()).sum();
    assert!(total > 5000, "only {total} checks ran: {told}");
    println!(
        "suite pjdfstest (original): {} files, {total} checks, {failed} failed in {} listed files",
        found.len(),
        listed.len()
    );
    let left: Vec<_> = fs::read_dir(&mount.root).unwrap().collect();
    assert!(left.is_empty(), "left in the mount: {left:?}");
}

/// Reads what `prove --archive` has kept of each file: lines of TAP.
fn read_results(root: &Path, folder: &Path, found: &mut BTreeMap<String, Checks>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_results(root, &path, found);
        } else if path.extension().is_some_and(|it| it == "t") {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(name, checks(&fs::read_to_string(&path).unwrap()));
        }
    }
}

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
