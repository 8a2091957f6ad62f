//! Bucket, endpoint and credentials from authentik's own settings.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::control::{failed, mediafs};
use crate::support::processes::{daemon_among, daemons_of};
use crate::support::programs::{has_all, run_within, said};
use crate::support::proxy::Proxy;
use crate::support::requests::header;
use crate::support::servers::{Credentials, OWNER, SUCCESSOR};
use crate::support::{Mount, MountBuilder, Server, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// A mount that is told nothing but the mountpoint and where authentik's settings are.
pub fn untold(plan: MountBuilder) -> MountBuilder {
    plan.bucket_from_settings()
        .prefix("media")
        .without("--endpoint-url")
        .without_flag("--force-path-style")
        .without("--region")
        .without_credentials()
}

/// `.env` as authentik's documentation has it, beside what else is in one.
pub fn dotenv(plan: &MountBuilder, endpoint: &str, keys: &Credentials) -> PathBuf {
    let path = plan.scratch().join(".env");
    let text = format!(
        "PG_PASS='a$b'\nAUTHENTIK_SECRET_KEY=x\n\
         AUTHENTIK_STORAGE__BACKEND=s3\n\
         AUTHENTIK_STORAGE__S3__ENDPOINT={endpoint}\n\
         AUTHENTIK_STORAGE__S3__CUSTOM_DOMAIN=s3.provider/authentik-data\n\
         AUTHENTIK_STORAGE__S3__ACCESS_KEY=\"{}\" # of the bucket's owner\n\
         AUTHENTIK_STORAGE__S3__SECRET_KEY={}\n\
         AUTHENTIK_STORAGE__S3__BUCKET_NAME={}\n",
        keys.access_key, keys.secret_key, plan.bucket
    );
    fs::write(&path, text).unwrap();
    path
}

/// The mount reads its credentials again.
#[track_caller]
fn reload(mount: &Mount) {
    mount.signal(Signal::HUP);
    wait_until(WITHIN, "a reload", || {
        mount.log().contains("credentials reloaded")
    });
}

pub fn option(file: &std::path::Path) -> String {
    format!("--from-authentik={}", file.display())
}

#[test]
fn the_env_file_of_an_install_is_all_that_a_mount_needs() {
    let server = Server::shared();
    let plan = untold(Mount::on(server));
    let file = dotenv(&plan, &server.endpoint, &OWNER);
    // As it is installed: its owner's alone.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&file, Some(1000), Some(1000)).unwrap();
    let mount = plan.arg(option(&file)).start();
    fs::write(mount.path("public/icon.svg"), "<svg/>").unwrap();
    assert_eq!(mount.object("public/icon.svg").unwrap(), b"<svg/>");
    let log = mount.log();
    for told in ["S3 backend", "custom_domain"] {
        assert!(log.contains(told), "{told}: {log}");
    }
}

#[test]
fn the_folder_that_authentik_wants_before_an_upload_is_made_once() {
    let server = Server::shared();
    let plan = untold(Mount::on(server));
    let file = dotenv(&plan, &server.endpoint, &OWNER);
    let mut mount = plan.arg(option(&file)).start();
    assert!(mount.path("public").is_dir());
    assert_eq!(mount.keys(), ["media/public/"]);
    fs::write(mount.path("public/a"), "a").unwrap();
    mount.wait_for_keys("the file alone", |keys| keys == ["media/public/a"]);
    mount.remount();
    assert_eq!(mount.keys(), ["media/public/a"]);
}

#[test]
fn a_daemon_in_the_background_and_its_successor_read_the_same_settings() {
    let server = Server::shared();
    let plan = untold(Mount::on(server));
    dotenv(&plan, &server.endpoint, &OWNER);
    let folder = plan.scratch().to_owned();
    let plan = plan.arg("--from-authentik=.env");
    let output = run_within(WITHIN, plan.command().current_dir(&folder));
    assert!(output.status.success(), "{}", said(&output));
    let mount = plan.adopt();
    let mut open = fs::File::create(mount.path("open")).unwrap();
    open.write_all(b"before, ").unwrap();
    let daemon = daemon_among(&daemons_of(&mount.root)).unwrap();
    kill_process(daemon, Signal::KILL).unwrap();
    fs::write(mount.path("f"), "1").unwrap();
    assert_eq!(mount.object("f").unwrap(), b"1");
    assert_ne!(daemon_among(&daemons_of(&mount.root)), Some(daemon));
    open.write_all(b"after").unwrap();
    drop(open);
    assert_eq!(mount.object("open").unwrap(), b"before, after");
}

#[test]
fn reports_have_their_own_prefix_and_settings_of_the_mount_beat_authentiks() {
    let server = Server::shared();
    let plan = untold(Mount::on(server)).prefix("reports");
    let file = dotenv(&plan, "http://127.0.0.1:9", &OWNER);
    let plan = plan.args(["--usage", "reports", "--endpoint-url", &server.endpoint]);
    let mount = plan.arg(option(&file)).start();
    fs::write(mount.path("r.csv"), "1").unwrap();
    assert_eq!(mount.object("r.csv").unwrap(), b"1");
}

#[test]
fn a_secret_that_is_replaced_in_its_file_is_read_anew() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = untold(plan).set("--ttl", "0");
    let written = |keys: &Credentials| {
        let secret = plan.scratch().join("secret");
        fs::write(&secret, format!("{}\n", keys.secret_key)).unwrap();
        let by_file = Credentials {
            access_key: keys.access_key.clone(),
            secret_key: format!("file://{}", secret.display()).into(),
        };
        dotenv(&plan, &proxy.endpoint, &by_file)
    };
    let file = written(&OWNER);
    let folder = plan.scratch().to_owned();
    let mount = plan.arg(option(&file)).start();
    fs::write(mount.path("a"), "a").unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let replaced = text.replace(
        &format!("KEY=\"{}\"", OWNER.access_key),
        &format!("KEY=\"{}\"", SUCCESSOR.access_key),
    );
    assert_ne!(text, replaced);
    fs::write(folder.join("secret"), &*SUCCESSOR.secret_key).unwrap();
    fs::write(&file, replaced).unwrap();
    proxy.revoke(&OWNER.access_key);
    fs::write(mount.path("b"), "b").unwrap();
    assert_eq!(fs::read(mount.path("b")).unwrap(), b"b");
    reload(&mount);
    fs::write(mount.path("c"), "c").unwrap();
}

