//! Attributes that are stored with the objects: `--attributes=stored`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::data::assert_same_bytes;
use crate::support::programs::{run_shell, succeeds};
use crate::support::proxy::{Fault, Rule, Side};
use crate::support::{Mount, Server, pattern, run_python, sys, wait_until};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mkdirat, mknodat};

fn stored() -> Mount {
    Mount::builder()
        .args(["--attributes", "stored", "--log", "info,mediafs=debug"])
        .start()
}

fn metadata_of(mount: &Mount, path: &str, name: &str) -> Option<String> {
    let head = mount.client().head(mount.bucket(), path).unwrap();
    head.metadata.get(name).cloned()
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().mode()
}

fn getxattr(path: &Path, name: &str) -> Result<Vec<u8>, i32> {
    let mut value = vec![0; 4096];
    match rustix::fs::getxattr(path, name, &mut value[..]) {
        Ok(len) => Ok(value[..len].to_vec()),
        Err(error) => Err(error.raw_os_error()),
    }
}

fn setxattr(path: &Path, name: &str, value: &[u8]) -> Result<(), i32> {
    let outcome = rustix::fs::setxattr(path, name, value, XattrFlags::empty());
    outcome.map_err(|error| error.raw_os_error())
}

#[test]
fn mode_owner_and_times_survive_a_remount() {
    let mut mount = stored();
    let path = mount.path("a.txt");
    fs::write(&path, b"bytes").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o4751)).unwrap();
    chown(&path, Some(7), Some(8)).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o4751)).unwrap();
    succeeds(
        Command::new("touch")
            .args(["-m", "-d", "2001-02-03T04:05:06.123456789Z"])
            .arg(&path),
    );
    mount.remount();
    let seen = fs::metadata(&path).unwrap();
    assert_eq!(seen.mode(), 0o104_751);
    assert_eq!((seen.uid(), seen.gid()), (7, 8));
    assert_eq!(
        (seen.mtime(), seen.mtime_nsec()),
        (981_173_106, 123_456_789)
    );
    assert_eq!(fs::read(&path).unwrap(), b"bytes");
    let head = mount.client().head(mount.bucket(), "a.txt").unwrap();
    assert_eq!(head.content_type.as_deref(), Some("text/plain"), "kept");
    assert_eq!(head.metadata["mode"], "35305");
    assert_eq!(head.metadata["mtime"], "981173106.123456789");
}

#[test]
fn a_time_before_1970_is_kept_to_the_nanosecond() {
    let mut mount = stored();
    let path = mount.path("old");
    fs::write(&path, b"x").unwrap();
    run_python(
        "import os, sys; os.utime(sys.argv[1], ns=(-1, -1_500_000_000))",
        &[&path],
    );
    for _ in 0..2 {
        let seen = fs::metadata(&path).unwrap();
        assert_eq!((seen.mtime(), seen.mtime_nsec()), (-2, 500_000_000));
        assert_eq!((seen.atime(), seen.atime_nsec()), (-1, 999_999_999));
        mount.remount();
    }
}

#[test]
fn what_equals_the_present_value_costs_no_request() {
    let mount = stored();
    let path = mount.path("f");
    fs::write(&path, b"x").unwrap();
    let puts = mount.requests("PutObject");
    let seen = fs::metadata(&path).unwrap();
    let permissions = seen.permissions();
    fs::set_permissions(&path, permissions).unwrap();
    chown(&path, Some(seen.uid()), Some(seen.gid())).unwrap();
    assert_eq!(mount.requests("CopyObject"), 0);
    assert_eq!(mount.requests("PutObject"), puts);
}

#[test]
fn a_change_of_attributes_moves_no_bytes_and_leaves_the_pages_in_the_cache() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan
        .args(["--attributes", "stored", "--copy-part-size", "5MiB"])
        .start();
    let body = pattern(12 << 20, 4);
    mount.put_object("big", &body);
    mount.wait_for("big", "the file", Path::exists);
    assert_same_bytes(&fs::read(mount.path("big")).unwrap(), &body, "before");
    let gets = proxy.seen("GetObject");
    fs::set_permissions(mount.path("big"), PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(mode(mount.path("big")) & 0o7777, 0o600);
    assert_same_bytes(&fs::read(mount.path("big")).unwrap(), &body, "after");
    assert_eq!(proxy.seen("UploadPart"), 0);
    assert_eq!(proxy.seen("UploadPartCopy"), 3);
    assert_eq!(proxy.seen("GetObject"), gets);
    assert_same_bytes(&mount.object("big").unwrap(), &body, "object");
}

