//! Mounts that cannot be: a clear message, a non-zero exit, nothing left behind.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketType};

use crate::support::mount::is_mounted;
use crate::support::programs::{run_within, said, without_fuse};
use crate::support::servers::STRANGER;
use crate::support::{Mount, MountBuilder, Server};

const REFUSED_WITHIN: Duration = Duration::from_secs(90);

/// Runs a mount that must fail in both ways of starting; returns what it said.
#[track_caller]
fn refusal(plan: &MountBuilder) -> String {
    let mut foreground = plan.command();
    let in_foreground = refused(foreground.arg("--foreground"), plan);
    let in_background = refused(&mut plan.command(), plan);
    format!("{in_foreground}\n{in_background}")
}

#[track_caller]
fn refused(command: &mut Command, plan: &MountBuilder) -> String {
    let output = run_within(REFUSED_WITHIN, command);
    let text = said(&output);
    assert!(
        output.status.code().is_some_and(|code| code != 0),
        "{}: {text}",
        output.status
    );
    assert!(!is_mounted(&plan.root), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text.to_lowercase()
}

/// Both messages name each thing, in one of its wordings.
#[track_caller]
fn says(text: &str, things: &[&[&str]]) {
    for wordings in things {
        let found: usize = wordings
            .iter()
            .map(|word| text.matches(&word.to_lowercase()).count())
            .sum();
        assert!(found >= 2, "neither of {wordings:?} in:\n{text}");
    }
}

#[test]
fn a_bucket_that_does_not_exist() {
    let plan = Mount::builder().bucket("no-such-bucket-here");
    says(
        &refusal(&plan),
        &[
            &["no-such-bucket-here"],
            &["no such bucket", "does not exist", "not found"],
        ],
    );
}

#[test]
fn credentials_that_may_not_see_the_bucket() {
    let plan = Mount::on(Server::seaweedfs()).credentials(&STRANGER);
    let bucket = plan.bucket.clone();
    says(&refusal(&plan), &[&["denied"], &[&bucket]]);
}

#[test]
fn a_wrong_secret() {
    let plan = Mount::on(Server::seaweedfs()).env("AWS_SECRET_ACCESS_KEY", "wrong-secret");
    let text = refusal(&plan);
    says(&text, &[&["credential", "secret", "denied", "signature"]]);
    assert!(!text.contains("wrong-secret"), "{text}");
}

#[test]
fn no_credentials() {
    let plan = Mount::builder()
        .without_credentials()
        .unset("AWS_SESSION_TOKEN")
        .unset("AWS_PROFILE")
        .env("HOME", "/nonexistent")
        .env("AWS_CONFIG_FILE", "/nonexistent/config")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials");
    says(&refusal(&plan), &[&["credentials"]]);
}

#[test]
fn an_endpoint_that_nobody_listens_on() {
    // Nobody else gets the port of a socket that is bound.
    let bound = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    net::bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::try_from(net::getsockname(&bound).unwrap()).unwrap();
    let endpoint = format!("http://{address}");
    let plan = Mount::builder()
        .set("--endpoint-url", &endpoint)
        .args(["--request-timeout", "3s"]);
    says(
        &refusal(&plan),
        &[&[&endpoint], &["unreachable", "connect", "reach"]],
    );
}

#[test]
fn a_clock_that_differs_too_much() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            answer_skewed(connection.unwrap());
        }
    });
    let plan = Mount::builder().set("--endpoint-url", &endpoint);
    says(&refusal(&plan), &[&["clock"]]);
}

/// Reads one request's head and answers as S3 does to a wrong clock.
fn answer_skewed(mut connection: TcpStream) {
    let mut head = BufReader::new(connection.try_clone().unwrap());
    let mut first = String::new();
    let mut line = String::new();
    drop(head.read_line(&mut first));
    while line != "\r\n" {
        line.clear();
        if head.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
    }
    let error = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>RequestTimeTooSkewed</Code>\
                 <Message>The difference between the request time and the current time is too large.</Message></Error>";
    let body = if first.starts_with("HEAD") { "" } else { error };
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    drop(connection.write_all(answer.as_bytes()));
}

