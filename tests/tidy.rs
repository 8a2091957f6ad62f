//! The project's structure and style, read from its sources.
//!
//! `findings` takes a path and a text, so that the checks themselves are tested
//! on texts that break each rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/dependencies.rs"]
mod dependencies;
#[path = "tidy/documents.rs"]
mod documents;
#[allow(dead_code)]
#[path = "support/examples.rs"]
mod examples;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/spread.rs"]
mod spread;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::{functions, imports, outside_tests, without_comments_and_strings};

const FILE_LIMIT_LINES: usize = 400;
/// One `impl` of a trait with a method for each request of the protocol cannot be split.
const LONG_FILES: [(&str, usize); 1] = [("src/fuse/filesystem.rs", 700)];
const FUNCTION_LIMIT_LINES: usize = 70;
/// For an operator who has ten minutes.
const README_LIMIT_LINES: usize = 150;
const FOLDERS: [&str; 6] = [".ci", ".git", "scripts", "src", "systemd", "tests"];

/// Layers from the top down; each may use those on lines below its own, never
/// its siblings. `config` is for those who start things.
const LAYERS: [&[&str]; 17] = [
    &["main"],
    &["cli"],
    &["csi", "doctor", "migrate", "setup"],
    &["session"],
    &["config", "fuse"],
    &["ops"],
    &["writeback"],
    &["files"],
    &["namespace", "read_path", "write_path"],
    &["session_state"],
    &["overlay"],
    &["journal"],
    &["error", "vocabulary"],
    &["record_log", "store", "telemetry"],
    &["private"],
    &["failpoint", "task"],
    &["backoff", "latency"],
];
const STARTERS: &[&str] = &["cli", "csi", "doctor", "migrate", "session", "setup"];
/// Used by these alone, whatever their line.
const RESERVED: [(&str, &[&str]); 4] = [
    ("config", STARTERS),
    (
        "journal",
        &[
            "migrate",
            "session_state",
            "session",
            "ops",
            "writeback",
            "files",
            "write_path",
        ],
    ),
    ("cli", &["main"]),
    ("session", &["cli", "csi", "doctor", "migrate", "setup"]),
];
/// Words that only the files below a path may contain.
const CONFINED: [(&str, &[&str]); 5] = [
    ("fuser::", &["src/fuse/", "src/session/"]),
    ("aws_", &["src/store/s3/"]),
    // Where the standard library has no kind for an error of the disk.
    ("libc::E", &["src/fuse/errno.rs", "src/error.rs"]),
    // The session reads the answers of mount(2) and umount(2).
    ("Errno::", &["src/fuse/errno.rs", "src/session/"]),
    ("unsafe ", &["src/session/"]),
];

fn line_of(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|line| line.contains(&layer))
}

/// The layer that a file of `src/` belongs to; none for the crate's root.
fn layer_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    let layer = first.strip_suffix(".rs").unwrap_or(first);
    (layer != "lib").then_some(layer)
}

/// What a source file does that the project's rules forbid.
fn findings(path: &str, text: &str) -> Vec<String> {
    let code = without_comments_and_strings(text);
    let mut found = Vec::new();
    let is_test = path.starts_with("tests/") || path.ends_with("/tests.rs");
    let body = if is_test { &code } else { outside_tests(&code) };
    let lines = body.lines().count();
    let long = LONG_FILES.iter().find(|(long, _)| *long == path);
    let limit = long.map_or(FILE_LIMIT_LINES, |(_, limit)| *limit);
    if lines > limit && !path.ends_with("/tests.rs") {
        found.push(format!("{path}: {lines} lines, more than {limit}"));
    }
    for (name, lines) in functions(body) {
        if lines > FUNCTION_LIMIT_LINES {
            found.push(format!(
                "{path}: fn {name} has {lines} lines, more than {FUNCTION_LIMIT_LINES}"
            ));
        }
    }
    if !is_test {
        let re_exports = [
            "pub use crate::",
            "pub(crate) use crate::",
            "pub use super::super::",
        ];
        if re_exports.iter().any(|begin| body.contains(begin)) {
            found.push(format!("{path}: re-exports what is another layer's"));
        }
        found.extend(forbidden_imports(path, body));
        found.extend(forbidden_words(path, body));
    }
    found
}

