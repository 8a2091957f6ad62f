//! `mediafs spool` on a spool.

use std::io::Write;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use super::mount::Mount;
use super::programs::{mediafs, run_within, said, wait_until};
use super::sys;

const WITHIN: Duration = Duration::from_secs(60);

/// `mediafs spool ARGS` on a spool.
#[track_caller]
fn run(spool: &Path, args: &[&str]) -> Output {
    let mut command = mediafs();
    command.arg("spool").args(args).arg("--spool").arg(spool);
    run_within(WITHIN, &mut command)
}

/// What it prints when it succeeds.
#[track_caller]
pub fn succeeds(spool: &Path, args: &[&str]) -> String {
    let output = run(spool, args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What it prints when it fails.
#[track_caller]
pub fn refused(spool: &Path, args: &[&str]) -> String {
    let output = run(spool, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", said(&output));
    said(&output)
}

/// State, key and id of each file, as `list --json` says.
#[track_caller]
pub fn listed(spool: &Path) -> Vec<(String, String, String)> {
    let text = succeeds(spool, &["list", "--json"]);
    let entries: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let fields = |entry: &serde_json::Value| {
        (
            text(&entry["state"]),
            text(&entry["key"]),
            text(&entry["id"]),
        )
    };
    entries.iter().map(fields).collect()
}

/// Waits for one kept file and returns its id.
#[track_caller]
pub fn kept(spool: &Path, key: &str) -> String {
    let mut id = String::new();
    wait_until(WITHIN, "a kept file", || {
        let listed = listed(spool);
        let found = listed.iter().find(|(state, _, _)| state == "kept");
        found.is_some_and(|(_, of, its)| {
            assert_eq!(of, key);
            id.clone_from(its);
            true
        })
    });
    id
}

/// Bytes that a spool has kept because S3 does not have them.
pub fn lost_files(spool: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(spool.join("lost+found"));
    let entries = entries.into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    // Beside the bytes lies a file that tells their key.
    let kept = paths.filter(|path| path.extension().is_none());
    kept.map(|path| std::fs::read(path).unwrap()).collect()
}

/// Leaves the bytes of an exclusive create that another client was faster with.
#[track_caller]
pub fn lose_a_race(mount: &Mount, name: &str, ours: &[u8], theirs: &[u8]) {
    let mut file = sys::open(
        mount.path(name),
        libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL,
    )
    .unwrap();
    file.write_all(ours).unwrap();
    mount.put_object(name, theirs);
    assert_eq!(sys::errno(sys::close(file)), libc::EEXIST);
}
