//! Imports and exports that are killed again and again end as one that was not.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::data::MIB;
use crate::support::migration::Ended;
use crate::support::{Migration, pattern};

const KILLS: usize = 20;
const FILES: usize = 240;
/// A run that is not killed takes about as long.
const KILLED_WITHIN: Duration = Duration::from_millis(1_500);

/// Kills runs of a command at random times; how many there were before one ended by itself.
fn killed(all: &Migration, name: &str, random: &mut fastrand::Rng) -> usize {
    killed_of(|| all.command(name, &["--yes"]), random)
}

fn killed_of(command: impl Fn() -> Command, random: &mut fastrand::Rng) -> usize {
    for kill in 0..KILLS {
        let mut run = command();
        let mut run = run.stderr(std::process::Stdio::null()).spawn().unwrap();
        let until = Instant::now() + KILLED_WITHIN.mul_f64(random.f64());
        while Instant::now() < until {
            if run.try_wait().unwrap().is_some() {
                return kill;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        run.kill().unwrap();
        run.wait().unwrap();
    }
    KILLS
}

#[test]
fn a_migration_that_is_killed_twenty_times_ends_equal_and_sends_no_more_than_it_must() {
    // So slow that it is killed in the middle, by a bandwidth of its own.
    let all = Migration::new();
    let mut random = fastrand::Rng::with_seed(18);
    let mut bytes = 0;
    for number in 0..FILES {
        let len = random.usize(0..20_000);
        bytes += len;
        all.file(
            &format!("d{}/{number}", number % 5),
            pattern(len, number as u64),
        );
    }
    for (name, len) in [("long", 60 * MIB), ("z/longer", 90 * MIB)] {
        all.file(name, pattern(len, len as u64));
        bytes += len;
    }
    let kills = killed(&all, "import", &mut random);
    all.proxy.wait_until_idle();
    all.ends("import", &["--yes"], 0);
    all.assert_equal();
    let sent = ["PutObject", "UploadPart"].map(|op| all.proxy.lengths(op).iter().sum::<usize>());
    // Of each run that was killed, what was on its way.
    let most = bytes + kills * 8 * 8 * MIB;
    assert!(
        sent[0] + sent[1] <= most,
        "{sent:?} of {bytes}, {kills} kills"
    );
    eprintln!("{kills} kills of an import: {sent:?} bytes sent of {bytes}");
    let before = all.tree.with_file_name("before");
    fs::rename(&all.tree, &before).unwrap();
    fs::create_dir(&all.tree).unwrap();
    let kills = killed(&all, "export", &mut random);
    all.proxy.wait_until_idle();
    all.ends("export", &["--yes"], 0);
    all.assert_equal();
    eprintln!("{kills} kills of an export");
}

#[test]
fn a_move_that_is_killed_again_and_again_ends_equal_and_leaves_no_upload() {
    let all = Migration::new();
    let target = format!("{}-new", all.bucket);
    all.client.create_bucket(&target);
    let mut random = fastrand::Rng::with_seed(19);
    let mut objects = Vec::new();
    for number in 0..FILES {
        let len = random.usize(0..20_000);
        objects.push((
            format!("d{}/{number}", number % 5),
            pattern(len, number as u64),
        ));
    }
    for (name, len) in [("long", 60 * MIB), ("z/longer", 90 * MIB)] {
        objects.push((name.to_owned(), pattern(len, len as u64)));
    }
    for (path, bytes) in &objects {
        all.object(path, bytes);
    }
    let place = format!("{target}/moved");
    // From another endpoint, so that the bytes go through.
    let elsewhere = ["--yes", "--source-endpoint-url", all.endpoint()];
    let kills = killed_of(|| all.move_to(&place, &elsewhere), &mut random);
    all.proxy.wait_until_idle();
    let last = Ended::of(all.move_to(&place, &elsewhere).arg("--json"));
    assert_eq!(last.code, 0, "{}", last.said);
    let there = all.client.list(&target, "");
    assert_eq!(there.len(), objects.len());
    for (path, bytes) in &objects {
        let stored = all.client.get(&target, &format!("moved/{path}"));
        assert!(stored.as_ref() == Some(bytes), "{path}");
    }
    assert!(all.client.unfinished_uploads(&target).is_empty());
    eprintln!("{kills} kills of a move");
}
