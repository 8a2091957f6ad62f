//! In how many files the methods of a type stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::source::{outside_tests, types_with_methods, without_comments_and_strings};
use crate::{files_below, repository};

/// Beyond it a reader does not see what a method depends on: a part with state of its own
/// becomes a type, the rest functions.
const SPREAD_LIMIT: usize = 2;

/// Types whose methods stand in more files than that.
fn spread_types<'a>(sources: impl Iterator<Item = &'a (String, String)>) -> Vec<String> {
    let mut files: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (path, text) in sources {
        let code = without_comments_and_strings(text);
        for name in types_with_methods(outside_tests(&code)) {
            files.entry(name).or_default().insert(path);
        }
    }
    let spread = files.iter().filter(|(_, files)| files.len() > SPREAD_LIMIT);
    spread
        .map(|(name, files)| format!("{name}: methods in {} files: {files:?}", files.len()))
        .collect()
}

#[test]
fn the_methods_of_a_type_stand_together() {
    let files = files_below(&["src"], "rs").into_iter();
    let read: Vec<(String, String)> = files
        .filter(|file| !file.ends_with("tests.rs"))
        .map(|file| {
            let path = file.strip_prefix(repository()).unwrap().to_str().unwrap();
            (path.to_owned(), fs::read_to_string(&file).unwrap())
        })
        .collect();
    let found = spread_types(read.iter());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_type_whose_methods_are_spread_is_found() {
    let file = |path: &str| {
        let text = "impl A {\n    fn f() {}\n}\nimpl<'a> B<'a> {}\nimpl Drop for C {}\n";
        (path.to_owned(), text.to_owned())
    };
    let found = |paths: &[&str]| {
        spread_types(
            paths
                .iter()
                .map(|path| file(path))
                .collect::<Vec<_>>()
                .iter(),
        )
        .len()
    };
    assert_eq!(found(&["src/a.rs", "src/b.rs"]), 0);
    assert_eq!(found(&["src/a.rs", "src/b.rs", "src/c.rs"]), 2, "A and B");
}
