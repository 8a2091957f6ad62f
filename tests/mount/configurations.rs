//! Configurations: by which name one is found, what counts, and what is refused.

mod no_runtime_folder;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::control::mediafs;
use crate::support::programs::{at_home, has_all, run_by, run_within, said};
use crate::support::{Mount, MountBuilder};

const WITHIN: Duration = Duration::from_secs(120);
/// fusermount3 asks for the name.
const USER: u32 = 65534;

/// `$0` is an empty folder for a device that everybody may open, as udev makes it; `$1`
/// the user, who runs `$2` with the program.
const BY_USER: &str = r#"
    mount -t tmpfs -o dev,mode=755 none "$0"
    mknod -m 666 "$0/fuse" c 10 229
    mount --bind "$0/fuse" /dev/fuse
    exec setpriv --reuid "$1" --regid "$1" --clear-groups sh -ec "$2" sh "$3"
"#;
const MOUNTED: &str = r#"
    "$1" mount media
    "$1" status media
    "$1" doctor media --json >doctor.json || true
    "$1" unmount media
"#;

/// With a socket that is elsewhere, by its file alone; `stuck` is what is told while the
/// daemon is stopped.
const PLACED: &str = r#"
    "$1" mount media
    "$1" status >listed
    "$1" status media --json >one.json
    "$1" healthcheck media
    "$1" healthcheck
    "$1" flush media
    "$1" refresh media
    "$1" reload media
    pid=$(sed -n 's/^ *"pid": \([0-9]*\),$/\1/p' one.json)
    kill -STOP "$pid"
    "$1" status media --json >stuck-by-name.json || true
    "$1" status "$HOME/mnt" --json >stuck-by-path.json || true
    kill -CONT "$pid"
    "$1" unmount media
"#;

/// A plain user, whose home is the folder of the test.
fn plain_user() -> Command {
    let mut command = Command::new("setpriv");
    let user = USER.to_string();
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    command
}

#[track_caller]
fn by_user(plan: &MountBuilder, words: &[&str]) -> Output {
    let mut command = plain_user();
    command.arg(plan.program()).args(words);
    run_within(WITHIN, at_home(&mut command, plan.scratch()))
}

#[track_caller]
fn says(plan: &MountBuilder, words: &[&str]) -> String {
    let output = by_user(plan, words);
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    said(&output)
}

/// As the mount `media`, with the home of the user.
#[track_caller]
fn set_up_by_user() -> (MountBuilder, PathBuf) {
    let plan = Mount::builder().without("--control-socket").user(USER);
    let home = plan.scratch().to_owned();
    let run = home.join("run");
    fs::create_dir(&run).unwrap();
    chown(&run, Some(USER), Some(USER)).unwrap();
    let mut setup = run_by(plain_user(), &plan.subcommand("setup"));
    setup.args(["--name", "media", "--yes"]);
    let done = run_within(WITHIN, at_home(&mut setup, &home));
    assert!(done.status.success(), "{}", said(&done));
    (plan, home)
}

#[test]
fn what_a_plain_user_sets_up_is_known_by_its_name() {
    let (plan, home) = set_up_by_user();
    let file = home.join(".config/mediafs/media.toml");
    let shown = says(&plan, &["config", "show", "media"]);
    has_all(&shown, &[&file.display().to_string(), &plan.bucket]);
    says(&plan, &["config", "check", "media"]);
    let output = runs_by_user(&plan, MOUNTED);
    has_all(&said(&output), &[plan.root.to_str().unwrap()]);
    let findings = fs::read(home.join("doctor.json")).unwrap();
    let findings: Vec<Value> = serde_json::from_slice(&findings).unwrap();
    let of = |check: &str| findings.iter().find(|finding| finding["check"] == check);
    let serves = of("mountpoint").unwrap()["found"].as_str().unwrap();
    assert!(serves.contains("serves"), "{findings:#?}");
    // What the mount hides cannot be seen, and that is told.
    let hidden = of("hidden files").unwrap();
    assert_eq!(hidden["state"], "warn", "{hidden:#}");
    has_all(&hidden.to_string(), &["not known", "run it as root"]);
}

/// Runs such a script by the user, in whose home the answers are.
#[track_caller]
fn runs_by_user(plan: &MountBuilder, script: &str) -> Output {
    let home = plan.scratch().to_owned();
    let device = home.join("device");
    fs::create_dir(&device).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private"])
        .args(["sh", "-ec", BY_USER])
        .arg(&device)
        .args([USER.to_string(), script.to_owned()])
        .arg(plan.program());
    let output = run_within(WITHIN, at_home(&mut command, &home));
    assert!(output.status.success(), "{}", said(&output));
    output
}

