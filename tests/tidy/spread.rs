//! In how many files the methods of a type stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::source::{outside_tests, types_with_methods, without_comments_and_strings};
use crate::{files_below, repository};

/// Types whose methods stand in more files than `SPREAD_LIMIT`, and in how many. New
/// ones are split instead; whoever gathers one of these lowers its number.
const SPREAD_LIMIT: usize = 2;
const SPREAD: [(&str, usize); 3] = [
    // One file a system call.
    ("Ops", 25),
    ("OpenFile", 3),
    ("Namespace", 5),
];

/// Methods of `Ops`: one for each request of the kernel, what those share, and what an
/// operator asks. Whoever moves some to the parts that it is made of lowers this.
const OPS_METHODS: usize = 49;

/// How many methods the inherent `impl`s of a type have.
fn methods_of(name: &str, code: &str) -> usize {
    let head = format!("impl {name} {{");
    let (mut inside, mut count) = (false, 0);
    for line in code.lines() {
        match line {
            "}" => inside = false,
            line if line == head => inside = true,
            line => {
                let item = line.strip_prefix("    ").filter(|it| !it.starts_with(' '));
                count += usize::from(inside && item.is_some_and(|it| it.contains("fn ")));
            }
        }
    }
    count
}

/// Types whose methods stand in other than the allowed number of files.
fn spread_types<'a>(sources: impl Iterator<Item = &'a (String, String)>) -> Vec<String> {
    let mut files: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (path, text) in sources {
        let code = without_comments_and_strings(text);
        for name in types_with_methods(outside_tests(&code)) {
            files.entry(name).or_default().insert(path);
        }
    }
    let allowed = |name: &str| SPREAD.iter().find(|(spread, _)| *spread == name);
    let spread = files.iter().filter(|(name, files)| match allowed(name) {
        Some((_, number)) => files.len() != *number,
        None => files.len() > SPREAD_LIMIT,
    });
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
fn ops_has_no_more_methods_than_it_had() {
    let files = files_below(&["src/ops"], "rs").into_iter();
    let methods = files.map(|file| {
        let code = without_comments_and_strings(&fs::read_to_string(file).unwrap());
        methods_of("Ops", outside_tests(&code))
    });
    assert_eq!(methods.sum::<usize>(), OPS_METHODS);
    let text = "impl Ops {\n    pub async fn f() {\n        fn g() {}\n    }\n\n    fn h() {}\n}\nimpl B {\n    fn i() {}\n}\n";
    assert_eq!(methods_of("Ops", text), 2);
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
