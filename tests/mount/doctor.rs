//! `mediafs doctor`: each fault has its line, with what to do.

mod faults;
mod host;
mod store;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::forward_proxy::ForwardProxy;
use crate::support::programs::{mediafs, run_python, run_within, said};
use crate::support::proxy::{Fault, Rule};
use crate::support::servers::{Credentials, READER, free_ports};
use crate::support::tls_front::TlsFront;
use crate::support::{Mount, MountBuilder, Server};

const WITHIN: Duration = Duration::from_secs(120);

/// The report as JSON, and the exit code.
#[track_caller]
fn report(command: &mut Command) -> (Vec<Value>, i32) {
    let output = run_within(WITHIN, command.arg("--json"));
    let findings = serde_json::from_slice(&output.stdout);
    let findings: Vec<Value> = findings.unwrap_or_else(|_| panic!("{}", said(&output)));
    for finding in &findings {
        let check = finding["check"].as_str().unwrap();
        assert!(documented().any(|it| it == check), "no help on {check:?}");
    }
    (findings, output.status.code().unwrap())
}

/// The checks that `mediafs help doctor` has in its first table.
fn documented() -> impl Iterator<Item = &'static str> {
    let help = include_str!("../../src/cli/help/doctor.md");
    let (_, table) = help.split_once("## What is checked").unwrap();
    let (table, _) = table.split_once("\n\nWith").unwrap();
    let rows = table.lines().filter_map(|line| line.split('|').nth(1));
    rows.flat_map(|names| names.split(',').map(str::trim))
}

/// The line of a check.
#[track_caller]
fn line<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} in {findings:#?}"))
}

/// A check came out so, and says all of this.
#[track_caller]
fn told(plan: &MountBuilder, check: &str, state: &str, words: &[&str]) {
    told_by(&mut plan.subcommand("doctor"), check, state, words);
}

#[track_caller]
fn told_by(command: &mut Command, check: &str, state: &str, words: &[&str]) {
    let (findings, code) = report(command);
    let line = line(&findings, check);
    assert_eq!(line["state"], state, "{line:#}");
    let text = line.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {line:#}");
    }
    assert_eq!(code, i32::from(state == "fail"), "{findings:#?}");
    assert!(state == "ok" || line["advice"].is_string(), "{line:#}");
}

