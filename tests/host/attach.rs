//! `mediafs attach` and `mediafs detach`: a mount in a container that was there before it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::container::{Container, Shared};
use crate::support::control::{listening, mediafs};
use crate::support::mount::is_mounted;
use crate::support::podman::Podman;
use crate::support::processes::daemons_of;
use crate::support::programs::{has_all, run_within, said};
use crate::support::{Mount, SupervisedMount, wait_until};

const SOON: Duration = Duration::from_secs(60);
const APPLICATION: u32 = 1000;
const ROOT: u32 = 0;

fn supervised() -> SupervisedMount {
    SupervisedMount::start(Mount::builder().arg("--allow-other"))
}

/// A folder of the host with one file, which a container gets.
fn old_folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(dir.path().join("old"), b"old bytes").unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    dir
}

/// Runs attach or detach for a process.
fn run(mount: &Mount, verb: &str, pid: u32, places: &[&str]) -> Output {
    let mut command = mediafs([verb, "--pid", &pid.to_string()]);
    if verb == "attach" {
        command.arg("--socket").arg(listening(mount));
    }
    run_within(SOON, command.args(places))
}

#[track_caller]
fn done(mount: &Mount, verb: &str, pid: u32, places: &[&str]) -> String {
    ends_with(0, &run(mount, verb, pid, places))
}

#[track_caller]
fn ends_with(code: i32, output: &Output) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    said(output)
}

/// A process in the container that has a file open, until its input ends.
struct Reader(Child);

