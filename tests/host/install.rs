//! scripts/install and scripts/uninstall, into a folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::data::files_below;
use crate::support::programs::{said, succeeds};

/// A program that is quick to copy.
const PROGRAM: &str = "/bin/true";

fn script(name: &str, destination: &Path, prefix: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name);
    let mut command = Command::new(path);
    command
        .env("DESTDIR", destination)
        .env("PREFIX", prefix)
        .env("MEDIAFS_BINARY", PROGRAM);
    command
}

/// Every file below a folder, with what it holds or where it points.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let found = files_below(root).unwrap().into_iter();
    found
        .map(|(name, path)| match fs::read_link(&path) {
            Ok(target) => (name, target.into_os_string().into_encoded_bytes()),
            Err(_) => (name, fs::read(&path).unwrap()),
        })
        .collect()
}

#[test]
fn twice_installed_is_once_installed_and_uninstalled_leaves_config_and_spool() {
    let destination = tempfile::tempdir().unwrap();
    let root = destination.path();
    succeeds(&mut script("install", root, "/usr/local"));
    let first = files(root);
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    assert!(names.contains(&"usr/local/bin/mediafs"), "{names:?}");
    assert!(
        names.contains(&"usr/local/lib/systemd/system/mediafs@.service"),
        "{names:?}"
    );
    let helper = names
        .iter()
        .find(|name| name.ends_with("sbin/mount.mediafs"));
    assert_eq!(first[*helper.unwrap()], b"/usr/local/bin/mediafs");
    let config = root.join("etc/mediafs");
    let mode = fs::metadata(&config).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);

    let kept = ["etc/mediafs/m.toml", "var/lib/mediafs/m/spool/journal"];
    for name in kept {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "mine").unwrap();
    }
    succeeds(&mut script("install", root, "/usr/local"));
    let mut second = files(root);
    for name in kept {
        assert_eq!(second.remove(name).unwrap(), b"mine");
    }
    assert!(second == first, "{:?}", second.keys());

    for _ in 0..2 {
        succeeds(&mut script("uninstall", root, "/usr/local"));
        let left: Vec<String> = files(root).into_keys().collect();
        assert_eq!(left, kept);
    }
}

#[test]
fn the_unit_starts_the_program_of_its_prefix() {
    for (prefix, units) in [
        ("/usr", "usr/lib/systemd/system"),
        ("/opt/mediafs", "etc/systemd/system"),
    ] {
        let destination = tempfile::tempdir().unwrap();
        let root = destination.path();
        succeeds(&mut script("install", root, prefix));
        let unit = root.join(units).join("mediafs@.service");
        let unit = fs::read_to_string(unit).unwrap();
        let start = unit.lines().find(|line| line.starts_with("ExecStart="));
        assert!(
            start.unwrap().contains(&format!("{prefix}/bin/mediafs")),
            "{unit}"
        );
        assert!(!unit.contains("/usr/local"), "{unit}");
        succeeds(&mut script("uninstall", root, prefix));
        assert!(files(root).is_empty());
    }
}

#[test]
fn updatedb_leaves_our_mounts_out_once_they_are_installed() {
    let plain = "# PRUNEFS=\"none\"\nPRUNE_BIND_MOUNTS=\"yes\"\nPRUNEFS=\"NFS afs fuse.sshfs\"\nPRUNEPATHS=\"/tmp\"\n";
    let spaced = "PRUNEFS = \"tmpfs\"\n";
    let others = "PRUNEFS=\"a fuse.mediafs2 b\"\n";
    for before in [plain, spaced, others, "PRUNEPATHS=\"/tmp\"\n"] {
        let destination = tempfile::tempdir().unwrap();
        let root = destination.path();
        let file = root.join("etc/updatedb.conf");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, before).unwrap();
        for _ in 0..2 {
            succeeds(&mut script("install", root, "/usr"));
            let after = fs::read_to_string(&file).unwrap();
            let prunes = before.contains("PRUNEFS");
            let ours = after.lines().filter(|line| !line.starts_with('#'));
            let count: usize = ours
                .map(|line| line.matches(" fuse.mediafs\"").count())
                .sum();
            assert_eq!(count, usize::from(prunes), "{after}");
            assert_eq!(after.replace(" fuse.mediafs\"", "\""), before);
        }
        for _ in 0..2 {
            succeeds(&mut script("uninstall", root, "/usr"));
            assert_eq!(fs::read_to_string(&file).unwrap(), before);
        }
    }
    let destination = tempfile::tempdir().unwrap();
    succeeds(&mut script("install", destination.path(), "/usr"));
    assert!(!destination.path().join("etc/updatedb.conf").exists());
}

#[test]
fn a_prefix_that_a_unit_cannot_name_and_arguments_are_refused() {
    let destination = tempfile::tempdir().unwrap();
    for name in ["install", "uninstall"] {
        for prefix in ["usr", "/opt/media fs", "/a/", "/%i"] {
            let output = script(name, destination.path(), prefix).output().unwrap();
            assert!(!output.status.success());
            assert!(said(&output).contains("absolute"), "{}", said(&output));
        }
        let mut command = script(name, destination.path(), "/usr");
        assert!(!command.arg("--help").output().unwrap().status.success());
    }
    assert!(files(destination.path()).is_empty());
}
