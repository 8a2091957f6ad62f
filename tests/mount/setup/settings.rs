//! What a setup writes for the mount, and what it leaves of what is there.

use std::fs;
use std::process::Command;

use aws_sdk_s3::types::{AccessControlPolicy, Grant, Grantee, Permission, Type};

use super::{Plan, WITHIN, state, unmount};
use crate::support::Server;
use crate::support::forward_proxy::ForwardProxy;
use crate::support::programs::{has_all, run_within, said};
use crate::support::requests::header;

#[test]
fn comments_and_the_order_of_the_operators_file_are_kept() {
    let plan = Plan::on(Server::moto());
    plan.succeeds(&[]);
    let text = fs::read_to_string(plan.file()).unwrap();
    let text = text.replace("ttl = \"1s\"", "ttl = \"5m\" # was too short")
        + "\n# Asked for by the auditors:\nnegative-ttl = \"7s\"\n# The end.\n";
    fs::write(plan.file(), &text).unwrap();
    plan.succeeds(&["--force"]);
    let expected = text.replace("\"5m\"", "\"1s\"");
    assert_eq!(fs::read_to_string(plan.file()).unwrap(), expected);
    plan.has_nothing_to_do(&[]);
}

/// How the bucket encrypts new objects: the algorithm, and the key of KMS.
fn encryption(plan: &Plan) -> (String, Option<String>) {
    let bucket = plan.mount.bucket.clone();
    plan.mount.client.call(async move |s3| {
        let answer = s3.get_bucket_encryption().bucket(bucket).send().await;
        let answer = answer.unwrap();
        let rules = answer.server_side_encryption_configuration().unwrap();
        let rule = rules.rules()[0].apply_server_side_encryption_by_default();
        let rule = rule.unwrap();
        let key = rule.kms_master_key_id().map(str::to_owned);
        (rule.sse_algorithm().as_str().to_owned(), key)
    })
}

#[test]
fn default_encryption_is_that_of_the_option() {
    let plan = Plan::on(Server::moto()).with(&["--default-encryption"]);
    plan.succeeds(&[]);
    assert_eq!(encryption(&plan), ("AES256".to_owned(), None));
}

