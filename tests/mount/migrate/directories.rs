//! Owner, mode and time of directories, which `--attributes=stored` keeps with markers.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::support::{Migration, Mount, Server};

fn describe(path: &Path, mode: u32, uid: u32, seconds: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    chown(path, Some(uid), Some(uid)).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// Mode, owner and time.
fn shown(path: &Path) -> (u32, u32, i64) {
    let found = fs::metadata(path).unwrap();
    (found.mode() & 0o7777, found.uid(), found.mtime())
}

#[test]
fn what_directories_are_like_is_stored_and_a_mount_and_an_export_have_it() {
    // The other server keeps no metadata of a marker.
    let server = Server::moto();
    let all = Migration::on(server).option("--attributes=stored");
    all.file("private/in/f", "f");
    all.file("plain/f", "f");
    fs::create_dir(all.tree.join("empty")).unwrap();
    let as_given = [
        ("private/in", (0o755, 33, 2_000_000)),
        ("private", (0o2700, 33, 1_000_000)),
        ("empty", (0o1777, 44, 3_000_000)),
    ];
    for (path, (mode, uid, seconds)) in as_given {
        describe(&all.tree.join(path), mode, uid, seconds.try_into().unwrap());
    }
    all.ends("import", &["--yes"], 0);
    let marker = |path: &str| {
        let head = all.client.head(&all.bucket, &format!("media/{path}/"));
        head.unwrap().metadata
    };
    assert_eq!(marker("private")["mode"], (0o42_700).to_string());
    assert_eq!(marker("private")["uid"], "33");
    assert_eq!(marker("empty")["mtime"], "3000000");
    all.ends("verify", &[], 0);
    let nothing = all.ends("import", &["--yes"], 0);
    assert_eq!(nothing.count("sent"), 0, "{}", nothing.said);
    let plan = Mount::on(server).args(["--attributes", "stored"]);
    let mut mount = plan.prefix("media").bucket(&all.bucket).start();
    for (path, given) in as_given {
        assert_eq!(shown(&mount.path(path)), given, "{path}");
    }
    // A marker that says something stays when something comes to be in its directory.
    mount.remount();
    fs::write(mount.path("private/in/new"), "new").unwrap();
    fs::write(mount.path("empty/new"), "new").unwrap();
    mount.unmount();
    assert_eq!(marker("private/in")["uid"], "33");
    assert_eq!(marker("empty")["uid"], "44");
    // What is not a directory's owner, mode or time is kept by who changes these.
    let kept = [("mode", "16832"), ("uid", "33"), ("note", "kept")];
    let client = &all.client;
    client.put_with(&all.bucket, "media/plain/", b"", None, &kept);
    let told = all.ends("verify", &["--one-way"], 3);
    assert!(
        told.line("plain/")["why"]
            .to_string()
            .contains("mode 0755 here, 0700 there"),
        "{}",
        told.said
    );
    let again = all.ends("import", &["--yes"], 0);
    assert_eq!(again.count("sent"), 1, "{}", again.said);
    assert_eq!(marker("plain")["mode"], (0o40_755).to_string());
    assert_eq!(marker("plain")["note"], "kept");
    let back = all.scratch.path().join("back");
    let mut export = all.command_on("export", &back, &["--yes", "--json"]);
    let ended = crate::support::migration::Ended::of(&mut export);
    assert_eq!(ended.code, 0, "{}", ended.said);
    let (private, inner) = (
        shown(&back.join("private")),
        shown(&back.join("private/in")),
    );
    // No bit that hands on a group.
    assert_eq!(
        (private, inner),
        ((0o700, 33, 1_000_000), (0o755, 33, 2_000_000))
    );
}

#[test]
fn a_store_that_has_directories_of_its_own_is_asked_for_a_marker_once() {
    let all = Migration::on(Server::shared()).option("--attributes=stored");
    all.object("d/e/there", "before");
    all.file("d/e/f", "f");
    all.ends("import", &["--yes"], 0);
    all.ends("verify", &["--one-way"], 0);
    let asked = all.proxy.seen("PutObject");
    all.ends("import", &["--dry-run"], 0);
    all.ends("import", &["--yes"], 0);
    assert_eq!(all.proxy.seen("PutObject"), asked);
}

#[test]
fn without_markers_and_without_attributes_no_directory_becomes_an_object() {
    let fixed = Migration::new();
    let never = Migration::new().option("--attributes=stored");
    for all in [fixed, never.option("--dir-markers=never")] {
        all.file("d/e/f", "f");
        all.ends("import", &["--yes"], 0);
        assert_eq!(all.paths(), ["d/e/f"]);
    }
}
