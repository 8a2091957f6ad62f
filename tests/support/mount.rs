//! The daemon's binary, mounted for one test.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::client::Client;
use super::plan::MountBuilder;
use super::processes::{daemons_of, has_written_its_log, rss_kib_of, stop, threads_of};
use super::programs::{happens_within, wait_until};
use super::proxy::{PROBE, Proxy};
use super::servers::{Server, dies_with_parent};

const MOUNTED_WITHIN: Duration = Duration::from_secs(60);
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const ENDED_WITHIN: Duration = Duration::from_secs(60);
const LOGGED_WITHIN: Duration = Duration::from_secs(10);

/// A mounted bucket. Dropped, it is unmounted whatever state it is in.
#[derive(Debug)]
pub struct Mount {
    /// The mountpoint.
    pub root: PathBuf,
    /// Present until the drop, which may have to leave the folders behind.
    plan: Option<MountBuilder>,
    child: Option<Child>,
    watchdog: Option<Sender<()>>,
}

impl Mount {
    /// A fresh bucket on this binary's shared server, mounted without special options.
    #[track_caller]
    pub fn fresh() -> Self {
        Self::builder().start()
    }

    pub fn builder() -> MountBuilder {
        Self::on(Server::shared())
    }

    pub fn on(server: &Server) -> MountBuilder {
        MountBuilder::new(server)
    }

    /// On this run's server, with a proxy in front of it that can be told what to do with requests.
    pub fn behind_a_proxy() -> (MountBuilder, Proxy) {
        let proxy = Proxy::before(Server::shared());
        let plan = Self::builder().set("--endpoint-url", &proxy.endpoint);
        (plan, proxy)
    }

    /// Not mounted yet.
    pub(super) fn planned(plan: MountBuilder) -> Self {
        Self {
            root: plan.root.clone(),
            plan: Some(plan),
            child: None,
            watchdog: None,
        }
    }

    fn plan(&self) -> &MountBuilder {
        self.plan.as_ref().unwrap()
    }

    pub fn client(&self) -> &Client {
        &self.plan().client
    }

    /// Another of mediafs's commands, about this mount.
    pub fn subcommand(&self, name: &str) -> std::process::Command {
        self.plan().subcommand(name)
    }

    pub fn bucket(&self) -> &str {
        &self.plan().bucket
    }

    /// Runs the command that mounted it once more.
    pub fn run_again(&self) -> std::process::Output {
        self.plan().run()
    }

    /// The binary that the daemon runs.
    pub fn program(&self) -> PathBuf {
        self.plan().program()
    }

    /// A folder of this test outside the mount.
    pub fn scratch(&self) -> &Path {
        self.plan().scratch()
    }

    /// A path in the mount.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// The bytes that another client finds for a path of the mount.
    #[track_caller]
    pub fn object(&self, path: &str) -> Option<Vec<u8>> {
        let key = format!("{}{path}", self.plan().prefix);
        self.client().get(self.bucket(), &key)
    }

    /// Has another client put an object for a path of the mount.
    #[track_caller]
    pub fn put_object(&self, path: &str, body: &[u8]) {
        let key = format!("{}{path}", self.plan().prefix);
        self.client().put(self.bucket(), &key, body);
    }

    /// Every key of the bucket, in order, but those that a daemon asks the store with: one
    /// that is killed meanwhile leaves them.
    #[track_caller]
    pub fn keys(&self) -> Vec<String> {
        let mut keys = self.all_keys();
        keys.retain(|key| !key.contains(PROBE));
        keys
    }

    #[track_caller]
    pub fn all_keys(&self) -> Vec<String> {
        let listed = self.client().list(self.bucket(), "");
        listed.into_iter().map(|(key, _)| key).collect()
    }