#[test]
fn a_mount_whose_file_puts_its_socket_elsewhere_is_found_by_its_name() {
    let (plan, home) = set_up_by_user();
    let file = home.join(".config/mediafs/media.toml");
    let text = fs::read_to_string(&file).unwrap();
    // It counts from the folder of the file.
    fs::write(&file, format!("control-socket = \"else.sock\"\n{text}")).unwrap();
    runs_by_user(&plan, PLACED);
    let root = plan.root.to_str().unwrap();
    let listed = fs::read_to_string(home.join("listed")).unwrap();
    has_all(&listed, &["media  alive", root]);
    for answer in ["stuck-by-name.json", "stuck-by-path.json"] {
        let told: Value = serde_json::from_slice(&fs::read(home.join(answer)).unwrap()).unwrap();
        assert_eq!(told["state"], "stuck", "{answer}: {told:#}");
        let reason = told["reasons"][0].as_str().unwrap();
        has_all(reason, &["else.sock", "does not answer"]);
    }
}

#[test]
fn a_name_without_a_file_is_told_with_every_place_where_it_may_be() {
    let plan = Mount::builder().user(USER);
    let of_user = plan.scratch().join(".config/mediafs/nosuchmount.toml");
    let of_user = of_user.display().to_string();
    for words in [&["mount"][..], &["config", "show"], &["config", "check"]] {
        let output = by_user(&plan, &[words, &["nosuchmount"]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let places = [of_user.as_str(), "/etc/mediafs/nosuchmount.toml"];
        has_all(&said(&output), &places);
    }
}

/// Settings by their name, as `config show --json` has them.
#[track_caller]
fn settings(command: &mut Command) -> Value {
    let output = run_within(WITHIN, command.args(["--json"]));
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        !said(&output).contains("doNotShowThis"),
        "{}",
        said(&output)
    );
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let by_name = all.into_iter().map(|it| {
        let name = it["name"].as_str().unwrap().to_owned();
        (name, it)
    });
    Value::Object(by_name.collect())
}

/// Without a variable that sets one of what is asked for here.
fn show(home: &Path) -> Command {
    let mut command = mediafs(["config", "show", "b", "/tmp"]);
    at_home(&mut command, home);
    for name in ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"] {
        command.env_remove(name);
    }
    for name in ["all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] {
        command.env_remove(name);
    }
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"] {
        command.env_remove(name);
    }
    command
}

#[test]
fn what_the_environment_sets_is_shown_with_its_variable() {
    let home = tempfile::tempdir().unwrap();
    let with_variables = || {
        let mut command = show(home.path());
        command
            .env("HTTPS_PROXY", "http://me:doNotShowThis@proxy:3128")
            .env("AWS_DEFAULT_REGION", "eu-north-1")
            .env("AWS_CA_BUNDLE", "/ca.pem");
        command
    };
    let found = settings(&mut with_variables());
    for (name, value, variable) in [
        ("proxy", "http://***@proxy:3128", "HTTPS_PROXY"),
        ("region", "eu-north-1", "AWS_DEFAULT_REGION"),
        ("ca-bundle", "/ca.pem", "AWS_CA_BUNDLE"),
    ] {
        let want = json!({"name": name, "value": value, "origin": {"variable": variable}});
        assert_eq!(found[name], want);
    }
    let text = said(&run_within(WITHIN, &mut with_variables()));
    let line = "proxy = http://***@proxy:3128  # HTTPS_PROXY\n";
    has_all(&text, &[line, "ca-bundle = /ca.pem  # AWS_CA_BUNDLE\n"]);
    assert!(!text.contains("doNotShowThis"), "{text}");
    // A variable that does not count is not shown.
    let region = ["--region", "eu-west-1"];
    let beaten = settings(with_variables().args(region).env("NO_PROXY", "*"));
    assert_eq!(beaten["region"]["value"], "eu-west-1");
    assert_eq!(beaten["proxy"]["origin"], "default");
    let plain = ["--endpoint-url", "http://s3"];
    let of_https = settings(with_variables().args(plain));
    assert_eq!(of_https["proxy"]["origin"], "default", "it is of https");
}

#[test]
fn what_a_profile_of_the_aws_configuration_sets_is_shown_with_its_name() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".aws")).unwrap();
    let profile = "[profile media]\nregion = eu-south-1\nca_bundle = /ca.pem\nservices = s\n\
                   [services s]\ns3 =\n  endpoint_url = http://s3.lan\n";
    fs::write(home.path().join(".aws/config"), profile).unwrap();
    let named = || {
        let mut command = show(home.path());
        command.args(["--profile", "media"]);
        command
    };
    let found = settings(&mut named());
    for (name, value) in [
        ("region", "eu-south-1"),
        ("ca-bundle", "/ca.pem"),
        ("endpoint-url", "http://s3.lan"),
    ] {
        let want = json!({"name": name, "value": value, "origin": {"profile": "media"}});
        assert_eq!(found[name], want);
    }
    let text = said(&run_within(WITHIN, &mut named()));
    has_all(&text, &["region = eu-south-1  # AWS profile media\n"]);
    // A variable counts before it.
    let beaten = settings(named().env("AWS_REGION", "eu-west-1"));
    let origin = json!({"variable": "AWS_REGION"});
    assert_eq!(beaten["region"]["origin"], origin);
}

