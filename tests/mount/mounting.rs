//! Mounting, options, and the ways to end.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::data::MIB;
use crate::support::mount::is_mounted;
use crate::support::processes::daemons_of;
use crate::support::programs::{run_within, said, succeeds};
use crate::support::proxy::{Fault, Rule, Side};
use crate::support::{Mount, Server, Worker, pattern, run_python, sys, wait_until};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use rustix::process::{Pid, Signal, kill_process};

const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// umount(8), again while busy: another test's child has this one's descriptors
/// from its fork until its exec.
fn umount(root: &Path) {
    wait_until(ENDED_WITHIN, "umount", || {
        let mut command = Command::new("umount");
        let output = run_within(ENDED_WITHIN, command.arg(root));
        let busy = said(&output).contains("busy");
        assert!(output.status.success() || busy, "{}", said(&output));
        output.status.success()
    });
}

#[test]
fn a_mount_in_the_background_returns_0_when_it_serves() {
    let plan = Mount::builder();
    plan.client.put(&plan.bucket, "there", b"already");
    let output = plan.run();
    assert!(output.status.success(), "{}", said(&output));
    let mount = plan.adopt();
    assert!(is_mounted(&mount.root));
    assert_eq!(fs::read(mount.path("there")).unwrap(), b"already");
    fs::write(mount.path("new"), b"bytes").unwrap();
    wait_until(
        ENDED_WITHIN,
        "the daemon, its supervisor and its notifier",
        || daemons_of(&mount.root).len() == 3,
    );
    umount(&mount.root);
    wait_until(ENDED_WITHIN, "the daemon's end", || {
        daemons_of(&mount.root).is_empty()
    });
    assert_eq!(mount.object("new").unwrap(), b"bytes");
}

#[test]
fn a_mount_in_the_background_lets_go_of_terminal_and_folder() {
    let plan = Mount::builder();
    let folder = plan.scratch().join("started-here");
    fs::create_dir(&folder).unwrap();
    // A pipe that the daemon kept open would keep `cat`, hence the shell, waiting.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "\"$@\" 2>&1 | cat", "sh"])
        .arg(plan.program());
    let mut command = plan.command_after(shell);
    run_within(Duration::from_secs(60), command.current_dir(&folder));
    let mount = plan.adopt();
    assert!(is_mounted(&mount.root));
    let pid = daemons_of(&mount.root)[0].as_raw_nonzero();
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_ne!(cwd, folder);
}

#[test]
fn sigterm_and_sigint_unmount_and_end_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut mount = Mount::fresh();
        fs::write(mount.path("f"), b"bytes").unwrap();
        mount.signal(signal);
        let status = mount.wait_for_exit();
        assert!(status.success(), "{signal:?}: {status}\n{}", mount.log());
        assert!(!is_mounted(&mount.root));
        assert_eq!(mount.object("f").unwrap(), b"bytes");
    }
}

#[test]
fn umount_ends_the_daemon_with_0() {
    let mut mount = Mount::fresh();
    fs::write(mount.path("f"), b"bytes").unwrap();
    umount(&mount.root);
    let status = mount.wait_for_exit();
    assert!(status.success(), "{status}\n{}", mount.log());
    assert_eq!(mount.object("f").unwrap(), b"bytes");
}

#[test]
fn a_busy_mount_refuses_umount_and_stays() {
    let mount = Mount::fresh();
    let mut file = File::create(mount.path("f")).unwrap();
    let refused = Command::new("umount").arg(&mount.root).output().unwrap();
    assert!(!refused.status.success());
    file.write_all(b"bytes").unwrap();
    sys::close(file).unwrap();
    assert_eq!(mount.object("f").unwrap(), b"bytes");
}

#[test]
fn a_close_that_said_ok_is_in_the_bucket_though_sigterm_came_during_it() {
    let mut mount = Mount::fresh();
    let body = pattern(30 * MIB, 1);
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(&body).unwrap();
    let closing = std::thread::spawn(move || sys::close(file));
    mount.signal(Signal::TERM);
    let status = mount.wait_for_exit();
    let closed = closing.join().unwrap();
    assert!(status.success(), "{status}\n{}", mount.log());
    assert!(
        closed.is_ok(),
        "pending writes are drained: {closed:?}\n{}",
        mount.log()
    );
    assert!(mount.object("f").unwrap() == body);
}

