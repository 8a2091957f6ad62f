//! Keys that cannot be file names keep a directory from going, and are told.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::support::{Mount, Server};

fn hidden(path: &Path) -> Option<String> {
    let mut value = vec![0; 1 << 16];
    let len = rustix::fs::getxattr(path, "user.mediafs.hidden", &mut value).ok()?;
    value.truncate(len);
    Some(String::from_utf8(value).unwrap())
}

fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).unwrap().next().is_none()
}

#[test]
fn rmdir_over_keys_that_cannot_be_file_names_says_which_and_why_once() {
    for attributes in ["fixed", "stored"] {
        let mount = Mount::on(Server::moto())
            .args(["--attributes", attributes])
            .start();
        let long = format!("d/{}", "x".repeat(256));
        for key in ["d//a", "d/..", &long] {
            mount.put_object(key, b"bytes");
        }
        let dir = mount.path("d");
        assert!(is_empty(&dir));
        for _ in 0..2 {
            let refused = fs::remove_dir(&dir).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::DirectoryNotEmpty);
        }
        let log = mount.log();
        let told: Vec<_> = log
            .lines()
            .filter(|line| line.contains("WARN") && line.contains("cannot be a file name"))
            .collect();
        let [warning] = told[..] else {
            panic!("{told:?}\n{log}");
        };
        assert!(
            warning.contains("d/..") && warning.contains("'..'"),
            "{warning}"
        );
        assert!(warning.contains("mediafs help coherence"), "{warning}");
        let listed = hidden(&dir).unwrap();
        assert_eq!(listed.lines().count(), 3, "{listed}");
        for words in ["d/..\t", "d//\t", "more than 255 bytes"] {
            assert!(listed.contains(words), "no {words:?} in {listed}");
        }
    }
}

#[test]
fn a_directory_without_hidden_keys_has_none_and_goes() {
    let mount = Mount::fresh();
    let dir = mount.path("d");
    fs::create_dir(&dir).unwrap();
    assert_eq!(hidden(&dir), Some(String::new()));
    fs::write(dir.join("f"), b"").unwrap();
    assert_eq!(hidden(&dir.join("f")), None, "a file has none");
    let refused = fs::remove_dir(&dir).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DirectoryNotEmpty);
    assert!(!mount.log().contains("cannot be a file name"));
    fs::remove_file(dir.join("f")).unwrap();
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn the_directory_goes_once_the_hidden_keys_have_gone() {
    let mount = Mount::on(Server::moto()).set("--ttl", "0").start();
    mount.put_object("d/..", b"bytes");
    let dir = mount.path("d");
    assert_eq!(hidden(&dir).unwrap().lines().count(), 1);
    fs::remove_dir(&dir).unwrap_err();
    mount.client().delete(mount.bucket(), "d/..");
    mount.wait_for("d", "its end", |dir| {
        fs::remove_dir(dir).is_ok() || !dir.exists()
    });
}
