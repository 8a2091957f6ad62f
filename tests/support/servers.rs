//! S3 servers on the loopback interface.
//!
//! Each lives in a folder of its own and dies with the test process, however
//! that ends: the kernel sends it SIGKILL when the thread that started it is
//! gone, and that thread sleeps until the process ends.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::client::Client;
use super::garage;
use super::processes::stop;
use super::programs::{happens_within, venv};

/// A first start writes little; a machine that builds at the same time is slow.
const READY_WITHIN: Duration = Duration::from_secs(60);
const START_TRIES: usize = 3;

// Who may do what on SeaweedFS stands in identities.json too.
/// May do anything.
pub const OWNER: Credentials = Credentials::fixed("k", "s");
/// The same owner's next credentials.
pub const SUCCESSOR: Credentials = Credentials::fixed("k2", "s2");
/// Of servers that take no key as short as those.
const OF_OTHERS: Credentials = Credentials::fixed("compat-key", "compat-secret");
/// May list and read every bucket, and write none.
pub const READER: Credentials = Credentials::fixed("reader", "reader-secret");
/// May do nothing in any bucket of the tests.
pub const STRANGER: Credentials = Credentials::fixed("stranger", "stranger-secret");

#[derive(Debug, Clone)]
pub struct Credentials {
    pub access_key: std::borrow::Cow<'static, str>,
    pub secret_key: std::borrow::Cow<'static, str>,
}

impl Credentials {
    const fn fixed(access_key: &'static str, secret_key: &'static str) -> Self {
        Self {
            access_key: std::borrow::Cow::Borrowed(access_key),
            secret_key: std::borrow::Cow::Borrowed(secret_key),
        }
    }
}

/// A running S3 server.
#[derive(Debug)]
pub struct Server {
    pub endpoint: String,
    pub region: &'static str,
    pub owner: Credentials,
    /// None of a server that somebody else started.
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Mutex<Child>,
    dir: TempDir,
    /// Removes the folder of a server that is never dropped.
    _sweeper: Child,
}

impl Server {
    /// The server that the tests share: SeaweedFS, or the one that
    /// `TEST_S3_SERVER` names.
    pub fn shared() -> &'static Server {
        match std::env::var("TEST_S3_SERVER").as_deref() {
            Err(_) | Ok("seaweedfs") => Self::seaweedfs(),
            Ok("moto") => Self::moto(),
            Ok(other) => {
                static OTHER: OnceLock<Server> = OnceLock::new();
                OTHER.get_or_init(|| match other {
                    "garage" => garage::start(),
                    "rclone" => started("rclone", rclone_command, OF_OTHERS),
                    "s3s-fs" => started("s3s-fs", s3s_fs_command, OF_OTHERS),
                    _ => {
                        panic!("TEST_S3_SERVER={other}: seaweedfs, moto, garage, rclone or s3s-fs")
                    }
                })
            }
        }
    }

    /// The shared SeaweedFS: the one at `TEST_S3_ENDPOINT`, which scripts/test
    /// starts for the whole run, or one of this test binary.
    pub fn seaweedfs() -> &'static Server {
        if let Ok(file) = std::env::var("TEST_S3_BROKEN")
            && let Ok(why) = std::fs::read_to_string(file)
        {
            panic!("the S3 server of this run is broken: {why}");
        }
        static SEAWEEDFS: OnceLock<Server> = OnceLock::new();
        SEAWEEDFS.get_or_init(|| match std::env::var("TEST_S3_ENDPOINT") {
            Ok(endpoint) => Server {
                endpoint,
                region: "us-east-1",
                owner: OWNER,
                process: None,
            },
            Err(_) => Self::private(),
        })
    }

    /// The shared moto.
    pub fn moto() -> &'static Server {
        static MOTO: OnceLock<Server> = OnceLock::new();
        MOTO.get_or_init(|| started("moto", moto_command, OWNER))
    }

    /// A SeaweedFS of one test, to stop and kill.
    pub fn private() -> Server {
        started("seaweedfs", seaweedfs_command, OWNER)
    }

    /// Whether somebody else started it, who uses it again.
    pub fn outlives_the_run(&self) -> bool {
        self.process.is_none()
    }

    /// Freezes the server: connections open, answers never come.
    pub fn freeze(&self) {
        stop(Pid::from_child(&self.process().child.lock().unwrap()));
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends the server at once: connections are refused from now on.
    pub fn kill(&self) {
        let mut child = self.process().child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process().child.lock().unwrap());
        kill_process(pid, signal).unwrap();
    }

    pub fn folder(&self) -> &Path {
        self.process().dir.path()
    }

    fn process(&self) -> &Process {
        let process = self.process.as_ref();
        process.expect("a test that breaks its server starts one: Server::private()")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// Waits until a bucket can be made and an object put; false when the
    /// process has ended or the time is over.
    fn is_ready(&self) -> bool {
        let client = Client::new(self);
        let mut ended = false;
        let ready = happens_within(READY_WITHIN, || {
            let status = self.process().child.lock().unwrap().try_wait();
            ended = status.unwrap().is_some();
            ended || client.try_create_bucket("ready") && client.try_put("ready", "probe", b"x")
        });
        ready && !ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(|e| e.into_inner());
        drop(child.kill());
        drop(child.wait());
    }
}

