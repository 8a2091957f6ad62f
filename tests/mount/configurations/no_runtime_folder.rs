//! A plain user whom no login has given XDG_RUNTIME_DIR, as in a job of cron.

use std::fs;

use super::{USER, runs_by_user, set_up_by_user};
use crate::support::programs::has_all;

const UNHEARD: &str = r#"
    unset XDG_RUNTIME_DIR
    "$1" mount media
    echo bytes >"$HOME/mnt/f"
    "$1" status >listed 2>told || echo "$?" >code
    "$1" healthcheck media --json >health.json || true
    "$1" flush "$HOME/mnt/f" 2>flush || true
    fusermount3 -u "$HOME/mnt"
"#;

#[test]
fn a_mount_without_a_folder_for_its_socket_serves_and_says_what_it_lacks() {
    let (plan, home) = set_up_by_user();
    runs_by_user(&plan, UNHEARD);
    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
    let root = plan.root.to_str().unwrap();
    has_all(&read("listed"), &["unknown", root, &plan.bucket]);
    assert_eq!(read("code"), "1\n");
    let lacking = format!("XDG_RUNTIME_DIR is not set: set it to /run/user/{USER}");
    for told in ["told", "flush", "health.json"] {
        has_all(&read(told), &[root, &lacking, "--socket"]);
    }
    let stored = plan.client.get(&plan.bucket, "f");
    assert_eq!(stored.as_deref(), Some(&b"bytes\n"[..]));
}