#[test]
fn a_line_that_cannot_be_understood_is_not_shown_with_its_password() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("m.toml");
    let text = "bucket = \"b\"\nmountpoint = \"/tmp\"\nproxy = \"http://u:doNotShowThis@h:1\n";
    fs::write(&file, text).unwrap();
    for words in [&["config", "show"][..], &["config", "check"], &["mount"]] {
        let mut command = mediafs(words);
        command.arg("--config").arg(&file);
        let output = run_within(WITHIN, at_home(&mut command, home.path()));
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        has_all(&said(&output), &["m.toml", "line 3"]);
        assert!(
            !said(&output).contains("doNotShowThis"),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn an_endpoint_with_a_password_is_refused_wherever_it_is_written() {
    const SECRET: &str = "http://user:doNotShowThis@s3.lan:9000/x";
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".aws")).unwrap();
    let profile = format!("[profile media]\nendpoint_url = {SECRET}\n");
    fs::write(home.path().join(".aws/config"), profile).unwrap();
    let root = home.path().join("mnt");
    fs::create_dir(&root).unwrap();
    let ways: [(&[&str], Option<&str>, &str); 3] = [
        (&[], Some("AWS_ENDPOINT_URL"), "AWS_ENDPOINT_URL"),
        (&[], Some("AWS_ENDPOINT_URL_S3"), "AWS_ENDPOINT_URL_S3"),
        (&["--profile", "media"], None, "media"),
    ];
    for (args, variable, origin) in ways {
        for words in [&["mount"][..], &["config", "check"], &["doctor"]] {
            let mut command = mediafs(words);
            command.arg("b").arg(&root).args(args);
            command.envs(variable.map(|name| (name, SECRET)));
            command
                .env("AWS_ACCESS_KEY_ID", "k")
                .env("AWS_SECRET_ACCESS_KEY", "s");
            let output = run_within(WITHIN, at_home(&mut command, home.path()));
            let text = said(&output);
            assert_eq!(output.status.code(), Some(1), "{words:?}: {text}");
            has_all(&text, &["must not hold credentials", "AWS_ENDPOINT_URL"]);
            assert!(!text.contains("doNotShowThis"), "{text}");
        }
        let mut shown = show(home.path());
        let found = settings(shown.args(args).envs(variable.map(|name| (name, SECRET))));
        let found = &found["endpoint-url"];
        assert_eq!(found["value"], "http://***@s3.lan:9000/x");
        has_all(&found["origin"].to_string(), &[origin]);
    }
}

#[test]
fn a_default_in_words_is_no_value_for_programs() {
    let home = tempfile::tempdir().unwrap();
    let found = settings(&mut show(home.path()));
    for name in [
        "proxy",
        "region",
        "ca-bundle",
        "storage-class",
        "spool-size",
    ] {
        assert_eq!(found[name]["value"], Value::Null, "{name}");
        assert_eq!(found[name]["origin"], "default", "{name}");
    }
    for (name, value) in [
        ("ttl", json!("60s")),
        ("fuse-threads", json!(4)),
        ("log", json!("info")),
        ("log-file-count", json!(5)),
    ] {
        assert_eq!(found[name]["value"], value);
    }
    let text = said(&run_within(WITHIN, &mut show(home.path())));
    let lines = [
        "# region is not set; default: from the AWS configuration\n",
        "# proxy is not set; default: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY\n",
        "ttl = 60s  # default\n",
    ];
    has_all(&text, &lines);
}

#[test]
fn a_log_filter_that_is_none_is_refused_by_every_command_with_2() {
    let plan = Mount::builder().args(["--log", "x=y=z"]);
    let bucket = plan.bucket.clone();
    let root = plan.root.to_str().unwrap().to_owned();
    let check = || mediafs(["config", "check", &bucket, &root, "--log", "x=y=z"]);
    for mut command in [check(), plan.command(), plan.subcommand("doctor")] {
        let output = run_within(WITHIN, &mut command);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        has_all(&text, &["log (from --log)", "\"x=y=z\" is not a filter"]);
        assert_eq!(text.matches("error parsing").count(), 1, "{text}");
    }
}

#[test]
fn values_are_typed_for_programs_and_credentials_have_an_origin() {
    let home = tempfile::tempdir().unwrap();
    let mut command = show(home.path());
    command.args(["--force-path-style", "--fuse-threads", "8"]);
    command.env("AWS_ACCESS_KEY_ID", "doNotShowThis");
    let found = settings(&mut command);
    assert_eq!(found["force-path-style"]["value"], true);
    assert_eq!(found["fuse-threads"]["value"], 8);
    let credentials = &found["credentials"];
    assert_eq!(credentials["value"], "***");
    assert_eq!(
        credentials["origin"],
        json!({"variable": "AWS_ACCESS_KEY_ID"})
    );
    let text = said(&run_within(
        WITHIN,
        show(home.path()).arg("--fuse-threads=8"),
    ));
    has_all(&text, &["fuse-threads = 8  # --fuse-threads\n"]);
}

#[test]
fn a_configuration_of_another_user_is_told_as_such() {
    let plan = Mount::builder().user(USER);
    let file = plan.scratch().join("secret.toml");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let output = by_user(
        &plan,
        &["config", "check", "--config", file.to_str().unwrap()],
    );
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    has_all(
        &said(&output),
        &["secret.toml", "as root or as the file's owner"],
    );
}
