//! The shape of the sources, checked by reading them: who imports whom, how
//! long files and functions are, where errno, unsafe and the SDK may stand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LIMIT_LINES: usize = 400;
const FUNCTION_LIMIT_LINES: usize = 70;

/// What a folder of `src` may import, besides itself and `error`.
const ARROWS: [(&str, &[&str]); 10] = [
    ("main", &["cli"]),
    ("cli", &["session", "config", "telemetry"]),
    (
        "session",
        &[
            "fuse",
            "ops",
            "namespace",
            "read_path",
            "write_path",
            "store",
            "config",
            "telemetry",
        ],
    ),
    ("fuse", &["ops", "namespace", "store"]),
    ("ops", &["namespace", "read_path", "write_path", "store"]),
    ("namespace", &["store"]),
    ("read_path", &["store"]),
    ("write_path", &["store", "journal"]),
    ("store", &[]),
    ("error", &["store"]),
];

/// Words that only these folders may use.
const OWNED_WORDS: [(&str, &[&str]); 5] = [
    ("fuser::", &["src/fuse/", "src/session/"]),
    ("aws_", &["src/store/s3/"]),
    ("unsafe ", &["src/session/"]),
    ("Errno::E", &["src/fuse/errno.rs"]),
    ("libc::E", &["src/fuse/errno.rs"]),
];

const TOP_LEVEL: [&str; 11] = [
    ".ci",
    ".git",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "scripts",
    "src",
    "systemd",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Rust files under a folder, with their paths relative to the project.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 5, "no sources under {folder}");
    found
}

/// The file without its unit tests.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    production(text)
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn folder_of(name: &str) -> &str {
    let inside = name.strip_prefix("src/").unwrap();
    inside.split('/').next().unwrap().trim_end_matches(".rs")
}

fn forbidden_imports(name: &str, text: &str) -> Vec<String> {
    let folder = folder_of(name);
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for line in code_lines(text) {
        for prefix in ["crate::", "mediafs::"] {
            for (at, _) in line.match_indices(prefix) {
                let rest = &line[at + prefix.len()..];
                let to: String = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let known = ARROWS.iter().any(|(folder, _)| *folder == to)
                    || to == "config"
                    || to == "telemetry";
                if known && to != folder && to != "error" && !allowed.contains(&to.as_str()) {
                    found.push(format!("{name}: {folder} imports {to}"));
                }
            }
        }
    }
    found
}

fn misplaced_words(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (word, homes) in OWNED_WORDS {
        let at_home = homes.iter().any(|home| name.starts_with(home));
        if !at_home && code_lines(text).any(|line| line.contains(word)) {
            found.push(format!("{name}: {word:?} belongs to {homes:?}"));
        }
    }
    found
}

/// Functions longer than the limit, by the indentation that rustfmt gives their closing brace.
fn long_functions(name: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let is_function = [
            "fn ",
            "pub fn ",
            "async fn ",
            "pub async fn ",
            "pub(super) fn ",
            "pub(super) async fn ",
        ]
        .iter()
        .any(|head| trimmed.starts_with(head));
        if !is_function || trimmed.ends_with(';') {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
        let length = lines[start..]
            .iter()
            .position(|line| *line == end)
            .unwrap_or(0)
            + 1;
        if length > FUNCTION_LIMIT_LINES {
            found.push(format!(
                "{name}:{}: a function of {length} lines",
                start + 1
            ));
        }
    }
    found
}

fn long_file(name: &str, text: &str) -> Option<String> {
    let lines = production(text).lines().count();
    (lines > FILE_LIMIT_LINES).then(|| format!("{name}: {lines} lines"))
}

fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn imports_run_one_way() {
    assert_none(
        sources("src")
            .iter()
            .flat_map(|(name, text)| forbidden_imports(name, text))
            .collect(),
    );
}

#[test]
fn errno_unsafe_fuser_and_the_sdk_stay_where_they_belong() {
    assert_none(
        sources("src")
            .iter()
            .flat_map(|(name, text)| misplaced_words(name, text))
            .collect(),
    );
}

#[test]
fn files_and_functions_fit_their_limits() {
    let all: Vec<_> = sources("src").into_iter().chain(sources("tests")).collect();
    assert_none(
        all.iter()
            .filter_map(|(name, text)| long_file(name, text))
            .collect(),
    );
    assert_none(
        all.iter()
            .flat_map(|(name, text)| long_functions(name, text))
            .collect(),
    );
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut section = "";
    let mut previous = "";
    let mut unexplained = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies")
            && line.contains(" = ")
            && !previous.starts_with('#')
        {
            unexplained.push(line.to_owned());
        }
        previous = line;
    }
    assert_none(unexplained);
}

#[test]
fn nothing_else_stands_at_the_top() {
    let allowed = |name: &str| TOP_LEVEL.contains(&name) || name == "tests" || name == "target";
    let entries = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_none(entries.filter(|name| !allowed(name)).collect());
}

#[test]
fn each_rule_catches_what_breaks_it() {
    assert_eq!(
        forbidden_imports("src/namespace/x.rs", "use crate::read_path::Reader;").len(),
        1
    );
    assert_eq!(
        forbidden_imports("src/store/x.rs", "use crate::ops::Ops;").len(),
        1
    );
    assert!(forbidden_imports("src/ops/x.rs", "use crate::store::Key;").is_empty());
    assert_eq!(
        misplaced_words("src/ops/x.rs", "let e = libc::ENOENT;").len(),
        1
    );
    assert_eq!(
        misplaced_words("src/store/retry.rs", "use aws_sdk_s3::Client;").len(),
        1
    );
    assert!(misplaced_words("src/ops/x.rs", "// fuser:: in a comment").is_empty());
    let long = format!("fn f() {{\n{}}}\n", "    x();\n".repeat(80));
    assert_eq!(long_functions("src/x.rs", &long).len(), 1);
    assert!(long_file("src/x.rs", &"x\n".repeat(401)).is_some());
}
