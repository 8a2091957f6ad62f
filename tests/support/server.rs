//! S3 servers: SeaweedFS and moto out of `target/venv`, which `scripts/test` fills.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;

use super::bucket::Bucket;
use super::wait_until;

pub const ACCESS_KEY: &str = "test-access-key";
pub const SECRET_KEY: &str = "test-secret-key";
/// A second identity, which may do nothing.
pub const STRANGER_KEY: &str = "stranger-access-key";
pub const STRANGER_SECRET: &str = "stranger-secret-key";

/// A running S3 server.
#[derive(Debug)]
pub struct Server {
    pub endpoint: String,
    child: Child,
    _dir: tempfile::TempDir,
}

static SHARED: OnceLock<Server> = OnceLock::new();
static SHARED_MOTO: OnceLock<Server> = OnceLock::new();

impl Server {
    /// The server of this test binary.
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start_seaweedfs)
    }

    /// The moto of this test binary.
    pub fn shared_moto() -> &'static Self {
        SHARED_MOTO.get_or_init(Self::start_moto)
    }

    /// A SeaweedFS of the caller's own, to stop or break.
    pub fn start_seaweedfs() -> Self {
        let dir = scratch();
        let config = dir.path().join("s3.json");
        fs::write(&config, identities()).unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        let ports = free_ports(8);
        let mut command = Command::new(venv("weed"));
        command
            .arg("server")
            .arg(format!("-dir={}", data.display()));
        // Each bucket takes seven volumes: many small ones leave room for many buckets.
        command.args([
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.volumeSizeLimitMB=128",
        ]);
        command.args([
            "-volume.max=5000",
            "-filer",
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]);
        command.args([
            "-master.telemetry=false",
            &format!("-s3.config={}", config.display()),
        ]);
        let options = [
            "s3.port",
            "s3.port.grpc",
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
        ];
        for (option, port) in options.iter().zip(&ports) {
            command.arg(format!("-{option}={port}"));
        }
        Self::start(command, ports[0], dir)
    }

    fn start_moto() -> Self {
        let port = free_ports(1)[0];
        let mut command = Command::new(venv("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        Self::start(command, port, scratch())
    }

    fn start(command: Command, port: u16, dir: tempfile::TempDir) -> Self {
        let child = spawn_that_dies_with_us(command, dir.path());
        let server = Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            child,
            _dir: dir,
        };
        wait_until("the S3 server takes an object", || Bucket::probe(&server));
        server
    }

    /// Stops answering, as if the network were gone; connections stay open.
    pub fn pause(&self) {
        signal(&self.child, "STOP");
    }

    pub fn resume(&self) {
        signal(&self.child, "CONT");
    }

    /// Ends for good: connections are refused from now on.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn identities() -> String {
    format!(
        r#"{{"identities":[
            {{"name":"owner","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],
              "actions":["Admin","Read","Write","List","Tagging"]}},
            {{"name":"stranger","credentials":[{{"accessKey":"{STRANGER_KEY}","secretKey":"{STRANGER_SECRET}"}}],
              "actions":["Read:elsewhere"]}}]}}"#
    )
}

/// A program of the virtual environment. Fails where it is missing: no test is skipped for lack of a server.
pub fn venv(program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/venv/bin")
        .join(program);
    assert!(
        path.exists(),
        "{} is missing: run scripts/test, which installs it",
        path.display()
    );
    path
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("mediafs-server-")
        .tempdir()
        .unwrap()
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}

/// The kernel kills the child when the thread that started it ends: a thread that never does, so
/// when the test process ends, however it ends.
fn spawn_that_dies_with_us(command: Command, dir: &Path) -> Child {
    let log = fs::File::create(dir.join("log")).unwrap();
    let mut wrapped = Command::new("setpriv");
    wrapped
        .args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    wrapped.env("TMPDIR", dir).current_dir(dir);
    wrapped
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        sender.send(wrapped.spawn().unwrap()).unwrap();
        loop {
            thread::park();
        }
    });
    receiver.recv().unwrap()
}

pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}
