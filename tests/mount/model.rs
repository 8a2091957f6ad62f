//! Random operations on a mount and on a plain directory at once: every answer,
//! errno included, and the whole trees must be the same.
//!
//! The cases are the same in each run. `MEDIAFS_TEST_MODEL_CASES=1000` runs that many
//! others; what fails is shrunk, and its seed is kept in
//! `tests/mount/model.proptest-regressions`, which runs first.

mod case;
mod side;
mod step;

use std::sync::{Mutex, PoisonError};

use crate::support::Mount;
use case::{Look, World};
use proptest::prelude::*;
use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner,
};
use step::{Clients, step};

const STEPS_LIMIT: usize = 40;
const SHRINK_LIMIT: u32 = 400;
const SEED: [u8; 32] = *b"mediafs: one file is one object.";
const REGRESSIONS: &str = "tests/mount/model.proptest-regressions";

fn runner(cases: u32) -> TestRunner {
    let more = std::env::var("MEDIAFS_TEST_MODEL_CASES").ok();
    let more = more.map(|count| count.parse().expect("MEDIAFS_TEST_MODEL_CASES: a number"));
    let config = Config {
        cases: more.unwrap_or(cases),
        max_shrink_iters: SHRINK_LIMIT,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        ..Config::default()
    };
    match more {
        Some(_) => TestRunner::new(config),
        None => {
            let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
            TestRunner::new_with_rng(config, rng)
        }
    }
}

#[track_caller]
fn check(world: World, clients: Clients, cases: u32) {
    let look = prop_oneof![3 => Just(Look::EachStep), 1 => Just(Look::AtEnd)];
    let steps = proptest::collection::vec(step(clients), 1..STEPS_LIMIT);
    let world = Mutex::new(world);
    let outcome = runner(cases).run(&(look, steps), |(look, steps)| {
        let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
        world.run(&steps, look).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, (look, steps))) => {
            let steps: Vec<_> = steps.iter().map(|step| format!("    {step:?},")).collect();
            panic!("{look:?}:\n{}\n{why}", steps.join("\n"));
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

#[test]
fn a_mount_alone_with_its_bucket_answers_as_a_plain_directory_does() {
    let mount = Mount::builder()
        .set("--ttl", "1h")
        .args(["--negative-ttl", "1h", "--block-size", "4KiB"])
        .start();
    let clients = Clients::ThisMountOnly;
    check(World::new(mount, clients), clients, 30);
}

#[test]
fn a_mount_that_trusts_nothing_answers_as_a_plain_directory_that_others_change_too() {
    let mount = Mount::builder()
        .set("--ttl", "0s")
        .args(["--negative-ttl", "0s", "--block-size", "4KiB"])
        .start();
    let clients = Clients::AnotherToo;
    check(World::new(mount, clients), clients, 40);
}