#[test]
fn sigterm_with_an_open_file_ends_in_time_and_keeps_the_half_file_out_of_the_bucket() {
    let mut mount = Mount::builder().args(["--drain-timeout", "1s"]).start();
    let mut worker = Worker::at(&mount.root);
    worker.write_new("half", "written, not closed");
    mount.signal(Signal::TERM);
    let status = mount.wait_for_exit();
    assert!(status.success(), "{status}\n{}", mount.log());
    assert!(!is_mounted(&mount.root));
    assert_eq!(mount.keys(), Vec::<String>::new());
    assert_eq!(mount.lost_and_found(), [b"written, not closed"]);
}

#[test]
fn what_a_killed_daemon_left_open_is_kept_and_what_it_had_stored_is_there() {
    let mut mount = Mount::fresh();
    fs::write(mount.path("done"), b"done").unwrap();
    let mut worker = Worker::at(&mount.root);
    worker.write_new("half", "written, not closed");
    mount.kill9();
    drop(worker);
    mount.remount();
    assert_eq!(fs::read(mount.path("done")).unwrap(), b"done");
    assert_eq!(mount.keys(), ["done"]);
    assert_eq!(mount.lost_and_found(), [b"written, not closed"]);
}

#[test]
fn the_root_answers_with_s3_down() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan.set("--ttl", "0s").start();
    fs::write(mount.path("f"), b"x").unwrap();
    for down in [Fault::Stall, Fault::Answer(503, "SlowDown")] {
        proxy.fail("*", down, usize::MAX);
        let before = proxy.seen_in_all();
        let program = "import os, sys\n\
                       assert os.path.ismount(sys.argv[1])\n\
                       assert os.stat(sys.argv[1]).st_ino == 1\n\
                       os.statvfs(sys.argv[1])";
        run_python(program, &[&mount.root]);
        assert!(fs::metadata(&mount.root).unwrap().is_dir());
        let asked = proxy.seen_after(before);
        assert!(asked.is_empty(), "{asked:?}");
        proxy.heal();
    }
}

#[test]
fn a_prefix_shows_its_part_of_the_bucket_and_writes_there() {
    let plan = Mount::builder().prefix("tenant/media");
    for key in ["tenant/media/in", "tenant/medialist", "tenant/out", "root"] {
        plan.client.put(&plan.bucket, key, key.as_bytes());
    }
    let mount = plan.start();
    let names: Vec<_> = fs::read_dir(&mount.root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["in"]);
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/new"), b"new").unwrap();
    fs::rename(mount.path("in"), mount.path("d/moved")).unwrap();
    let want = [
        "root",
        "tenant/media/d/moved",
        "tenant/media/d/new",
        "tenant/medialist",
        "tenant/out",
    ];
    mount.wait_for("d", "the keys", |_| mount.keys() == want);
}

#[test]
fn a_prefix_without_keys_is_an_empty_directory() {
    let mount = Mount::builder().prefix("not/there/yet").start();
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
    fs::write(mount.path("f"), b"x").unwrap();
    assert_eq!(mount.keys(), ["not/there/yet/f"]);
}

#[test]
fn a_read_only_mount_reads_and_refuses_every_change() {
    let plan = Mount::builder().arg("--read-only");
    plan.client.put(&plan.bucket, "d/f", b"bytes");
    let mount = plan.start();
    assert_eq!(fs::read(mount.path("d/f")).unwrap(), b"bytes");
    let (file, new) = (mount.path("d/f"), mount.path("new"));
    let mode = PermissionsExt::from_mode(0o600);
    let at = |path| rustix::fs::mknodat(CWD, path, FileType::RegularFile, Mode::RUSR, 0);
    let value = rustix::fs::setxattr(&file, "user.k", b"v", XattrFlags::empty());
    let changes = [
        sys::errno(fs::write(&new, b"x")),
        sys::errno(File::options().write(true).open(&file)),
        sys::errno(sys::open(&file, libc::O_RDONLY | libc::O_TRUNC)),
        sys::errno(fs::create_dir(&new)),
        sys::errno(fs::remove_file(&file)),
        sys::errno(fs::remove_dir(mount.path("d"))),
        sys::errno(fs::rename(&file, &new)),
        sys::errno(symlink("x", &new)),
        sys::errno(fs::hard_link(&file, &new)),
        sys::errno(fs::set_permissions(&file, mode)),
        sys::errno(chown(&file, Some(1), None)),
        at(&new).unwrap_err().raw_os_error(),
        value.unwrap_err().raw_os_error(),
    ];
    assert_eq!(changes, [libc::EROFS; 13]);
    assert_eq!(mount.keys(), ["d/f"]);
}