#[test]
fn new_files_belong_to_who_makes_them_and_sgid_directories_give_their_group() {
    let mount = Mount::builder()
        .args(["--attributes", "stored", "--allow-other"])
        .start();
    let dir = mount.path("shared");
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(0), Some(55)).unwrap();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o3777)).unwrap();
    let as_user = "umask 027; setpriv --reuid 1234 --regid 1234 --clear-groups sh -c '
        cd \"$1\"; echo x > file; mkdir sub; chmod 600 file' sh \"$1\"";
    run_shell(as_user, &[&dir]);
    let file = fs::metadata(dir.join("file")).unwrap();
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777),
        (1234, 55, 0o600)
    );
    let sub = fs::metadata(dir.join("sub")).unwrap();
    assert_eq!(
        (sub.uid(), sub.gid(), sub.mode() & 0o7777),
        (1234, 55, 0o2750)
    );
    // The sticky bit keeps others from removing it.
    let remove = "setpriv --reuid 4321 --regid 4321 --clear-groups rm -f \"$1\" 2>&1 || true";
    let said = run_shell(remove, &[&dir.join("file")]);
    assert!(said.contains("not permitted"), "{said}");
    assert!(dir.join("file").exists());
}

#[test]
fn symlinks_are_objects_as_s3fs_keeps_them_and_survive_a_remount() {
    let mut mount = stored();
    fs::write(mount.path("target"), b"bytes").unwrap();
    symlink("target", mount.path("link")).unwrap();
    symlink("nowhere/at all", mount.path("dangling")).unwrap();
    let again = symlink("x", mount.path("link"));
    assert_eq!(sys::errno(again), libc::EEXIST);
    for _ in 0..2 {
        assert_eq!(
            fs::read_link(mount.path("link")).unwrap(),
            Path::new("target")
        );
        assert_eq!(fs::read(mount.path("link")).unwrap(), b"bytes");
        assert_eq!(mode(mount.path("link")), 0o120_777);
        let missing = fs::metadata(mount.path("dangling"));
        assert_eq!(sys::errno(missing), libc::ENOENT);
        mount.remount();
    }
    assert_eq!(mount.object("link").unwrap(), b"target");
    assert_eq!(metadata_of(&mount, "link", "mode").unwrap(), "41471");
    let kinds: Vec<_> = fs::read_dir(&mount.root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                entry.file_type().unwrap(),
            )
        })
        .filter(|(_, kind)| kind.is_symlink())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    fs::rename(mount.path("link"), mount.path("moved")).unwrap();
    assert_eq!(fs::read(mount.path("moved")).unwrap(), b"bytes");
    fs::remove_file(mount.path("moved")).unwrap();
    fs::remove_file(mount.path("dangling")).unwrap();
    assert_eq!(mount.keys(), ["target"]);
}

#[test]
fn extended_attributes_are_kept_up_to_what_metadata_holds() {
    let mut mount = stored();
    let path = mount.path("f");
    fs::write(&path, b"x").unwrap();
    setxattr(&path, "user.colour", b"red\0\xff").unwrap();
    setxattr(&path, "user.other", b"").unwrap();
    assert_eq!(
        setxattr(&path, "user.long", &[b'x'; 2000]),
        Err(libc::ENOSPC)
    );
    assert_eq!(setxattr(&path, "user.mediafs.key", b"x"), Err(libc::EPERM));
    assert_eq!(setxattr(&path, "trusted.x", b"x"), Err(libc::EOPNOTSUPP));
    let twice = rustix::fs::setxattr(&path, "user.colour", b"", XattrFlags::CREATE);
    assert_eq!(twice.unwrap_err().raw_os_error(), libc::EEXIST);
    mount.remount();
    assert_eq!(getxattr(&path, "user.colour").unwrap(), b"red\0\xff");
    let mut names = vec![0; 256];
    let len = rustix::fs::listxattr(&path, &mut names[..]).unwrap();
    assert_eq!(&names[..len], b"user.colour\0user.other\0");
    rustix::fs::removexattr(&path, "user.colour").unwrap();
    assert_eq!(getxattr(&path, "user.colour"), Err(libc::ENODATA));
    assert_eq!(fs::read(&path).unwrap(), b"x");
}

