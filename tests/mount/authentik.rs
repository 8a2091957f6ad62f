//! What authentik does with its media folder, call by call.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::data::{KIB, MIB, assert_same_bytes};
use crate::support::programs::succeeds;
use crate::support::{Mount, Server, pattern, run_python, sys, wait_until};
use libc::{O_CREAT, O_EXCL, O_RDWR, O_TRUNC, O_WRONLY};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

/// The folder that authentik makes before its first upload.
const ICONS: &str = "media/public/application-icons";
const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn an_upload_opened_write_only_is_stored_by_its_close() {
    let mount = Mount::fresh();
    fs::create_dir_all(mount.path(ICONS)).unwrap();
    for (name, len) in [
        ("small.png", 1),
        ("logo.svg", 70 * KIB),
        ("huge.jpg", 25 * MIB),
    ] {
        let key = format!("{ICONS}/{name}");
        let body = pattern(len, len as u64);
        let mut file = sys::open(mount.path(&key), O_WRONLY | O_CREAT | O_TRUNC).unwrap();
        let stat = file.metadata().unwrap();
        assert_eq!((stat.len(), stat.is_file()), (0, true));
        assert_eq!(sys::errno(sys::terminal_settings(&file)), libc::ENOTTY);
        assert_eq!(file.stream_position().unwrap(), 0);
        assert_eq!(file.write(&body).unwrap(), len, "one write(2)");
        sys::close(file).unwrap();
        assert_same_bytes(&mount.object(&key).unwrap(), &body, name);
        assert_same_bytes(&fs::read(mount.path(&key)).unwrap(), &body, name);
    }
    let keys = ["huge.jpg", "logo.svg", "small.png"].map(|name| format!("{ICONS}/{name}"));
    mount.wait_for_keys("the files alone", |found| found == keys);
}

#[test]
fn an_upload_opened_for_reading_and_writing_is_stored_by_its_close() {
    let mount = Mount::fresh();
    fs::write(mount.path("report.csv"), b"an older and longer report").unwrap();
    let mut file = sys::open(mount.path("report.csv"), O_RDWR | O_CREAT | O_TRUNC).unwrap();
    file.write_all(b"a,b\n1,2\n").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    assert_eq!(std::io::read_to_string(&mut file).unwrap(), "a,b\n1,2\n");
    sys::close(file).unwrap();
    assert_eq!(mount.object("report.csv").unwrap(), b"a,b\n1,2\n");
}

#[test]
fn an_exclusive_upload_under_a_lock_is_stored_and_dated() {
    let mount = Mount::fresh();
    let path = mount.path("exclusive.bin");
    let body = pattern(3 * 64 * KIB + 999, 3);
    let mut file = sys::open(&path, O_WRONLY | O_CREAT | O_EXCL).unwrap();
    file.lock().unwrap();
    let (chunks, last) = body.split_at(3 * 64 * KIB);
    for chunk in chunks.chunks(64 * KIB) {
        file.write_all(chunk).unwrap();
    }
    file.unlock().unwrap();
    file.write_all(last).unwrap();
    sys::close(file).unwrap();

    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let date = Timespec {
        tv_sec: 1_600_000_000,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: date,
        last_modification: date,
    };
    utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o644
    );
    assert_same_bytes(&mount.object("exclusive.bin").unwrap(), &body, "the object");

    let again = sys::open(&path, O_WRONLY | O_CREAT | O_EXCL);
    assert_eq!(sys::errno(again), libc::EEXIST);
    assert_same_bytes(&fs::read(&path).unwrap(), &body, "the file");
}

#[test]
fn an_exclusive_create_sees_an_object_that_another_client_has_just_put() {
    let mount = Mount::fresh();
    let path = mount.path("taken.txt");
    assert!(!path.exists());
    mount.put_object("taken.txt", b"theirs");
    let opened = sys::open(&path, O_WRONLY | O_CREAT | O_EXCL);
    let lost = match opened {
        Err(error) => error,
        // Within the negative ttl the race may be noticed by the upload only.
        Ok(mut file) => {
            file.write_all(b"ours").unwrap();
            sys::close(file).unwrap_err()
        }
    };
    assert_eq!(lost.raw_os_error(), Some(libc::EEXIST));
    assert_eq!(mount.object("taken.txt").unwrap(), b"theirs");
}

#[test]
fn a_lock_held_by_one_process_keeps_others_out_until_it_ends() {
    let mount = Mount::fresh();
    let first = File::create(mount.path("lock")).unwrap();
    let second = File::open(mount.path("lock")).unwrap();
    first.lock().unwrap();
    assert!(second.try_lock().is_err());
    drop(first);
    // A program that another test starts has the file for a moment, too.
    wait_until(WITHIN, "the end of the lock", || second.try_lock().is_ok());
}

#[test]
fn a_move_from_another_file_system_falls_back_to_a_copy() {
    let mount = Mount::fresh();
    let source = mount.scratch().join("upload.tmp");
    fs::write(&source, b"uploaded").unwrap();
    let refused = fs::rename(&source, mount.path("upload.bin"));
    assert_eq!(sys::errno(refused), libc::EXDEV);
    let program = "import shutil, sys; shutil.move(sys.argv[1], sys.argv[2])";
    run_python(program, &[&source, &mount.path("upload.bin")]);
    assert!(!source.exists());
    assert_eq!(mount.object("upload.bin").unwrap(), b"uploaded");
}

