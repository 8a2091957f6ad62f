//! What holds for every command: its help, man page and completions, the exit code of
//! wrong usage and of a failure, and colour for terminals alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::control::{listening, mediafs, wait_for_health};
use crate::support::programs::{run_within, said};
use crate::support::{Mount, MountBuilder};

const WITHIN: Duration = Duration::from_secs(60);
/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

#[track_caller]
fn shown(words: &[&str]) -> String {
    let output = run_within(WITHIN, &mut mediafs(words));
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help page names.
fn named(help: &str) -> Vec<String> {
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Every command that people type, with its subcommands: `["spool", "list"]`.
fn commands() -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for name in named(&shown(&["--help"])) {
        let help = shown(&[&name, "--help"]);
        if help.contains("Commands:\n") {
            let below = named(&help).into_iter().filter(|it| it != "help");
            all.extend(below.map(|below| vec![name.clone(), below]));
        }
        all.push(vec![name]);
    }
    assert!(all.len() > 25, "{all:?}");
    all
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

#[test]
fn every_command_has_help_that_fits_a_terminal_and_has_no_colour_in_a_pipe() {
    for command in commands() {
        let text = shown(&[&words(&command)[..], &["--help"]].concat());
        let begin = format!("Usage: mediafs {}", command.join(" "));
        assert!(text.contains(&begin), "{command:?}: {text}");
        assert!(!text.contains('\u{1b}'), "{command:?}");
        let long = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{command:?}");
    }
}

#[test]
fn every_command_ends_with_2_when_it_is_used_wrongly_and_says_how_it_is_used() {
    for command in commands() {
        let asked = [&words(&command)[..], &["--no-such-option"]].concat();
        let output = run_within(WITHIN, &mut mediafs(&asked));
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {text}");
        assert!(output.stdout.is_empty(), "{command:?}: {text}");
        assert!(text.contains("--no-such-option"), "{command:?}: {text}");
        assert!(text.contains("--help"), "{command:?}: {text}");
        assert!(!text.contains('\u{1b}'), "{command:?}: {text}");
    }
}

#[test]
fn every_command_has_a_man_page_and_is_completed_with_its_options() {
    let destination = tempfile::tempdir().unwrap();
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install");
    let mut install = Command::new(install);
    install
        .env("DESTDIR", destination.path())
        .env("PREFIX", "/usr")
        .env("MEDIAFS_BINARY", env!("CARGO_BIN_EXE_mediafs"));
    let output = run_within(WITHIN, &mut install);
    assert!(output.status.success(), "{}", said(&output));
    let pages = fs::read_dir(destination.path().join("usr/share/man/man1")).unwrap();
    let pages = pages.map(|page| page.unwrap().file_name().into_string().unwrap());
    let pages: BTreeSet<String> = pages.collect();
    let shells = ["bash", "zsh", "fish"].map(|shell| (shell, shown(&["completions", shell])));
    for command in commands() {
        let page = format!("mediafs-{}.1", command.join("-"));
        assert!(pages.contains(&page), "{page} is not in {pages:?}");
        let help = shown(&[&words(&command)[..], &["--help"]].concat());
        let options = options(&help);
        for (shell, text) in &shells {
            let name = command.last().unwrap();
            assert!(text.contains(name.as_str()), "{shell}: {command:?}");
            for option in &options {
                assert!(text.contains(option), "{shell}: {command:?} --{option}");
            }
        }
    }
}

/// The options that a help page has a line for, without their dashes.
fn options(help: &str) -> BTreeSet<&str> {
    let names = help.lines().map(str::trim_start).filter_map(|line| {
        let short = line
            .split_once(", --")
            .filter(|(short, _)| short.len() == 2);
        let rest = line.strip_prefix("--").or(short.map(|(_, rest)| rest))?;
        let is_of_name = |it: char| it.is_ascii_alphanumeric() || it == '-';
        rest.split(|it| !is_of_name(it)).next()
    });
    names.collect()
}

/// Of what is no mount.
const LISTED: &str = "'mediafs status' lists the mounts";

/// What each command is asked that cannot be, and what it says is wrong or to be done.
fn failures(dir: &str) -> Vec<(&'static str, Vec<String>, &'static str)> {
    let no = format!("{dir}/no/such");
    let of = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let s3 = ["--endpoint-url", NOWHERE, "--request-timeout", "1s"];
    let asking = |words: &[&str]| of(&[words, &s3[..]].concat());
    let config = format!("{dir}/new.toml");
    vec![
        ("mount", asking(&["b", &no]), "mkdir -p"),
        (
            "setup",
            asking(&["b", &no, "--yes", "--config", &config]),
            "check --endpoint-url",
        ),
        ("doctor", asking(&["b", &no]), "check --endpoint-url"),
        ("import", asking(&[&no, "b"]), "No such file or directory"),
        (
            "export",
            asking(&["b", &no, "--yes"]),
            "No such file or directory",
        ),
        ("verify", asking(&[&no, "b"]), "No such file or directory"),
        (
            "move",
            asking(&["s3://a", "s3://b", "--yes"]),
            "check --endpoint-url",
        ),
        ("status", of(&[&no]), LISTED),
        ("unmount", of(&[&no]), LISTED),
        ("flush", of(&[&no]), LISTED),
        ("refresh", of(&[&no]), LISTED),
        ("reload", of(&[&no]), LISTED),
        ("log-level", of(&[&no]), LISTED),
        ("attach", of(&["--pid", "99999999", &no, "/x"]), LISTED),
        (
            "detach",
            of(&["--pid", "99999999"]),
            "there is no process 99999999",
        ),
        ("healthcheck", of(&[&no]), LISTED),
        (
            "spool",
            of(&["list", "--spool", &no]),
            "name the directory that was given as --spool",
        ),
        ("config", of(&["check", "b", &no]), "mkdir -p"),
        (
            "csi",
            of(&["--endpoint", &format!("{no}/csi.sock")]),
            "No such file or directory",
        ),
    ]
}

/// These print what they have, or are used wrongly.
const CANNOT_FAIL: [&str; 2] = ["completions", "help"];

fn ask(plan: &MountBuilder, command: &str, words: &[String]) -> Output {
    let mut asked = mediafs([command]);
    asked
        .args(words)
        .current_dir(plan.scratch())
        .env("XDG_RUNTIME_DIR", plan.scratch())
        .env("XDG_STATE_HOME", plan.scratch())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "k")
        .env("AWS_SECRET_ACCESS_KEY", "s");
    run_within(WITHIN, &mut asked)
}

#[test]
fn every_command_that_fails_ends_with_1_and_says_why() {
    let plan = Mount::builder();
    let dir = plan.scratch().to_str().unwrap().to_owned();
    let failures = failures(&dir);
    let tried = failures.iter().map(|(command, ..)| *command);
    let tried: BTreeSet<&str> = tried.chain(CANNOT_FAIL).collect();
    let all = named(&shown(&["--help"]));
    let all: BTreeSet<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(tried, all);
    for (command, words, expected) in &failures {
        let output = ask(&plan, command, words);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{command}: {text}");
        assert!(text.contains(expected), "{command}: {expected}: {text}");
        assert!(!text.contains('\u{1b}'), "{command}: {text}");
        // The doctor's report is what it was asked for.
        if *command != "doctor" {
            assert!(output.stdout.is_empty(), "{command}: {text}");
            assert!(text.starts_with("mediafs: "), "{command}: {text}");
        }
    }
}

/// Of these people alone read the output.
const WITHOUT_JSON: [&str; 4] = ["mount", "csi", "completions", "help"];
/// Of these the tests of what they do look at the JSON: each takes another place than a mount.
const TRIED_ELSEWHERE: [&str; 12] = [
    "setup",
    "doctor",
    "import",
    "export",
    "verify",
    "move",
    "attach",
    "detach",
    "spool show",
    "spool retry",
    "spool export",
    "spool discard",
];

/// Every command that does something by itself: with `--json`, and without.
fn by_json() -> (BTreeSet<String>, BTreeSet<String>) {
    let all = commands();
    let has_more = |command: &Vec<String>| {
        let mut others = all.iter().filter(|other| *other != command);
        others.any(|other| other.starts_with(command))
    };
    let of_its_own = all.iter().filter(|command| !has_more(command));
    let names = of_its_own.map(|command| command.join(" "));
    names.partition(|name| {
        let help: Vec<&str> = name.split(' ').chain(["--help"]).collect();
        options(&shown(&help)).contains("json")
    })
}

#[test]
fn commands_that_succeed_end_with_0_and_print_json_where_it_is_asked_for() {
    let mount = Mount::fresh();
    let root = mount.root.to_str().unwrap();
    let socket = listening(&mount);
    let spool = mount.scratch().join("spool");
    wait_for_health(&mount, "alive");
    let at_socket = [root, "--socket", socket.to_str().unwrap()];
    let asked = [
        ("status", &at_socket[..]),
        ("flush", &at_socket),
        ("refresh", &at_socket),
        ("healthcheck", &at_socket),
        ("log-level", &at_socket),
        ("reload", &at_socket),
        ("spool list", &["--spool", spool.to_str().unwrap()]),
        ("config show", &["b", root]),
        ("config check", &["b", root]),
        ("unmount", &at_socket),
    ];
    let (with_json, without) = by_json();
    let tried = asked.iter().map(|(name, _)| *name).chain(TRIED_ELSEWHERE);
    let tried: BTreeSet<String> = tried.map(str::to_owned).collect();
    assert_eq!(tried, with_json);
    assert_eq!(without, BTreeSet::from(WITHOUT_JSON.map(str::to_owned)));
    for (name, more) in asked {
        let mut command = mediafs(name.split(' '));
        let output = run_within(WITHIN, command.args(more).arg("--json"));
        assert_eq!(output.status.code(), Some(0), "{name}: {}", said(&output));
        let json: Result<serde_json::Value, _> = serde_json::from_slice(&output.stdout);
        assert!(json.is_ok(), "{name}: {}", said(&output));
    }
}

#[test]
fn a_configuration_is_checked_for_programs_too() {
    let plan = Mount::builder();
    let root = plan.root.to_str().unwrap().to_owned();
    for (mountpoint, code) in [(root.clone(), 0), (root + "/no", 1)] {
        let words = ["check", "b", &mountpoint, "--json"].map(str::to_owned);
        let output = ask(&plan, "config", &words);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["wrong"].as_array().unwrap().len(), code as usize);
        assert_eq!(json["notes"], serde_json::json!([]));
    }
}