/// How to start a server in a folder: its command and the port of its S3 service.
type Recipe = fn(&Path) -> (Command, u16);

/// Starts a server and waits until it serves. Ports are chosen before they are
/// used, so another program can take one in between: then it is tried again.
fn started(name: &str, recipe: Recipe, owner: Credentials) -> Server {
    let mut log = String::new();
    for _ in 0..START_TRIES {
        let server = spawned(name, recipe, owner.clone(), "us-east-1");
        if server.is_ready() {
            return server;
        }
        log = server.log();
    }
    panic!("{name} does not serve after {START_TRIES} tries:\n{log}");
}

/// Starts a server without waiting for it.
pub fn spawned(name: &str, recipe: Recipe, owner: Credentials, region: &'static str) -> Server {
    let dir = tempfile::Builder::new()
        .prefix(&format!("mediafs-{name}-"))
        .tempdir()
        .unwrap();
    let (mut command, port) = recipe(dir.path());
    let log = File::create(dir.path().join("log")).unwrap();
    command
        .env("TMPDIR", dir.path())
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    Server {
        endpoint: format!("http://127.0.0.1:{port}"),
        region,
        owner,
        process: Some(Process {
            child: Mutex::new(spawn_for_life(command)),
            _sweeper: sweeper(dir.path()),
            dir,
        }),
    }
}

/// A command whose process gets `signal` when the thread that spawned it ends.
pub fn dies_with_parent(signal: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal]).arg(program);
    command
}

/// Removes a folder when this process has ended, however it did: the kernel
/// closes the pipe. A server that is ending too may still write there.
pub fn sweeper(dir: &Path) -> Child {
    let script = "trap '' INT; cat; until rm -rf \"$1\"; do sleep 0.2; done";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(dir);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Spawns from a thread that stays until the process ends.
pub fn spawn_for_life(mut command: Command) -> Child {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        tell.send(command.spawn()).unwrap();
        loop {
            std::thread::park();
        }
    });
    told.recv().unwrap().unwrap()
}

/// Ports that the kernel gives to nobody who asks for any: no proxy and no client takes one
/// before the server that it is meant for. Source: ip(7), `ip_local_port_range`.
const FIRST_PORT: u32 = 12_000;
const PORTS: u32 = 20_000;
/// Test processes that run at once begin far from each other.
const PORTS_APART: u32 = 2_897;

/// `N` free ports of the loopback interface, which this process has given to nobody yet.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(PORTS_APART) % PORTS;
    let next = || {
        let number = begin + GIVEN.fetch_add(1, Ordering::Relaxed);
        u16::try_from(FIRST_PORT + number % PORTS).unwrap()
    };
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    [(); N].map(|()| std::iter::repeat_with(next).find(is_free).unwrap())
}

fn seaweedfs_command(dir: &Path) -> (Command, u16) {
    let ports: [u16; 8] = free_ports();
    let repo = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = dies_with_parent("KILL", repo.join("scripts/lib/seaweedfs"));
    command.env("MEDIAFS_TEST_VENV", venv()).arg(dir);
    command.args(ports.map(|port| port.to_string()));
    (command, ports[0])
}

fn moto_command(_dir: &Path) -> (Command, u16) {
    let [port] = free_ports();
    let mut command = dies_with_parent("KILL", venv().join("bin/python"));
    command
        .args(["-m", "moto.server", "-H", "127.0.0.1", "-p"])
        .arg(port.to_string());
    (command, port)
}

/// `TEST_S3_SERVER_BINARY`: the program of a server that scripts/compat has installed.
pub fn binary_of_the_server() -> std::ffi::OsString {
    let variable = "TEST_S3_SERVER_BINARY";
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable}: path of the server"))
}

fn rclone_command(dir: &Path) -> (Command, u16) {
    let [port] = free_ports();
    let mut command = dies_with_parent("KILL", binary_of_the_server());
    let data = dir.join("data");
    std::fs::create_dir(&data).unwrap();
    command
        .args(["serve", "s3", "--config", "", "--auth-key"])
        .arg(format!("{},{}", OF_OTHERS.access_key, OF_OTHERS.secret_key))
        .args(["--addr", &format!("127.0.0.1:{port}")])
        .arg(data);
    (command, port)
}

fn s3s_fs_command(dir: &Path) -> (Command, u16) {
    let [port] = free_ports();
    let mut command = dies_with_parent("KILL", binary_of_the_server());
    let data = dir.join("data");
    std::fs::create_dir(&data).unwrap();
    command
        .args(["--host", "127.0.0.1"])
        .args(["--access-key", &OF_OTHERS.access_key])
        .args(["--secret-key", &OF_OTHERS.secret_key])
        .args(["--port", &port.to_string()])
        .arg(data);
    (command, port)
}
