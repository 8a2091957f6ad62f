//! `mediafs unmount --materialize`: a directory takes a mount's place.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::control::{curl, listening, mediafs};
use crate::support::disk::{DiskKind, SmallDisk};
use crate::support::mount::detach;
use crate::support::programs::{run_within, said};
use crate::support::servers::Server;
use crate::support::{Mount, wait_until};

pub(super) const WITHIN: Duration = Duration::from_secs(120);
const WRITERS: usize = 4;

pub(super) fn command(mount: &Mount, socket: &Path, directory: &Path, args: &[&str]) -> Command {
    let owner = &Server::shared().owner;
    let mut command = mediafs(["unmount"]);
    command
        .arg(&mount.root)
        .arg("--materialize")
        .arg(directory)
        .arg("--yes")
        .args(args)
        .arg("--socket")
        .arg(socket)
        .env("AWS_ACCESS_KEY_ID", &*owner.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &*owner.secret_key)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn run(mount: &Mount, directory: &Path, args: &[&str]) -> Output {
    run_within(
        WITHIN,
        &mut command(mount, &listening(mount), directory, args),
    )
}

#[track_caller]
pub(super) fn ends(mount: &Mount, directory: &Path, args: &[&str], code: i32) -> String {
    let output = run(mount, directory, args);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}{}",
        said(&output),
        mount.log()
    );
    said(&output)
}

pub(super) fn is_fuse(root: &Path) -> bool {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let on_root = |line: &&str| line.split(' ').nth(4) == root.to_str();
    let last = text.lines().rfind(on_root);
    last.is_some_and(|line| line.contains("fuse.mediafs"))
}

/// What a writer knows to be there, and the calls that failed.
#[derive(Default)]
struct Written {
    files: BTreeMap<PathBuf, String>,
    failed: Vec<String>,
}