#[test]
fn django_and_pathlib_find_and_remove_files() {
    let mount = Mount::fresh();
    fs::create_dir_all(mount.path(ICONS)).unwrap();
    let program = r#"
import os, pathlib, sys
root = pathlib.Path(sys.argv[1])
icons = root / "media/public/application-icons"
assert os.path.ismount(root)
assert not os.path.ismount(icons)
for name in ("a.png", "b.png"):
    (icons / name).write_bytes(name.encode())
assert os.path.exists(icons / "a.png") and (icons / "a.png").stat().st_size == 5
assert not os.path.exists(icons / "c.png")
found = [os.path.relpath(os.path.join(top, name), root) for top, _, names in os.walk(root) for name in names]
assert sorted(found) == ["media/public/application-icons/a.png", "media/public/application-icons/b.png"], found
(icons / "a.png").unlink()
(icons / "a.png").unlink(missing_ok=True)
try:
    (icons / "a.png").unlink()
    raise SystemExit("unlinked twice")
except FileNotFoundError:
    pass
os.makedirs(icons, exist_ok=True)
assert os.access(icons, os.R_OK | os.W_OK | os.X_OK)
assert os.listdir(icons) == ["b.png"]
assert os.statvfs(root).f_bavail > 0
"#;
    run_python(program, &[&mount.root]);
    mount.wait_for_keys("the file alone", |keys| keys == [format!("{ICONS}/b.png")]);
}

#[test]
fn a_tar_archive_is_written_and_unpacked_in_the_mount() {
    let mount = Mount::fresh();
    let program = r#"
import io, os, sys, tarfile
os.chdir(sys.argv[1])
os.makedirs("source/deep")
bodies = {"source/one.txt": b"1" * 1000, "source/deep/two.txt": b"2" * 70000}
for name, body in bodies.items():
    with open(name, "wb") as file:
        file.write(body)
with tarfile.open("backup.tar.gz", "w:gz") as tar:
    tar.add("source")
os.mkdir("unpacked")
with tarfile.open("backup.tar.gz") as tar:
    tar.extractall("unpacked")
for name, body in bodies.items():
    assert open(os.path.join("unpacked", name), "rb").read() == body, name
"#;
    run_python(program, &[&mount.root]);
    let unpacked = mount.object("unpacked/source/deep/two.txt").unwrap();
    assert_eq!(unpacked, b"2".repeat(70_000));
}

#[test]
fn chown_and_chmod_of_the_whole_tree_as_root_succeed() {
    let mount = Mount::fresh();
    fs::create_dir_all(mount.path("media/public")).unwrap();
    fs::create_dir_all(mount.path("empty")).unwrap();
    for name in ["media/a.png", "media/public/b.svg", "c"] {
        fs::write(mount.path(name), name).unwrap();
    }
    succeeds(
        std::process::Command::new("chown")
            .args(["-R", "1000:1000"])
            .arg(&mount.root),
    );
    succeeds(
        std::process::Command::new("chmod")
            .args(["-R", "ug+rwx"])
            .arg(&mount.root),
    );
    succeeds(
        std::process::Command::new("chmod")
            .arg("ug+rwx")
            .arg(&mount.root),
    );
    for name in ["", "media", "media/public", "empty", "media/a.png", "c"] {
        let stat = fs::metadata(mount.path(name)).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (1000, 1000), "{name:?}");
        assert_eq!(stat.mode() & 0o770, 0o770, "{name:?}");
    }
    assert_eq!(mount.object("media/a.png").unwrap(), b"media/a.png");
    assert_eq!(mount.object("c").unwrap(), b"c");
}

#[test]
fn the_old_migration_renames_a_directory_with_all_its_files() {
    // SeaweedFS lists an emptied directory for a while: moto does not.
    let mut mount = Mount::on(Server::moto()).start();
    fs::create_dir_all(mount.path("application-icons/nested")).unwrap();
    fs::create_dir(mount.path("public")).unwrap();
    for number in 0..30 {
        fs::write(
            mount.path(format!("application-icons/{number:02}.png")),
            [number; 100],
        )
        .unwrap();
    }
    fs::write(mount.path("application-icons/nested/x.png"), b"x").unwrap();
    fs::rename(
        mount.path("application-icons"),
        mount.path("public/application-icons"),
    )
    .unwrap();
    assert!(!mount.path("application-icons").exists());
    for _ in 0..2 {
        assert_eq!(
            fs::read(mount.path("public/application-icons/29.png")).unwrap(),
            [29; 100]
        );
        assert_eq!(
            fs::read_dir(mount.path("public/application-icons"))
                .unwrap()
                .count(),
            31
        );
        assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 1);
        mount.remount();
    }
    let mut keys: Vec<_> = (0..30)
        .map(|n| format!("public/application-icons/{n:02}.png"))
        .collect();
    keys.push("public/application-icons/nested/x.png".to_owned());
    assert_eq!(mount.keys(), keys);
}

#[test]
fn an_empty_directory_is_renamed_too() {
    let mut mount = Mount::fresh();
    fs::create_dir_all(mount.path("application-icons")).unwrap();
    fs::rename(mount.path("application-icons"), mount.path("icons")).unwrap();
    mount.remount();
    assert!(mount.path("icons").is_dir());
    assert!(!mount.path("application-icons").exists());
}

#[test]
fn a_new_file_is_dated_now_and_keeps_its_date_over_a_remount() {
    let mut mount = Mount::fresh();
    let before = SystemTime::now() - Duration::from_secs(5);
    fs::write(mount.path("f"), b"x").unwrap();
    // S3 dates an object when it has it.
    let took = before.elapsed().unwrap().as_secs();
    let first = fs::metadata(mount.path("f")).unwrap().modified().unwrap();
    assert!(first >= before && first <= SystemTime::now() + Duration::from_secs(5));
    mount.remount();
    let second = fs::metadata(mount.path("f")).unwrap().modified().unwrap();
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(
        seconds(second).abs_diff(seconds(first)) <= took,
        "{first:?} {second:?}"
    );
}
