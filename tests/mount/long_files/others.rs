//! Another mount changes a file between the steps by which its parts leave the spool.

use std::fs;

use super::{PART, SPOOL, WITHIN, nothing_is_left};
use crate::support::{Mount, SupervisedMount, Worker, pattern, sha256, wait_until};

const STEPS: [&str; 3] = ["offload_marked", "offload_journaled", "offload_punched"];
const FIRST: &[u8] = b"the first version";

/// What another mount does to `f`, and what is under `g` then.
struct Change {
    what: &'static str,
    run: fn(&Mount),
    moved: Option<&'static [u8]>,
}

const CHANGES: [Change; 4] = [
    Change {
        what: "overwrite",
        run: |other| fs::write(other.path("f"), b"theirs").unwrap(),
        moved: None,
    },
    Change {
        what: "rename",
        run: |other| fs::rename(other.path("f"), other.path("g")).unwrap(),
        moved: Some(FIRST),
    },
    Change {
        what: "unlink",
        run: |other| fs::remove_file(other.path("f")).unwrap(),
        moved: None,
    },
    Change {
        what: "truncate",
        run: |other| {
            let file = fs::File::options().write(true).open(other.path("f"));
            file.unwrap().set_len(9).unwrap();
        },
        moved: None,
    },
];

/// Writes a long file over `f` while each daemon dies at a step and the other mount
/// makes its change; what the close comes to.
fn written_meanwhile(
    durability: &'static str,
    step: &str,
    change: &Change,
) -> (SupervisedMount, Vec<u8>, Result<(), i32>) {
    let args = ["--part-size", "5MiB", "--spool-size", "24MiB"];
    let plan = Mount::builder().args(args).durability(durability);
    let plan = plan.env("FAILPOINTS", format!("{step}=1*off->return"));
    plan.client.put(&plan.bucket, "f", FIRST);
    let other = Mount::builder().bucket(&plan.bucket).set("--ttl", "0s");
    let other = other.start();
    let mount = SupervisedMount::start(plan);
    let body = pattern(9 * PART + 5, 1);
    let source = mount.scratch().join("body");
    fs::write(&source, &body).unwrap();
    let mut worker = Worker::at(&mount.root);
    worker
        .run(&format!("body = open({source:?}, 'rb').read()"))
        .unwrap();
    worker
        .run("fd = os.open('f', os.O_RDWR | os.O_TRUNC)")
        .unwrap();
    let more = "def more(end):\n    global at\n    while at < end: at += os.write(fd, body[at:min(at + 1048576, end)])\n";
    worker.run(&format!("exec({more:?})")).unwrap();
    worker.run("at = 0").unwrap();
    let first = mount.daemon();
    worker.run(&format!("more({})", 2 * SPOOL - PART)).unwrap();
    assert_ne!(mount.daemon(), first, "{step}: none has died");
    (change.run)(&other);
    worker.run(&format!("more({})", body.len())).unwrap();
    let closed = worker.run("os.close(fd)").map(drop);
    (mount, body, closed)
}

#[test]
fn a_file_that_is_written_anew_replaces_what_another_mount_did_meanwhile() {
    for (nth, change) in CHANGES.iter().enumerate() {
        let (step, durability) = (STEPS[nth % 3], ["s3", "disk"][nth % 2]);
        let (mount, body, closed) = written_meanwhile(durability, step, change);
        let what = format!("{} at {step}, {durability}", change.what);
        assert_eq!(closed, Ok(()), "{what}");
        let object = || mount.object("f").is_some_and(|it| it.len() == body.len());
        wait_until(WITHIN, &what, object);
        assert_eq!(sha256(&mount.object("f").unwrap()), sha256(&body), "{what}");
        assert_eq!(mount.object("g").as_deref(), change.moved, "{what}");
        nothing_is_left(&mount);
        mount.unmount();
    }
}
