//! Names that the kernel knows: beyond a bound it is asked to forget those that nobody
//! has asked for in the longest time.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::support::{Mount, control, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const LIMIT: usize = 100;
const FILES: usize = 400;

#[test]
fn beyond_a_bound_the_kernel_forgets_names_that_nobody_uses() {
    let plan = Mount::builder().set("--ttl", "1h");
    let mount = plan.env("_MEDIAFS_NAMES_LIMIT", LIMIT.to_string()).start();
    fs::create_dir(mount.path("d")).unwrap();
    for number in 0..FILES {
        mount.put_object(&format!("d/{number:03}"), b"bytes");
    }
    mount.wait_for("d/399", "the files", std::path::Path::exists);
    let open = sys::open(mount.path("d/000"), libc::O_RDONLY).unwrap();
    let path = |number: usize| mount.path(format!("d/{number:03}"));
    let numbers = || {
        let all = (0..FILES).map(|number| fs::metadata(path(number)).unwrap().ino());
        all.collect::<Vec<_>>()
    };
    let before = numbers();
    let known = || control::status(&mount)["known_names"].as_u64().unwrap() as usize;
    // What is not a whole message is not told yet.
    wait_until(WITHIN, "the names to be forgotten", || known() < LIMIT + 60);
    assert_eq!(numbers(), before);
    let mut bytes = [0; 10];
    assert_eq!(rustix::io::pread(&open, &mut bytes, 0).unwrap(), 5);
}
