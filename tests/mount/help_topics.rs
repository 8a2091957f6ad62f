//! `mediafs help`: commands and topics, on a terminal and off it.

use std::process::{Command, Output};
use std::time::Duration;

use crate::support::programs::{run_within, said};

const SOON: Duration = Duration::from_secs(60);

/// The topics that have a text.
fn topics() -> Vec<String> {
    let texts = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/help");
    let files = std::fs::read_dir(texts).unwrap().map(|file| file.unwrap());
    let names = files.map(|file| file.file_name().into_string().unwrap());
    names
        .filter_map(|name| Some(name.strip_suffix(".md")?.to_owned()))
        .collect()
}

fn mediafs(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mediafs"));
    // Were it used, nothing would be printed.
    run_within(SOON, command.args(words).env("PAGER", "true"))
}

#[track_caller]
fn shown(words: &[&str]) -> String {
    let output = mediafs(words);
    assert!(output.status.success(), "{}", said(&output));
    assert!(output.stderr.is_empty(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a terminal shows, with `$PAGER` as given.
#[track_caller]
fn on_a_terminal(pager: &str) -> String {
    let program = env!("CARGO_BIN_EXE_mediafs");
    let mut command = Command::new("script");
    command
        .args(["-qec", &format!("'{program}' help spool"), "/dev/null"])
        .env("PAGER", pager);
    let output = run_within(SOON, &mut command);
    assert!(output.status.success(), "{}", said(&output));
    said(&output).replace('\r', "")
}

#[test]
fn each_topic_is_plain_text_in_a_pipe() {
    for topic in topics() {
        let text = shown(&["help", &topic]);
        assert!(text.starts_with(&format!("{topic}: ")), "{text}");
        let headings = text.lines().filter(|line| line.to_uppercase() == **line);
        assert!(headings.count() > 3, "{text}");
        assert!(!text.contains(['`', '\u{1b}', '|']), "{text}");
    }
}

#[test]
fn on_a_terminal_it_goes_through_the_pager() {
    let text = shown(&["help", "spool"]);
    let marked: Vec<String> = text.lines().map(|line| format!("page {line}")).collect();
    let paged = on_a_terminal("sed 's/^/page /'");
    assert_eq!(paged.trim_end(), marked.join("\n").trim_end());
    // An empty $PAGER is none.
    assert_eq!(on_a_terminal(""), text);
}

#[test]
fn without_a_topic_it_lists_commands_and_topics() {
    for words in [&["help"][..], &["--help"]] {
        let text = shown(words);
        let topics = topics();
        for name in topics.iter().map(String::as_str).chain(["mount", "help"]) {
            let line = format!("\n  {name} ");
            assert!(text.contains(&line), "{name}: {text}");
        }
        assert!(!text.contains("notifier"), "{text}");
    }
}

#[test]
fn a_command_shows_its_options_and_spool_is_both() {
    assert_eq!(shown(&["help", "mount"]), shown(&["mount", "--help"]));
    assert_eq!(
        shown(&["help", "spool", "retry"]),
        shown(&["spool", "retry", "--help"])
    );
    assert!(shown(&["help", "spool"]).contains("LOST+FOUND"));
    assert!(shown(&["spool", "--help"]).contains("--spool <DIR>"));
}

#[test]
fn an_unknown_topic_is_refused_with_the_nearest_name() {
    for (words, nearest) in [
        (&["help", "durabilty"][..], Some("\"durability\"")),
        (&["help", "moutn"], Some("\"mount\"")),
        (&["help", "spool", "lst"], Some("\"list\"")),
        (&["help", "zzz"], None),
    ] {
        let output = mediafs(words);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(words[words.len() - 1]), "{text}");
        assert!(text.contains("'mediafs help' lists both"), "{text}");
        match nearest {
            Some(name) => assert!(text.contains(&format!("did you mean {name}?")), "{text}"),
            None => assert!(!text.contains("did you mean"), "{text}"),
        }
    }
}
