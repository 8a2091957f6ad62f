//! What 'mediafs config check' finds wrong before a mount does.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::support::control::mediafs;
use crate::support::programs::{at_home, has_all, run_within, said};

const WITHIN: Duration = Duration::from_secs(120);

/// A home, and paths in it; `full` has a file that is no text.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        for dir in ["mnt", "full"] {
            fs::create_dir(home.path(dir)).unwrap();
        }
        fs::write(home.path("full/file"), b"\xff").unwrap();
        home
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// The exit code, and what is wrong.
    fn check(&self, root: &str, args: &[&str]) -> (Option<i32>, String) {
        let root = self.path(root);
        let mut command = mediafs(["config", "check", "b", &root, "--json"]);
        let command = at_home(&mut command, self.0.path()).args(args);
        let output = run_within(WITHIN, command.env("AWS_REGION", "us-east-1"));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), told["wrong"].to_string())
    }

    #[track_caller]
    fn refuses(&self, root: &str, args: &[&str], words: &[&str]) {
        let (code, wrong) = self.check(root, args);
        assert_eq!(code, Some(1), "{args:?}: {wrong}");
        has_all(&wrong, words);
        assert!(wrong.matches("os error").count() < 2, "{wrong}");
        let made = fs::read_dir(self.0.path()).unwrap().count();
        assert_eq!(made, 2, "a check makes nothing");
    }
}

#[test]
fn what_a_mount_would_refuse_is_wrong_for_the_check_too() {
    let home = Home::new();
    assert_eq!(home.check("mnt", &[]).0, Some(0));
    let [file, below, nowhere, lost, full] = [
        "full/file",
        "full/file/below",
        "nowhere",
        "nowhere/log",
        "full",
    ]
    .map(|it| home.path(it));
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--profile", "nope"], &["profile: no usable", "nope"]),
        (
            &["--credentials-file", &file],
            &["profile: no usable", &file],
        ),
        (&["--spool", &file], &["spool: ", &file, "not a directory"]),
        (&["--spool", &below], &["spool: ", &file, "not a directory"]),
        (&["--mime", &file], &["mime: ", "can be read"]),
        (&["--overlay", &nowhere], &["overlay: ", &nowhere]),
        (&["--log-file", &lost], &["log-file: ", "No such file"]),
        (&["--log-file", &full], &["log-file: ", "Is a directory"]),
        (&["--ca-bundle", &nowhere], &["ca-bundle: ", "No such file"]),
    ];
    for (args, words) in cases {
        home.refuses("mnt", args, words);
    }
    let wrong: [(&[&str], &[&str]); 2] = [
        (&["--part-size", "1"], &["part-size"]),
        (
            &["--fips", "--endpoint-url", "http://s3"],
            &["--fips", "http://s3", "leave out one of them"],
        ),
    ];
    for (args, words) in wrong {
        let (code, wrong) = home.check("mnt", args);
        assert_eq!(code, Some(2), "{wrong}");
        has_all(&wrong, words);
    }
}

#[test]
fn a_mountpoint_that_a_mount_would_refuse_is_wrong() {
    let home = Home::new();
    home.refuses("full", &[], &["mountpoint: ", "not empty"]);
    home.refuses("nowhere", &[], &["mountpoint: ", "mkdir -p"]);
    home.refuses("full/file", &[], &["mountpoint: ", "not a directory"]);
    let (code, wrong) = home.check("full", &["--allow-non-empty"]);
    assert_eq!(code, Some(0), "{wrong}");
}

#[test]
fn a_wrong_setting_is_told_with_what_to_write() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("m.toml");
    for (line, words) in [
        (
            "expected-bucket-owner = 123456789012",
            ["expected-bucket-owner", "put it in quotes"],
        ),
        ("profile = true", ["profile", "put it in quotes"]),
        ("log = \"inf\"", ["log", "did you mean \"info\""]),
        (
            "endpoint-url = \"http://h:99999\"",
            ["endpoint-url", "1 to 65535"],
        ),
        (
            "dual-stack = true\nendpoint-url = \"http://h\"",
            ["dual-stack", "leave out one of them"],
        ),
    ] {
        fs::write(
            &file,
            format!("bucket = \"b\"\nmountpoint = \"/tmp\"\n{line}\n"),
        )
        .unwrap();
        let mut command = mediafs(["config", "check", "--config"]);
        command.arg(&file);
        let output = run_within(WITHIN, at_home(&mut command, home.path()));
        assert_eq!(output.status.code(), Some(2), "{line}: {}", said(&output));
        has_all(&said(&output), &words);
    }
    fs::write(
        &file,
        "bucket = \"b\"\nmountpoint = \"/tmp\"\nsse = \"aes256\"\n",
    )
    .unwrap();
    let mut command = mediafs(["config", "show", "--sse", "aes256", "--config"]);
    let output = run_within(WITHIN, at_home(command.arg(&file), home.path()));
    has_all(&said(&output), &["sse = AES256  #"]);
}

#[test]
fn the_root_directory_is_no_mountpoint_of_a_setup() {
    let output = run_within(WITHIN, &mut mediafs(["setup", "bkt", "/"]));
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    has_all(
        &said(&output),
        &["name another mountpoint than /", "/srv/media"],
    );
}
