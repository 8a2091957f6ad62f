//! What documents say of tests and files.

use std::collections::BTreeSet;
use std::fs;

use crate::{LAYERS, examples, repository, sources};

/// A name with so many underscores is a test's.
const UNDERSCORES_OF_A_TEST: usize = 3;
/// Folders whose files documents name by their path.
const FOLDERS: [&str; 4] = ["scripts/", "src/", "systemd/", "tests/"];
/// Head of a table whose rows each name a test.
const PROMISES: &str = "| promise | test |";

/// The tests of one source file.
pub fn tests_of(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut lines = source.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line != "#[test]" && !line.starts_with("#[tokio::test") {
            continue;
        }
        let named = lines.find_map(|line| line.split_once("fn "));
        if let Some((_, rest)) = named {
            let name = rest.split(['(', '<']).next().unwrap();
            found.insert(name.to_owned());
        }
    }
    found
}

/// Tests and files that a document names and that are not there, and promises
/// without a test.
pub fn findings(
    document: &str,
    text: &str,
    tests: &BTreeSet<String>,
    exists: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    for code in text.lines().flat_map(code_spans) {
        if is_like_a_test(code) && !tests.contains(code) {
            found.push(format!("{document}: there is no test {code}"));
        }
        let is_path = FOLDERS.iter().any(|folder| code.starts_with(folder));
        let path = code.split(' ').next().unwrap();
        if is_path && !exists(path.trim_end_matches('/')) {
            found.push(format!("{document}: there is no {path}"));
        }
    }
    let mut of_promises = false;
    for line in text.lines() {
        if !line.starts_with('|') {
            of_promises = false;
        } else if line == PROMISES {
            of_promises = true;
        } else if of_promises && !line.starts_with("|---") && !names_a_test(line) {
            found.push(format!("{document}: no test shows this: {line}"));
        }
    }
    found
}

/// What stands between backquotes in a line.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_like_a_test(code: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    code.chars().all(plain) && code.matches('_').count() >= UNDERSCORES_OF_A_TEST
}

fn names_a_test(row: &str) -> bool {
    let cells = row.trim_matches(['|', ' ']).rsplit_once(" | ");
    let shown_by = cells.map(|(_, last)| last).unwrap_or_default();
    code_spans(shown_by).any(|code| is_like_a_test(code) || code.starts_with("tests/"))
}

#[test]
fn the_layers_stand_in_the_documentation_as_they_are_checked() {
    let text = fs::read_to_string(repository().join("src/lib.rs")).unwrap();
    let drawn = text.split("```").nth(1).unwrap().lines().skip(1);
    let drawn = drawn.filter_map(|line| line.strip_prefix("//! "));
    // What a layer does stands far behind its name.
    let names = drawn.map(|line| line.split("    ").next().unwrap().split_whitespace());
    let names: Vec<Vec<&str>> = names.map(Iterator::collect).collect();
    let names: Vec<Vec<&str>> = names.into_iter().filter(|it| !it.is_empty()).collect();
    assert_eq!(names, LAYERS);
}

#[test]
fn every_example_of_a_document_has_a_test_that_runs_it() {
    // Panics where the words of a block are none of the kinds.
    let found = examples::all();
    let tests: Vec<String> = sources()
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    for (kind, test) in examples::KINDS {
        let used = found.iter().any(|example| example.kind == kind);
        assert!(used, "no document has an example of the kind {kind:?}");
        let runs =
            |text: &&String| tests_of(text).contains(test) && text.contains(&format!("\"{kind}\""));
        assert!(
            tests.iter().any(|text| runs(&text)),
            "{test} reads no {kind:?}"
        );
    }
}

#[test]
#[should_panic(expected = "no test runs a")]
fn an_example_that_no_test_runs_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.md");
    fs::write(&page, "```console\n# mediafs status\n```\n").unwrap();
    drop(examples::in_document(&page));
}

#[test]
fn a_document_that_names_what_is_not_there_is_found() {
    let source = "#[test]\n#[should_panic]\nfn what_is_so_is_so() {}\n#[tokio::test(x)]\nasync fn and_so_it_is() {}\nfn no_test_at_all() {}\n";
    let tests = tests_of(source);
    let found = |text: &str| {
        let exists = |path: &str| path == "tests/a.rs" || path == "scripts";
        findings("d.md", text, &tests, exists).len()
    };
    assert_eq!(
        found("`what_is_so_is_so`, `and_so_it_is` and `scripts/`, `tests/a.rs`"),
        0
    );
    assert_eq!(found("`no_test_at_all`, `what_was_so_is_so`"), 2);
    assert_eq!(found("`copy_file_range` of `user.a_b_c_d`, `x`"), 0);
    assert_eq!(found("`tests/b.rs` and `scripts/gone --now`"), 2);
    let head = "| promise | test |\n|---|---|\n";
    assert_eq!(
        found(&format!("{head}| it is so | `what_is_so_is_so` |")),
        0
    );
    assert_eq!(found(&format!("{head}| all of it | `tests/a.rs` |")), 0);
    assert_eq!(found(&format!("{head}| `and_so_it_is` is | nothing |")), 1);
    assert_eq!(found("| other | table |\n|---|---|\n| a | b |"), 0);
}
