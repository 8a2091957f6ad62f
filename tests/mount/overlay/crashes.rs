//! The daemon of an overlay dies at each boundary between two steps of what changes the
//! old tree, and the next one shows every file as it was acknowledged.
//!
//! Each case: an application changes, removes and renames old files until the daemon dies
//! at a failpoint, in its own work or in that of the import. What was under way is
//! as it was before or after; nothing else differs, and the old directory is never changed.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use mediafs::failpoint::Point;
use rustix::process::Signal;

use super::{Tree, objects, old_directory, tree, wait_for_the_end, write};
use crate::support::mount::detach;
use crate::support::programs::happens_within;
use crate::support::{Amount, DURABILITIES, Mount, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// So many times the daemon comes to the point before it dies there.
const PASSES: [usize; 2] = [0, 3];

/// What an application does, and what of the tree is another then.
type Step = (fn(&Path) -> io::Result<()>, fn(&mut Tree));

fn moves(tree: &mut Tree, from: &str, to: &str) {
    let moved: Vec<String> = tree
        .keys()
        .filter(|path| path.starts_with(from))
        .cloned()
        .collect();
    for path in moved {
        let body = tree.remove(&path).unwrap();
        tree.insert(format!("{to}{}", &path[from.len()..]), body);
    }
}

const STEPS: [Step; 8] = [
    (
        |root| fs::remove_file(root.join("removed/1")),
        |tree| {
            tree.remove("removed/1");
            tree.insert("removed/".to_owned(), Vec::new());
        },
    ),
    (
        |root| {
            let mut file = fs::File::options().append(true).open(root.join("edited"))?;
            file.write_all(b" and more")?;
            file.sync_all()
        },
        |tree| tree.get_mut("edited").unwrap().extend(b" and more"),
    ),
    (
        |root| fs::rename(root.join("file"), root.join("d/renamed.txt")),
        |tree| moves(tree, "file", "d/renamed.txt"),
    ),
    (
        |root| fs::rename(root.join("d/1"), root.join("replaced")),
        |tree| moves(tree, "d/1", "replaced"),
    ),
    (
        |root| fs::rename(root.join("many"), root.join("moved")),
        |tree| moves(tree, "many/", "moved/"),
    ),
    (
        |root| {
            fs::write(root.join("new.part"), "new")?;
            fs::File::open(root.join("new.part"))?.sync_all()
        },
        |tree| drop(tree.insert("new.part".to_owned(), b"new".into())),
    ),
    (
        |root| fs::rename(root.join("new.part"), root.join("d/2")),
        |tree| moves(tree, "new.part", "d/2"),
    ),
    (
        |root| fs::remove_file(root.join("moved/3")),
        |tree| drop(tree.remove("moved/3")),
    ),
];

fn old_files(old: &Path) -> Tree {
    for name in ["removed/1", "edited", "file", "d/1", "d/2", "replaced"] {
        write(old, name, format!("old {name}"));
    }
    for number in 0..6 {
        write(old, &format!("many/{number}"), format!("many {number}"));
        write(old, &format!("still/{number}"), format!("still {number}"));
    }
    tree(old)
}

fn has_died(mount: &Mount) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", mount.pid())).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// Until a call fails, which may be done or not.
fn work(root: &Path, done: &mut Tree, or_else: &mut Tree) {
    for (act, apply) in STEPS {
        apply(or_else);
        if act(root).is_err() {
            return;
        }
        apply(done);
    }
}

/// Those of a tree; a marker may stand beside what it is not needed for any more.
fn files(tree: &Tree) -> Tree {
    let files = tree.iter().filter(|(path, _)| !path.ends_with('/'));
    files
        .map(|(path, body)| (path.clone(), body.clone()))
        .collect()
}

/// Whether the daemon died at the point.
fn dies_at(point: Point, durability: &str, passes: usize) -> bool {
    let armed = match passes {
        0 => format!("{}=return", point.name()),
        _ => format!("{}={passes}*off->return", point.name()),
    };
    let plan = Mount::builder()
        .durability(durability)
        .env("FAILPOINTS", armed);
    let old = old_directory(&plan);
    let before = old_files(&old);
    let mut mount = plan.arg("--overlay").arg(&old).adopt();
    let (mut done, mut or_else) = (before.clone(), before.clone());
    if mount.try_start() {
        work(&mount.root, &mut done, &mut or_else);
    }
    // The import may not have come to it.
    let is_over = || mount.log().contains("the overlay has ended");
    wait_until(WITHIN, "the death or the end", || {
        has_died(&mount) || is_over()
    });
    if !has_died(&mount) {
        return false;
    }
    mount.wait_for_exit();
    detach(&mount.root);
    // The next one is killed at any time.
    mount.change_env("FAILPOINTS", None);
    if mount.try_start() {
        mount.signal(Signal::KILL);
    }
    mount.wait_for_exit();
    detach(&mount.root);
    mount.remount();
    let case = format!("{} {durability} {passes}", point.name());
    let mut seen = Tree::new();
    let is_as_acknowledged = happens_within(WITHIN, || {
        seen = tree(&mount.root);
        seen == done || seen == or_else
    });
    assert!(is_as_acknowledged, "{case}: {seen:#?}, not {done:#?}");
    wait_for_the_end(&mount);
    assert_eq!(tree(&mount.root), seen, "{case}: after the end");
    mount.unmount();
    assert_eq!(files(&objects(&mount)), files(&seen), "{case}: objects");
    assert!(mount.client().unfinished_uploads(mount.bucket()).is_empty());
    assert_eq!(tree(&old), before, "{case}: the old directory");
    true
}

fn dies_everywhere(points: &[Point]) {
    for point in points {
        let mut died = 0;
        for durability in DURABILITIES {
            for passes in Amount::of(&PASSES[..1], &PASSES[..]) {
                died += usize::from(dies_at(*point, durability, *passes));
            }
        }
        assert!(died > 0, "no daemon came to {}", point.name());
    }
}

#[test]
fn whiteouts() {
    dies_everywhere(&[
        Point::WhiteoutWritten,
        Point::UnlinkBegins,
        Point::UnlinkDeleted,
    ]);
}

#[test]
fn imports() {
    dies_everywhere(&[Point::ImportNoted, Point::ImportSent, Point::ImportStored]);
}

#[test]
fn copies_up() {
    dies_everywhere(&[
        Point::SealJournaled,
        Point::UploadCompleted,
        Point::PutAnswered,
        Point::PublishUploaded,
    ]);
}

#[test]
fn renames_of_files() {
    dies_everywhere(&[
        Point::RenameFileNoted,
        Point::RenameFileCopied,
        Point::RenameFileDeleted,
        Point::RenameFileDone,
    ]);
}

#[test]
fn renames_of_directories() {
    dies_everywhere(&[
        Point::RenameDirectoryNoted,
        Point::RenameDirectoryCopies,
        Point::RenameDirectoryCopied,
        Point::RenameDirectoryEnqueues,
        Point::RenameDirectoryEnqueued,
    ]);
}