impl Reader {
    fn of(container: &Container, file: &str) -> Self {
        let script = format!("exec 7<{file}; sh -c 'echo open; exec cat'; cat <&7");
        let mut command = container.command(APPLICATION, &script);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut open = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut open).unwrap();
        Self(child)
    }

    /// What the file has.
    fn end(self) -> String {
        let output = self.0.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A process in namespaces of its own.
pub struct Asleep(Child);

impl Asleep {
    #[track_caller]
    pub fn in_namespaces(flags: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        let child = command.args(flags).args(["sleep", "1000"]).spawn().unwrap();
        let program = format!("/proc/{}/comm", child.id());
        wait_until(SOON, "a process in namespaces of its own", || {
            fs::read_to_string(&program).unwrap() == "sleep\n"
        });
        Self(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_running_container_gets_the_mount_and_gives_it_back() {
    let old = old_folder();
    let container = Container::private(old.path());
    let mount = supervised();
    mount.put_object("first", b"from S3");
    assert_eq!(container.says(ROOT, "ls /mnt"), "old\nsub\n");
    let reader = Reader::of(&container, "/mnt/old");

    let root = mount.root.display().to_string();
    let told = done(&mount, "attach", container.pid(), &[&root, "/mnt"]);
    let bind = format!("-v {root}:/mnt:rslave");
    let yaml = format!("source: {root}\n        target: /mnt\n");
    has_all(
        &told,
        &[
            "/mnt in cat (pid ",
            "): attached",
            "these programs have files open in the old directory",
            &bind,
            &yaml,
        ],
    );
    let listed: Vec<&str> = told
        .lines()
        .filter(|line| line.ends_with("): 1 file"))
        .collect();
    assert_eq!(
        listed.len(),
        2,
        "the shell that has it open and its child: {told}"
    );
    assert_eq!(
        container.says(APPLICATION, "cat /mnt/first; ls /mnt"),
        "from S3first\n"
    );
    container.says(APPLICATION, "mkdir /mnt/d; echo bytes >/mnt/d/f");
    assert_eq!(mount.object("d/f").unwrap(), b"bytes\n");

    let told = done(&mount, "attach", container.pid(), &["/mnt"]);
    has_all(&told, &["attached already", &bind]);
    let again = run(&mount, "attach", container.pid(), &["/mnt", "--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["was_attached"], true);
    assert_eq!(again["bind"], format!("{root}:/mnt:rslave"));
    kill_and_detach(&container, &mount);
    assert_eq!(reader.end(), "old bytes");
    mount.unmount();
    assert_eq!(fs::read(old.path().join("old")).unwrap(), b"old bytes");
}

/// The mount goes on through a kill of its daemon, and is taken out.
#[track_caller]
fn kill_and_detach(container: &Container, mount: &SupervisedMount) {
    mount.kill_daemon();
    container.says(APPLICATION, "echo more >/mnt/d/g; mv /mnt/d/g /mnt/d/h");
    assert_eq!(
        container.says(ROOT, "cat /mnt/d/f /mnt/d/h"),
        "bytes\nmore\n"
    );
    assert_eq!(mount.object("d/h").unwrap(), b"more\n");

    let writer = Reader::of(container, "/mnt/d/f");
    let told = done(mount, "detach", container.pid(), &[]);
    has_all(
        &told,
        &[
            "/mnt in cat (pid ",
            "): detached",
            "these programs have files open in the mount",
            "1 file",
        ],
    );
    assert_eq!(container.says(ROOT, "ls /mnt"), "old\nsub\n");
    assert_eq!(writer.end(), "bytes\n");
    let again = run(mount, "detach", container.pid(), &["/mnt"]);
    has_all(
        &ends_with(1, &again),
        &["/mnt in cat", "no mount of mediafs"],
    );
    let again = run(mount, "detach", container.pid(), &[]);
    has_all(&ends_with(1, &again), &["has no mount of mediafs"]);
}

#[test]
fn a_container_of_podman_gets_the_mount_by_its_name() {
    let old = old_folder();
    let container = Podman::with(old.path());
    let mount = supervised();
    mount.put_object("first", b"from S3");
    let root = mount.root.display().to_string();
    let run = |verb: &str, places: &[&str]| {
        let mut command = mediafs([verb, "--container", &container.name]);
        if verb == "attach" {
            command.arg("--socket").arg(listening(&mount));
        }
        run_within(SOON, container.seen_by(&mut command).args(places))
    };
    assert_eq!(container.says("id -u; ls /media"), "1000\nold\nsub\n");
    let told = ends_with(0, &run("attach", &[&root, "/media"]));
    has_all(
        &told,
        &["/media in sleep (pid ", "): attached", ":/media:rslave"],
    );
    assert_eq!(container.says("cat /media/first"), "from S3");
    container.says("mkdir /media/d; echo bytes >/media/d/f");
    assert_eq!(mount.object("d/f").unwrap(), b"bytes\n");
    mount.kill_daemon();
    container.says("echo more >/media/d/g; mv /media/d/g /media/d/h");
    assert_eq!(container.says("cat /media/d/f /media/d/h"), "bytes\nmore\n");
    assert_eq!(mount.object("d/h").unwrap(), b"more\n");
    let told = ends_with(0, &run("detach", &["/media"]));
    has_all(&told, &["/media in sleep (pid ", "): detached"]);
    assert_eq!(container.says("ls /media"), "old\nsub\n");
    mount.unmount();
    let mut unknown = mediafs(["detach", "--container", "no-such-container"]);
    let unknown = run_within(SOON, container.seen_by(&mut unknown));
    has_all(
        &ends_with(1, &unknown),
        &["no running container", "podman: "],
    );
}

#[test]
fn a_symlink_of_the_container_leads_nowhere_else() {
    let old = old_folder();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/mnt/sub", old.path().join("inside")).unwrap();
    let above = Path::new("../../../../../..").join(outside.path().strip_prefix("/").unwrap());
    std::os::unix::fs::symlink(above, old.path().join("outside")).unwrap();
    let container = Container::private(old.path());
    // Its own /tmp is nothing of the host's.
    container.says(ROOT, "mount -t tmpfs tmpfs /tmp");
    let mount = supervised();
    let root = mount.root.display().to_string();
    let refused = run(&mount, "attach", container.pid(), &[&root, "/mnt/outside"]);
    has_all(&ends_with(1, &refused), &["/mnt/outside does not exist in"]);
    let told = done(&mount, "attach", container.pid(), &[&root, "/mnt/inside"]);
    has_all(&told, &["/mnt/sub in cat"]);
    container.says(APPLICATION, "echo x >/mnt/inside/f");
    assert_eq!(mount.object("f").unwrap(), b"x\n");
    assert_eq!(fs::read_dir(old.path().join("sub")).unwrap().count(), 0);
    assert_eq!(container.says(ROOT, "cat /mnt/old"), "old bytes");
    done(&mount, "detach", container.pid(), &["/mnt/inside"]);
    mount.unmount();
}

#[test]
fn a_mount_takes_the_place_of_no_other_one_and_not_of_a_dead_one() {
    let old = old_folder();
    let container = Container::private(old.path());
    let pid = container.pid();
    let mut first = Mount::builder().arg("--allow-other").start();
    let second = supervised();
    let root = second.root.display().to_string();
    let other = first.root.display().to_string();
    done(&first, "attach", pid, &[&other, "/mnt"]);
    let there = format!("'mediafs detach --pid {pid} /mnt' takes it out");
    let wanted = ["another mount of mediafs is there", &there];
    has_all(
        &ends_with(1, &run(&second, "attach", pid, &[&root, "/mnt"])),
        &wanted,
    );
    first.kill9();
    let (answers, told) = container.tries(ROOT, "ls /mnt");
    assert!(!answers, "{told}");
    has_all(
        &ends_with(1, &run(&second, "attach", pid, &[&root, "/mnt"])),
        &wanted,
    );
    done(&second, "detach", pid, &[]);
    done(&second, "attach", pid, &["/mnt"]);
    container.says(APPLICATION, "echo x >/mnt/f");
    assert_eq!(second.object("f").unwrap(), b"x\n");
    let detached = run(&second, "detach", pid, &["--json"]);
    let detached: Value = serde_json::from_slice(&detached.stdout).unwrap();
    assert_eq!(detached, json!({"path": "/mnt", "open_files": []}));
    second.unmount();
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let old = old_folder();
    let container = Container::private(old.path());
    let mount = supervised();
    let root = mount.root.display().to_string();
    let attach = |pid: u32, places: &[&str]| run(&mount, "attach", pid, places);
    let pid = container.pid();
    for (path, why) in [
        ("/mnt/none", "/mnt/none does not exist in cat"),
        ("/mnt/old", "/mnt/old is not a directory in cat"),
        ("/", "/ is the root directory of cat"),
    ] {
        has_all(&ends_with(1, &attach(pid, &[&root, path])), &[why]);
    }
    has_all(
        &ends_with(2, &attach(pid, &["mnt"])),
        &["mnt: give the path in the container from its root: /mnt"],
    );
    has_all(
        &ends_with(1, &attach(pid, &["/no/such/mount", "/mnt"])),
        &["no mount \"/no/such/mount\""],
    );
    let own = attach(std::process::id(), &[&root, "/mnt"]);
    has_all(&ends_with(1, &own), &["mount namespace of this command"]);
    has_all(
        &ends_with(1, &attach(u32::MAX, &[&root, "/mnt"])),
        &["there is no process"],
    );
    // Whoever attaches holds the namespace so.
    let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt")).unwrap();
    namespace.lock().unwrap();
    let second = ends_with(1, &attach(pid, &[&root, "/mnt"]));
    has_all(&second, &["another attach or detach is at work in cat"]);
    drop(namespace);
    let nobody = run_within(SOON, &mut mediafs(["attach", "/mnt"]));
    has_all(&ends_with(2, &nobody), &["--container <NAME>", "--pid <N>"]);
    let mut both = mediafs(["attach", "--pid", "1", "--container", "x", "/mnt"]);
    ends_with(2, &run_within(SOON, &mut both));

    // Each has a copy of every mount, which would outlive the host's.
    let asleep = Asleep::in_namespaces(&["--user", "--map-root-user", "--mount"]);
    let other = ends_with(1, &attach(asleep.pid(), &[&root, "/mnt"]));
    has_all(&other, &["sleep (pid ", "is in another user namespace"]);
    drop(asleep);
    let shared = Shared::new();
    let asleep = Asleep::in_namespaces(&["--mount", "--propagation", "unchanged"]);
    let there = shared.mountpoint().display().to_string();
    let peer = ends_with(1, &attach(asleep.pid(), &[&root, &there]));
    has_all(&peer, &["is on a mount that is shared with this namespace"]);
    drop(asleep);
    assert_eq!(container.says(ROOT, "ls /mnt"), "old\nsub\n");
    mount.unmount();
}

#[test]
fn a_stop_ends_a_mount_that_a_container_has_and_says_who_has_it() {
    let old = old_folder();
    let container = Container::private(old.path());
    let plan = Mount::builder().arg("--allow-other");
    let mount = SupervisedMount::start(plan.args(["--drain-timeout", "20s"]));
    let root = mount.root.display().to_string();
    done(&mount, "attach", container.pid(), &[&root, "/mnt"]);
    kill_process(mount.daemon(), Signal::TERM).unwrap();
    wait_until(SOON, "the host's unmount", || !is_mounted(&mount.root));
    let began = Instant::now();
    container.says(APPLICATION, "echo x >/mnt/late");
    wait_until(SOON, "the daemon's end", || {
        daemons_of(&mount.root).is_empty()
    });
    assert!(began.elapsed() < Duration::from_secs(90));
    assert_eq!(mount.object("late").unwrap(), b"x\n");
    has_all(
        &mount.log(),
        &[
            "unmounted here, and still in use",
            "on /mnt of ",
            "mediafs detach --pid PID PATH",
        ],
    );
    // What is left answers nothing, and can be taken out.
    let (read, told) = container.tries(ROOT, "ls /mnt");
    assert!(!read, "{told}");
    let told = ends_with(0, &run(&mount, "detach", container.pid(), &["/mnt"]));
    has_all(&told, &["detached"]);
    assert_eq!(container.says(ROOT, "ls /mnt"), "old\nsub\n");
}

#[test]
fn an_unmount_says_which_container_has_the_mount_still() {
    let old = old_folder();
    let container = Container::private(old.path());
    let plan = Mount::builder().arg("--allow-other");
    let mount = SupervisedMount::start(plan.args(["--drain-timeout", "4s"]));
    let root = mount.root.display().to_string();
    done(&mount, "attach", container.pid(), &[&root, "/mnt"]);
    let mut unmount = mediafs(["unmount", &root, "--socket"]);
    let output = run_within(SOON, unmount.arg(listening(&mount)));
    let told = ends_with(0, &output);
    let wanted = [
        "unmounted here, and still in use",
        "on /mnt of ",
        "mediafs detach --pid PID PATH",
        "S3 has everything",
    ];
    has_all(&told, &wanted);
    done(&mount, "detach", container.pid(), &[]);
    assert_eq!(container.says(ROOT, "ls /mnt"), "old\nsub\n");
}
