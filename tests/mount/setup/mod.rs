//! `mediafs setup`: a bucket, a configuration and a mountpoint, made by steps.

mod attacks;
mod mountpoints;
mod providers;
mod settings;
mod terminal;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, CorsConfiguration, CorsRule,
    ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
    PublicAccessBlockConfiguration,
};
use serde_json::Value;

use crate::support::programs::{has_all, run_within, said};
use crate::support::proxy::Proxy;
use crate::support::{Mount, MountBuilder, Server};

const WITHIN: Duration = Duration::from_secs(120);

/// A setup that writes into the test's own folder, of a bucket that is not there.
pub struct Plan {
    pub mount: MountBuilder,
    args: Vec<String>,
}

impl Plan {
    pub fn on(server: &Server) -> Self {
        let mount = Mount::on(server);
        let bucket = format!("{}-new", mount.bucket);
        let file = mount.scratch().join("media.toml");
        Self {
            mount: mount.bucket(&bucket),
            args: vec!["--config".to_owned(), file.display().to_string()],
        }
        .with(&["--no-guard"])
    }

    pub fn behind_a_proxy(server: &Server) -> (Self, Proxy) {
        let proxy = Proxy::before(server);
        let plan = Self::on(server);
        let mount = plan.mount.set("--endpoint-url", &proxy.endpoint);
        (Self { mount, ..plan }, proxy)
    }

    /// With the bucket there.
    pub fn made(self) -> Self {
        self.mount.client.create_bucket(&self.mount.bucket);
        self
    }

    pub fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    pub fn file(&self) -> PathBuf {
        self.mount.scratch().join("media.toml")
    }

