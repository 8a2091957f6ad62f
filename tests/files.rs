//! Bytes of files, through a real mount against a real S3 server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;

use support::mount::shell;
use support::{Bucket, Mount, Server, mounted, mounted_with, random_bytes, wait_until};

#[test]
fn a_written_file_is_one_object_with_its_bytes_and_content_type() {
    let mount = mounted();
    fs::write(mount.path("x.png"), b"picture").unwrap();
    fs::write(mount.path("page.html"), b"<p>").unwrap();
    fs::write(mount.path("noextension"), b"?").unwrap();
    assert_eq!(mount.bucket.keys(), ["noextension", "page.html", "x.png"]);
    assert_eq!(mount.bucket.get("x.png"), b"picture");
    assert_eq!(mount.bucket.content_type("x.png"), "image/png");
    assert_eq!(mount.bucket.content_type("page.html"), "text/html");
}

#[test]
fn an_object_put_by_another_client_appears_with_its_exact_size() {
    let mount = mounted();
    let bytes = random_bytes(1, 3_000_001);
    mount.bucket.put("media/public/a b+c%.bin", &bytes);
    let path = mount.path("media/public/a b+c%.bin");
    wait_until("the object is seen", || path.exists());
    assert_eq!(fs::metadata(&path).unwrap().len(), 3_000_001);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn files_of_any_size_compare_equal_before_and_after_close_and_remount() {
    let mut mount = mounted();
    let mib = 1 << 20;
    let sizes = [
        0,
        1,
        4095,
        4096,
        mib - 1,
        mib,
        mib + 1,
        8 * mib,
        8 * mib + 1,
        25 * mib,
    ];
    for (seed, size) in sizes.into_iter().enumerate() {
        let bytes = random_bytes(seed as u64, size);
        let path = mount.path(&format!("f{size}"));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path);
        let file = file.as_mut().unwrap();
        file.write_all(&bytes).unwrap();
        let mut back = vec![0; size];
        file.read_exact_at(&mut back, 0).unwrap();
        assert!(back == bytes, "{size} before close");
        assert_eq!(file.metadata().unwrap().len(), size as u64);
    }
    for round in ["after close", "after remount"] {
        for (seed, size) in sizes.into_iter().enumerate() {
            let bytes = random_bytes(seed as u64, size);
            assert!(
                fs::read(mount.path(&format!("f{size}"))).unwrap() == bytes,
                "{size} {round}"
            );
            assert!(
                mount.bucket.get(&format!("f{size}")) == bytes,
                "{size} in the bucket"
            );
        }
        mount.remount();
    }
}

#[test]
fn reads_at_any_offset_return_those_bytes() {
    let mount = mounted();
    let bytes = random_bytes(7, 20_000_003);
    mount.bucket.put("f", &bytes);
    let file = File::open(mount.path("f")).unwrap();
    let offsets = [
        0,
        1,
        4095,
        (1 << 20) - 1,
        1 << 20,
        8_388_607,
        15_000_000,
        19_999_999,
        20_000_002,
    ];
    for offset in offsets {
        for len in [1, 511, 4096, 100_001, 3_000_000] {
            let end = (offset + len).min(bytes.len());
            let mut back = vec![0; end - offset];
            file.read_exact_at(&mut back, offset as u64).unwrap();
            assert!(back == bytes[offset..end], "{len} at {offset}");
        }
    }
    assert_eq!(file.read_at(&mut [0; 10], 20_000_003).unwrap(), 0);
}

#[test]
fn writes_at_any_offset_change_those_bytes_of_an_existing_object() {
    let mount = mounted();
    let mut bytes = random_bytes(8, 18 << 20);
    mount.bucket.put("f", &bytes);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.path("f"))
        .unwrap();
    for (seed, offset) in [0, 4095, (1 << 20) - 7, 8 << 20, (18 << 20) - 3]
        .into_iter()
        .enumerate()
    {
        let patch = random_bytes(seed as u64 + 50, 5000);
        file.write_all_at(&patch, offset as u64).unwrap();
        bytes.resize(bytes.len().max(offset + patch.len()), 0);
        bytes[offset..offset + patch.len()].copy_from_slice(&patch);
        let mut back = vec![0; bytes.len()];
        file.read_exact_at(&mut back, 0).unwrap();
        assert!(
            back == bytes,
            "read before close, after the write at {offset}"
        );
    }
    drop(file);
    assert!(mount.bucket.get("f") == bytes);
    assert!(fs::read(mount.path("f")).unwrap() == bytes);
}

