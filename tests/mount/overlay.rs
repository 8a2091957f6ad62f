//! An old directory below the bucket, until all of it is in the bucket.

mod attributes;
mod crashes;
mod files;
mod imports;
mod restarts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::control::{run, status};
use crate::support::programs::{happens_within, said};
use crate::support::proxy::Proxy;
use crate::support::{Mount, MountBuilder, Server};

const WITHIN: Duration = Duration::from_secs(90);

type Tree = BTreeMap<String, Vec<u8>>;

/// Files by their paths; empty directories end in `/`.
fn tree(root: &Path) -> Tree {
    fn enter(root: &Path, above: &str, found: &mut Tree) {
        let mut is_empty = true;
        for entry in fs::read_dir(root.join(above)).unwrap() {
            let entry = entry.unwrap();
            is_empty = false;
            let path = format!("{above}{}", entry.file_name().into_string().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => enter(root, &format!("{path}/"), found),
                false => drop(found.insert(path.clone(), fs::read(root.join(&path)).unwrap())),
            }
        }
        if is_empty && !above.is_empty() {
            found.insert(above.to_owned(), Vec::new());
        }
    }
    let mut found = Tree::new();
    enter(root, "", &mut found);
    found
}

fn write(root: &Path, path: &str, body: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, body).unwrap();
}

/// What an application left.
fn old_files(root: &Path) -> Tree {
    for (path, body) in [
        ("a", "old a"),
        ("a.txt", "old text"),
        ("both", "old, and hidden by the bucket's"),
        ("d/x", "old x"),
        ("d/e/y", "old y"),
        ("d/e/z", "old z"),
        ("gone/1", "1"),
        ("gone/2", "2"),
    ] {
        write(root, path, body);
    }
    fs::create_dir_all(root.join("empty/inside")).unwrap();
    tree(root)
}

/// Beside the mountpoint, so that it can be looked at.
fn old_directory(plan: &MountBuilder) -> PathBuf {
    let old = plan.scratch().join("old");
    fs::create_dir(&old).unwrap();
    old
}

fn over(plan: MountBuilder, old: &Path) -> MountBuilder {
    plan.arg("--overlay").arg(old)
}

/// Behind a proxy that lets no import through until it is healed.
fn held_import() -> (MountBuilder, Proxy) {
    let proxy = Proxy::before(Server::shared());
    let plan = Mount::builder().set("--endpoint-url", &proxy.endpoint);
    (plan, proxy)
}

fn of_overlay(mount: &Mount) -> Value {
    status(mount)["overlay"].clone()
}

/// A daemon that finds the overlay ended tells nothing of it.
#[track_caller]
fn wait_for_the_end(mount: &Mount) {
    let mut last = String::new();
    let ended = happens_within(WITHIN, || {
        // Nobody answers while a killed daemon has no successor yet.
        let answer = run(mount, &["status", mount.root.to_str().unwrap(), "--json"]);
        last = said(&answer);
        let told: Value = serde_json::from_str(&last).unwrap_or_default();
        let is_over = told["overlay"].is_null() || told["overlay"]["ended"] == true;
        answer.status.success() && is_over
    });
    assert!(ended, "{last}\n{}", mount.log());
}

/// What another client finds: files, and markers of directories that have none.
fn objects(mount: &Mount) -> Tree {
    let keys = mount.keys().into_iter();
    keys.map(|key| (key.clone(), mount.object(&key).unwrap()))
        .collect()
}
