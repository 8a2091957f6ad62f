//! The package that scripts/release makes: what is in it, and what installing, upgrading and
//! removing it does to a machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use crate::support::examples::{self, steps};
use crate::support::programs::succeeds;
use crate::support::servers::sweeper;
use crate::support::service::{OpenAcross, Service};
use crate::support::{Machine, Server};

const REPO: &str = env!("CARGO_MANIFEST_DIR");
const OLD: &str = "0.0.1";
const NEW: &str = "0.0.2";

/// Two versions of the package, of the same program.
struct Packages {
    dir: tempfile::TempDir,
    /// Takes the folder away when the tests end.
    _sweeper: Child,
}

impl Packages {
    fn shared() -> &'static Self {
        static PACKAGES: OnceLock<Packages> = OnceLock::new();
        PACKAGES.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            for version in [OLD, NEW] {
                release(dir.path(), version);
            }
            let _sweeper = sweeper(dir.path());
            Self { dir, _sweeper }
        })
    }

    fn file(&self, version: &str, end: &str) -> PathBuf {
        let files = fs::read_dir(self.dir.path()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let begin = format!("mediafs_{version}_");
        let mut names = names.filter(|name| name.starts_with(&begin) && name.ends_with(end));
        self.dir.path().join(names.next().unwrap())
    }

    /// Puts a version into a machine; where it is there.
    fn into(&self, machine: &Machine, version: &str) -> String {
        let place = format!("/opt/mediafs_{version}.deb");
        fs::copy(self.file(version, ".deb"), machine.path(&place)).unwrap();
        place
    }
}

fn release(into: &Path, version: &str) {
    let mut command = Command::new(format!("{REPO}/scripts/release"));
    command
        .env("RELEASE_DIR", into)
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .env("RELEASE_VERSION", version)
        .env("MEDIAFS_BINARY", env!("CARGO_BIN_EXE_mediafs"));
    succeeds(&mut command);
}

/// Files and links below a folder, by their names.
fn names(root: &Path) -> BTreeSet<String> {
    let mut find = Command::new("find");
    let found = succeeds(find.arg(root).args(["!", "-type", "d", "-printf", "%P\n"]));
    found.lines().map(str::to_owned).collect()
}