#[test]
fn encryption_with_a_key_of_kms_is_set_and_is_weakened_only_by_force() {
    const KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/media";
    let plan = Plan::on(Server::moto()).made();
    let kms = "--default-encryption=aws:kms";
    let key = format!("--default-encryption-key={KEY}");
    let with_key = ("aws:kms".to_owned(), Some(KEY.to_owned()));
    plan.succeeds(&["--default-encryption"]);
    assert_eq!(encryption(&plan).0, "AES256");
    // What is stronger takes no force.
    plan.succeeds(&[kms, &key]);
    assert_eq!(encryption(&plan), with_key);
    plan.has_nothing_to_do(&[kms, &key]);
    // Any key will do.
    plan.has_nothing_to_do(&[kms]);
    let output = plan.run(&["--yes", "--default-encryption"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let found = format!("- aws:kms with key {KEY}");
    has_all(&said(&output), &["default encryption", &found, "+ AES256"]);
    let (steps, code) = plan.steps(&["--default-encryption"]);
    let conflict = (state(&steps, "default encryption"), code);
    assert_eq!(conflict, ("conflict", 1), "{steps:#?}");
    assert_eq!(encryption(&plan), with_key);
    let (steps, code) = plan.steps(&["--default-encryption", "--force"]);
    let forced = (state(&steps, "default encryption"), code);
    assert_eq!(forced, ("done", 0), "{steps:#?}");
    assert_eq!(encryption(&plan).0, "AES256");
}

#[test]
fn rules_for_browsers_are_neither_read_nor_set_unless_they_are_asked_for() {
    let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
    let (steps, code) = plan.steps(&[]);
    assert_eq!(code, 0, "{steps:#?}");
    assert!(steps.iter().all(|it| it["name"] != "CORS"), "{steps:#?}");
    for op in ["GetBucketCors", "PutBucketCors"] {
        assert_eq!(proxy.seen(op), 0, "{op}");
    }
    let (steps, _) = plan.steps(&["--cors-origin", "a"]);
    assert_eq!(state(&steps, "CORS"), "done", "{steps:#?}");
    assert_eq!(proxy.seen("PutBucketCors"), 1);
}

/// The bucket's grants: to whom, and what.
fn grants(plan: &Plan) -> Vec<(String, String)> {
    let bucket = plan.mount.bucket.clone();
    plan.mount.client.call(async move |s3| {
        let acl = s3.get_bucket_acl().bucket(bucket).send().await.unwrap();
        let grants = acl.grants().iter().map(|grant| {
            let to = grant.grantee().unwrap();
            let name = to.uri().or(to.id()).unwrap_or_default().to_owned();
            (name, grant.permission().unwrap().as_str().to_owned())
        });
        grants.collect()
    })
}

#[test]
fn what_others_were_given_stays_when_everybody_is_shut_out() {
    const GROUPS: &str = "http://acs.amazonaws.com/groups";
    let plan = Plan::on(Server::moto()).made();
    let bucket = plan.mount.bucket.clone();
    let everybody = (format!("{GROUPS}/global/AllUsers"), "READ".to_owned());
    let logs = (format!("{GROUPS}/s3/LogDelivery"), "WRITE".to_owned());
    let given = [everybody.clone(), logs.clone()];
    plan.mount.client.call(async move |s3| {
        let acl = s3.get_bucket_acl().bucket(&bucket).send().await.unwrap();
        let mut policy = AccessControlPolicy::builder().set_owner(acl.owner().cloned());
        for (uri, permission) in given {
            let to = Grantee::builder().r#type(Type::Group).uri(uri).build();
            let permission = Permission::from(permission.as_str());
            let grant = Grant::builder().grantee(to.unwrap()).permission(permission);
            policy = policy.grants(grant.build());
        }
        let put = s3.put_bucket_acl().bucket(&bucket);
        let put = put.access_control_policy(policy.build()).send();
        put.await.unwrap();
    });
    let (steps, _) = plan.steps(&[]);
    assert_eq!(state(&steps, "ACL"), "conflict", "{steps:#?}");
    let (steps, _) = plan.steps(&["--force"]);
    assert_eq!(state(&steps, "ACL"), "done", "{steps:#?}");
    let left = grants(&plan);
    assert!(
        !left.contains(&everybody) && left.contains(&logs),
        "{left:?}"
    );
}

#[test]
fn what_a_setup_and_its_mount_send_asks_for_the_encryption_of_the_option() {
    let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
    proxy.keep_heads();
    let dotenv = plan.mount.scratch().join(".env");
    let text = format!("AUTHENTIK_STORAGE__S3__BUCKET_NAME={}\n", plan.mount.bucket);
    fs::write(&dotenv, text).unwrap();
    let authentik = format!("--from-authentik={}", dotenv.display());
    let mount = plan.mount.prefix("media");
    let plan =
        Plan { mount, ..plan }.with(&["--sse", "AES256", "--default-encryption", &authentik]);
    plan.succeeds(&[]);
    assert!(!proxy.heads("PutBucketEncryption").is_empty());
    let is_asked = |head: &String| header(head, "x-amz-server-side-encryption") == Some("AES256");
    let folder = proxy.heads("PutObject");
    assert!(
        folder.len() == 2 && folder.iter().all(is_asked),
        "{folder:?}"
    );
    let mut mount = Command::new(env!("CARGO_BIN_EXE_mediafs"));
    mount.args(["mount", "--config"]).arg(plan.file());
    let output = run_within(WITHIN, mount.env("AWS_EC2_METADATA_DISABLED", "true"));
    assert!(output.status.success(), "{}", said(&output));
    fs::write(plan.mount.root.join("f"), b"bytes").unwrap();
    unmount(&plan);
    let sent = proxy.heads("PutObject");
    assert!(sent.len() > 1 && sent.iter().all(is_asked), "{sent:?}");
}

#[test]
fn temporary_keys_are_not_written_down() {
    let plan = Plan::on(Server::moto());
    let mount = plan.mount.env("AWS_SESSION_TOKEN", "for-an-hour");
    let plan = Plan { mount, ..plan };
    let (steps, code) = plan.steps(&[]);
    assert_eq!((code, state(&steps, "credentials")), (0, "skipped"));
    assert!(!plan.credentials().exists());
    let text = fs::read_to_string(plan.file()).unwrap();
    for secret in ["for-an-hour", "credentials-file"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn the_proxy_of_the_environment_is_named_and_kept_for_the_service() {
    let way = ForwardProxy::new();
    let server = Server::seaweedfs();
    let (_, port) = server.endpoint.rsplit_once(':').unwrap();
    let plan = Plan::on(server);
    let mount = [
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
    ]
    .into_iter()
    .fold(plan.mount, |plan, name| plan.unset(name))
    .set("--endpoint-url", format!("http://s3.invalid:{port}"))
    .env("HTTP_PROXY", format!("http://ann:geheim@{}", way.address));
    let plan = Plan { mount, ..plan };
    let text = plan.succeeds(&[]);
    let named = format!("http://{} (HTTP_PROXY)", way.address);
    has_all(&text, &["ok    proxy", &named]);
    assert!(!text.contains("geheim"), "{text}");
    let text = fs::read_to_string(plan.file()).unwrap();
    let kept = format!("proxy = \"http://ann:geheim@{}/\"", way.address);
    assert!(text.contains(&kept), "{text}");
    let mount = plan.mount.unset("HTTP_PROXY");
    let plan = Plan { mount, ..plan };
    plan.has_nothing_to_do(&[]);
}

#[test]
fn a_name_that_no_bucket_can_have_is_refused_before_one_is_made() {
    let (mut plan, proxy) = Plan::behind_a_proxy(Server::shared());
    for name in ["bk", "Media", "my_media", "media-", "a..b", "192.168.5.4"] {
        let mount = plan.mount.bucket(name);
        plan = Plan { mount, ..plan };
        let output = plan.run(&["--yes"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {text}");
        has_all(&text, &[&format!("{name:?}"), "3 to 63 characters"]);
    }
    assert_eq!(proxy.seen("CreateBucket"), 0);
}