#[test]
fn a_file_tells_its_key_etag_type_and_state_in_either_mode() {
    for mount in [Mount::fresh(), stored()] {
        let path = mount.path("a b.png");
        let file = fs::File::create(&path).unwrap();
        assert_eq!(getxattr(&path, "user.mediafs.state").unwrap(), b"dirty");
        sys::close(file).unwrap();
        assert_eq!(getxattr(&path, "user.mediafs.state").unwrap(), b"clean");
        assert_eq!(getxattr(&path, "user.mediafs.key").unwrap(), b"a b.png");
        let kind = getxattr(&path, "user.mediafs.content_type").unwrap();
        assert_eq!(kind, b"image/png");
        let head = mount.client().head(mount.bucket(), "a b.png").unwrap();
        let etag = getxattr(&path, "user.mediafs.etag").unwrap();
        assert_eq!(etag, head.etag.trim_matches('"').as_bytes());
        assert_eq!(getxattr(&path, "user.none"), Err(libc::ENODATA));
        // Nothing is sent along for this name: S3 gives it a type.
        let path = mount.path("f");
        fs::write(&path, b"x").unwrap();
        let kind = getxattr(&path, "user.mediafs.content_type").unwrap();
        assert_eq!(kind, b"application/octet-stream");
    }
}

#[test]
fn a_file_is_uploading_until_its_bytes_are_in_s3() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan.durability("disk").start();
    let gate = proxy.hold(Side::BeforeServer, Rule::on("PutObject", Fault::Pass));
    let path = mount.path("f");
    fs::write(&path, b"x").unwrap();
    gate.wait_for(1);
    let state = || getxattr(&path, "user.mediafs.state").unwrap();
    assert_eq!(state(), b"uploading");
    gate.open();
    wait_until(Duration::from_secs(60), "clean", || state() == b"clean");
}

#[test]
fn what_cannot_be_an_object_is_refused_with_eperm() {
    let mount = stored();
    fs::write(mount.path("f"), b"x").unwrap();
    let linked = fs::hard_link(mount.path("f"), mount.path("g"));
    assert_eq!(sys::errno(linked), libc::EPERM);
    mknodat(
        CWD,
        mount.path("node"),
        FileType::RegularFile,
        Mode::from_bits_retain(0o640),
        0,
    )
    .unwrap();
    assert_eq!(mode(mount.path("node")), 0o100_640);
    assert_eq!(mount.object("node").unwrap(), b"");
    let fixed = Mount::fresh();
    let refused = symlink("x", fixed.path("l"));
    assert_eq!(sys::errno(refused), libc::EPERM);
}

#[test]
fn each_version_of_an_object_is_asked_for_once_ever() {
    // Fewer than it takes to know which answer is late, and to ask a second time.
    const FILES: usize = 250;
    let mut mount = stored();
    let names: Vec<String> = (0..FILES)
        .map(|count| format!("many/f{count:04}"))
        .collect();
    let objects = names.iter().map(|name| (name.clone(), b"x".to_vec()));
    mount.client().put_many(mount.bucket(), objects);
    // What is younger may change within the second of its Last-Modified.
    std::thread::sleep(Duration::from_secs(3));
    for _ in 0..2 {
        let listed = run_shell("ls -l \"$1\" | wc -l", &[&mount.path("many")]);
        assert_eq!(listed.trim(), (FILES + 1).to_string());
        mount.remount();
    }
    run_shell("ls -l \"$1\"", &[&mount.path("many")]);
    let asked = mount
        .log()
        .lines()
        .filter(|line| line.contains("op=HeadObject ") && line.contains("many/f"))
        .count();
    assert_eq!(asked, FILES);
    let plain = Mount::builder()
        .args(["--log", "info,mediafs=debug"])
        .start();
    let objects = names.iter().map(|name| (name.clone(), b"x".to_vec()));
    plain.client().put_many(plain.bucket(), objects);
    run_shell("ls -l \"$1\"", &[&plain.path("many")]);
    assert_eq!(
        plain.requests("HeadObject"),
        0,
        "fixed attributes are no question"
    );
}