#[test]
fn settings_that_are_wrong_or_gone_leave_the_keys_of_before_in_use() {
    let server = Server::shared();
    let plan = untold(Mount::on(server));
    let file = dotenv(&plan, &server.endpoint, &OWNER);
    let text = fs::read_to_string(&file).unwrap();
    let mount = plan.arg(option(&file)).start();
    let root = mount.root.to_str().unwrap();
    fs::write(&file, text + "no assignment\n").unwrap();
    has_all(&failed(&mount, &["reload", root]), &["NAME=VALUE"]);
    fs::write(mount.path("a"), "a").unwrap();
    fs::remove_file(&file).unwrap();
    has_all(&failed(&mount, &["reload", root]), &[".env"]);
    fs::write(mount.path("b"), "b").unwrap();
    assert_eq!(mount.object("b").unwrap(), b"b");
}

#[test]
fn another_session_token_is_read_anew() {
    // It takes any token.
    let server = Server::moto();
    let proxy = Proxy::before(server);
    proxy.keep_heads();
    let plan = untold(Mount::on(server));
    let file = dotenv(&plan, &proxy.endpoint, &OWNER);
    let text = fs::read_to_string(&file).unwrap();
    let write = |token: &str| {
        let line = format!("AUTHENTIK_STORAGE__S3__SESSION_TOKEN={token}\n");
        fs::write(&file, text.clone() + &line).unwrap();
    };
    let token_of = |name: &str| {
        let begin = format!("/media/{name}");
        let heads = proxy.heads("PutObject").into_iter();
        let mut heads = heads.filter(|head| head.lines().next().unwrap().contains(&begin));
        let head = heads.next().unwrap();
        header(&head, "x-amz-security-token").map(str::to_owned)
    };
    write("the-first");
    let mount = plan.arg(option(&file)).start();
    fs::write(mount.path("one"), "1").unwrap();
    assert_eq!(token_of("one").as_deref(), Some("the-first"));
    write("the-second");
    reload(&mount);
    fs::write(mount.path("two"), "2").unwrap();
    assert_eq!(token_of("two").as_deref(), Some("the-second"));
}

#[test]
fn another_profile_that_authentik_names_is_read_anew() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = untold(plan).set("--ttl", "0");
    let profiles = plan.scratch().join("credentials");
    let of = |name: &str, keys: &Credentials| {
        let (access, secret) = (&keys.access_key, &keys.secret_key);
        format!("[{name}]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
    };
    let text = of("first", &OWNER) + &of("second", &SUCCESSOR);
    fs::write(&profiles, text).unwrap();
    let (file, bucket) = (plan.scratch().join(".env"), plan.bucket.clone());
    let name = |profile: &str| {
        let of_s3 = "AUTHENTIK_STORAGE__S3";
        let text = format!(
            "{of_s3}__ENDPOINT={}\n{of_s3}__BUCKET_NAME={bucket}\n{of_s3}__SESSION_PROFILE={profile}\n",
            proxy.endpoint
        );
        fs::write(&file, text).unwrap();
    };
    name("first");
    let mount = plan
        .env("AWS_SHARED_CREDENTIALS_FILE", &profiles)
        .arg(option(&file))
        .start();
    fs::write(mount.path("a"), "a").unwrap();
    name("second");
    proxy.revoke(&OWNER.access_key);
    fs::write(mount.path("b"), "b").unwrap();
    assert_eq!(fs::read(mount.path("b")).unwrap(), b"b");
    reload(&mount);
    assert!(!mount.log().contains("need a new mount"), "{}", mount.log());
    fs::write(mount.path("c"), "c").unwrap();
}

