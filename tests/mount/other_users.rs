//! What root's commands take from the daemon of another user, which can say anything.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Mount;
use crate::support::control::{mediafs, status};
use crate::support::programs::{has_all, python, run_by, run_within, said};

const WITHIN: Duration = Duration::from_secs(60);
const STRANGER: u32 = 4321;
/// Answers at a socket as a user, with the status of a file, and notes what it is asked.
const DAEMON: &str = r#"
import http.server, json, os, socketserver, sys
uid, path, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
status = json.load(open(folder + "/status"))
log = open(folder + "/asked", "w")
answers = {"/flush": {"done": True, "reasons": [], "unsent": status["uploads"],
    "deletes_waiting": 0, "lost": [], "spool": "/none"}}
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, file=log, flush=True)
        body = json.dumps(answers.get(self.path, status)).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    address_string = log_message = lambda *words: ""
os.setresuid(uid, uid, uid)
socketserver.UnixStreamServer(path, Answer).serve_forever()
"#;
/// Users' sockets and systemctl are those of this test alone.
const BESIDE_THE_DAEMON: &str = r#"
    uid=$1 folder=$2 python=$3 daemon=$4; shift 4
    mkdir -p /run/user
    mount -t tmpfs none /run/user
    mkdir -p /run/user/$uid/mediafs
    chown -R $uid /run/user/$uid
    "$python" -c "$daemon" $uid /run/user/$uid/mediafs/m.sock "$folder" &
    trap "kill $!" EXIT
    until [ -S /run/user/$uid/mediafs/m.sock ]; do sleep 0.1; done
    printf '#!/bin/sh\necho "$@" >>%s/called' "$folder" >"$folder/systemctl"
    chmod +x "$folder/systemctl"
    PATH=$folder:$PATH "$@""#;

/// What root's command says beside a user's daemon that claims to serve a mount.
fn beside_a_daemon(of: &Mount, claims: &Value, words: &[&str]) -> Output {
    let folder = of.scratch().join("claims");
    fs::create_dir(&folder).unwrap();
    let mut told = status(of);
    told.as_object_mut()
        .unwrap()
        .extend(claims.as_object().unwrap().clone());
    fs::write(folder.join("status"), told.to_string()).unwrap();
    let mut shell = Command::new("unshare");
    shell.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        BESIDE_THE_DAEMON,
        "sh",
    ]);
    shell
        .arg(STRANGER.to_string())
        .arg(&folder)
        .arg(python())
        .arg(DAEMON);
    run_within(WITHIN, &mut run_by(shell, &mediafs(words)))
}

#[test]
fn a_users_daemon_does_not_answer_for_a_mount_that_is_not_the_users() {
    let mount = Mount::fresh();
    let root = mount.root.to_str().unwrap();
    let output = beside_a_daemon(&mount, &json!({}), &["healthcheck", root]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    has_all(
        &said(&output),
        &["its socket was not found", "user 4321 answers"],
    );
}

#[test]
fn a_users_daemon_has_root_stop_no_service() {
    let mount = Mount::fresh();
    let claims = json!({"name": "claimed", "mountpoint": "/srv/claimed", "unit": "victim.service"});
    let socket = format!("/run/user/{STRANGER}/mediafs/m.sock");
    let words = ["unmount", "claimed", "--socket", &socket];
    let output = beside_a_daemon(&mount, &claims, &words);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let folder = mount.scratch().join("claims");
    assert!(!folder.join("called").exists(), "{}", said(&output));
    let asked = fs::read_to_string(folder.join("asked")).unwrap();
    has_all(&asked, &["/status", "/unmount"]);
}
