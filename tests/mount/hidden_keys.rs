//! Keys that cannot be file names keep a directory from going, and are told.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::control::status;
use crate::support::programs::run_within;
use crate::support::proxy::{Fault, Proxy, Rule};
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

/// SeaweedFS lists a directory of its own that nothing is in, without an ETag.
#[test]
fn a_directory_that_a_store_has_by_itself_is_no_hidden_key() {
    let mut mount = Mount::on(Server::seaweedfs()).prefix("media").start();
    assert!(is_empty(&mount.root));
    assert_eq!(status(&mount)["hidden_keys"], 0);
    mount.put_object("d/f", b"bytes");
    mount.client().delete(mount.bucket(), "media/d/f");
    mount.remount();
    let dir = mount.path("d");
    assert!(is_empty(&dir));
    assert_eq!(hidden(&dir).unwrap_or_default(), "");
    assert_eq!(status(&mount)["hidden_keys"], 0);
    fs::remove_dir(&dir).unwrap();
    assert!(is_empty(&mount.root));
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

#[test]
fn hidden_keys_are_counted_over_all_pages_of_a_listing() {
    let server = Server::moto();
    let proxy = Proxy::before(server);
    for op in ["ListObjectsV2", "ListObjects"] {
        // Pages of 50 keys.
        proxy.rule(Rule::on(op, Fault::Ignore(&[])).of_store());
    }
    let plan = Mount::on(server).set("--endpoint-url", &proxy.endpoint);
    // Between an object and the directory of its name: more than a page.
    let between: Vec<String> = (0..60).map(|number| format!("d/m-{number:02}")).collect();
    let long = format!("d/{}", "z".repeat(256));
    let keys = between.iter().map(String::as_str);
    for key in keys.chain(["d/..", "d/m", "d/m/x", &long]) {
        plan.client.put(&plan.bucket, key, b"");
    }
    let mount = plan.start();
    let listed = hidden(&mount.path("d")).unwrap();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains("d/m\ta directory has its name"), "{listed}");
    let names = fs::read_dir(mount.path("d")).unwrap().count();
    assert_eq!(names, 61);
    assert_eq!(status(&mount)["hidden_keys"], 3);
    let output = run_within(
        Duration::from_secs(60),
        mount.subcommand("doctor").args(["--read-only", "--json"]),
    );
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let keys = findings.iter().find(|finding| finding["check"] == "keys");
    let told = keys.unwrap()["found"].as_str().unwrap();
    assert!(told.starts_with("3 cannot be shown as files: "), "{told}");
}

#[test]
fn more_hidden_keys_than_are_named_are_counted() {
    let mount = Mount::on(Server::moto()).start();
    for number in 0..103 {
        mount.put_object(&format!("d/{number:03}{}", "x".repeat(256)), b"");
    }
    let listed = hidden(&mount.path("d")).unwrap();
    assert_eq!(listed.lines().count(), 101);
    let last = listed.lines().last().unwrap();
    assert!(
        last.starts_with("\tand 3 more: 'mediafs doctor --all'"),
        "{last}"
    );
}
