//! A program on one of two mounts: it writes, publishes, removes and reads names that others
//! change too, and keeps what it did and saw.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fastrand::Rng;

use super::register::{Change, Event, Histories, OnMount, Outcome, Register, Version};
use crate::support::sys;

pub const NAMES: usize = 6;

/// What is under a name; none where nothing is. Errors: `InvalidData` where it is no version.
pub fn read(path: &Path) -> io::Result<Option<Version>> {
    match fs::read(path) {
        // Opened and not written yet: nobody's version.
        Ok(bytes) if bytes.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(bytes) => Version::of(&bytes).map(Some).map_err(|mixed| {
            let told = format!("{}: {mixed}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, told)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// One program on one of the mounts.
#[derive(Debug)]
pub struct Program {
    shared: PathBuf,
    /// Nobody else works there.
    own: PathBuf,
    number: usize,
    random: Rng,
    pub histories: Histories,
    pub published: Vec<Version>,
    pub calls: u64,
}

impl Program {
    pub fn new(number: usize, root: &Path, seed: u64) -> Self {
        Self {
            shared: root.join("shared"),
            own: root.join(format!("p{}", number % 2)),
            number,
            random: Rng::with_seed(seed),
            histories: Histories::new(),
            published: Vec::new(),
            calls: 0,
        }
    }

    pub fn run(&mut self, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            let name = format!("r{}", self.random.usize(..NAMES));
            let path = self.shared.join(&name);
            match self.random.u8(..12) {
                0..=2 if self.number < 2 => self.write(&name, &path),
                0..=5 => self.publish(&name, &path),
                6 => self.change(&name, Change::Removed, || fs::remove_file(&path)),
                7 => self.take_away(&name, &path),
                8 => self.own_directory(),
                _ => self.read(&name, &path),
            }
            self.calls += 1;
        }
    }

    /// Notes a change. An error must be one of those that tell of the other mount.
    fn change(&mut self, name: &str, what: Change, call: impl FnOnce() -> io::Result<()>) {
        let began = Instant::now();
        let outcome = match call() {
            Ok(()) => Outcome::Acknowledged,
            Err(error) => {
                let errno = error.raw_os_error().unwrap();
                let other = [libc::ESTALE, libc::ENOENT, libc::EEXIST];
                assert!(other.contains(&errno), "{name}: {what:?}: {error}");
                if errno == libc::ENOENT && what == Change::Removed {
                    return;
                }
                Outcome::Unknown
            }
        };
        self.register(name).changes.push(Event {
            what,
            outcome,
            began,
            ended: Instant::now(),
        });
    }

    /// In place. Two that do so on one mount would mix their bytes, as on a local disk.
    fn write(&mut self, name: &str, path: &Path) {
        let version = Version::short();
        let began = Instant::now();
        self.change(name, Change::Wrote(version), || write_new(path, version));
        let write = self.since(began);
        self.register(name).in_place.push(write);
    }

    fn register(&mut self, name: &str) -> &mut Register {
        self.histories.entry(name.to_owned()).or_default()
    }

    /// A call that is over now.
    fn since(&self, began: Instant) -> OnMount {
        OnMount {
            mount: self.number % 2,
            began,
            ended: Instant::now(),
        }
    }

    /// Notes a read of this name that is over now.
    fn saw(
        &mut self,
        name: &str,
        seen: io::Result<Option<Version>>,
        began: Instant,
        ended: Instant,
    ) {
        match seen {
            Ok(what) => self.register(name).reads.push(Event {
                what,
                outcome: Outcome::Acknowledged,
                began,
                ended,
            }),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                println!("{error}");
                let read = self.since(began);
                self.register(name).mixed.push(read);
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            // It changed while it was read.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{name}"),
        }
    }

    /// As web applications do: under another name first, which nobody else uses.
    fn publish(&mut self, name: &str, path: &Path) {
        let version = Version::next();
        let own = self.own.join(format!("new-{}", self.number));
        self.change(name, Change::Wrote(version), || {
            write_new(&own, version)?;
            fs::set_permissions(&own, fs::Permissions::from_mode(version.mode()))?;
            fs::rename(&own, path)
        });
        self.published.push(version);
    }

    /// A rename to a name of its own: what is there then was there before.
    fn take_away(&mut self, name: &str, path: &Path) {
        let own = self.own.join(format!("taken-{}", self.number));
        let began = Instant::now();
        self.change(name, Change::Removed, || fs::rename(path, &own));
        let ended = Instant::now();
        let taken = read(&own);
        if !matches!(taken, Ok(None)) {
            self.saw(name, taken, began, ended);
            fs::remove_file(&own).unwrap();
        }
    }

    fn read(&mut self, name: &str, path: &Path) {
        let began = Instant::now();
        let seen = read(path);
        self.saw(name, seen, began, Instant::now());
    }

    /// A directory of files is made, renamed, read and removed in a burst.
    fn own_directory(&mut self) {
        let at = |suffix: &str| self.own.join(format!("d{}{suffix}", self.number));
        let (old, new) = (at(""), at("-moved"));
        let versions: Vec<_> = (0..self.random.usize(1..24))
            .map(|_| Version::short())
            .collect();
        fs::create_dir(&old).unwrap();
        for version in &versions {
            write_new(&old.join(version.0.to_string()), *version).unwrap();
        }
        fs::rename(&old, &new).unwrap();
        for version in &versions {
            let path = new.join(version.0.to_string());
            assert_eq!(read(&path).unwrap(), Some(*version), "{}", path.display());
            fs::remove_file(path).unwrap();
        }
        fs::remove_dir(&new).unwrap();
    }
}

fn write_new(path: &Path, version: Version) -> io::Result<()> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
    let mut file: File = sys::open(path, flags)?;
    file.write_all(&version.bytes())?;
    sys::close(file)
}