    /// Waits until the daemon has nothing to send of a file, and S3 has these bytes.
    #[track_caller]
    pub fn wait_until_uploaded(&self, path: &str, want: &[u8]) {
        let key = format!("{}{path}", self.plan().prefix);
        wait_until(SETTLED_WITHIN, path, || {
            let mut state = [0; 20];
            let read = rustix::fs::getxattr(self.path(path), "user.mediafs.state", &mut state);
            let is_clean = read.is_ok_and(|len| state[..len] == *b"clean");
            let object = || self.client().try_get(self.bucket(), &key);
            is_clean && object().is_ok_and(|found| found.as_deref() == Some(want))
        });
    }

    /// Waits until the bucket's keys are so: many removals in a row reach it in bulk, a little later.
    #[track_caller]
    pub fn wait_for_keys(&self, what: &str, holds: impl Fn(&[String]) -> bool) {
        wait_until(SETTLED_WITHIN, what, || holds(&self.keys()));
    }

    /// Starts the daemon from now on with another value of a variable, or without it.
    pub fn change_env(&mut self, name: &str, value: Option<&str>) {
        self.plan.as_mut().unwrap().change_env(name, value);
    }

    /// Starts the daemon from now on with another value of an option.
    pub fn change_arg(&mut self, option: &str, value: impl Into<OsString>) {
        self.plan.as_mut().unwrap().change_arg(option, value.into());
    }

    #[track_caller]
    pub(super) fn start(&mut self) {
        assert!(self.try_start(), "mediafs has ended\n{}", self.log());
    }