#[test]
fn a_whole_bucket_is_not_mounted_where_authentik_executes_a_file() {
    let plan = Mount::builder();
    let data = plan.scratch().join("data");
    fs::create_dir(&data).unwrap();
    let file = dotenv(&plan, &Server::shared().endpoint, &OWNER);
    let plan = plan.mountpoint(&data).arg(option(&file));
    let with_prefix = format!("--config={}", plan.scratch().join("m.toml").display());
    fs::write(plan.scratch().join("m.toml"), "prefix = \"/\"\n").unwrap();
    let plan = plan.bucket_from_settings().arg(with_prefix);
    let output = plan.run();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for told in ["user_settings.py", "/media on", "--data-root"] {
        assert!(said(&output).contains(told), "{}", said(&output));
    }
    let mount = plan.arg("--data-root").start();
    fs::write(mount.path("f"), "1").unwrap();
}

#[test]
fn what_authentik_sets_is_shown_with_its_key_and_its_place_and_no_secret() {
    const SECRET: &str = "doNotShowThis";
    let plan = Mount::builder();
    let keys = Credentials {
        access_key: SECRET.into(),
        secret_key: SECRET.into(),
    };
    let file = dotenv(&plan, "https://s3.provider", &keys);
    let text = fs::read_to_string(&file).unwrap();
    let token = format!("AUTHENTIK_STORAGE__S3__SESSION_TOKEN={SECRET}\n");
    fs::write(&file, text + &token).unwrap();
    let show = |more: &[&str]| {
        let mut command = mediafs(["config", "show"]);
        command.args(more).arg(option(&file)).arg(&plan.root);
        let output = run_within(WITHIN, &mut command);
        assert!(output.status.success(), "{}", said(&output));
        assert!(!said(&output).contains(SECRET), "{}", said(&output));
        output
    };
    let style = format!(
        "{}AUTHENTIK_STORAGE__S3__ADDRESSING_STYLE=path\n",
        fs::read_to_string(&file).unwrap()
    );
    fs::write(&file, style).unwrap();
    let origin = |key: &str| {
        let variable = format!("AUTHENTIK_STORAGE__S3__{}", key.to_uppercase());
        let text = fs::read_to_string(&file).unwrap();
        let line = text
            .lines()
            .position(|line| line.starts_with(&variable))
            .unwrap()
            + 1;
        format!("storage.s3.{key}, {variable} of {}:{line}", file.display())
    };
    let lines = [
        format!("bucket = {}  # {}\n", plan.bucket, origin("bucket_name")),
        format!(
            "endpoint-url = https://s3.provider  # {}\n",
            origin("endpoint")
        ),
        format!(
            "force-path-style = true  # {}\n",
            origin("addressing_style")
        ),
        format!("credentials = ***  # {}\n", origin("access_key")),
        "prefix = media  # authentik's layout\n".to_owned(),
        "region = eu-north-1  # --region\n".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    has_all(&said(&show(&["--region", "eu-north-1"])), &lines);
    let shown: serde_json::Value = serde_json::from_slice(&show(&["--json"]).stdout).unwrap();
    let bucket = serde_json::json!({
        "name": "bucket",
        "value": plan.bucket,
        "origin": {"authentik": origin("bucket_name")},
    });
    assert!(shown.as_array().unwrap().contains(&bucket), "{shown:#}");
}

#[test]
fn settings_that_cannot_be_used_are_refused_with_their_place() {
    let plan = untold(Mount::builder());
    let file = plan.scratch().join(".env");
    for (text, told) in [
        (
            "AUTHENTIK_STORAGE__S3__REGION=x\n",
            "bucket_name is not set",
        ),
        (
            "AUTHENTIK_STORAGE__S3__BUCKET_NAME='b\n",
            "line 1: the quote",
        ),
        (
            "AUTHENTIK_STORAGE__S3__BUCKET_NAME=b\nAUTHENTIK_STORAGE__S3__ENDPOINT=s3.provider\n",
            "AUTHENTIK_STORAGE__S3__ENDPOINT of ",
        ),
        (
            "AUTHENTIK_STORAGE__S3__BUCKET_NAME=b\nAUTHENTIK_STORAGE__S3__SIGNATURE_VERSION=s3\n",
            "Signature Version 4",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let output = run_within(WITHIN, plan.command().arg(option(&file)));
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(told), "{told}: {}", said(&output));
    }
    let missing = plan.scratch().join("none.env");
    let output = run_within(WITHIN, plan.command().arg(option(&missing)));
    assert!(
        said(&output).contains("none.env: name a file that can be read: No such file"),
        "{}",
        said(&output)
    );
}