#[test]
fn a_mountpoint_that_is_missing_or_a_file() {
    let plan = Mount::builder();
    let missing = plan.scratch().join("missing");
    let plan = plan.mountpoint(&missing);
    let name = missing.to_str().unwrap();
    says(
        &refusal(&plan),
        &[&[name], &["does not exist", "no such", "not found"]],
    );
    fs::write(&missing, b"a file").unwrap();
    says(
        &refusal(&plan),
        &[&[name], &["not a directory", "is not a folder"]],
    );
    assert_eq!(fs::read(&missing).unwrap(), b"a file");
}

#[test]
fn a_mountpoint_that_is_not_empty_unless_asked_for() {
    let plan = Mount::builder();
    fs::write(plan.root.join("precious"), b"x").unwrap();
    let name = plan.root.to_str().unwrap().to_owned();
    says(
        &refusal(&plan),
        &[&[&name], &["not empty"], &["--allow-non-empty"]],
    );
    let mut mount = plan.arg("--allow-non-empty").start();
    assert!(!mount.path("precious").exists());
    let told = format!("1 file lies in the bare directory {name}");
    assert!(mount.log().contains(&told), "{}", mount.log());
    mount.unmount();
    assert_eq!(fs::read(mount.path("precious")).unwrap(), b"x");
}

#[test]
fn a_mountpoint_that_is_already_mounted() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), b"x").unwrap();
    let plan = Mount::builder().mountpoint(&mount.root);
    for stay in [&["--foreground"][..], &[]] {
        let output = run_within(REFUSED_WITHIN, plan.command().args(stay));
        assert!(!output.status.success());
        let text = said(&output).to_lowercase();
        assert!(text.contains("already") || text.contains("busy"), "{text}");
    }
    // Not disturbed, and mounted once.
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(table.matches(mount.root.to_str().unwrap()).count(), 1);
}

#[test]
fn no_dev_fuse() {
    let plan = Mount::builder();
    for stay in [&["--foreground"][..], &[]] {
        let mut unshared = without_fuse(&plan.scratch().join("dev"));
        unshared.arg(plan.program());
        let text = refused(plan.command_after(unshared).args(stay), &plan);
        assert!(text.contains("/dev/fuse"), "{text}");
    }
}

#[test]
fn no_fusermount3_for_a_user_without_rights() {
    let plan = Mount::builder().user(65534);
    for stay in [&["--foreground"][..], &[]] {
        let mut as_user = Command::new("/usr/bin/setpriv");
        as_user.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        as_user.arg(plan.program()).env("PATH", "/nonexistent");
        let text = refused(plan.command_after(as_user).args(stay), &plan);
        assert!(text.contains("fusermount3"), "{text}");
    }
}

#[test]
fn an_unknown_configuration_key_and_what_was_meant() {
    let plan = Mount::builder();
    let config = plan.scratch().join("mediafs.toml");
    fs::write(&config, "regoin = \"eu-west-1\"\n").unwrap();
    let plan = plan.arg("--config").arg(&config);
    says(
        &refusal(&plan),
        &[
            &["regoin"],
            &["`region`", "\"region\"", "'region'", "region?"],
        ],
    );
}

#[test]
fn values_that_make_no_sense() {
    for (option, value) in [("--ttl", "soon"), ("--file-mode", "rw"), ("--uid", "-5")] {
        let plan = Mount::builder();
        let mut command = plan.command();
        let text = refused(
            command
                .args(["--negative-ttl", "1s"])
                .arg(format!("{option}={value}")),
            &plan,
        );
        assert!(
            text.contains(option.trim_start_matches('-')),
            "{option}: {text}"
        );
    }
}

#[test]
fn values_that_do_not_fit_name_where_they_stand_and_what_was_understood() {
    let plan = Mount::builder().args(["--block-size", "8M"]);
    says(
        &refusal(&plan),
        &[&["--block-size"], &["8,000,000 bytes"], &["8MiB"]],
    );
    let plan = Mount::builder().args(["--memory-cache", "1000TB"]);
    says(
        &refusal(&plan),
        &[&["--memory-cache"], &["this machine's memory"]],
    );
    let plan = Mount::builder().env("MEDIAFS_REQUEST_TIMEOUT", "1ms");
    says(&refusal(&plan), &[&["(from MEDIAFS_REQUEST_TIMEOUT)"]]);
    let text = refusal(&Mount::builder().args(["--request-timeout", "1ms"]));
    says(&text, &[&["(from --request-timeout)"]]);
    assert!(!text.contains(".rs"), "{text}");
}