    /// Starts the daemon, which may die before it serves; whether it serves.
    #[track_caller]
    pub fn try_start(&mut self) -> bool {
        let plan = self.plan();
        let launcher = plan.launcher();
        let mut command = dies_with_parent("TERM", &launcher[0]);
        command.args(&launcher[1..]);
        if let Some(uid) = plan.uid {
            command = Command::new("setpriv");
            command
                .args(["--reuid", &uid.to_string(), "--regid", &uid.to_string()])
                .args(["--clear-groups", "--pdeathsig", "TERM"])
                .args(&launcher);
        }
        let mut command = plan.command_after(command);
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.log_path())
            .unwrap();
        command
            .arg("--foreground")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(plan.stderr.as_ref().unwrap_or(&log).try_clone().unwrap());
        let child = command.spawn().unwrap();
        self.watchdog = Some(watch(&child, &self.root, self.plan().watchdog));
        self.child = Some(child);
        self.wait_until_served()
    }

    #[track_caller]
    fn wait_until_served(&mut self) -> bool {
        let child = self.child.as_mut().unwrap();
        let mut ended = false;
        let mounted = happens_within(MOUNTED_WITHIN, || {
            ended = child.try_wait().unwrap().is_some();
            ended || is_mounted(&self.root)
        });
        if ended {
            return false;
        }
        assert!(mounted, "not mounted\n{}", self.why_it_waits());
        if self.plan().uid.is_none() {
            let answers = std::fs::read_dir(&self.root).is_ok();
            return answers && rustix::fs::statvfs(&self.root).is_ok();
        }
        true
    }

    /// Ends the daemon with SIGTERM, which must drain, unmount and exit with 0.
    #[track_caller]
    pub fn unmount(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_for_exit();
        assert!(status.success(), "SIGTERM: {status}\n{}", self.log());
        assert!(!is_mounted(&self.root), "still mounted\n{}", self.log());
    }

    /// Unmounts where mounted, and mounts the same again.
    #[track_caller]
    pub fn remount(&mut self) {
        if self.child.is_some() {
            self.unmount();
        }
        self.start();
    }

    /// Kills the daemon without warning and takes away the mount it leaves.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.wait_for_exit();
        detach(&self.root);
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        match signal {
            Signal::STOP => stop(pid),
            _ => kill_process(pid, signal).unwrap(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The daemon has no more memory and descriptors than this.
    #[track_caller]
    pub fn check_bounds(&self, rss_kib: u64, descriptors: usize) {
        let seen = rss_kib_of(self.pid());
        assert!(seen <= rss_kib, "{seen} KiB of memory");
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        let open = open.unwrap().count();
        assert!(open <= descriptors, "{open} descriptors");
    }

    /// Waits for the daemon's end.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let mut status = None;
        happens_within(ENDED_WITHIN, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let Some(status) = status else {
            self.child = Some(child);
            panic!("mediafs has not ended\n{}", self.why_it_waits());
        };
        self.watchdog = None;
        status
    }

    /// Its log, and where in the kernel each thread of its processes is.
    pub fn why_it_waits(&self) -> String {
        let threads: String = daemons_of(&self.root).into_iter().map(threads_of).collect();
        format!("{}--- threads:\n{threads}", self.log())
    }

    /// Waits until a path of the mount shows what another client did.
    #[track_caller]
    pub fn wait_for(&self, path: &str, what: &str, mut holds: impl FnMut(&Path) -> bool) {
        let path = self.path(path);
        wait_until(SETTLED_WITHIN, what, || holds(&path));
    }

    /// Bytes that the daemon has kept because S3 does not have them.
    pub fn lost_and_found(&self) -> Vec<Vec<u8>> {
        super::spool::lost_files(&self.scratch().join("spool"))
    }

    /// What the daemon says of the bytes that it has kept.
    pub fn sidecars(&self) -> Vec<String> {
        let folder = self.scratch().join("spool/lost+found");
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        let sidecars = paths.filter(|path| path.extension().is_some());
        sidecars
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect()
    }

    /// Requests of one kind that the log tells of, such as `PutObject`; wants
    /// `--log mediafs=debug`.
    pub fn requests(&self, op: &str) -> usize {
        let mark = format!("op={op} ");
        self.log()
            .lines()
            .filter(|line| line.contains(&mark) && !line.contains(PROBE))
            .count()
    }

    pub fn log_path(&self) -> &Path {
        &self.plan().log
    }

    /// Everything that the daemon has said so far.
    pub fn log(&self) -> String {
        let child = self.child.as_ref().map(Pid::from_child);
        // One in the background has several processes with one log.
        let processes = child.map_or_else(|| daemons_of(&self.root), |pid| vec![pid]);
        let written = |pid: &Pid| has_written_its_log(*pid);
        happens_within(LOGGED_WITHIN, || processes.iter().all(written));
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- mediafs said:\n{}---", self.log());
        }
        // A mount without its daemon blocks nobody; one in the way of the
        // folders' removal would delete the bucket's files.
        if self.child.is_none() && is_mounted(&self.root) {
            for pid in daemons_of(&self.root) {
                kill_process(pid, Signal::KILL).ok();
            }
        }
        detach(&self.root);
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        if is_mounted(&self.root)
            && let Some(plan) = self.plan.take()
        {
            eprintln!("left behind: {}", plan.dir.keep().display());
        }
    }
}

/// Kills the daemon when the time is over, unless the sender is dropped before.
fn watch(child: &Child, root: &Path, limit: Duration) -> Sender<()> {
    let (sender, receiver) = mpsc::channel::<()>();
    let (pid, root) = (Pid::from_child(child), root.to_owned());
    std::thread::spawn(move || {
        if receiver.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("watchdog: {} is killed after {limit:?}", root.display());
            kill_process(pid, Signal::KILL).ok();
            detach(&root);
        }
    });
    sender
}

/// Whether a FUSE file system is mounted at exactly this path.
pub fn is_mounted(root: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| {
        let mut fields = line.split(' ');
        let at = fields.nth(4);
        let kind = line.split(" - ").nth(1).unwrap_or_default();
        at == root.to_str() && kind.starts_with("fuse")
    })
}

/// Unmounts lazily, as often as something is mounted there.
pub fn detach(root: &Path) {
    for _ in 0..3 {
        if !is_mounted(root) {
            return;
        }
        let mut command = Command::new("umount");
        drop(command.arg("-l").arg(root).stderr(Stdio::null()).status());
    }
}