/// What a terminal shows of commands, one after the other.
#[track_caller]
fn on_a_terminal(commands: &[String], no_colour: Option<&str>) -> String {
    let program = env!("CARGO_BIN_EXE_mediafs");
    let lines = commands
        .iter()
        .map(|words| format!("'{program}' {words}; "));
    let mut command = Command::new("script");
    command
        .args(["-qec", &lines.collect::<String>(), "/dev/null"])
        .env("TERM", "xterm")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "k")
        .env("AWS_SECRET_ACCESS_KEY", "s")
        .env_remove("NO_COLOR")
        .envs(no_colour.map(|value| ("NO_COLOR", value)));
    said(&run_within(WITHIN, &mut command))
}

#[test]
fn colour_is_for_terminals_whose_user_wants_it() {
    let doctor = format!("doctor b --endpoint-url {NOWHERE} --request-timeout 1s");
    let wrong = "status --no-such-option".to_owned();
    for words in [&doctor, &wrong] {
        let coloured = on_a_terminal(std::slice::from_ref(words), None);
        assert!(coloured.contains('\u{1b}'), "{coloured}");
    }
    let helps = commands().into_iter();
    let helps = helps.map(|command| format!("{} --help", command.join(" ")));
    let all: Vec<String> = helps.chain([doctor, wrong]).collect();
    let plain = on_a_terminal(&all, Some("1"));
    assert!(plain.matches("Usage: ").count() >= all.len() - 1, "{plain}");
    assert!(!plain.contains('\u{1b}'), "{plain}");
}

#[test]
fn completions_name_the_commands_that_people_type() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run_within(WITHIN, &mut mediafs(["completions", shell]));
        let text = said(&output);
        assert!(output.status.success(), "{text}");
        for word in ["status", "healthcheck", "leave-in-spool", "durability"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
        assert!(!text.contains("notifier"), "{shell}");
    }
}