#[test]
fn truncating_down_and_up_leaves_zeros_behind_the_cut() {
    let mount = mounted();
    mount.bucket.put("f", b"0123456789");
    let file = OpenOptions::new()
        .write(true)
        .open(mount.path("f"))
        .unwrap();
    file.set_len(4).unwrap();
    file.set_len(7).unwrap();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"0123\0\0\0");
    drop(file);
    assert_eq!(mount.bucket.get("f"), b"0123\0\0\0");
    shell(
        &mount.dir,
        "truncate -s 2 f && truncate -s 5 f && truncate -s 0 new",
    );
    assert_eq!(
        mount.bucket.get("f"),
        b"01\0\0\0",
        "truncate(2) of a file that nobody has open"
    );
    assert_eq!(mount.bucket.get("new"), b"");
}

#[test]
fn holes_read_as_zeros() {
    let mount = mounted();
    let file = File::create(mount.path("f")).unwrap();
    file.write_all_at(b"end", 9_000_000).unwrap();
    drop(file);
    let bytes = fs::read(mount.path("f")).unwrap();
    assert_eq!(bytes.len(), 9_000_003);
    assert!(bytes[..9_000_000].iter().all(|byte| *byte == 0));
    assert!(mount.bucket.get("f") == bytes);
}

#[test]
fn appends_of_two_handles_all_arrive() {
    let mount = mounted();
    mount.bucket.put("log", b"start\n");
    let open = || {
        OpenOptions::new()
            .append(true)
            .open(mount.path("log"))
            .unwrap()
    };
    let (mut first, mut second) = (open(), open());
    for _ in 0..3 {
        first.write_all(b"one\n").unwrap();
        second.write_all(b"two\n").unwrap();
    }
    drop((first, second));
    assert_eq!(
        mount.bucket.get("log"),
        b"start\none\ntwo\none\ntwo\none\ntwo\n"
    );
}

#[test]
fn the_old_object_stays_whole_until_the_close_that_replaces_it() {
    let mount = mounted();
    mount.bucket.put("f", b"old bytes");
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(&random_bytes(3, 20 << 20)).unwrap();
    assert_eq!(mount.bucket.get("f"), b"old bytes");
    drop(file);
    assert!(mount.bucket.get("f") == random_bytes(3, 20 << 20));
}

#[test]
fn fsync_returns_after_s3_has_the_bytes() {
    let mount = mounted();
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(b"first").unwrap();
    file.sync_all().unwrap();
    assert_eq!(mount.bucket.get("f"), b"first");
    file.write_all(b" second").unwrap();
    file.sync_data().unwrap();
    assert_eq!(mount.bucket.get("f"), b"first second");
}

#[test]
fn closing_without_a_change_sends_nothing() {
    let mount = mounted();
    fs::write(mount.path("f"), b"bytes").unwrap();
    let puts = mount.requests("PutObject");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.path("f"))
        .unwrap();
    let copy = file.try_clone().unwrap();
    drop((file, copy));
    File::open(mount.path("f"))
        .unwrap()
        .read_to_end(&mut Vec::new())
        .unwrap();
    assert_eq!(mount.requests("PutObject"), puts);
}

#[test]
fn an_upload_that_fails_is_told_by_close_and_its_bytes_are_kept() {
    let mut server = Server::start_seaweedfs();
    let mount = Mount::new(&Bucket::new(&server), &["--request-timeout", "2s"]);
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(b"precious").unwrap();
    server.kill();
    let error = close(file).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    wait_until("the bytes are in lost+found", || {
        mount.lost_and_found().len() == 1
    });
    assert_eq!(fs::read(&mount.lost_and_found()[0]).unwrap(), b"precious");
}

