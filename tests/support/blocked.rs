//! Applications that have a directory of a mount locked in a call, so that the
//! kernel holds back what the daemon tells it of that directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;

use super::mount::Mount;
use super::processes::daemons_of;
use super::programs::wait_until;
use super::proxy::Proxy;
use super::rule::{Fault, Gate, Rule, Side};
use super::worker::Worker;

const WITHIN: Duration = Duration::from_secs(60);

/// Threads of a process that tell the kernel something, and wait in a way that no signal
/// ends. One may wait so for a disk too. Source: proc_pid_stat(5), proc_pid_syscall(5).
fn stuck_threads(pid: Pid) -> usize {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let tasks = fs::read_dir(process.join("task")).into_iter().flatten();
    let is_stuck = |task: &Path| {
        let read = |name| fs::read_to_string(task.join(name)).ok();
        let call = read("syscall")?;
        let mut words = call.split(' ');
        let number: i64 = words.next()?.parse().ok()?;
        let file = i32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        let file = fs::read_link(process.join(format!("fd/{file}"))).ok()?;
        let tells = [libc::SYS_write, libc::SYS_writev].contains(&number);
        let waits = read("stat")?.rsplit(')').next()?.starts_with(" D");
        Some(tells && waits && file.ends_with("dev/fuse"))
    };
    let stuck = tasks
        .flatten()
        .filter(|task| is_stuck(&task.path()) == Some(true));
    stuck.count()
}

/// Whether a notifier of the mount waits in the kernel in a way that no signal ends. A
/// daemon that waits for its disk does so too.
pub fn anything_stuck(mountpoint: &Path) -> bool {
    let is_notifier = |pid: &Pid| {
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        let line = line.unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"notifier")
    };
    let processes = daemons_of(mountpoint).into_iter();
    let mut notifiers = processes.filter(is_notifier);
    notifiers.any(|pid| stuck_threads(pid) > 0)
}

/// One process has `d/f` open, and another makes calls in the directory `d`.
#[derive(Debug)]
pub struct BlockedCalls {
    root: PathBuf,
    /// As the daemon has it.
    mountpoint: PathBuf,
    reader: Worker,
    caller: Worker,
}

impl BlockedCalls {
    /// `root` is the mountpoint as it is reached from here.
    pub fn of(root: &Path, mountpoint: &Path) -> Self {
        let reader = Worker::at(Path::new("/"));
        let mut caller = Worker::at(Path::new("/"));
        // Python looks for modules in its folder.
        caller.run("import ctypes").unwrap();
        caller.run(&format!("os.chdir({root:?})")).unwrap();
        caller.run("d = os.open('d', os.O_RDONLY)").unwrap();
        Self {
            root: root.to_owned(),
            mountpoint: mountpoint.to_owned(),
            reader,
            caller,
        }
    }

    /// Before anything is held at a gate.
    #[track_caller]
    pub fn open_file(&mut self) {
        let path = self.root.join("d/f");
        let open = format!("r = os.open({path:?}, os.O_RDONLY)");
        self.reader.run(&open).unwrap();
    }

    /// Begins a call that waits for a request at the gate.
    #[track_caller]
    pub fn lock_directory(&mut self, line: &str, gate: &Gate) {
        self.caller.begin(line);
        gate.wait_for(1);
    }

    /// `d/f` was replaced by another client: has the daemon notice.
    #[track_caller]
    pub fn wait_for_a_notification_that_waits(&mut self) {
        wait_until(WITHIN, "a notification that waits", || {
            // ESTALE, once it is noticed.
            self.reader.run("os.fstat(r)").ok();
            anything_stuck(&self.mountpoint)
        });
        self.reader.run("os.close(r)").unwrap();
    }

    /// What became of the call, at its end.
    #[track_caller]
    pub fn outcome(&mut self) -> Result<(), i32> {
        self.caller.answer("the call")
    }

    /// The call has come to a good end, and nothing waits any more.
    #[track_caller]
    pub fn released(&mut self) {
        self.outcome()
            .unwrap_or_else(|errno| panic!("the call: {errno}"));
        wait_until(WITHIN, "an end of all waiting", || {
            !anything_stuck(&self.mountpoint)
        });
    }
}

/// A notification waits for a mkdir that waits for S3.
#[track_caller]
pub fn block(mount: &Mount, proxy: &Proxy) -> (BlockedCalls, Gate) {
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/f"), b"first").unwrap();
    let mut calls = BlockedCalls::of(&mount.root, &mount.root);
    calls.open_file();
    let rule = Rule::on("PutObject", Fault::Pass).key("d/new*").always();
    let gate = proxy.hold(Side::BeforeServer, rule);
    calls.lock_directory("os.mkdir('d/new')", &gate);
    mount.put_object("d/f", b"of another client");
    calls.wait_for_a_notification_that_waits();
    (calls, gate)
}
