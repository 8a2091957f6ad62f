//! What a setup says to who sits at a terminal, and that its JSON stays JSON there.

use std::fs;
use std::process::{Command, Output};

use super::{Plan, WITHIN};
use crate::support::Server;
use crate::support::programs::{has_all, run_within, said};

/// Runs a setup at a terminal, where somebody types the answer. What it prints to its
/// standard output is in `out` of the scratch folder, if it is to be told apart.
fn answered(plan: &Plan, more: &[&str], answer: &str, apart: bool) -> Output {
    let setup = plan.command(more);
    let words = [setup.get_program()].into_iter().chain(setup.get_args());
    let words: Vec<String> = words
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let scratch = plan.mount.scratch();
    let out = if apart { ">out" } else { "" };
    let script = format!("#!/bin/sh\nexec {} {out}\n", words.join(" "));
    fs::write(scratch.join("run"), script).unwrap();
    fs::write(scratch.join("answer"), answer).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "script -qec 'sh ./run' /dev/null <answer"])
        .current_dir(scratch);
    for (name, value) in setup.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    run_within(WITHIN, command.env("TERM", "xterm"))
}

#[test]
fn who_sits_at_a_terminal_is_asked_and_nothing_is_done_without_a_yes() {
    let plan = Plan::on(Server::moto());
    let output = answered(&plan, &[], "n\n", false);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let words = ["todo", "bucket", "Do this? [y/N]", "nothing was done"];
    has_all(&said(&output), &words);
    assert!(!plan.file().exists());
    let output = answered(&plan, &[], "y\n", false);
    assert!(output.status.success(), "{}", said(&output));
    assert!(plan.file().exists());
    plan.has_nothing_to_do(&[]);
}

#[test]
fn colour_is_for_terminals_and_not_for_those_who_want_none() {
    let plan = Plan::on(Server::moto());
    let coloured = answered(&plan, &["--dry-run"], "", false);
    assert!(said(&coloured).contains('\u{1b}'), "{}", said(&coloured));
    let mount = plan.mount.env("NO_COLOR", "1");
    let plan = Plan { mount, ..plan };
    let plain = answered(&plan, &["--dry-run"], "", false);
    has_all(&said(&plain), &["todo  bucket"]);
    assert!(!said(&plain).contains('\u{1b}'), "{}", said(&plain));
}

#[test]
fn json_at_a_terminal_is_told_apart_from_the_question() {
    let plan = Plan::on(Server::moto());
    for (answer, code, state) in [("n\n", 1, "todo"), ("y\n", 0, "done")] {
        let output = answered(&plan, &["--json"], answer, true);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        // What is to be agreed to is shown.
        has_all(&said(&output), &["bucket", "Do this? [y/N]"]);
        let out = fs::read(plan.mount.scratch().join("out")).unwrap();
        let steps: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
        assert_eq!(super::state(&steps, "bucket"), state, "{steps:#?}");
    }
}