fn forbidden_imports(path: &str, code: &str) -> Vec<String> {
    let Some(layer) = layer_of(path) else {
        return Vec::new();
    };
    let Some(own) = line_of(layer) else {
        return vec![format!(
            "{path}: `{layer}` is not one of the project's layers"
        )];
    };
    let mut found = Vec::new();
    for used in imports(code) {
        // Names that are not layers: items of the crate's root.
        let Some(line) = line_of(&used) else { continue };
        let reserved = RESERVED.iter().find(|(name, _)| *name == used);
        let allowed = reserved.is_none_or(|(_, users)| users.contains(&layer));
        if used != layer && (line <= own || !allowed) {
            found.push(format!("{path}: {layer} must not use {used}"));
        }
    }
    found
}

fn forbidden_words(path: &str, code: &str) -> Vec<String> {
    let confined = CONFINED.iter().filter(|(word, homes)| {
        let at_home = homes.iter().any(|home| path.starts_with(home));
        !at_home && has_word(code, word)
    });
    confined
        .map(|(word, homes)| format!("{path}: `{}` belongs to {}", word.trim(), homes.join(", ")))
        .collect()
}

/// Whether `word` stands there as the start of a name.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Dependencies without a comment line above that says what they are for.
fn dependencies_without_reason(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut before = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
        } else if inside
            && line.contains(" = ")
            && !line.starts_with([' ', '#'])
            && !before.starts_with("# ")
        {
            found.push(format!("Cargo.toml: say above what this is for: {line}"));
        }
        before = line;
    }
    found
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust source of the project.
fn sources() -> Vec<PathBuf> {
    files_below(&["src", "tests"], "rs")
}