/// Makes, replaces, renames and removes files below a folder until it is told to stop.
fn write_on(folder: &Path, rounds: &AtomicUsize, stops: &AtomicBool) -> Written {
    let mut written = Written::default();
    let mut number = 0_u64;
    while !stops.load(Ordering::Relaxed) {
        number += 1;
        let (path, text) = (folder.join(format!("f{number}")), format!("text {number}"));
        let beside = folder.join("beside");
        let mut steps = || -> std::io::Result<()> {
            match number % 4 {
                0 => {
                    fs::write(&beside, &text)?;
                    fs::rename(&beside, &path)?;
                }
                1 => {
                    let below = folder.join(format!("d{number}"));
                    fs::create_dir(&below)?;
                    fs::write(below.join("f"), &text)?;
                    written.files.insert(below.join("f"), text.clone());
                    fs::write(&path, &text)?;
                }
                2 => {
                    fs::write(&path, "old")?;
                    fs::write(&path, &text)?;
                }
                _ => {
                    fs::write(&path, &text)?;
                    let before = folder.join(format!("f{}", number - 1));
                    fs::remove_file(&before)?;
                    written.files.remove(&before);
                }
            }
            written.files.insert(path.clone(), text.clone());
            Ok(())
        };
        if let Err(error) = steps() {
            written.failed.push(format!("{}: {error}", path.display()));
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    written
}

#[test]
fn a_directory_takes_the_mounts_place_under_writers_that_see_no_error_and_lose_nothing() {
    let plan = Mount::builder().args(["--file-mode=0640", "--drain-timeout=2s"]);
    let mount = plan.start();
    let directory = mount.scratch().join("local");
    fs::create_dir(mount.path("before")).unwrap();
    fs::create_dir(mount.path("empty")).unwrap();
    for number in 0..50 {
        fs::write(mount.path(format!("before/{number}")), format!("{number}")).unwrap();
    }
    let stored = fs::metadata(mount.path("before/7")).unwrap();
    let reader = fs::File::open(mount.path("before/8")).unwrap();
    let stops = AtomicBool::new(false);
    let rounds: [AtomicUsize; WRITERS] = Default::default();
    let wait_for_more = |more: usize| {
        let wanted = rounds
            .each_ref()
            .map(|it| it.load(Ordering::Relaxed) + more);
        wait_until(WITHIN, "more of each writer", || {
            let mut all = rounds.iter().zip(wanted);
            all.all(|(rounds, wanted)| rounds.load(Ordering::Relaxed) >= wanted)
        });
    };
    let (ended, keys, all) = std::thread::scope(|scope| {
        let writers = (0..WRITERS).map(|number| {
            let folder = mount.path(format!("w{number}"));
            fs::create_dir(&folder).unwrap();
            let (rounds, stops) = (&rounds[number], &stops);
            scope.spawn(move || write_on(&folder, rounds, stops))
        });
        let writers: Vec<_> = writers.collect();
        wait_for_more(12);
        let ended = run(&mount, &directory, &["--timeout", "60s"]);
        let keys = mount.client().list(mount.bucket(), "");
        // They go on in the directory.
        wait_for_more(2);
        stops.store(true, Ordering::Relaxed);
        let all: Vec<Written> = writers.into_iter().map(|it| it.join().unwrap()).collect();
        (ended, keys, all)
    });
    let text = said(&ended);
    assert!(ended.status.success(), "{text}{}", mount.log());
    assert!(!is_fuse(&mount.root));
    assert!(text.contains("none bind,nosuid,nodev 0 0"), "{text}");
    for written in &all {
        assert!(written.failed.is_empty(), "{:?}\n{text}", written.failed);
        assert!(written.files.len() > 10, "{} files", written.files.len());
        for (path, text) in &written.files {
            let found = fs::read_to_string(path);
            assert_eq!(found.ok().as_ref(), Some(text), "{}", path.display());
            let own = directory.join(path.strip_prefix(&mount.root).unwrap());
            assert_eq!(fs::read_to_string(own).unwrap(), *text);
        }
    }
    assert_eq!(mount.client().list(mount.bucket(), ""), keys);
    let brought = fs::metadata(directory.join("before/7")).unwrap();
    assert_eq!((brought.uid(), brought.gid()), (stored.uid(), stored.gid()));
    assert_eq!(brought.mode(), 0o100_640);
    assert_eq!(brought.mtime(), stored.mtime());
    assert!(directory.join("empty").is_dir());
    drop(reader);
    detach(&mount.root);
}

#[test]
fn who_writes_is_named_and_a_full_disk_told_and_the_mount_goes_on() {
    let mount = Mount::fresh();
    let disk = SmallDisk::new(mount.scratch(), DiskKind::Tmpfs, 40 << 20);
    let directory = disk.path("local");
    fs::create_dir(&directory).unwrap();
    fs::write(mount.path("f"), vec![7; 3 << 20]).unwrap();
    let goes_on = |name: &str| {
        fs::write(mount.path(name), name).unwrap();
        assert_eq!(fs::read(mount.path(name)).unwrap(), name.as_bytes());
        assert!(is_fuse(&mount.root));
    };
    disk.fill();
    let full = ends(&mount, &directory, &[], 1);
    assert!(full.contains("serves as before"), "{full}");
    goes_on("after-the-full-disk");
    disk.free();
    fs::write(directory.join("own"), "own").unwrap();
    let more = ends(&mount, &directory, &[], 5);
    assert!(more.contains("--delete"), "{more}");
    assert_eq!(fs::read(directory.join("own")).unwrap(), b"own");
    let mut writer = fs::File::create(mount.path("held")).unwrap();
    writer.write_all(b"half").unwrap();
    let args = ["--delete", "--force", "--timeout", "1s"];
    let told = ends(&mount, &directory, &args, 1);
    assert!(
        told.contains("open for writing") && told.contains("held"),
        "{told}"
    );
    goes_on("after-the-writer");
    writer.write_all(b", whole").unwrap();
    drop(writer);
    ends(&mount, &directory, &["--delete"], 0);
    assert!(!is_fuse(&mount.root));
    assert!(!directory.join("own").exists());
    for name in ["after-the-full-disk", "after-the-writer"] {
        assert_eq!(fs::read(mount.path(name)).unwrap(), name.as_bytes());
    }
    assert_eq!(fs::read(mount.path("held")).unwrap(), b"half, whole");
    detach(&mount.root);
}

#[test]
fn changes_wait_no_longer_than_was_asked_whatever_becomes_of_who_asked() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), "x").unwrap();
    fs::write(mount.path("emptied"), "x").unwrap();
    let socket = listening(&mount);
    let asked = r#"{"within_ms": 5000}"#;
    let began = Instant::now();
    let told = curl(&socket, "/barrier", Some(asked));
    assert!(told.contains(r#""held":true"#), "{told}");
    // Nobody has more than one.
    let again = curl(&socket, "/barrier", Some(asked));
    assert!(again.contains("already"), "{again}");
    let (mut emptying, emptied_path) = (OpenOptions::new(), mount.path("emptied"));
    emptying.read(true).custom_flags(libc::O_TRUNC);
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
    let waits = |done: std::io::Result<()>| {
        done.unwrap();
        began.elapsed()
    };
    std::thread::scope(|scope| {
        let changes = [
            scope.spawn(|| waits(fs::write(mount.path("new"), "new"))),
            scope.spawn(|| waits(fs::rename(mount.path("f"), mount.path("g")))),
            scope.spawn(|| waits(emptying.open(&emptied_path).map(drop))),
        ];
        for change in changes {
            let waited = change.join().unwrap();
            assert!(waited >= Duration::from_millis(4_900), "{waited:?}");
        }
    });
    wait_until(WITHIN, "the file", || mount.object("new").is_some());
    assert_eq!(fs::read(mount.path("g")).unwrap(), b"x");
    let ended = r#"{"number": 1, "how": "replaced"}"#;
    let late = curl(&socket, "/release", Some(ended));
    assert!(late.contains("not held any more"), "{late}");
}

#[test]
fn a_writer_that_changes_names_before_it_closes_is_let_through_and_others_wait() {
    let mount = Mount::fresh();
    let socket = listening(&mount);
    // A call that waits keeps others of its own directory waiting in the kernel.
    fs::create_dir(mount.path("d")).unwrap();
    let mut writer = fs::File::create(mount.path("tmp")).unwrap();
    writer.write_all(b"text").unwrap();
    std::thread::scope(|scope| {
        let ask = |request| curl(&socket, "/barrier", Some(request));
        let is_refused = |told: &String| told.contains("already");
        let held = scope.spawn(move || {
            // The looks below may be faster, and end at once.
            let mut asked = std::iter::repeat_with(|| ask(r#"{"within_ms": 25000}"#));
            asked.find(|told| !is_refused(told)).unwrap()
        });
        wait_until(WITHIN, "the barrier", || {
            is_refused(&ask(r#"{"within_ms": 0}"#))
        });
        let opener = scope.spawn(|| fs::write(mount.path("d/other"), "other"));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!held.is_finished() && !opener.is_finished());
        fs::rename(mount.path("tmp"), mount.path("final")).unwrap();
        fs::write(mount.path("index"), "index").unwrap();
        drop(writer);
        let told = held.join().unwrap();
        assert!(told.contains(r#""held":true"#), "{told}");
        assert!(!opener.is_finished());
        let number = &serde_json::from_str::<serde_json::Value>(&told).unwrap()["number"];
        let lift = format!(r#"{{"number": {number}, "how": "lift"}}"#);
        curl(&socket, "/release", Some(&lift));
        opener.join().unwrap().unwrap();
    });
    for (name, text) in [("final", "text"), ("index", "index"), ("d/other", "other")] {
        assert_eq!(fs::read(mount.path(name)).unwrap(), text.as_bytes());
    }
}

/// Passes requests on, but for the one that says what is in the mount's place: to that it
/// answers as a daemon does whose barrier was over.
fn refuse_the_end(listener: &UnixListener, daemon: &Path) -> io::Result<()> {
    for client in listener.incoming() {
        let (mut client, mut request) = (client?, vec![0; 4096]);
        let length = client.read(&mut request)?;
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        if request.contains(r#""replaced""#) {
            let body = r#"{"error":"changes are not held any more"}"#;
            let length = body.len();
            let head = format!("HTTP/1.1 409 Conflict\r\ncontent-length: {length}\r\n\r\n");
            client.write_all((head + body).as_bytes())?;
            continue;
        }
        let closing = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        let mut server = UnixStream::connect(daemon)?;
        server.write_all(closing.as_bytes())?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        // Who asked may be gone.
        client.write_all(&answer).ok();
    }
    Ok(())
}

#[test]
fn where_what_waited_has_gone_on_it_is_said_that_the_directory_may_lack_it() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), "text").unwrap();
    let (daemon, socket) = (listening(&mount), mount.scratch().join("between"));
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || refuse_the_end(&listener, &daemon));
    let directory = mount.scratch().join("local");
    let output = run_within(WITHIN, &mut command(&mount, &socket, &directory, &[]));
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}{}", mount.log());
    let told = "may lack the last changes, which S3 has";
    assert!(text.contains(told), "{text}");
    assert_eq!(fs::read(directory.join("f")).unwrap(), b"text");
    detach(&mount.root);
}

#[test]
fn fifos_and_sockets_come_along_and_a_device_is_told_to_be_missing() {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let mount = Mount::builder().args(["--attributes", "stored"]).start();
    let directory = mount.scratch().join("local");
    let make = |name: &str, kind, device| {
        let mode = Mode::from_bits_retain(0o640);
        mknodat(CWD, mount.path(name), kind, mode, device).unwrap();
    };
    fs::write(mount.path("f"), "f").unwrap();
    make("fifo", FileType::Fifo, 0);
    make("socket", FileType::Socket, 0);
    make("null", FileType::CharacterDevice, makedev(1, 3));
    let told = ends(&mount, &directory, &[], 1);
    assert!(told.contains("serves as before"), "{told}");
    assert!(is_fuse(&mount.root));
    fs::remove_file(mount.path("null")).unwrap();
    ends(&mount, &directory, &["--delete"], 0);
    assert!(!is_fuse(&mount.root));
    for (name, kind) in [("fifo", libc::S_IFIFO), ("socket", libc::S_IFSOCK)] {
        let found = fs::symlink_metadata(mount.path(name)).unwrap();
        assert_eq!(found.mode(), kind | 0o640, "{name}");
    }
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"f");
    detach(&mount.root);
}
