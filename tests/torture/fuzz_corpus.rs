//! The fuzz targets on their corpus and on seeded changes of it: the same inputs
//! at every run. `scripts/fuzz` lets libFuzzer look for new ones.

#[path = "fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use targets::{Parser, TARGETS};

/// Changed inputs of one target.
const CHANGED: usize = 3000;
/// Longest that one input may take of a processor, in a build without optimisation.
const INPUT_WITHIN: Duration = Duration::from_secs(5);
/// Longest changed input.
const LIMIT_BYTES: usize = 64 << 10;
/// What parsers branch on.
const WORDS: [&str; 24] = [
    "/",
    "//",
    "..",
    ".",
    "\0",
    "%",
    "%2F",
    "%00",
    "%ff",
    "\n",
    "\r\n",
    "\"",
    "{",
    "}",
    "[",
    "-1",
    "0",
    "4294967295",
    "18446744073709551615",
    "9223372036854775808",
    "1e309",
    "null",
    "\u{fffd}",
    ": ",
];

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture/fuzz/corpus");
    let entries = fs::read_dir(folder.join(target)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no corpus");
    let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
    paths.into_iter().map(read).collect()
}

#[track_caller]
fn try_input(target: Parser, what: &str, input: &[u8]) {
    let start = processor_time();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let shown = input.escape_ascii();
    assert!(outcome.is_ok(), "{what}: {shown}");
    let took = processor_time() - start;
    assert!(took < INPUT_WITHIN, "{what} took {took:?}: {shown}");
}

/// What this thread has had of a processor. Source: clock_gettime(2).
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// A part of one input, changed in a few places, perhaps with a part of another.
fn changed(random: &mut fastrand::Rng, inputs: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut input = inputs[random.usize(..inputs.len())].1.clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=input.len());
        match random.u8(0..7) {
            0 => input.truncate(at),
            1 => input.insert(at, random.u8(..)),
            2 if at < input.len() => input[at] ^= 1 << random.u8(0..8),
            3 => {
                let word = WORDS[random.usize(..WORDS.len())].bytes();
                input.splice(at..at, word);
            }
            4 => {
                let to = random.usize(at..=input.len());
                input.drain(at..to);
            }
            5 => {
                let other = &inputs[random.usize(..inputs.len())].1;
                let from = random.usize(0..=other.len());
                input.splice(at..at, other[from..].iter().copied());
            }
            _ => {
                let to = random.usize(at..=input.len());
                let piece = input[at..to].repeat(random.usize(1..20));
                input.splice(at..at, piece);
            }
        }
        input.truncate(LIMIT_BYTES);
    }
    input
}

fn holds(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let inputs = corpus(name);
    for (path, input) in &inputs {
        try_input(*target, &path.display().to_string(), input);
    }
    for seed in 0..CHANGED as u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let input = changed(&mut random, &inputs);
        try_input(*target, &format!("{name}, seed {seed}"), &input);
    }
}

#[test]
fn every_target_has_a_corpus_and_a_program_for_libfuzzer() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture/fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(!corpus(name).is_empty());
        let program = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("targets::{name}(")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn no_configuration_file_ends_in_a_panic() {
    holds("config");
}

#[test]
fn no_journal_ends_in_a_panic_and_each_comes_to_what_its_records_do() {
    holds("journal");
}

#[test]
fn no_key_becomes_a_name_that_leads_elsewhere() {
    holds("keys");
}

#[test]
fn no_metadata_ends_in_a_panic_and_what_is_understood_survives_being_stored() {
    holds("metadata");
}

#[test]
fn no_state_of_a_predecessor_ends_in_a_panic() {
    holds("state");
}
