//! Many files at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::programs::{run_shell, succeeds};
use crate::support::sys::DirStream;
use crate::support::{Mount, pattern, wait_until};

/// More than a page of a listing.
const FILES: usize = 1100;
const WITHIN: Duration = Duration::from_secs(60);

/// A tree of `FILES` small files, three levels deep, with its contents by path.
fn make_tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut tree = BTreeMap::new();
    for number in 0..FILES {
        let name = format!("d{}/e{}/f{number:04}.txt", number % 10, number % 7);
        let body = pattern(number % 3000, number as u64);
        fs::create_dir_all(root.join(&name).parent().unwrap()).unwrap();
        fs::write(root.join(&name), &body).unwrap();
        tree.insert(name, body);
    }
    tree
}

fn same_trees(a: &Path, b: &Path) {
    succeeds(Command::new("diff").arg("-r").args([a, b]));
}

#[test]
fn small_files_of_more_than_a_listing_page_are_equal_after_copies_and_a_remount() {
    let mut mount = Mount::fresh();
    let (source, back) = (mount.scratch().join("in"), mount.scratch().join("out"));
    let tree = make_tree(&source);
    run_shell("cp -r \"$1\" \"$2\"", &[&source, &mount.path("tree")]);
    same_trees(&source, &mount.path("tree"));
    run_shell("cp -r \"$1\" \"$2\"", &[&mount.path("tree"), &back]);
    same_trees(&source, &back);
    let wanted: Vec<_> = tree
        .iter()
        .map(|(name, body)| (format!("tree/{name}"), body.len() as u64))
        .collect();
    // The markers of its directories go in the background.
    wait_until(WITHIN, "the tree alone", || {
        mount.client().list(mount.bucket(), "") == wanted
    });
    mount.remount();
    same_trees(&source, &mount.path("tree"));
    for name in [&wanted[0].0, &wanted[FILES / 2].0, &wanted[FILES - 1].0] {
        let body = &tree[name.strip_prefix("tree/").unwrap()];
        assert_eq!(&mount.object(name).unwrap(), body, "{name}");
    }
}

#[test]
fn a_directory_of_several_listing_pages_is_listed_whole_and_each_name_once() {
    let mount = Mount::fresh();
    let wanted: Vec<_> = (0..2500).map(|i| format!("f{i:05}")).collect();
    let objects = wanted
        .iter()
        .map(|name| (format!("d/{name}"), b"x".to_vec()));
    mount.client().put_many(mount.bucket(), objects);
    // Directories between the files, so that pages mix keys and prefixes.
    let inner = (0..30).map(|i| (format!("d/f{:05}d/x", i * 80), b"x".to_vec()));
    mount.client().put_many(mount.bucket(), inner);
    mount.wait_for("d/f02499", "the files", |path| path.exists());
    let mut names = DirStream::open(&mount.path("d")).unwrap().rest();
    names.sort();
    let directories = (0..30).map(|i| format!("f{:05}d", i * 80));
    let mut all: Vec<_> = wanted.into_iter().chain(directories).collect();
    all.sort();
    assert_eq!(names.len(), all.len());
    assert!(names == all);
    let listed = run_shell("ls -lU \"$1\" | wc -l", &[&mount.path("d")]);
    assert_eq!(listed.trim(), "2531");
}

#[test]
fn two_shells_work_while_a_third_lists() {
    let mount = Mount::fresh();
    fs::create_dir_all(mount.path("shared")).unwrap();
    let writer = r#"
        cd "$1"
        i=0
        while [ $i -lt 60 ]; do
            printf '%s %s\n' "$2" $i > shared/$2-$i.tmp
            mv shared/$2-$i.tmp shared/$2-$i.txt
            [ "$(cat shared/$2-$i.txt)" = "$2 $i" ] || { echo "$2-$i is not what was written"; exit 1; }
            i=$((i+1))
        done"#;
    let lister = r#"
        cd "$1"
        until [ -e done ]; do
            ls -l shared > "$2" 2>/dev/null || true
            [ -z "$(ls shared | sort | uniq -d)" ] || { echo "a name twice"; exit 1; }
        done
        ls shared | wc -l"#;
    std::thread::scope(|scope| {
        let (root, scratch) = (&mount.root, mount.scratch().join("listing"));
        let third = scope.spawn(move || run_shell(lister, &[root, &scratch]));
        let writers = ["one", "two"]
            .map(|name| scope.spawn(move || run_shell(writer, &[root, Path::new(name)])));
        let results = writers.map(|writer| writer.join());
        // The lister ends whatever became of the writers.
        fs::write(root.join("done"), b"").unwrap();
        assert_eq!(third.join().unwrap().trim(), "120");
        assert!(results.iter().all(Result::is_ok));
    });
    mount.wait_for_keys("the names before the renames to go", |keys| {
        keys.len() == 121
    });
    assert_eq!(mount.object("shared/two-59.txt").unwrap(), b"two 59\n");
}

#[test]
fn files_made_by_threads_at_once_in_one_directory_are_all_there() {
    let mount = Mount::fresh();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let mount = &mount;
            scope.spawn(move || {
                for number in 0..20_u64 {
                    let body = pattern(5000, thread * 100 + number);
                    let path = mount.path(format!("d/{number}"));
                    fs::create_dir_all(&path).unwrap();
                    fs::write(path.join(thread.to_string()), body).unwrap();
                }
            });
        }
    });
    let keys = mount.keys();
    let files = keys.iter().filter(|key| !key.ends_with('/'));
    assert_eq!(files.count(), 160);
    for (thread, number) in [(0, 0), (3, 19), (7, 7)] {
        let want = pattern(5000, thread * 100 + number);
        let name = format!("d/{number}/{thread}");
        assert_eq!(mount.object(&name).unwrap(), want, "{name}");
        assert_eq!(fs::read(mount.path(&name)).unwrap(), want, "{name}");
    }
}
