//! What mediafs tells of authentik's settings: where they stand, and what is wrong in them.

use std::fs;
use std::time::Duration;

use crate::from_authentik::{dotenv, option, untold};
use crate::support::control::mediafs;
use crate::support::programs::{has_all, run_within, said};
use crate::support::servers::{Credentials, OWNER};
use crate::support::{Mount, Server};

const WITHIN: Duration = Duration::from_secs(60);

/// A variable or a file asks for the settings, and the argument is the mountpoint.
#[test]
fn a_mountpoint_alone_is_enough_whoever_asks_for_the_settings() {
    let plan = Mount::builder();
    let file = dotenv(&plan, "https://s3.provider", &OWNER);
    let config = plan.scratch().join("m.toml");
    fs::write(
        &config,
        format!("from-authentik = {:?}\n", file.display().to_string()),
    )
    .unwrap();
    let root = plan.root.to_str().unwrap();
    let by_file = format!("--config={}", config.display());
    for words in [&["config", "check"][..], &["config", "show"]] {
        let mut by_variable = mediafs(words);
        by_variable.arg(root).env("MEDIAFS_FROM_AUTHENTIK", &file);
        let mut by_file_of = mediafs(words);
        by_file_of.args([&by_file, root]);
        for mut command in [by_variable, by_file_of] {
            let output = run_within(WITHIN, &mut command);
            assert!(output.status.success(), "{}", said(&output));
            has_all(&said(&output), &[root, &plan.bucket]);
        }
    }
    // It sends no request before it has what it needs.
    let mut setup = mediafs(["setup", root, "--print-policy", "--config"]);
    setup
        .arg(plan.scratch().join("new.toml"))
        .env("MEDIAFS_FROM_AUTHENTIK", &file);
    let output = run_within(WITHIN, &mut setup);
    assert!(output.status.success(), "{}", said(&output));
    has_all(&said(&output), &[&plan.bucket]);
}

#[test]
fn a_secret_that_a_dollar_cuts_is_told_with_its_line_and_not_shown() {
    let plan = Mount::builder();
    let keys = Credentials {
        access_key: "access".into(),
        secret_key: "doNot$ShowThis".into(),
    };
    let file = dotenv(&plan, "https://s3.provider", &keys);
    let mut command = mediafs(["config", "check"]);
    command.arg(option(&file)).arg(&plan.root);
    let told = said(&run_within(WITHIN, &mut command));
    let place = format!("{}:7: ", file.display());
    has_all(
        &told,
        &[&place, "AUTHENTIK_STORAGE__S3__SECRET_KEY", "single quotes"],
    );
    assert!(
        !told.contains("doNot") && !told.contains("ShowThis"),
        "{told}"
    );
}

#[test]
fn credentials_that_are_refused_are_told_with_their_place() {
    let wrong = Credentials {
        access_key: "nobody".into(),
        secret_key: "knows".into(),
    };
    let server = Server::shared();
    let plan = untold(Mount::on(server));
    let file = dotenv(&plan, &server.endpoint, &wrong);
    let output = plan.arg(option(&file)).run();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let place = format!("{}:6", file.display());
    has_all(
        &said(&output),
        &["authentik's settings (storage.s3.access_key", &place],
    );
    let plan = Mount::builder().without_credentials();
    let plan = plan
        .env("AWS_ACCESS_KEY_ID", "nobody")
        .env("AWS_SECRET_ACCESS_KEY", "knows");
    let output = plan.run();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    has_all(
        &said(&output),
        &[
            "credentials in AWS_ACCESS_KEY_ID",
            "correct these variables",
        ],
    );
}