    pub fn credentials(&self) -> PathBuf {
        self.mount.scratch().join("media.credentials")
    }

    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = self.mount.subcommand("setup");
        command.args(&self.args).args(more);
        command
    }

    #[track_caller]
    pub fn run(&self, more: &[&str]) -> Output {
        run_within(WITHIN, &mut self.command(more))
    }

    /// The steps, and the exit code.
    #[track_caller]
    pub fn steps(&self, more: &[&str]) -> (Vec<Value>, i32) {
        let output = self.run(&[more, &["--yes", "--json"]].concat());
        let steps = serde_json::from_slice(&output.stdout);
        let steps: Vec<Value> = steps.unwrap_or_else(|_| panic!("{}", said(&output)));
        let help = include_str!("../../../src/cli/help/setup.md");
        for step in &steps {
            // A name, a state, and the names of the fields.
            let fields = step.as_object().unwrap().keys();
            let words = ["name", "state"].map(|field| step[field].as_str().unwrap());
            let mut words = words.into_iter().chain(fields.map(String::as_str));
            assert!(words.all(|it| help.contains(&format!("`{it}`"))), "{step}");
        }
        (steps, output.status.code().unwrap())
    }

    #[track_caller]
    pub fn succeeds(&self, more: &[&str]) -> String {
        let output = self.run(&[more, &["--yes"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    #[track_caller]
    pub fn has_nothing_to_do(&self, more: &[&str]) {
        let text = self.succeeds(more);
        assert!(text.ends_with("nothing to do\n"), "{text}");
    }

    pub fn lifecycle(&self) -> Vec<LifecycleRule> {
        let bucket = self.mount.bucket.clone();
        self.mount.client.call(async move |s3| {
            let get = s3.get_bucket_lifecycle_configuration().bucket(bucket);
            let answer = get.send().await;
            answer.map_or(Vec::new(), |answer| answer.rules().to_vec())
        })
    }

    fn cors(&self) -> Vec<CorsRule> {
        let bucket = self.mount.bucket.clone();
        self.mount.client.call(async move |s3| {
            let answer = s3.get_bucket_cors().bucket(bucket).send().await;
            answer.map_or(Vec::new(), |answer| answer.cors_rules().to_vec())
        })
    }
}

/// By umount(8), which the daemon sees.
#[track_caller]
pub fn unmount(plan: &Plan) {
    let unmounted = Command::new("umount").arg(&plan.mount.root).status();
    assert!(unmounted.unwrap().success());
}

#[track_caller]
pub fn state<'a>(steps: &'a [Value], name: &str) -> &'a str {
    let step = steps.iter().find(|step| step["name"] == name);
    let step = step.unwrap_or_else(|| panic!("no {name} in {steps:#?}"));
    step["state"].as_str().unwrap()
}

pub fn aborts_uploads(rule: &LifecycleRule) -> bool {
    rule.abort_incomplete_multipart_upload().is_some()
}

#[test]
fn a_bucket_is_made_and_mounted_and_a_second_run_has_nothing_to_do() {
    // moto's answer about versions is none that can be read.
    for (server, options) in [
        (Server::seaweedfs(), &["--versioning"][..]),
        (Server::moto(), &["--default-encryption"]),
    ] {
        let plan = Plan::on(server).with(options);
        let plan = plan.with(&["--cors-origin", "auth.example.com"]);
        let output = plan.run(&["--dry-run"]);
        assert!(output.status.success(), "{}", said(&output));
        has_all(&said(&output), &["todo  bucket", "nothing was done"]);
        assert!(!plan.file().exists());
        let unasked = plan.run(&[]);
        assert!(!unasked.status.success(), "nobody agreed");
        plan.succeeds(&[]);
        plan.has_nothing_to_do(&[]);
        assert!(plan.lifecycle().iter().any(aborts_uploads));
        let cors = plan.cors();
        assert_eq!(cors[0].allowed_origins(), ["https://auth.example.com"]);
        assert_eq!(cors[0].allowed_methods(), ["GET"]);
        assert_eq!(cors[0].allowed_headers(), ["Authorization"]);
        assert_eq!(cors[0].max_age_seconds(), Some(3000));
        for file in [plan.file(), plan.credentials()] {
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        }
        let mut mount = Command::new(env!("CARGO_BIN_EXE_mediafs"));
        mount.args(["mount", "--config"]).arg(plan.file());
        let output = run_within(WITHIN, mount.env("AWS_EC2_METADATA_DISABLED", "true"));
        assert!(output.status.success(), "{}", said(&output));
        plan.has_nothing_to_do(&[]);
        fs::write(plan.mount.root.join("f"), b"bytes").unwrap();
        let stored = plan.mount.client.get(&plan.mount.bucket, "f");
        assert_eq!(stored.unwrap(), b"bytes");
        unmount(&plan);
    }
}

#[test]
fn what_a_store_has_is_set_and_what_it_lacks_is_skipped_with_its_name() {
    let plan = Plan::on(Server::moto()).with(&["--default-encryption", "--versioning"]);
    let (steps, code) = plan.steps(&[]);
    assert_eq!(code, 0, "{steps:#?}");
    for name in [
        "bucket",
        "public access",
        "default encryption",
        "lifecycle rule",
    ] {
        assert_eq!(state(&steps, name), "done", "{steps:#?}");
    }
    assert_eq!(state(&steps, "ACL"), "ok");
    for name in ["versioning", "service"] {
        assert_eq!(state(&steps, name), "skipped", "{steps:#?}");
    }
}

#[test]
fn a_bucket_is_made_in_its_region_on_a_service_that_has_regions_as_aws_has_them() {
    let plan = Plan::on(Server::moto());
    let mount = plan.mount.set("--region", "eu-central-1");
    let plan = Plan { mount, ..plan };
    let (steps, code) = plan.steps(&[]);
    assert_eq!((code, state(&steps, "bucket")), (0, "done"), "{steps:#?}");
}

#[test]
fn a_policy_that_lets_everybody_in_is_replaced_only_by_force() {
    let plan = Plan::on(Server::moto()).made();
    let bucket = plan.mount.bucket.clone();
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::{bucket}/*"}}]}}"#
    );
    plan.mount.client.call(async move |s3| {
        let put = s3.put_bucket_policy().bucket(&bucket).policy(&policy);
        put.send().await.unwrap();
    });
    let (steps, code) = plan.steps(&[]);
    assert_eq!(
        (code, state(&steps, "public access")),
        (1, "conflict"),
        "{steps:#?}"
    );
    let (steps, code) = plan.steps(&["--force"]);
    assert_eq!(
        (code, state(&steps, "public access")),
        (0, "done"),
        "{steps:#?}"
    );
}

#[test]
fn wrong_usage_ends_with_2() {
    let plan = Plan::on(Server::moto());
    let output = plan.run(&["--name", "a b"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn rules_of_others_are_kept() {
    for server in [Server::seaweedfs(), Server::moto()] {
        let plan = Plan::on(server)
            .made()
            .with(&["--cors-origin", "https://a"]);
        let bucket = plan.mount.bucket.clone();
        plan.mount.client.call(async move |s3| {
            let expiry = LifecycleRule::builder()
                .id("theirs")
                .status(ExpirationStatus::Enabled)
                .filter(LifecycleRuleFilter::builder().prefix("logs/").build())
                .expiration(LifecycleExpiration::builder().days(30).build())
                .build();
            let rules = BucketLifecycleConfiguration::builder().rules(expiry.unwrap());
            let put = s3.put_bucket_lifecycle_configuration().bucket(&bucket);
            let put = put.lifecycle_configuration(rules.build().unwrap());
            put.send().await.unwrap();
            let rule = CorsRule::builder()
                .allowed_origins("https://theirs")
                .allowed_methods("PUT")
                .build();
            let rules = CorsConfiguration::builder().cors_rules(rule.unwrap());
            let put = s3.put_bucket_cors().bucket(&bucket);
            let put = put.cors_configuration(rules.build().unwrap());
            put.send().await.unwrap();
        });
        plan.succeeds(&[]);
        plan.succeeds(&["--cors-origin", "https://b"]);
        plan.has_nothing_to_do(&[]);
        let rules = plan.lifecycle();
        let theirs = rules.iter().find(|rule| rule.id() == Some("theirs"));
        assert_eq!(theirs.unwrap().expiration().unwrap().days(), Some(30));
        assert!(rules.iter().any(aborts_uploads), "{rules:?}");
        let cors = plan.cors();
        assert_eq!(cors.len(), 2, "{cors:?}");
        assert_eq!(cors[0].allowed_origins(), ["https://theirs"]);
        assert_eq!(cors[1].allowed_origins(), ["https://a", "https://b"]);
    }
}

#[test]
fn a_rule_that_covers_the_prefix_is_enough() {
    let plan = Plan::on(Server::moto()).made();
    let bucket = plan.mount.bucket.clone();
    plan.mount.client.call(async move |s3| {
        let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(2);
        let rule = LifecycleRule::builder()
            .id("theirs")
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix("").build())
            .abort_incomplete_multipart_upload(abort.build())
            .build();
        let rules = BucketLifecycleConfiguration::builder().rules(rule.unwrap());
        let put = s3.put_bucket_lifecycle_configuration().bucket(&bucket);
        let put = put.lifecycle_configuration(rules.build().unwrap());
        put.send().await.unwrap();
    });
    let (steps, _) = plan.steps(&[]);
    assert_eq!(state(&steps, "lifecycle rule"), "ok", "{steps:#?}");
    assert_eq!(plan.lifecycle().len(), 1);
}

#[test]
fn public_access_that_somebody_allows_is_ended_only_by_force() {
    let plan = Plan::on(Server::moto()).made();
    let bucket = plan.mount.bucket.clone();
    plan.mount.client.call(async move |s3| {
        let some = PublicAccessBlockConfiguration::builder().block_public_acls(true);
        let put = s3.put_public_access_block().bucket(&bucket);
        let put = put.public_access_block_configuration(some.build());
        put.send().await.unwrap();
    });
    for (args, then) in [(&[][..], "conflict"), (&["--force"], "done")] {
        let (steps, _) = plan.steps(args);
        assert_eq!(state(&steps, "public access"), then, "{steps:#?}");
    }
}

#[test]
fn what_says_otherwise_is_shown_and_replaced_only_by_force() {
    let plan = Plan::on(Server::seaweedfs());
    plan.succeeds(&[]);
    let mut text = fs::read_to_string(plan.file()).unwrap();
    text = text.replace("ttl = \"1s\"", "ttl = \"5m\"") + "negative-ttl = \"7s\"\n";
    fs::write(plan.file(), &text).unwrap();
    let secret = "an-older-secret";
    let old = format!("[default]\naws_access_key_id = old\naws_secret_access_key = {secret}\n");
    fs::write(plan.credentials(), &old).unwrap();
    let output = plan.run(&["--yes"]);
    assert!(!output.status.success());
    let shown = said(&output);
    has_all(
        &shown,
        &["- ttl = 5m", "+ ttl = 1s", "- access key old", "--force"],
    );
    assert!(!shown.contains(secret), "{shown}");
    assert_eq!(fs::read_to_string(plan.file()).unwrap(), text);
    assert_eq!(fs::read_to_string(plan.credentials()).unwrap(), old);
    plan.succeeds(&["--force"]);
    plan.has_nothing_to_do(&[]);
    let text = fs::read_to_string(plan.file()).unwrap();
    has_all(&text, &["ttl = \"1s\"", "negative-ttl = \"7s\""]);
    assert!(!text.contains("5m"), "{text}");
}

#[test]
fn a_read_only_mount_leaves_its_bucket_as_it_is() {
    let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
    let plan = plan.with(&["--read-only"]);
    let output = plan.run(&["--yes"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    has_all(&said(&output), &["there is no bucket"]);
    let plan = plan.made();
    plan.succeeds(&[]);
    plan.has_nothing_to_do(&[]);
    for op in ["CreateBucket", "PutPublicAccessBlock", "PutBucketLifecycle"] {
        assert_eq!(proxy.seen(op), 0, "{op}");
    }
}

#[test]
fn the_policy_is_printed_without_asking_anybody() {
    let (plan, proxy) = Plan::behind_a_proxy(Server::shared());
    let output = plan.run(&["--print-policy"]);
    assert!(output.status.success(), "{}", said(&output));
    let policy: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(policy["Version"], "2012-10-17");
    assert_eq!(proxy.seen_in_all(), 0);
}
