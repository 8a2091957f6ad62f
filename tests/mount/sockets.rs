//! What a control socket answers to who asks for what is not there, and sockets of others.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::Mount;
use crate::support::control::{curl, listening, mediafs};
use crate::support::programs::{has_all, run_within, said};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn what_is_not_served_is_told_as_an_object_with_the_error() {
    let mount = Mount::fresh();
    let socket = listening(&mount);
    let told = |path: &str, body: Option<&str>| {
        let answer: Value = serde_json::from_str(&curl(&socket, path, body)).unwrap();
        answer["error"].as_str().unwrap().to_owned()
    };
    has_all(&told("/nosuch", None), &["mediafs help status"]);
    has_all(&told("/flush", None), &["another method"]);
    has_all(&told("/metrics", Some("{}")), &["another method"]);
}

#[test]
fn the_status_of_a_socket_on_which_nobody_listens_ends_with_1() {
    let plan = Mount::builder();
    let gone = plan.scratch().join("gone.sock");
    for json in [None, Some("--json")] {
        let mut command = mediafs(["status", "--socket"]);
        command.arg(&gone).args(json);
        let output = run_within(WITHIN, &mut command);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        has_all(&said(&output), &["gone.sock", "mount it again"]);
    }
}

#[test]
fn a_mount_whose_socket_is_elsewhere_is_told_as_mounted() {
    let mount = Mount::fresh();
    listening(&mount);
    let runtime = mount.scratch().join("run");
    for command in ["unmount", "status", "flush"] {
        let mut command = mediafs([command]);
        command.arg(&mount.root).env("XDG_RUNTIME_DIR", &runtime);
        let output = run_within(WITHIN, &mut command);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let root = mount.root.to_str().unwrap();
        has_all(&said(&output), &[root, "--socket"]);
    }
    // It is a mount all the same.
    assert!(
        Command::new("mountpoint")
            .arg(&mount.root)
            .output()
            .unwrap()
            .status
            .success()
    );
}
