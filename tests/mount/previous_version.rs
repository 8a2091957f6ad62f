//! What the version before left is resumed.
//!
//! `previous_version/spool` is the spool of a daemon whose journal was of
//! version 2. With S3 silent and `--durability=disk`, files were appended to, removed,
//! written, and replaced by a rename; one was open when the daemon was killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::support::{Mount, wait_until};

/// What S3 had then.
const BEFORE: [(&str, &str); 5] = [
    ("edited", "uploaded before"),
    ("removed", "to be removed"),
    ("renamed", "to be renamed"),
    ("dir/inner", "in a directory"),
    ("replaced", "to be replaced"),
];

/// What had been acknowledged.
const AFTER: [(&str, &str); 6] = [
    ("edited", "uploaded before, appended after"),
    ("new", "new bytes"),
    ("twice", "first and second"),
    ("renamed", "to be renamed"),
    ("dir/inner", "in a directory"),
    ("replaced", "the replacement"),
];

/// Copies the spool, which belongs to the bucket from now on.
fn lay_out(from: &Path, to: &Path, bucket: &str) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, PermissionsExt::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            lay_out(&path, &copy, bucket);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        if entry.file_name() == "mount.json" {
            let note = String::from_utf8(bytes).unwrap();
            bytes = note
                .replace("\"fixture\"", &format!("{bucket:?}"))
                .into_bytes();
        }
        fs::write(&copy, bytes).unwrap();
    }
}

#[test]
fn a_spool_that_the_previous_version_left_is_recovered() {
    let plan = Mount::builder().durability("disk");
    for (key, body) in BEFORE {
        plan.client.put(&plan.bucket, key, body.as_bytes());
    }
    let left = Path::new(env!("CARGO_MANIFEST_DIR"));
    let left = left.join("tests/mount/previous_version/spool");
    lay_out(&left, &plan.scratch().join("spool"), &plan.bucket);
    let mut mount = plan.start();
    for (name, body) in AFTER {
        assert_eq!(
            fs::read_to_string(mount.path(name)).unwrap(),
            body,
            "{name}"
        );
        mount.wait_until_uploaded(name, body.as_bytes());
    }
    mount.wait_for_keys("what was removed to go", |keys| {
        !keys
            .iter()
            .any(|key| key == "removed" || key == "replaced.tmp")
    });
    assert_eq!(mount.lost_and_found(), [b"never closed"]);
    let stages = mount.scratch().join("spool/stage");
    wait_until(Duration::from_secs(60), "an empty spool", || {
        fs::read_dir(&stages).unwrap().count() == 0
    });
    mount.unmount();
    assert_eq!(mount.keys().len(), AFTER.len(), "{:?}", mount.keys());
}