#[test]
fn owner_and_modes_are_those_of_the_options() {
    let owners = ["--uid", "1234", "--gid", "2345"];
    let modes = ["--file-mode", "0640", "--dir-mode", "0750"];
    let plan = Mount::builder().args(owners).args(modes);
    plan.client.put(&plan.bucket, "d/theirs", b"x");
    let mount = plan.start();
    fs::write(mount.path("d/ours"), b"x").unwrap();
    for (name, mode) in [("", 0o40750), ("d", 0o40750), ("d/theirs", 0o100_640)] {
        let stat = fs::metadata(mount.path(name)).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (1234, 2345), "{name:?}");
        assert_eq!(stat.mode(), mode, "{name:?}");
    }
    let ours = fs::metadata(mount.path("d/ours")).unwrap();
    assert_eq!((ours.uid(), ours.gid()), (1234, 2345));
}

#[test]
fn without_options_files_belong_to_1000_with_the_usual_modes() {
    let mount = Mount::fresh();
    mount.put_object("d/f", b"x");
    mount.wait_for("d/f", "the file", |path| path.exists());
    for (name, mode) in [("", 0o40755), ("d", 0o40755), ("d/f", 0o100_644)] {
        let stat = fs::metadata(mount.path(name)).unwrap();
        assert_eq!(
            (stat.uid(), stat.gid(), stat.mode()),
            (1000, 1000, mode),
            "{name:?}"
        );
    }
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let plan = Mount::builder();
    let config = plan.scratch().join("mediafs.toml");
    fs::write(&config, "uid = 11\ngid = 11\nfile-mode = \"0604\"\n").unwrap();
    let mount = plan
        .arg("--config")
        .arg(&config)
        .env("MEDIAFS_UID", "22")
        .env("MEDIAFS_GID", "22")
        .args(["--gid", "33"])
        .start();
    mount.put_object("f", b"x");
    mount.wait_for("f", "the file", |path| path.exists());
    let stat = fs::metadata(mount.path("f")).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode()), (22, 33, 0o100_604));
}

#[test]
fn a_log_at_its_most_talkative_holds_no_secret() {
    let server = Server::moto();
    let secret = crate::support::servers::Credentials {
        access_key: "AKIDEXAMPLE".into(),
        secret_key: "do-not-log-this-secret".into(),
    };
    let plan = Mount::on(server)
        .args(["--log", "trace"])
        .credentials(&secret);
    let mut mount = plan.start();
    fs::write(mount.path("f"), b"x").unwrap();
    mount.unmount();
    assert!(!mount.log().is_empty());
    assert!(!mount.log().contains("do-not-log-this-secret"));
}

#[test]
fn df_and_the_mount_table_name_the_bucket() {
    let mount = Mount::fresh();
    let printed = succeeds(
        Command::new("findmnt")
            .args(["-n", "-o", "SOURCE,FSTYPE"])
            .arg(&mount.root),
    );
    assert!(printed.contains(mount.bucket()), "{printed}");
    assert!(printed.contains("fuse"), "{printed}");
    succeeds(Command::new("df").arg(&mount.root));
}

/// From outside nobody sees when a daemon is ready to be told to reload.
#[test]
fn a_hangup_while_it_starts_is_a_reload() {
    let (plan, proxy) = Mount::behind_a_proxy();
    plan.client.put(&plan.bucket, "f", b"x");
    let listing = Rule::on("ListObjectsV2", Fault::Pass);
    let listing = proxy.hold(Side::BeforeServer, listing);
    let log = plan.scratch().join("said");
    let mut command = plan.command();
    let command = command.arg("--foreground").stdout(Stdio::null());
    let command = command.stderr(File::create(&log).unwrap());
    let mut daemon = command.spawn().unwrap();
    let mount = plan.adopt();
    let pid = Pid::from_child(&daemon);
    listing.wait_for(1);
    kill_process(pid, Signal::HUP).unwrap();
    listing.open();
    wait_until(ENDED_WITHIN, "the reload", || {
        assert_eq!(daemon.try_wait().unwrap(), None, "it has ended");
        fs::read_to_string(&log).unwrap().contains("reloaded")
    });
    assert!(mount.path("f").exists());
    kill_process(pid, Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success());
}