#[test]
fn a_shared_mapping_reads_and_writes_the_file() {
    let mount = mounted();
    fs::write(mount.path("f"), random_bytes(4, 10_000)).unwrap();
    let script = "import mmap,sys\nf=open('f','r+b')\nm=mmap.mmap(f.fileno(),0)\nm[5000:5003]=b'new'\nm.flush()\nf.close()\nm[0:3]=b'old'\nm.close()";
    shell(&mount.dir, &format!("python3 -c \"{script}\""));
    let mut expected = random_bytes(4, 10_000);
    expected[5000..5003].copy_from_slice(b"new");
    expected[0..3].copy_from_slice(b"old");
    wait_until("the mapping's last bytes are in the bucket", || {
        mount.bucket.get("f") == expected
    });
}

#[test]
fn a_name_that_cannot_be_a_key_is_refused_with_its_errno() {
    let mount = mounted();
    let long = fs::write(mount.path(&"x".repeat(256)), b"").unwrap_err();
    assert_eq!(long.raw_os_error(), Some(libc::ENAMETOOLONG));
    let deep = format!("{}/{}", vec!["d".repeat(250); 4].join("/"), "y".repeat(30));
    fs::create_dir_all(mount.path(&deep).parent().unwrap()).unwrap();
    let error = fs::write(mount.path(&deep), b"").unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(libc::ENAMETOOLONG),
        "a key over 1,024 bytes"
    );
    use std::os::unix::ffi::OsStrExt;
    let raw = mount.dir.join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(
        fs::write(raw, b"").unwrap_err().raw_os_error(),
        Some(libc::EILSEQ)
    );
}

#[test]
fn keys_with_odd_characters_keep_their_bytes_both_ways() {
    let mount = mounted_with(&["--ttl", "0"]);
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
    ];
    for name in names {
        fs::write(mount.path(name), name).unwrap();
        mount.bucket.put(&format!("theirs/{name}"), name.as_bytes());
    }
    for name in names {
        assert_eq!(mount.bucket.get(name), name.as_bytes(), "{name:?}");
        assert_eq!(
            fs::read(mount.path(&format!("theirs/{name}"))).unwrap(),
            name.as_bytes(),
            "{name:?}"
        );
    }
    assert_eq!(
        fs::read_dir(mount.path("theirs")).unwrap().count(),
        names.len()
    );
}

#[test]
fn moto_serves_files_too() {
    let mount = Mount::new(&Bucket::new(Server::shared_moto()), &[]);
    let bytes = random_bytes(9, 20 << 20);
    fs::create_dir_all(mount.path("media/public")).unwrap();
    fs::write(mount.path("media/public/big.bin"), &bytes).unwrap();
    fs::write(mount.path("media/public/a+b c.txt"), b"small").unwrap();
    fs::rename(
        mount.path("media/public/a+b c.txt"),
        mount.path("media/b.png"),
    )
    .unwrap();
    assert!(mount.bucket.get("media/public/big.bin") == bytes);
    assert!(fs::read(mount.path("media/public/big.bin")).unwrap() == bytes);
    assert_eq!(mount.bucket.keys(), ["media/b.png", "media/public/big.bin"]);
    assert_eq!(mount.bucket.content_type("media/b.png"), "image/png");
    let file = OpenOptions::new()
        .write(true)
        .open(mount.path("media/public/big.bin"))
        .unwrap();
    file.write_all_at(b"patch", 9_000_000).unwrap();
    drop(file);
    assert_eq!(
        mount.bucket.get("media/public/big.bin")[9_000_000..9_000_005],
        *b"patch"
    );
    assert_eq!(
        fs::metadata(mount.path("nothing")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

/// close(2), whose error `drop` would not tell.
fn close(file: File) -> std::io::Result<()> {
    use std::os::fd::IntoRawFd;
    let descriptor = file.into_raw_fd();
    // SAFETY: the descriptor was owned by `file` alone and is used no more.
    let outcome = unsafe { libc::close(descriptor) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
