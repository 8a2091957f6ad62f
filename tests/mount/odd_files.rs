//! Files cut, mapped, oddly named, and left as they are.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::{Mount, pattern, run_python, sys};
use libc::O_RDWR;

#[test]
fn truncate_shortens_and_lengthens_open_and_closed_files() {
    let mount = Mount::fresh();
    let body = pattern(3 * MIB, 5);
    for (name, size) in [
        ("a", 0),
        ("b", 1),
        ("c", MIB + 1),
        ("d", 3 * MIB),
        ("e", 4 * MIB + 9),
    ] {
        fs::write(mount.path(name), &body).unwrap();
        let mut want = body.clone();
        want.resize(size, 0);

        let path = std::ffi::CString::new(mount.path(name).to_str().unwrap()).unwrap();
        // SAFETY: the path is a C string that outlives the call.
        let result = unsafe { libc::truncate(path.as_ptr(), size as i64) };
        assert_eq!(
            result,
            0,
            "truncate(2): {}",
            std::io::Error::last_os_error()
        );
        assert_eq!(fs::metadata(mount.path(name)).unwrap().len(), size as u64);
        assert_same_bytes(&fs::read(mount.path(name)).unwrap(), &want, "truncate(2)");
        mount.wait_for(name, "truncate(2) in S3", |_| {
            mount.object(name).unwrap() == want
        });

        let file = sys::open(mount.path(name), O_RDWR).unwrap();
        file.write_all_at(&body, 0).unwrap();
        file.set_len(size as u64).unwrap();
        assert_eq!(file.metadata().unwrap().len(), size as u64);
        sys::close(file).unwrap();
        assert_same_bytes(&mount.object(name).unwrap(), &want, "ftruncate(2)");
    }
}

#[test]
fn bytes_cut_off_do_not_come_back_when_the_file_grows_again() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), pattern(2 * MIB, 6)).unwrap();
    let file = sys::open(mount.path("f"), O_RDWR).unwrap();
    file.set_len(10).unwrap();
    file.set_len(2 * MIB as u64).unwrap();
    let mut want = pattern(10, 6);
    want.resize(2 * MIB, 0);
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &want, "before close");
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &want, "the object");
}

#[test]
fn closing_without_a_change_sends_nothing() {
    let mount = Mount::builder().args(["--log", "mediafs=debug"]).start();
    fs::write(mount.path("f"), b"bytes").unwrap();
    let puts = mount.requests("PutObject");
    assert!(puts > 0, "the log tells of requests");
    let file = sys::open(mount.path("f"), O_RDWR).unwrap();
    let copy = file.try_clone().unwrap();
    drop((file, copy));
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"bytes");
    assert_eq!(mount.requests("PutObject"), puts);
}

#[test]
fn a_shared_mapping_reads_and_writes_the_file() {
    let mount = Mount::fresh();
    let mut want = pattern(10_000, 4);
    fs::write(mount.path("f"), &want).unwrap();
    let program = r#"
import mmap, sys
file = open(sys.argv[1], "r+b")
mapping = mmap.mmap(file.fileno(), 0)
mapping[5000:5003] = b"new"
mapping.flush()
file.close()
mapping[0:3] = b"old"
mapping.close()
"#;
    run_python(program, &[&mount.path("f")]);
    want[5000..5003].copy_from_slice(b"new");
    want[0..3].copy_from_slice(b"old");
    mount.wait_for("f", "the mapping in S3", |_| {
        mount.object("f").unwrap() == want
    });
    assert_eq!(fs::read(mount.path("f")).unwrap(), want);
}

#[test]
fn keys_with_odd_characters_keep_their_bytes_both_ways() {
    let mount = Mount::builder().set("--ttl", "0s").start();
    let names = [
        "a b",
        "a+b",
        "100%",
        "q?x=1&y#z",
        "new\nline",
        "tab\t",
        "emoji 🎈",
        "nfc é",
        "nfd e\u{301}",
        "\\back",
        ".hidden",
        "trailing ",
    ];
    for name in names {
        fs::write(mount.path(name), name).unwrap();
        mount.put_object(&format!("theirs/{name}"), name.as_bytes());
    }
    for name in names {
        assert_eq!(mount.object(name).unwrap(), name.as_bytes(), "{name:?}");
        let theirs = mount.path("theirs").join(name);
        assert_eq!(fs::read(theirs).unwrap(), name.as_bytes(), "{name:?}");
    }
    assert_eq!(
        fs::read_dir(mount.path("theirs")).unwrap().count(),
        names.len()
    );
}

#[test]
fn fallocate_grows_keeps_and_zeroes_as_its_manual_says() {
    let mount = Mount::fresh();
    let body = pattern(MIB, 9);
    fs::write(mount.path("f"), &body).unwrap();
    let shell = |script: &str| {
        let output = std::process::Command::new("sh")
            .args(["-ec", script])
            .current_dir(&mount.root)
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
    };
    shell("fallocate --keep-size -l 3MiB f && test $(stat -c %s f) = 1048576");
    shell("fallocate --punch-hole -o 1000 -l 5000 f");
    let mut want = body;
    want[1000..6000].fill(0);
    assert_same_bytes(&mount.object("f").unwrap(), &want, "punch-hole");
    shell("fallocate -l 2MiB f && fallocate --zero-range -o 2097000 -l 1000 f");
    want.resize(2_098_000, 0);
    assert_same_bytes(&mount.object("f").unwrap(), &want, "grown and zeroed");
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &want, "read back");
    shell("! fallocate --collapse-range -o 0 -l 4096 f 2>/dev/null");
}
