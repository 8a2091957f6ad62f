//! Secrets are nowhere but in the daemon's memory and its environment, whatever
//! fails and however much is logged.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::control::{curl, listening};
use crate::support::data::MIB;
use crate::support::hostile::{Answer, Hostile, answer};
use crate::support::programs::{run_within, said};
use crate::support::servers::free_ports;
use crate::support::{Mount, MountBuilder, Server, pattern};

const ENDED_WITHIN: Duration = Duration::from_secs(90);
/// With what percent and base64 encoding leave as it is.
const SECRET_KEY: &str = "doNotLogThisSecretKey0123456789abcdefghi";
const SESSION_TOKEN: &str = "doNotLogThisSessionTokenFwoGZXIvYXdzEBYaDKC";

fn with_secrets(server: &Server) -> MountBuilder {
    Mount::on(server)
        .args(["--log", "trace"])
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_SESSION_TOKEN", SESSION_TOKEN)
}

/// Where nothing is answered in any time.
fn that_gives_up_soon(server: &Server) -> MountBuilder {
    with_secrets(server).args(["--request-timeout", "3s"])
}

#[track_caller]
fn holds_none(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for secret in [SECRET_KEY, SESSION_TOKEN] {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{what}: {}", line.unwrap());
    }
}

/// Looks into every file of a folder but the program and the mount.
#[track_caller]
fn folder_holds_none(folder: &Path, mountpoint: &Path) {
    let mut folders = vec![folder.to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path != mountpoint {
                folders.push(path);
            } else if path.is_file() {
                holds_none(&path.display().to_string(), &fs::read(&path).unwrap());
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "log and spool are looked into");
}

/// A refused mount in both ways of starting.
#[track_caller]
fn refusal_holds_none(plan: &MountBuilder) {
    for stay in [&["--foreground"][..], &[]] {
        let output = run_within(ENDED_WITHIN, plan.command().args(stay));
        assert!(!output.status.success());
        assert!(!said(&output).is_empty());
        holds_none("what it said", said(&output).as_bytes());
    }
    folder_holds_none(plan.scratch(), &plan.root);
}

#[test]
fn a_mount_that_works_and_logs_all_it_can_tells_no_secret() {
    let plan = with_secrets(Server::moto()).args(["--attributes", "stored"]);
    let mut mount = plan.args(["--durability", "disk"]).start();
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/small"), b"x").unwrap();
    fs::write(mount.path("d/large"), pattern(20 * MIB, 1)).unwrap();
    fs::rename(mount.path("d/small"), mount.path("d/moved")).unwrap();
    fs::read(mount.path("d/large")).unwrap();
    fs::remove_file(mount.path("d/moved")).unwrap();
    for file in ["cmdline", "status", "mountinfo"] {
        let path = format!("/proc/{}/{file}", mount.pid());
        holds_none(file, &fs::read(path).unwrap());
    }
    for path in ["/status", "/health", "/metrics", "/api/mounts", "/"] {
        let answer = curl(&listening(&mount), path, None);
        assert!(answer.contains(mount.root.to_str().unwrap()), "{answer}");
        holds_none(path, answer.as_bytes());
    }
    mount.kill9();
    mount.remount();
    mount.unmount();
    assert!(mount.log().contains("TRACE"), "all is logged");
    folder_holds_none(mount.scratch(), &mount.root);
}

#[test]
fn secrets_of_a_file_and_of_a_program_are_not_logged_either() {
    for source in ["file", "program"] {
        let plan = with_secrets(Server::moto())
            .without_credentials()
            .unset("AWS_SESSION_TOKEN");
        // Outside what is looked into.
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        let text = match source {
            "file" => format!(
                "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {SECRET_KEY}\naws_session_token = {SESSION_TOKEN}\n"
            ),
            _ => {
                let answer = dir.path().join("answer");
                let json = serde_json::json!({
                    "Version": 1, "AccessKeyId": "AKIDEXAMPLE",
                    "SecretAccessKey": SECRET_KEY, "SessionToken": SESSION_TOKEN,
                });
                fs::write(&answer, json.to_string()).unwrap();
                format!("[default]\ncredential_process = cat {}\n", answer.display())
            }
        };
        fs::write(&config, text).unwrap();
        let mut mount = plan
            .env("AWS_CONFIG_FILE", &config)
            .env("AWS_SHARED_CREDENTIALS_FILE", dir.path().join("none"))
            .start();
        fs::write(mount.path("f"), b"x").unwrap();
        mount.unmount();
        folder_holds_none(mount.scratch(), &mount.root);
    }
}

#[test]
fn secrets_of_authentiks_settings_are_not_logged_either() {
    let plan = with_secrets(Server::moto())
        .without_credentials()
        .unset("AWS_SESSION_TOKEN");
    // Outside what is looked into.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".env");
    let settings = |bucket: &str| {
        format!(
            "AUTHENTIK_STORAGE__S3__BUCKET_NAME={bucket}\n\
             AUTHENTIK_STORAGE__S3__ACCESS_KEY=AKIDEXAMPLE\n\
             AUTHENTIK_STORAGE__S3__SECRET_KEY={SECRET_KEY}\n\
             AUTHENTIK_STORAGE__S3__SESSION_TOKEN={SESSION_TOKEN}\n"
        )
    };
    fs::write(&file, settings(&plan.bucket)).unwrap();
    let plan = plan.arg(format!("--from-authentik={}", file.display()));
    for wrong in [
        "AUTHENTIK_STORAGE__S3__REGION='open",
        "AUTHENTIK_STORAGE__S3__SIGNATURE_VERSION=s3",
    ] {
        fs::write(&file, format!("{}{wrong}\n", settings(&plan.bucket))).unwrap();
        let output = plan.run();
        assert!(!output.status.success());
        holds_none("what it said", said(&output).as_bytes());
    }
    fs::write(&file, settings(&plan.bucket)).unwrap();
    let mut mount = plan.start();
    fs::write(mount.path("f"), b"x").unwrap();
    mount.kill9();
    mount.remount();
    mount.unmount();
    folder_holds_none(mount.scratch(), &mount.root);
}

#[test]
fn a_refused_mount_tells_no_secret() {
    // Seen by the server: a signature that is wrong.
    refusal_holds_none(&that_gives_up_soon(Server::seaweedfs()).env("AWS_ACCESS_KEY_ID", "k"));
    // Nobody listens; and it is no S3 that does.
    let [port] = free_ports();
    let nowhere = format!("http://127.0.0.1:{port}");
    refusal_holds_none(&that_gives_up_soon(Server::seaweedfs()).set("--endpoint-url", nowhere));
    let tls = Server::seaweedfs().endpoint.replace("http:", "https:");
    refusal_holds_none(&that_gives_up_soon(Server::seaweedfs()).set("--endpoint-url", tls));
    // A secret where none belongs is refused, and not repeated.
    let plan = that_gives_up_soon(Server::seaweedfs());
    let url = format!("http://user:{SECRET_KEY}@127.0.0.1:{port}");
    let output = run_within(
        ENDED_WITHIN,
        plan.set("--endpoint-url", url)
            .command()
            .arg("--foreground"),
    );
    assert!(!output.status.success());
    holds_none("what it said", said(&output).as_bytes());
}

#[test]
fn a_mount_whose_server_fails_it_tells_no_secret() {
    for failure in [
        answer(
            "403 Forbidden",
            &[],
            b"<Error><Code>SignatureDoesNotMatch</Code></Error>",
        ),
        answer(
            "400 Bad Request",
            &[],
            b"<Error><Code>ExpiredToken</Code></Error>",
        ),
        answer("500 Internal Server Error", &[], b"oops"),
        Answer::Bytes(Vec::new()),
    ] {
        let server = Hostile::new(move |_| failure.clone());
        let plan = that_gives_up_soon(Server::moto()).set("--endpoint-url", &server.endpoint);
        let mut mount = plan.start();
        assert!(fs::write(mount.path("f"), b"x").is_err());
        let mut entries = fs::read_dir(&mount.root).into_iter().flatten();
        assert!(!entries.any(|entry| entry.is_ok()));
        mount.unmount();
        folder_holds_none(mount.scratch(), &mount.root);
    }
}