#[test]
fn a_directorys_attributes_are_kept_with_its_marker() {
    let mut mount = Mount::on(Server::moto())
        .args(["--attributes", "stored"])
        .start();
    let dir = mount.path("d");
    mkdirat(CWD, &dir, Mode::from_bits_retain(0o700)).unwrap();
    fs::write(dir.join("f"), b"x").unwrap();
    chown(&dir, Some(7), Some(8)).unwrap();
    setxattr(&dir, "user.k", b"v").unwrap();
    fs::rename(&dir, mount.path("e")).unwrap();
    mount.remount();
    let seen = fs::metadata(mount.path("e")).unwrap();
    assert_eq!((seen.mode(), seen.uid(), seen.gid()), (0o040_700, 7, 8));
    assert_eq!(getxattr(&mount.path("e"), "user.k").unwrap(), b"v");
    assert_eq!(mount.keys(), ["e/", "e/f"]);
    fs::remove_file(mount.path("e/f")).unwrap();
    fs::remove_dir(mount.path("e")).unwrap();
    assert_eq!(mount.keys(), Vec::<String>::new());
}

#[test]
fn another_clients_change_of_metadata_shows_after_the_ttl() {
    let mount = stored();
    let path = mount.path("f");
    fs::write(&path, b"x").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let other = [("mode", "33261"), ("mtime", "1.5"), ("kept", "yes")];
    let client = mount.client();
    client.put_with(mount.bucket(), "f", b"other bytes", None, &other);
    mount.wait_for("f", "the other mode", |path| mode(path) == 0o100_755);
    let seen = fs::metadata(&path).unwrap();
    assert_eq!((seen.mtime(), seen.mtime_nsec()), (1, 500_000_000));
    chown(&path, Some(9), None).unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .map(drop)
        .unwrap();
    run_shell("printf more >> \"$1\"", &[&path]);
    assert_eq!(metadata_of(&mount, "f", "kept").unwrap(), "yes");
    assert_eq!(metadata_of(&mount, "f", "uid").unwrap(), "9");
    assert_eq!(mount.object("f").unwrap(), b"other bytesmore");
}

#[test]
fn a_rename_keeps_mode_owner_and_time() {
    let mut mount = stored();
    fs::write(mount.path("a.txt"), b"x").unwrap();
    chown(mount.path("a.txt"), Some(3), Some(4)).unwrap();
    succeeds(
        Command::new("touch")
            .args(["-d", "@1000000000.5"])
            .arg(mount.path("a.txt")),
    );
    mount.put_object("foreign", b"y");
    mount.wait_for("foreign", "the other file", Path::exists);
    let foreign = fs::metadata(mount.path("foreign")).unwrap().mtime();
    fs::rename(mount.path("a.txt"), mount.path("b.html")).unwrap();
    fs::rename(mount.path("foreign"), mount.path("mine")).unwrap();
    for _ in 0..2 {
        let seen = fs::metadata(mount.path("b.html")).unwrap();
        assert_eq!((seen.uid(), seen.gid()), (3, 4));
        assert_eq!(
            (seen.mtime(), seen.mtime_nsec()),
            (1_000_000_000, 500_000_000)
        );
        assert_eq!(fs::metadata(mount.path("mine")).unwrap().mtime(), foreign);
        mount.remount();
    }
    let head = mount.client().head(mount.bucket(), "b.html").unwrap();
    assert_eq!(head.content_type.as_deref(), Some("text/html"));
}

#[test]
fn a_tree_that_moved_leaves_no_directory_under_its_old_name() {
    let mount = stored();
    for round in 0..3 {
        fs::create_dir_all(mount.path("d/a/b")).unwrap();
        fs::write(mount.path("d/a/b/c"), b"text").unwrap();
        fs::rename(mount.path("d/a"), mount.path("d/a2")).unwrap();
        assert_eq!(fs::read(mount.path("d/a2/b/c")).unwrap(), b"text");
        fs::remove_dir_all(mount.path("d/a2")).unwrap();
        assert_eq!(fs::read_dir(mount.path("d")).unwrap().count(), 0, "{round}");
    }
}
