//! Credentials of a file or a profile that is named, beside others of the environment.

use std::fs;

use crate::support::control::{done, failed};
use crate::support::programs::{has_all, said};
use crate::support::servers::OWNER;
use crate::support::{Mount, MountBuilder};

/// With credentials in the environment that the server does not know.
fn plan() -> MountBuilder {
    let plan = Mount::builder().env("AWS_ACCESS_KEY_ID", "nobody");
    plan.env("AWS_SECRET_ACCESS_KEY", "nothing")
}

fn profile(name: &str) -> String {
    format!(
        "[{name}]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        OWNER.access_key, OWNER.secret_key
    )
}

#[track_caller]
fn serves(plan: MountBuilder) {
    let mount = plan.start();
    fs::write(mount.path("f"), b"bytes").unwrap();
    assert_eq!(mount.object("f").unwrap(), b"bytes");
}

#[test]
fn a_file_or_a_profile_that_is_named_comes_before_the_environment() {
    let with_file = |text: String| {
        let plan = plan();
        let file = plan.scratch().join("credentials");
        fs::write(&file, text).unwrap();
        (plan, file)
    };
    let (plan, file) = with_file(profile("default"));
    serves(plan.arg("--credentials-file").arg(&file));
    let (plan, file) = with_file(profile("own"));
    let plan = plan.arg("--credentials-file").arg(&file);
    serves(plan.args(["--profile", "own"]));
    let (plan, file) = with_file(profile("own"));
    let plan = plan.env("AWS_SHARED_CREDENTIALS_FILE", &file);
    serves(plan.args(["--profile", "own"]));
}

#[test]
fn a_file_or_a_profile_that_is_not_there_is_no_reason_to_take_the_environment() {
    for (option, value) in [("--credentials-file", "/nosuch"), ("--profile", "nosuch")] {
        let output = Mount::builder().args([option, value]).run();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        has_all(&said(&output), &[value]);
    }
}

#[test]
fn a_reload_that_finds_no_credentials_leaves_those_of_before_in_use() {
    let plan = plan();
    let file = plan.scratch().join("credentials");
    fs::write(&file, profile("default")).unwrap();
    let mount = plan.arg("--credentials-file").arg(&file).start();
    let root = mount.root.to_str().unwrap();
    for (number, text) in [None, Some(""), Some("[other]\n")].iter().enumerate() {
        match text {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let told = failed(&mount, &["reload", root]);
        has_all(&told, &["no credentials found any more"]);
        fs::write(mount.path(number.to_string()), b"bytes").unwrap();
    }
    fs::write(&file, profile("default")).unwrap();
    done(&mount, &["reload", root]);
    fs::write(mount.path("last"), b"bytes").unwrap();
}