#[test]
fn a_setup_without_faults_is_told_line_by_line_and_nothing_is_left() {
    let plan = Mount::builder().prefix("media");
    let output = run_within(WITHIN, &mut plan.subcommand("doctor"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for check in [
        "configuration",
        "kernel",
        "fuse",
        "spool",
        "mountpoint",
        "proxy",
        "credentials",
        "endpoint",
        "bucket",
        "write",
        "read",
        "copy",
        "part copy",
        "multipart upload",
        "list of parts",
        "abort of an upload",
        "tags",
        "delete",
        "bulk delete",
        "conditional requests",
        "checksums",
        "clock",
        "keys",
        "content types",
        "versioning",
        "cors",
    ] {
        let line = text
            .lines()
            .find(|line| line.contains(&format!("  {check} ")));
        assert!(
            line.is_some_and(|line| line.starts_with("ok")),
            "{check}: {text}"
        );
    }
    assert!(text.ends_with(" 0 failed\n"), "{text}");
    assert!(!text.contains('\x1b'), "colour is for terminals");
    assert_eq!(plan.client.list(&plan.bucket, ""), []);
    assert!(plan.client.unfinished_uploads(&plan.bucket).is_empty());
}

#[test]
fn a_bucket_alone_can_be_asked_about() {
    let plan = Mount::builder();
    let command = || {
        let mut command = mediafs();
        command.args(["doctor", &plan.bucket, "--force-path-style"]);
        command.args(["--endpoint-url", &Server::shared().endpoint]);
        command.env("AWS_ACCESS_KEY_ID", &*Server::shared().owner.access_key);
        command.env("AWS_SECRET_ACCESS_KEY", &*Server::shared().owner.secret_key);
        command.env("AWS_REGION", "us-east-1");
        command
    };
    let (findings, code) = report(&mut command());
    assert_eq!(code, 0, "{findings:#?}");
    assert_eq!(line(&findings, "bucket")["state"], "ok");
    assert!(
        findings
            .iter()
            .all(|finding| finding["check"] != "mountpoint")
    );
    let output = command().arg("--nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn what_keeps_the_bucket_from_answering_is_told() {
    let plan = Mount::builder;
    let hasty = || plan().args(["--request-timeout", "1s"]);
    let wrong = Credentials {
        access_key: "k".into(),
        secret_key: "wrong".into(),
    };
    told(
        &plan().credentials(&wrong),
        "credentials",
        "fail",
        &["AWS_ACCESS_KEY_ID"],
    );
    told(
        &plan().bucket("no-such-bucket-here"),
        "bucket",
        "fail",
        &["there is no bucket"],
    );
    let [port] = free_ports();
    let nowhere = hasty().set("--endpoint-url", format!("http://127.0.0.1:{port}"));
    told(&nowhere, "endpoint", "fail", &["cannot be reached"]);
    let nameless = hasty().set("--endpoint-url", "http://s3.invalid");
    told(&nameless, "endpoint", "fail", &["DNS"]);
    let none = plan().without_credentials();
    told(&none, "credentials", "fail", &["--profile"]);
    let front = TlsFront::before(Server::shared());
    let untrusted = plan().set("--endpoint-url", front.endpoint("127.0.0.1"));
    told(&untrusted, "certificate", "fail", &["--ca-bundle"]);
}

#[test]
fn what_a_store_refuses_is_told() {
    let (plan, proxy) = Mount::behind_a_proxy();
    proxy.rule(Rule::on(
        "ListObjectsV2",
        Fault::Answer(403, "RequestTimeTooSkewed"),
    ));
    told(&plan, "clock", "fail", &["timedatectl"]);
    for (op, check, permission) in [
        ("PutObject", "write", "s3:PutObject"),
        ("GetObject", "read", "s3:GetObject"),
        ("CopyObject", "copy", "s3:PutObject"),
        ("UploadPartCopy", "part copy", "s3:GetObject"),
        (
            "AbortMultipartUpload",
            "abort of an upload",
            "s3:AbortMultipartUpload",
        ),
    ] {
        proxy.rule(Rule::on(op, Fault::Answer(403, "AccessDenied")).times(1));
        told(&plan, check, "fail", &[permission, "AccessDenied"]);
    }
    // As a store does that copies no part of a few bytes.
    proxy.rule(Rule::on("UploadPartCopy", Fault::Answer(400, "InvalidRequest")).times(1));
    told(&plan, "part copy", "ok", &["works"]);
    proxy.rule(Rule::on("ListParts", Fault::Answer(403, "AccessDenied")));
    told(
        &plan,
        "list of parts",
        "warn",
        &["s3:ListMultipartUploadParts"],
    );
    proxy.rule(Rule::on("DeleteObjects", Fault::Answer(501, "NotImplemented")).of_store());
    told(&plan, "bulk delete", "warn", &["one by one"]);
}

#[test]
fn who_may_only_read_is_told_what_is_missing() {
    let plan = Mount::builder().credentials(&READER);
    told(&plan, "write", "fail", &["s3:PutObject"]);
    let read_only = plan.arg("--read-only");
    told(&read_only, "permissions", "ok", &["read-only"]);
}

#[test]
fn what_lies_in_the_bucket_is_told() {
    let plan = Mount::on(Server::moto());
    plan.client.put(&plan.bucket, "user_settings.py", b"x");
    plan.client.put(&plan.bucket, "a//b", b"x");
    let nothing = Some("binary/octet-stream");
    plan.client
        .put_with(&plan.bucket, "icon.svg", b"<svg/>", nothing, &[]);
    told(&plan, "user_settings.py", "warn", &["executes"]);
    told(&plan, "keys", "warn", &["a//b"]);
    told(
        &plan,
        "content types",
        "warn",
        &["icon.svg", "image/svg+xml"],
    );
}

#[test]
fn code_that_authentik_runs_is_found_wherever_it_lies() {
    let plan = Mount::on(Server::moto());
    plan.client.put(&plan.bucket, "user_settings.py", b"x");
    plan.client
        .put_with(&plan.bucket, "media/logo.png", b"x", Some("text/html"), &[]);
    let plan = plan.prefix("media");
    told(&plan, "user_settings.py", "warn", &["the bucket's root"]);
    told(&plan, "content types", "warn", &["text/html", "image/png"]);
}

#[test]
fn what_could_not_be_tried_is_not_told_to_work() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let refused = Rule::on("PutObject", Fault::Answer(403, "AccessDenied"));
    proxy.rule(refused.key(".mediafs-probe-*").of_store());
    told(
        &plan,
        "conditional requests",
        "warn",
        &["could not be tried"],
    );
}

#[test]
fn a_question_that_nobody_answers_ends() {
    let (plan, proxy) = Mount::behind_a_proxy();
    proxy.rule(Rule::on("GetBucketVersioning", Fault::Stall));
    told(
        &plan,
        "versioning",
        "warn",
        &["not known", "no answer within", "run it again"],
    );
}

#[test]
fn settings_of_the_bucket_that_surprise_are_told() {
    let server = Server::shared();
    let plan = Mount::on(server);
    run_python(
        r"
import os, sys, boto3
endpoint, bucket = (os.path.relpath(word, '/') for word in sys.argv[1:])
s3 = boto3.client('s3', endpoint_url='http://' + endpoint, aws_access_key_id='k',
    aws_secret_access_key='s', region_name='us-east-1')
s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={'Status': 'Enabled'})
s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={'CORSRules': [
    {'AllowedMethods': ['GET'], 'AllowedOrigins': ['authentik.company']}]})
",
        &[
            Path::new(&format!(
                "/{}",
                server.endpoint.trim_start_matches("http://")
            )),
            Path::new(&format!("/{}", plan.bucket)),
        ],
    );
    told(&plan, "versioning", "warn", &["noncurrent"]);
    told(&plan, "cors", "warn", &["https://authentik.company"]);
}

