//! pjdfstest: what POSIX says of each system call, as root and as other users.
//!
//! `pjdfstest.expected` lists what fails, is skipped or varies, and why. A test
//! that is not listed must pass, and a listed one must do what its line says.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::Amount;
use crate::support::Mount;
use crate::support::programs::{run_within, said};
use crate::support::suite::{builder, suite};

const EXPECTED: &str = include_str!("pjdfstest.expected");

/// Users that every Debian has; the second file system is for EXDEV.
const CONFIG: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
secondary_fs = "SECOND"

[settings]
naptime = 0.01
allow_remount = false

[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passes,
    Fails,
    Skipped,
    /// Expected only: passes or fails, by the timing of the test itself.
    Varies,
}

/// What pjdfstest calls to remount read-only and back: without a program of
/// the file system's own, which there is none for a remount.
const MOUNT: &str = "#!/bin/sh
PATH=${PATH#*:} exec mount --internal-only \"$@\"
";

#[test]
fn every_test_passes_but_those_listed_with_a_reason() {
    let mount = builder().start();
    let told = pjdfstest(&mount, CONFIG, &[]);
    // Apart: a file that another test leaves open keeps the mount from a remount.
    let remounts = CONFIG.replace("allow_remount = false", "allow_remount = true");
    let told_of_remounts = pjdfstest(&mount, &remounts, &["erofs"]);
    let mut found = outcomes(&told);
    found.extend(outcomes(&told_of_remounts));
    let expected = expectations(EXPECTED);
    let wrong = differences(&found, &expected);
    assert!(
        wrong.is_empty(),
        "{told}{told_of_remounts}\n{}",
        wrong.join("\n")
    );
    let listed = |outcome| expected.values().filter(|one| **one == outcome).count();
    println!(
        "suite pjdfstest: {} tests, {} passed, {} failed as listed, {} skipped, {} vary",
        found.len(),
        found.len() - expected.len(),
        listed(Outcome::Fails),
        listed(Outcome::Skipped),
        listed(Outcome::Varies)
    );
    assert_empty(&mount.root);
}

/// What pjdfstest tells of the tests whose names have one of the patterns.
fn pjdfstest(mount: &Mount, config: &str, patterns: &[&str]) -> String {
    let folder = mount.scratch().join("pjdfstest");
    let second = folder.join("second");
    fs::create_dir_all(&second).unwrap();
    let config_path = folder.join("config.toml");
    let config = config.replace("SECOND", second.to_str().unwrap());
    fs::write(&config_path, config).unwrap();
    let program = folder.join("mount");
    fs::write(&program, MOUNT).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = suite("pjdfstest");
    command
        .arg("-c")
        .arg(config_path)
        .arg("-p")
        .arg(&mount.root)
        .args(patterns)
        .env("PATH", format!("{}:{path}", folder.display()));
    // It ends with 1 for any failure, listed or not.
    let told = said(&run_within(Amount::deadline(), &mut command));
    let summary = told.lines().find(|line| line.starts_with("Summary:"));
    let total = format!(" {} total", outcomes(&told).len());
    assert!(summary.is_some_and(|line| line.ends_with(&total)), "{told}");
    told
}

/// Each test removes what it made, so what stays could not be removed.
#[track_caller]
fn assert_empty(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder).unwrap().collect();
    assert!(left.is_empty(), "left in the mount: {left:?}");
}

/// Lines such as `chmod::enoent      ok`; other lines are details.
fn outcomes(told: &str) -> BTreeMap<&str, Outcome> {
    let lines = told.lines().filter(|line| !line.starts_with([' ', '\t']));
    let pairs = lines.filter_map(|line| line.split_once(' '));
    pairs
        .filter_map(|(name, rest)| {
            let outcome = match rest.trim() {
                "ok" => Outcome::Passes,
                "FAILED" => Outcome::Fails,
                "skipped" => Outcome::Skipped,
                _ => return None,
            };
            name.contains("::").then_some((name, outcome))
        })
        .collect()
}

/// Lines of `fails|skipped|varies TEST REASON`.
#[track_caller]
fn expectations(list: &str) -> BTreeMap<&str, Outcome> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| {
        let mut words = line.split_whitespace();
        let outcome = match words.next() {
            Some("fails") => Outcome::Fails,
            Some("skipped") => Outcome::Skipped,
            Some("varies") => Outcome::Varies,
            _ => panic!("not an outcome: {line}"),
        };
        let name = words.next().expect(line);
        assert!(words.next().is_some(), "without a reason: {line}");
        (name, outcome)
    });
    pairs.collect()
}

fn differences(found: &BTreeMap<&str, Outcome>, expected: &BTreeMap<&str, Outcome>) -> Vec<String> {
    let gone = expected.keys().filter(|name| !found.contains_key(*name));
    let gone = gone.map(|name| format!("unexpected: {name} is listed, and there is no such test"));
    let others = found.iter().filter_map(|(name, outcome)| {
        let wanted = expected.get(name).unwrap_or(&Outcome::Passes);
        let agrees = match wanted {
            Outcome::Varies => *outcome != Outcome::Skipped,
            _ => outcome == wanted,
        };
        (!agrees).then(|| format!("unexpected: {name} {outcome:?}, not {wanted:?}"))
    });
    gone.chain(others).collect()
}

#[test]
fn an_unexpected_outcome_is_found() {
    let told =
        "a::b      ok\n\ta detail ok\na::c  FAILED\n  1: at ok\na::d skipped\nSummary: 1 failed";
    let found = outcomes(told);
    assert_eq!(found.len(), 3);
    for list in [
        "# Reasons.\nfails a::c No such thing.\nskipped a::d No such thing.\n",
        "varies a::b x\nvaries a::c x\nskipped a::d x\n",
    ] {
        assert!(
            differences(&found, &expectations(list)).is_empty(),
            "{list}"
        );
    }
    for list in [
        "fails a::c x\n",
        "skipped a::c x\nskipped a::d x\n",
        "fails a::b x\nfails a::c x\nskipped a::d x\n",
        "fails a::c x\nskipped a::d x\nfails a::e x\n",
        "fails a::c x\nvaries a::d x\n",
    ] {
        let wrong = differences(&found, &expectations(list));
        assert_eq!(wrong.len(), 1, "{list}: {wrong:?}");
    }
}