/// Every file of a kind below these folders.
fn files_below(folders: &[&str], kind: &str) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = folders.iter().map(|it| repository().join(it)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == kind) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_sources_keep_the_rules() {
    let mut found = Vec::new();
    let files = sources();
    assert!(files.len() > 20, "the sources are found");
    for file in files {
        let path = file.strip_prefix(repository()).unwrap().to_str().unwrap();
        found.extend(findings(path, &fs::read_to_string(&file).unwrap()));
    }
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    found.extend(dependencies_without_reason(&manifest));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_test_and_file_that_a_document_names_is_there() {
    let mut tests = BTreeSet::new();
    for file in sources() {
        tests.extend(documents::tests_of(&fs::read_to_string(file).unwrap()));
    }
    let mut files = files_below(&["src", "tests"], "md");
    files.extend(["README.md", "CHANGELOG.md"].map(|name| repository().join(name)));
    assert!(
        tests.len() > 100 && files.len() > 10,
        "tests and documents are found"
    );
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(repository()).unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let exists = |path: &str| repository().join(path).exists();
        found.extend(documents::findings(path, &text, &tests, exists));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_readme_is_short() {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let lines = text.lines().count();
    assert!(
        lines <= README_LIMIT_LINES,
        "README.md has {lines} lines, more than {README_LIMIT_LINES}: details belong into src/cli/help"
    );
}

#[test]
fn no_folder_lies_at_the_top_that_has_no_place_there() {
    for entry in fs::read_dir(repository()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_cache = entry.path().join("CACHEDIR.TAG").exists() || name == "target";
        if entry.path().is_dir() && !is_cache {
            assert!(
                FOLDERS.contains(&name.as_str()),
                "{name}: say in tests/tidy.rs what it is"
            );
        }
    }
}

fn breaks(path: &str, text: &str) -> bool {
    !findings(path, text).is_empty()
}

#[test]
fn an_import_against_the_arrows_is_found() {
    assert!(breaks("src/store/mod.rs", "use crate::ops::Ops;"));
    assert!(breaks("src/store/mod.rs", "use crate::error::FsError;"));
    assert!(breaks(
        "src/store/s3/mod.rs",
        "use super::super::super::fuse::Adapter;"
    ));
    assert!(breaks(
        "src/read_path/a.rs",
        "use crate::write_path::Stage;"
    ));
    assert!(breaks("src/ops/read.rs", "use crate::config::Config;"));
    assert!(breaks("src/fuse/mod.rs", "use crate::config::Config;"));
    assert!(breaks(
        "src/ops/mod.rs",
        "fn f() { crate::session::stop(); }"
    ));
    assert!(breaks(
        "src/namespace/a.rs",
        "use crate::{error::FsError, read_path::{Block, Tier}};"
    ));
    assert!(breaks("src/namespace/a.rs", "use crate::journal::Journal;"));
    assert!(breaks("src/ops/mod.rs", "pub use crate::store::Key;"));
    assert!(breaks(
        "src/ops/mod.rs",
        "pub(crate) use crate::store::Key;"
    ));
    assert!(breaks(
        "src/main.rs",
        "fn main() { mediafs::session::run(); }"
    ));
    assert!(breaks("src/helpers/mod.rs", "fn f() {}"));
    assert!(!breaks(
        "src/ops/read.rs",
        "use crate::{error::FsError, read_path::Block};\nuse crate::store::Key;"
    ));
    assert!(!breaks(
        "src/session/mod.rs",
        "use crate::{config::Config, store::Key, fuse::Adapter};"
    ));
    assert!(!breaks("src/main.rs", "fn main() { mediafs::cli::run() }"));
    assert!(!breaks(
        "src/store/mod.rs",
        "// as crate::ops does\nconst A: &str = \"crate::ops::X\";"
    ));
    let test = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::ops::Ops;\n}\n";
    assert!(!breaks("src/store/mod.rs", test));
}

#[test]
fn a_name_outside_its_home_is_found() {
    assert!(breaks("src/ops/read.rs", "use fuser::ReplyData;"));
    assert!(!breaks("src/fuse/reply.rs", "use fuser::ReplyData;"));
    assert!(breaks("src/store/retry.rs", "use aws_sdk_s3::Client;"));
    assert!(!breaks("src/store/s3/mod.rs", "use aws_sdk_s3::Client;"));
    assert!(breaks("src/ops/read.rs", "fn f() -> i32 { libc::EIO }"));
    assert!(!breaks("src/ops/open.rs", "fn f() -> i32 { libc::O_EXCL }"));
    assert!(!breaks("src/fuse/errno.rs", "fn f() -> i32 { libc::EIO }"));
    assert!(breaks("src/ops/read.rs", "fn f() { unsafe { g() } }"));
    assert!(!breaks("src/session/mount.rs", "fn f() { unsafe { g() } }"));
}

#[test]
fn what_is_too_long_is_found() {
    let function = |lines: usize| {
        format!(
            "impl A {{\n    pub async fn f() {{\n{}    }}\n}}\n",
            "        g();\n".repeat(lines - 2)
        )
    };
    assert!(!breaks("src/ops/a.rs", &function(70)));
    assert!(breaks("src/ops/a.rs", &function(71)));
    let declared = format!(
        "trait T {{\n    fn f(a: [u8; 4]);\n{}}}\n",
        "    const A: u8 = 1;\n".repeat(80)
    );
    assert!(!breaks("src/ops/a.rs", &declared));
    assert!(!breaks("src/ops/a.rs", &"const A: u8 = 1;\n".repeat(400)));
    assert!(breaks("src/ops/a.rs", &"const A: u8 = 1;\n".repeat(401)));
    let tested = format!(
        "fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
        "    const A: u8 = 1;\n".repeat(500)
    );
    assert!(!breaks("src/ops/a.rs", &tested));
}

#[test]
fn braces_in_texts_and_comments_do_not_count() {
    let text = "fn f() {\n    let a = \"}\\\"}\"; // }\n    let b = '}'; /* } */ let c = r#\"}\"}\"#;\n    let d: &'static str = a;\n}\n";
    assert_eq!(
        functions(&without_comments_and_strings(text)),
        [("f".to_owned(), 5)]
    );
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let good = "[dependencies]\n# Bytes.\nbytes = \"1\"\n[lints.rust]\na = \"deny\"\n";
    assert_eq!(dependencies_without_reason(good), Vec::<String>::new());
    let bad = "[dev-dependencies]\n# Bytes.\nbytes = \"1\"\nserde = \"1\"\n";
    assert_eq!(dependencies_without_reason(bad).len(), 1);
}