#[test]
fn the_json_of_a_report_keeps_its_shape() {
    let plan = Mount::builder();
    let (findings, _) = report(plan.subcommand("doctor").arg("--read-only"));
    for finding in &findings {
        let object = finding.as_object().unwrap();
        let names: Vec<&str> = object.keys().map(String::as_str).collect();
        let known = [
            &["check", "found", "state"][..],
            &["advice", "check", "found", "state"],
        ];
        assert!(known.contains(&names.as_slice()), "{names:?}");
    }
}

/// What the server tells of unfinished uploads, with another time of their beginning.
fn begun_long_ago(key: &str, id: &str) -> &'static str {
    let document = format!(
        "<ListMultipartUploadsResult><Upload><Key>{key}</Key><UploadId>{id}</UploadId>\
         <Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload></ListMultipartUploadsResult>"
    );
    // A fault is as long there as its test.
    Box::leak(document.into_boxed_str())
}

#[test]
fn an_upload_of_a_doctor_that_was_killed_is_aborted_and_no_other() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let (client, bucket) = (&plan.client, &plan.bucket);
    for key in [".mediafs-doctor-00000000000000f1-parts", "file"] {
        client.begin_upload(bucket, key);
    }
    let young = report(&mut plan.subcommand("doctor")).0;
    assert!(young.iter().all(|it| it["check"] != "scratch uploads"));
    assert_eq!(client.unfinished_uploads(bucket).len(), 2);
    let uploads = client.uploads(bucket);
    let (key, id) = uploads.iter().find(|(key, _)| key != "file").unwrap();
    let told = Fault::Document(begun_long_ago(key, id));
    proxy.rule(Rule::on("ListMultipartUploads", told));
    let (findings, _) = report(&mut plan.subcommand("doctor"));
    assert_eq!(line(&findings, "scratch uploads")["state"], "ok");
    assert_eq!(client.unfinished_uploads(bucket), ["file"]);
}

#[test]
fn a_certificate_for_another_name_and_a_bucket_in_another_region_are_told_apart() {
    let front = TlsFront::before(Server::shared());
    let way = ForwardProxy::new();
    let plan = Mount::builder()
        .arg("--proxy")
        .arg(format!("http://{}", way.address))
        .arg("--ca-bundle")
        .arg(front.ca())
        .set(
            "--endpoint-url",
            format!("https://other.invalid:{}", front.port),
        );
    let words = ["other.invalid", "another name", "--endpoint-url"];
    told(&plan, "certificate", "fail", &words);
    let (plan, proxy) = Mount::behind_a_proxy();
    let region = "x-amz-bucket-region: eu-north-1";
    let fault = Fault::AnswerWith(301, "PermanentRedirect", region);
    proxy.rule(Rule::on("ListObjectsV2", fault).always());
    told(&plan, "region", "fail", &["eu-north-1", "--region"]);
}

#[test]
fn a_user_without_fusermount3_is_told_to_install_it() {
    const USER: &str = "1000";
    let plan = Mount::builder().user(1000);
    let as_root = plan.subcommand("doctor");
    let mut command = Command::new("/usr/bin/setpriv");
    command
        .args(["--reuid", USER, "--regid", USER, "--clear-groups"])
        .arg(plan.program())
        .args(as_root.get_args())
        .envs(
            as_root
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("PATH", "/nonexistent");
    told_by(
        &mut command,
        "fusermount3",
        "fail",
        &["apt-get install fuse3"],
    );
}