#[test]
fn the_package_has_what_the_script_installs_and_the_checksums_are_those_of_the_files() {
    let packages = Packages::shared();
    let (packed, installed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let package = packages.file(NEW, ".deb");
    succeeds(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(&package)
            .arg(packed.path()),
    );
    succeeds(
        Command::new(format!("{REPO}/scripts/install"))
            .env("DESTDIR", installed.path())
            .env("PREFIX", "/usr")
            .env("MEDIAFS_BINARY", env!("CARGO_BIN_EXE_mediafs")),
    );
    let mut packed = names(packed.path());
    assert!(packed.remove("usr/share/doc/mediafs/copyright"));
    assert_eq!(packed, names(installed.path()));
    let again = tempfile::tempdir().unwrap();
    release(again.path(), NEW);
    let again = fs::read(again.path().join(package.file_name().unwrap())).unwrap();
    assert!(
        again == fs::read(&package).unwrap(),
        "the same bytes each time"
    );
    let sums = packages.file(NEW, ".sha256");
    let mut check = Command::new("sha256sum");
    check.arg("--check").arg(&sums);
    succeeds(check.current_dir(sums.parent().unwrap()));
}

#[test]
fn the_list_of_what_is_in_the_program_has_crates_with_versions_and_licences_and_none_of_the_tests()
{
    let text = fs::read_to_string(Packages::shared().file(NEW, ".cdx.json")).unwrap();
    let bill: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(bill["metadata"]["component"]["version"], NEW);
    let components = bill["components"].as_array().unwrap();
    let named = |name: &str| components.iter().find(|it| it["name"] == name);
    let fuser = named("fuser").unwrap();
    assert_eq!(fuser["licenses"][0]["expression"], "MIT");
    assert!(
        fuser["purl"]
            .as_str()
            .unwrap()
            .starts_with("pkg:cargo/fuser@")
    );
    assert_eq!(fuser["hashes"][0]["content"].as_str().unwrap().len(), 64);
    assert!(
        named("opentelemetry").is_some(),
        "the package exports spans"
    );
    assert!(named("proptest").is_none(), "only tests use it");
}

/// A machine with the first of the two.
fn machine_with_old() -> Machine {
    let machine = bare_machine();
    let old = Packages::shared().into(&machine, OLD);
    machine.says(&format!("dpkg -i {old}"));
    machine
}

/// A machine without the mediafs that others have.
fn bare_machine() -> Machine {
    let machine = Machine::boot();
    machine.says(&format!("{REPO}/scripts/uninstall"));
    machine
}

#[test]
fn a_package_is_upgraded_under_a_mount_whose_open_files_stay_open_and_then_purged() {
    let machine = machine_with_old();
    let service = Service::of(&machine, Server::shared(), "durability = \"disk\"\n");
    service.ctl("enable --now");
    let pid = service.property("MainPID");
    let program = machine.says(&format!("readlink /proc/{pid}/exe"));
    assert_eq!(program.trim(), "/usr/bin/mediafs");
    let open = OpenAcross::open(&service);

    let new = Packages::shared().into(&machine, NEW);
    machine.says(&format!("dpkg -i {new}"));
    assert_ne!(service.property("MainPID"), pid, "the new version serves");
    assert_eq!(service.property("ActiveState"), "active");
    open.go_on(&service);
    assert_eq!(machine.says("dpkg --verify mediafs"), "");

    let told = machine.says("dpkg --purge mediafs");
    assert!(!service.is_mounted());
    assert_eq!(service.object("new").unwrap(), b"before after");
    assert!(told.contains("kept: /etc/mediafs"), "{told}");
    let left = machine.says(
        "ls -d /usr/bin/mediafs /usr/sbin/mount.mediafs /usr/lib/systemd/system/mediafs@.service \
         /etc/systemd/system/*.wants/mediafs@* /etc/mediafs/*.toml /var/lib/mediafs/*/spool \
         2>/dev/null || true",
    );
    assert_eq!(left.lines().count(), 2, "{left}");
}

#[test]
fn the_package_comes_and_goes_by_the_commands_in_the_help() {
    let machine = bare_machine();
    let built = Packages::shared().file(NEW, ".deb");
    let name = built.file_name().unwrap().to_str().unwrap();
    let name = name.replace(NEW, env!("CARGO_PKG_VERSION"));
    fs::copy(&built, machine.path("/opt").join(name)).unwrap();
    for example in examples::of("console package") {
        for (command, _) in steps(&example.text) {
            machine.says(&format!("cd /opt; echo y | {command}"));
            let (is_there, _) = machine.tries("mediafs --version");
            assert_eq!(is_there, command.contains(" install "), "{command}");
        }
    }
}

#[test]
fn a_package_whose_service_does_not_start_again_is_installed_all_the_same_and_says_which() {
    let machine = machine_with_old();
    let service = Service::of(&machine, Server::shared(), "");
    service.ctl("start");
    let config = machine.path(&format!("/etc/mediafs/{}.toml", service.name));
    let right = fs::read_to_string(&config).unwrap();
    fs::write(&config, "nonsense").unwrap();
    machine.drop_in(
        &service.unit,
        "[Service]\nRestartSec=1s\nTimeoutStartSec=10s\n",
    );
    let new = Packages::shared().into(&machine, NEW);
    let told = machine.says(&format!("dpkg -i {new}"));
    assert!(told.contains(&service.unit), "{told}");
    let status = machine.says("dpkg-query -W -f '${db:Status-Status}' mediafs");
    assert_eq!(status, "installed");
    // The mount waits for a daemon that can start.
    fs::write(&config, right).unwrap();
    fs::write(service.path("f"), b"bytes").unwrap();
    assert_eq!(service.object("f").unwrap(), b"bytes");
}

#[test]
fn a_system_that_systemd_does_not_run_installs_and_purges_it_too() {
    let (packages, machine) = (Packages::shared(), bare_machine());
    let package = packages.into(&machine, NEW);
    machine.says(&format!(
        "unshare --mount sh -ec 'mount -t tmpfs tmpfs /run; dpkg -i {package}; \
         mediafs --version; dpkg --purge mediafs'"
    ));
    assert!(!machine.tries("command -v mediafs").0);
}

#[test]
fn a_program_that_needs_libraries_of_the_system_is_not_packed_as_a_static_one() {
    let into = tempfile::tempdir().unwrap();
    let mut command = Command::new(format!("{REPO}/scripts/release"));
    command
        .arg("--static")
        .env("RELEASE_DIR", into.path())
        .env("MEDIAFS_BINARY", env!("CARGO_BIN_EXE_mediafs"));
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && told.contains("is not static"),
        "{told}"
    );
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
}

#[test]
fn without_its_database_the_check_of_advisories_says_what_it_needs() {
    let empty = tempfile::tempdir().unwrap();
    let mut command = Command::new(format!("{REPO}/scripts/advisories"));
    let output = command.env("ADVISORY_DB", empty.path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let place = empty.path().display().to_string();
    for part in [
        "no database of advisories in",
        &place,
        "clone",
        "set ADVISORY_DB",
    ] {
        assert!(told.contains(part), "{told}");
    }
}
