//! What authentik does with its media directory, call by call.
//!
//! Source: authentik's file storage backend (2025.12) and its Django storage
//! before it (up to 2025.10), as the system calls they make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::process::Command;

use support::mount::{output, shell};
use support::{Mount, mounted, random_bytes};

/// Runs a Python program in the mountpoint.
fn python(mount: &Mount, program: &str) -> String {
    let mut command = Command::new("python3");
    let (status, text) = output(command.args(["-c", program]).current_dir(&mount.dir));
    assert!(status.success(), "{text}\n{}", mount.log());
    text
}

#[test]
fn nested_directories_come_to_be_in_an_empty_bucket() {
    let mount = mounted();
    python(
        &mount,
        "import os; os.makedirs('media/public/application-icons', exist_ok=True)",
    );
    python(
        &mount,
        "import pathlib; pathlib.Path('media/public').mkdir(parents=True, exist_ok=True)",
    );
    assert!(mount.path("media/public/application-icons").is_dir());
}

#[test]
fn a_file_saved_in_one_write_of_25_mib_is_in_the_bucket_after_close() {
    let mount = mounted();
    fs::write(
        mount.scratch.path().join("upload"),
        random_bytes(25, 25 << 20),
    )
    .unwrap();
    python(
        &mount,
        r#"
import os, fcntl, termios, errno
data = open('../upload', 'rb').read()
os.makedirs('public')
fd = os.open('public/logo.png', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
assert os.fstat(fd).st_size == 0
try:
    termios.tcgetattr(fd)
    raise SystemExit('a file is no terminal')
except termios.error as e:
    assert e.args[0] == errno.ENOTTY, e
assert os.lseek(fd, 0, os.SEEK_CUR) == 0
assert os.write(fd, data) == len(data)
os.close(fd)
assert open('public/logo.png', 'rb').read() == data
with open('public/logo.png', 'wb+') as f:
    f.write(b'again'); f.seek(0); assert f.read() == b'again'
"#,
    );
    assert_eq!(mount.bucket.get("public/logo.png"), b"again");
    assert_eq!(mount.bucket.content_type("public/logo.png"), "image/png");
}

#[test]
fn djangos_save_with_lock_chmod_and_times_works() {
    let mount = mounted();
    python(
        &mount,
        r#"
import os, fcntl
os.makedirs('public/application-icons')
name = 'public/application-icons/app.svg'
fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
fcntl.flock(fd, fcntl.LOCK_EX)
for i in range(20):
    os.write(fd, bytes([i]) * 65536)
fcntl.flock(fd, fcntl.LOCK_UN)
os.write(fd, b'</svg>')
os.close(fd)
os.chmod(name, 0o644)
os.utime(name, ns=(1_700_000_000_123456789, 1_700_000_001_987654321))
st = os.stat(name)
assert st.st_mode & 0o777 == 0o644, oct(st.st_mode)
assert st.st_mtime_ns == 1_700_000_001_987654321, st.st_mtime_ns
assert st.st_size == 20 * 65536 + 6
try:
    os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    raise SystemExit('exists')
except FileExistsError:
    pass
"#,
    );
    assert_eq!(
        mount.bucket.get("public/application-icons/app.svg").len(),
        20 * 65536 + 6
    );
    assert_eq!(
        mount
            .bucket
            .content_type("public/application-icons/app.svg"),
        "image/svg+xml"
    );
}

#[test]
fn a_rename_from_another_file_system_is_exdev_and_shutil_copies() {
    let mount = mounted();
    python(
        &mount,
        r#"
import os, errno, shutil
open('../outside', 'wb').write(b'uploaded')
try:
    os.rename('../outside', 'inside')
    raise SystemExit('no error')
except OSError as e:
    assert e.errno == errno.EXDEV, e
shutil.move('../outside', 'inside')
assert not os.path.exists('../outside')
"#,
    );
    assert_eq!(mount.bucket.get("inside"), b"uploaded");
}

#[test]
fn walking_testing_and_unlinking_work() {
    let mount = mounted();
    mount.bucket.put("media/public/a.png", b"a");
    mount.bucket.put("media/public/sub/b.png", b"b");
    python(
        &mount,
        r#"
import os, pathlib
seen = [(d, sorted(ds), sorted(fs)) for d, ds, fs in os.walk('.')]
assert seen == [('.', ['media'], []), ('./media', ['public'], []),
                ('./media/public', ['sub'], ['a.png']), ('./media/public/sub', [], ['b.png'])], seen
assert os.path.exists('media/public/a.png') and not os.path.exists('media/public/none')
assert os.path.getsize('media/public/a.png') == 1
pathlib.Path('media/public/a.png').unlink()
pathlib.Path('media/public/a.png').unlink(missing_ok=True)
pathlib.Path('media/none').unlink(missing_ok=True)
assert not os.path.exists('media/public/a.png')
"#,
    );
    assert_eq!(mount.bucket.keys(), ["media/public/sub/b.png"]);
}

#[test]
fn the_containers_chown_and_chmod_of_the_whole_tree_succeed_as_root() {
    let mount = mounted();
    shell(
        &mount.dir,
        "mkdir -p media/public certs && echo x > media/public/f && echo y > certs/c",
    );
    let copies = mount.requests("CopyObject");
    shell(
        mount.scratch.path(),
        "chown -R 1000:1000 mnt && chmod -R ug+rwx mnt",
    );
    shell(
        &mount.dir,
        "test $(stat -c %a media/public/f) = 774 && test $(stat -c %u:%g media) = 1000:1000",
    );
    assert_eq!(
        mount.requests("CopyObject"),
        copies,
        "nothing is rewritten for it"
    );
}

#[test]
fn the_migration_renames_a_directory() {
    let mount = mounted();
    for i in 0..30 {
        mount.bucket.put(
            &format!("application-icons/{i}.png"),
            format!("{i}").as_bytes(),
        );
    }
    python(
        &mount,
        r#"
import os
os.makedirs('public')
os.rename('application-icons', 'public/application-icons')
assert not os.path.exists('application-icons')
assert open('public/application-icons/7.png').read() == '7'
assert len(os.listdir('public/application-icons')) == 30
"#,
    );
    assert_eq!(mount.bucket.keys().len(), 30);
    assert_eq!(mount.bucket.get("public/application-icons/29.png"), b"29");
}

#[test]
fn the_mountpoint_is_a_mount_to_python() {
    let mount = mounted();
    python(
        &mount,
        "import os; assert os.path.ismount(os.getcwd()) and os.access('.', os.W_OK)",
    );
}
