//! The blocks of code in README and help topics. The first words of a block say what
//! becomes of it.

use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag};

/// How blocks begin, and the test that runs them or compares them with what they show.
/// One that says more has it behind these words: a file, or a service to start.
pub const KINDS: [(&str, &str); 16] = [
    ("console run", EVERY),
    ("console ask", EVERY),
    ("console hidden", EVERY),
    ("console reader", EVERY),
    ("console container", EVERY),
    ("console image", EVERY),
    // It builds, and stays until Ctrl-C: scripts/test runs it with a program that is built.
    ("console demo", EVERY),
    (
        "console package",
        "the_package_comes_and_goes_by_the_commands_in_the_help",
    ),
    ("toml", EVERY),
    ("env", EVERY),
    ("fstab", EVERY),
    ("yaml compose", EVERY),
    ("yaml volume", EVERY),
    ("yaml chart", EVERY),
    (
        "yaml prometheus",
        "the_configuration_in_the_help_is_as_prometheus_reads_it",
    ),
    (
        "text metrics",
        "promtool_finds_nothing_wrong_with_the_metrics_of_a_mount_under_work",
    ),
];
const EVERY: &str = "every_example_of_a_document_works_as_it_stands_there";

#[derive(Debug)]
pub struct Example {
    pub document: PathBuf,
    /// One of `KINDS`.
    pub kind: &'static str,
    /// What stands behind it.
    pub more: String,
    pub text: String,
}

/// README first, as it is read. Panics where a block is of no kind.
pub fn all() -> Vec<Example> {
    let repo = Path::new(env!("CARGO_MANIFEST_DIR"));
    let topics = fs::read_dir(repo.join("src/cli/help")).unwrap();
    let mut topics: Vec<PathBuf> = topics.map(|entry| entry.unwrap().path()).collect();
    topics.retain(|path| path.extension().is_some_and(|it| it == "md"));
    topics.sort();
    topics.insert(0, repo.join("README.md"));
    topics.iter().flat_map(|path| in_document(path)).collect()
}

/// Those of one kind, of which there is one at least.
#[track_caller]
pub fn of(kind: &str) -> Vec<Example> {
    let mut found = all();
    found.retain(|example| example.kind == kind);
    assert!(!found.is_empty(), "{kind}");
    found
}

pub fn in_document(document: &Path) -> Vec<Example> {
    let markdown = fs::read_to_string(document).unwrap();
    let mut found: Vec<Example> = Vec::new();
    let mut open = false;
    for event in Parser::new(&markdown) {
        match event {
            Event::Start(Tag::CodeBlock(begin)) => {
                let words = match begin {
                    CodeBlockKind::Fenced(words) => words.into_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                let known = kind_of(&words);
                let (kind, more) = known
                    .unwrap_or_else(|| panic!("{}: no test runs a {words:?}", document.display()));
                open = true;
                found.push(Example {
                    document: document.to_owned(),
                    kind,
                    more: more.to_owned(),
                    text: String::new(),
                });
            }
            Event::Text(text) if open => found.last_mut().unwrap().text.push_str(&text),
            Event::End(_) => open = false,
            _ => {}
        }
    }
    found
}

/// Whether another test reads these than the one that goes through all.
pub fn is_read_elsewhere(kind: &str) -> bool {
    KINDS.iter().any(|(it, test)| *it == kind && *test != EVERY)
}

/// A kind, and the words behind it.
fn kind_of(words: &str) -> Option<(&'static str, &str)> {
    KINDS.iter().find_map(|(kind, _)| {
        let more = words.strip_prefix(kind)?;
        let apart = more.is_empty() || more.starts_with(' ');
        apart.then(|| (*kind, more.trim_start()))
    })
}

/// A command, and the lines that are shown below it.
pub fn steps(text: &str) -> Vec<(String, Vec<String>)> {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        let command = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "));
        match (command, steps.last_mut()) {
            (None, Some((before, _))) if before.ends_with('\\') => {
                before.push('\n');
                before.push_str(line);
            }
            (Some(command), _) => steps.push((command.to_owned(), Vec::new())),
            (None, Some((_, shown))) => shown.push(line.to_owned()),
            (None, None) => panic!("no command above {line:?}"),
        }
    }
    steps
}

/// Whether a program said what is shown. `...` in a line stands for any text, a line of its
/// own for any lines.
pub fn is_as_shown(said: &str, shown: &[String]) -> bool {
    let said: Vec<&str> = said.lines().collect();
    lines_match(&said, shown)
}

fn lines_match(said: &[&str], shown: &[String]) -> bool {
    match shown.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=said.len()).any(|passed| lines_match(&said[passed..], rest))
        }
        Some((first, rest)) => said
            .split_first()
            .is_some_and(|(line, after)| line_matches(line, first) && lines_match(after, rest)),
    }
}

fn line_matches(line: &str, shown: &str) -> bool {
    let Some((begin, rest)) = shown.split_once("...") else {
        return line == shown;
    };
    let Some(line) = line.strip_prefix(begin) else {
        return false;
    };
    let ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
    ends.into_iter().any(|at| line_matches(&line[at..], rest))
}
