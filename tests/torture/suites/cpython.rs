//! CPython's own tests of files and directories, with their working directory and
//! TMPDIR on a mount: what passes on the local disk passes there, but for what is listed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::DURABILITIES;
use crate::support::programs::{python, run_within, said};
use crate::support::suite::builder;
use crate::support::{Amount, Mount};

/// A module of the tests, and what is not on the mount as on the local disk.
struct Module {
    name: &'static str,
    fails: &'static [&'static str],
    /// Each finds out by itself that it cannot be tried.
    skipped: &'static [&'static str],
}

const TEST_OS: Module = Module {
    name: "test_os",
    fails: &[
        // More extended attributes than S3 keeps with an object: ENOSPC.
        "ExtendedAttributeTests.test_fds",
        "ExtendedAttributeTests.test_lpath",
        "ExtendedAttributeTests.test_simple",
        // Names that are not UTF-8: EILSEQ.
        "Pep383Tests.test_listdir",
        "Pep383Tests.test_open",
        "Pep383Tests.test_stat",
        "Pep383Tests.test_statvfs",
    ],
    // Hard links.
    skipped: &[
        "LinkTests.test_link",
        "LinkTests.test_link_bytes",
        "LinkTests.test_unicode_name",
        "TestScandir.test_attributes",
    ],
};

const TEST_SHUTIL: Module = Module {
    name: "test_shutil",
    fails: &[],
    skipped: &[
        // Attributes of the system, `trusted.*`.
        "TestCopy.test_copy2_xattr",
        "TestCopy.test_copyxattr",
        "TestCopy.test_copyxattr_symlinks",
        // A hard link.
        "TestCopy.test_dont_copy_file_onto_link_to_itself",
    ],
};

const TEST_TEMPFILE: Module = Module {
    name: "test_tempfile",
    fails: &[],
    skipped: &[],
};

#[test]
fn what_passes_on_the_local_disk_passes_on_a_mount_but_for_what_is_listed() {
    let modules = Amount::of(&[TEST_OS][..], &[TEST_OS, TEST_SHUTIL, TEST_TEMPFILE][..]);
    for module in modules {
        let local = tempfile::tempdir().unwrap();
        let wanted = Outcomes::of(module, local.path());
        for durability in Amount::of(&DURABILITIES[1..], &DURABILITIES[..]) {
            check(module, &wanted, &builder().durability(durability).start());
        }
    }
}

fn check(module: &Module, wanted: &Outcomes, mount: &Mount) {
    let seen = Outcomes::of(module, &mount.root);
    let listed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let fails: BTreeSet<String> = listed(module.fails);
    let skipped: BTreeSet<String> = listed(module.skipped);
    let new = |of: fn(&Outcomes) -> &BTreeSet<String>| -> BTreeSet<_> {
        of(&seen).difference(of(wanted)).cloned().collect()
    };
    assert_eq!(new(|it| &it.fails), fails, "{}", seen.told);
    assert_eq!(new(|it| &it.skipped), skipped, "{}", seen.told);
    assert_eq!(seen.count, wanted.count, "{}", seen.told);
    let left = fs::read_dir(&mount.root).unwrap().count();
    assert_eq!(left, 0, "what the tests have made is gone");
    println!(
        "suite CPython {}: {} tests, {} fail and {} are skipped as listed, {} are skipped on the local disk too",
        module.name,
        seen.count,
        fails.len(),
        skipped.len(),
        wanted.skipped.len()
    );
}

/// What a run has come to.
#[derive(Debug)]
struct Outcomes {
    count: u64,
    fails: BTreeSet<String>,
    skipped: BTreeSet<String>,
    told: String,
}

impl Outcomes {
    fn of(module: &Module, folder: &Path) -> Self {
        let mut command = Command::new(python());
        command
            .args(["-m", "unittest", "-v", &format!("test.{}", module.name)])
            .current_dir(folder)
            .env("TMPDIR", folder);
        let told = said(&run_within(Amount::deadline(), &mut command));
        let count = told.lines().find_map(|line| {
            let rest = line.strip_prefix("Ran ")?;
            rest.split_once(' ')?.0.parse().ok()
        });
        let named = |is_meant: fn(&str) -> Option<&str>| {
            let lines = told.lines().filter_map(is_meant);
            lines.filter_map(name_of).collect()
        };
        Self {
            count: count.unwrap_or_else(|| panic!("no tests were run: {told}")),
            fails: named(|line| {
                let failed = line.strip_prefix("ERROR: ");
                failed.or_else(|| line.strip_prefix("FAIL: "))
            }),
            skipped: named(|line| Some(line).filter(|line| line.contains("... skipped"))),
            told,
        }
    }
}

/// `Class.test` of `test (test.module.Class.test)`; older ones say it without the test.
fn name_of(line: &str) -> Option<String> {
    let (test, rest) = line.split_once(" (")?;
    let class = rest.split_once(')')?.0.split('.').nth(2)?;
    Some(format!("{class}.{test}"))
}
