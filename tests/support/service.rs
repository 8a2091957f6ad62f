//! One mediafs@.service of a machine.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::client::Client;
use super::machine::Machine;
use super::programs::wait_until;
use super::servers::Server;
use super::sys;

pub const SOON: Duration = Duration::from_secs(60);

/// A service that is started, on a bucket of its own.
#[derive(Debug)]
pub struct Service<'m> {
    pub name: String,
    pub unit: String,
    pub bucket: String,
    pub client: Client,
    pub machine: &'m Machine,
}

impl<'m> Service<'m> {
    /// Configured, not started.
    #[track_caller]
    pub fn on(server: &Server, settings: &str) -> Self {
        Self::of(Machine::shared(), server, settings)
    }

    #[track_caller]
    pub fn of(machine: &'m Machine, server: &Server, settings: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("m{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let bucket = format!("systemd-{}-{name}", std::process::id());
        let client = Client::new(server);
        client.create_bucket(&bucket);
        machine.configure(&name, server, &bucket, settings);
        Self {
            unit: format!("mediafs@{name}.service"),
            name,
            bucket,
            client,
            machine,
        }
    }

    #[track_caller]
    pub fn started(settings: &str) -> Self {
        let service = Self::on(Server::shared(), settings);
        service.ctl("start");
        service
    }

    #[track_caller]
    pub fn ctl(&self, verb: &str) {
        self.machine
            .says(&format!("systemctl {verb} {}", self.unit));
    }

    #[track_caller]
    pub fn property(&self, name: &str) -> String {
        self.machine.property(&self.unit, name)
    }

    /// A path of the mount, as it is reached from here.
    pub fn path(&self, path: &str) -> std::path::PathBuf {
        self.machine.path(&format!("/srv/{}/{path}", self.name))
    }

    pub fn is_mounted(&self) -> bool {
        let script = format!("mountpoint -q /srv/{}", self.name);
        self.machine.tries(&script).0
    }

    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.client.get(&self.bucket, key)
    }

    #[track_caller]
    pub fn wait_for_status(&self, what: &str) {
        wait_until(SOON, what, || self.property("StatusText").contains(what));
    }
}

/// Files that a program has open while the daemon is replaced.
#[derive(Debug)]
pub struct OpenAcross {
    reader: fs::File,
    writer: fs::File,
    device: u64,
}

impl OpenAcross {
    /// One that is half read, and one that is half written.
    pub fn open(service: &Service<'_>) -> Self {
        fs::write(service.path("f"), b"0123456789").unwrap();
        let mut reader = fs::File::open(service.path("f")).unwrap();
        reader.read_exact(&mut [0; 4]).unwrap();
        let mut writer = fs::File::create(service.path("new")).unwrap();
        writer.write_all(b"before ").unwrap();
        let device = fs::metadata(service.path("")).unwrap().dev();
        Self {
            reader,
            writer,
            device,
        }
    }

    /// The mount is the same, and what is open goes on where it was.
    #[track_caller]
    pub fn go_on(self, service: &Service<'_>) {
        let Self {
            mut reader,
            mut writer,
            device,
        } = self;
        assert_eq!(fs::metadata(service.path("")).unwrap().dev(), device);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "456789");
        drop(reader);
        writer.write_all(b"after").unwrap();
        sys::close(writer).unwrap();
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.machine.log_of(&self.unit));
        }
        self.machine.tries(&format!(
            "systemctl kill -s KILL {0}; systemctl stop {0}; umount -l /srv/{1}",
            self.unit, self.name
        ));
    }
}
