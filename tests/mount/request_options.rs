//! Options that requests carry: storage class, encryption, ACL, who pays, whose bucket.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use aws_sdk_s3::types::ObjectCannedAcl;

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::programs::{has_all, said};
use crate::support::proxy::Proxy;
use crate::support::requests::header;
use crate::support::{Mount, MountBuilder, Server, pattern, sys};

/// The account of every bucket of moto.
const ACCOUNT: &str = "123456789012";
/// Requests that make objects, and all others that a mount sends about them.
const MAKE: [&str; 3] = ["PutObject", "CreateMultipartUpload", "CopyObject"];
const OTHERS: [&str; 8] = [
    "HeadObject",
    "GetObject",
    "UploadPart",
    "UploadPartCopy",
    "CompleteMultipartUpload",
    "DeleteObject",
    "DeleteObjects",
    "ListObjectsV2",
];
/// Of `OTHERS`, those that neither read nor write an object.
const WITHOUT_KEY: [&str; 3] = ["DeleteObject", "DeleteObjects", "ListObjectsV2"];

fn behind(server: &Server) -> (MountBuilder, Proxy) {
    let proxy = Proxy::before(server);
    proxy.keep_heads();
    let plan = Mount::on(server)
        .set("--endpoint-url", &proxy.endpoint)
        .args(["--part-size", "5MiB", "--copy-part-size", "5MiB"]);
    (plan, proxy)
}

/// Has a mount send a request of every kind.
#[track_caller]
fn use_everything(mount: &mut Mount) {
    let long = pattern(11 * MIB, 1);
    fs::write(mount.path("short"), b"short").unwrap();
    fs::write(mount.path("long"), &long).unwrap();
    mount.remount();
    assert_eq!(fs::read(mount.path("short")).unwrap(), b"short");
    let mut file = OpenOptions::new()
        .append(true)
        .open(mount.path("long"))
        .unwrap();
    file.write_all(b"end").unwrap();
    sys::close(file).unwrap();
    fs::rename(mount.path("short"), mount.path("moved")).unwrap();
    let want = [&long[..], b"end"].concat();
    assert_same_bytes(&fs::read(mount.path("long")).unwrap(), &want, "long");
    assert_eq!(fs::read(mount.path("moved")).unwrap(), b"short");
    fs::remove_file(mount.path("moved")).unwrap();
    mount.unmount();
}

/// Every request of these kinds, of which there are some, has headers as `holds` says.
#[track_caller]
fn all_of(proxy: &Proxy, kinds: &[&str], holds: impl Fn(&str) -> bool) {
    for op in kinds {
        let heads = proxy.heads(op);
        assert!(!heads.is_empty(), "no {op}");
        for head in heads {
            assert!(holds(&head), "{op}: {head}");
        }
    }
}

fn has(head: &str, name: &str, value: &str) -> bool {
    header(head, name) == Some(value)
}

#[test]
fn each_request_carries_the_options_that_are_for_it() {
    let (plan, proxy) = behind(Server::moto());
    let mut mount = plan
        .args(["--storage-class", "STANDARD_IA", "--sse", "aws:kms"])
        .args([
            "--sse-kms-key-id",
            "the-key",
            "--acl",
            "bucket-owner-full-control",
        ])
        .args(["--cache-control", "max-age=60", "--requester-pays"])
        .args(["--expected-bucket-owner", ACCOUNT])
        .start();
    use_everything(&mut mount);
    all_of(&proxy, &MAKE, |head| {
        has(head, "x-amz-storage-class", "STANDARD_IA")
            && has(head, "x-amz-server-side-encryption", "aws:kms")
            && has(
                head,
                "x-amz-server-side-encryption-aws-kms-key-id",
                "the-key",
            )
            && has(head, "x-amz-acl", "bucket-owner-full-control")
    });
    all_of(&proxy, &MAKE[..2], |head| {
        has(head, "cache-control", "max-age=60")
    });
    all_of(&proxy, &["CopyObject", "UploadPartCopy"], |head| {
        has(head, "x-amz-source-expected-bucket-owner", ACCOUNT)
    });
    let of_all = |head: &str| {
        has(head, "x-amz-request-payer", "requester")
            && has(head, "x-amz-expected-bucket-owner", ACCOUNT)
            && header(head, "authorization").is_some_and(|it| it.contains("x-amz-expected"))
    };
    all_of(&proxy, &[&MAKE[..], &OTHERS].concat(), of_all);
    all_of(&proxy, &OTHERS, |head| {
        let placed = ["storage-class", "acl", "server-side-encryption"];
        let mut placed = placed.iter().map(|it| format!("x-amz-{it}"));
        placed.all(|name| header(head, &name).is_none())
    });
}

#[test]
fn encryption_by_the_store_is_asked_for_with_each_object() {
    let (plan, proxy) = behind(Server::moto());
    let mut mount = plan.args(["--sse", "AES256"]).start();
    use_everything(&mut mount);
    let name = "x-amz-server-side-encryption";
    all_of(&proxy, &MAKE, |head| has(head, name, "AES256"));
    all_of(&proxy, &OTHERS, |head| header(head, name).is_none());
}

fn key_file(plan: &MountBuilder, mode: u32) -> PathBuf {
    let path = plan.scratch().join("key");
    fs::write(&path, [b'k'; 32]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_key_of_ones_own_goes_with_every_request_that_needs_it_and_is_nowhere_else() {
    let (plan, proxy) = behind(Server::moto());
    let key = key_file(&plan, 0o600);
    let mut mount = plan
        .arg("--sse-customer-key-file")
        .arg(&key)
        // More of the signer than its own directive lets through.
        .args(["--log", "trace,[call]=trace,aws_sigv4::http_request=trace"])
        .start();
    use_everything(&mut mount);
    let with_key: Vec<&str> = MAKE
        .into_iter()
        .chain(OTHERS)
        .filter(|op| !WITHOUT_KEY.contains(op))
        .collect();
    let customer = "x-amz-server-side-encryption-customer-";
    all_of(&proxy, &with_key, |head| {
        ["algorithm", "key", "key-md5"]
            .iter()
            .all(|end| header(head, &format!("{customer}{end}")).is_some())
    });
    all_of(&proxy, &WITHOUT_KEY, |head| !head.contains("customer-key"));
    all_of(&proxy, &["CopyObject", "UploadPartCopy"], |head| {
        let source = "x-amz-copy-source-server-side-encryption-customer-key";
        header(head, source).is_some()
    });
    let heads = proxy.heads("GetObject");
    let base64 = header(&heads[0], &format!("{customer}key")).unwrap();
    let log = mount.log();
    assert!(!log.contains(base64), "the log has the key");
}

/// SeaweedFS copies no part that has a key.
#[test]
fn without_the_key_of_a_mount_nobody_reads_what_it_wrote() {
    let plan = Mount::on(Server::seaweedfs());
    let key = key_file(&plan, 0o600);
    let mut mount = plan
        .args(["--part-size", "5MiB", "--sse-customer-key-file"])
        .arg(&key)
        .start();
    let long = pattern(11 * MIB, 1);
    fs::write(mount.path("long"), &long).unwrap();
    fs::write(mount.path("short"), b"short").unwrap();
    fs::rename(mount.path("short"), mount.path("moved")).unwrap();
    mount.remount();
    assert_same_bytes(&fs::read(mount.path("long")).unwrap(), &long, "long");
    assert_eq!(fs::read(mount.path("moved")).unwrap(), b"short");
    for key in ["long", "moved"] {
        let read = mount.client().try_get(mount.bucket(), key);
        assert!(read.is_err(), "{key} is read without its key");
    }
}

#[test]
fn a_key_that_others_may_read_or_that_would_travel_in_the_clear_is_refused() {
    let (plan, proxy) = behind(Server::shared());
    let key = key_file(&plan, 0o644);
    let plan = plan.arg("--sse-customer-key-file").arg(&key);
    let output = plan.run();
    assert!(!output.status.success());
    has_all(&said(&output), &["sse-customer-key-file", "chmod 0600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let output = plan.set("--endpoint-url", "http://s3.invalid:80").run();
    assert!(!output.status.success());
    has_all(&said(&output), &["sse-customer-key-file", "https"]);
    assert_eq!(proxy.seen_in_all(), 0);
}

#[test]
fn options_that_exclude_each_other_are_wrong_usage() {
    for (options, words) in [
        (&["--sse-kms-key-id", "k"][..], "aws:kms"),
        (&["--storage-class", "DEEP_ARCHIVE"], "restore"),
        (&["--anonymous", "--profile", "p"], "anonymous"),
        (&["--accelerate"], "force-path-style"),
        (&["--acl", "everybody"], "bucket-owner-full-control"),
        (&["--expected-bucket-owner", "12"], "12 digits"),
    ] {
        let output = Mount::builder().args(options).run();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        has_all(&said(&output), &[words]);
    }
}

#[test]
fn without_credentials_requests_are_not_signed_and_the_mount_is_read_only_unless_told() {
    let (plan, proxy) = behind(Server::moto());
    let bucket = plan.bucket.clone();
    plan.client.call(async move |s3| {
        let put = s3.put_object().bucket(bucket).key("f");
        let put = put
            .body(b"public".to_vec().into())
            .acl(ObjectCannedAcl::PublicRead);
        put.send().await.unwrap();
    });
    let mut mount = plan.arg("--anonymous").start();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"public");
    let error = fs::write(mount.path("g"), b"x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    mount.unmount();
    mount.change_env("MEDIAFS_READ_ONLY", Some("false"));
    mount.remount();
    fs::write(mount.path("g"), b"x").unwrap();
    assert_eq!(mount.object("g").unwrap(), b"x");
    all_of(
        &proxy,
        &["GetObject", "PutObject", "ListObjectsV2"],
        |head| header(head, "authorization").is_none(),
    );
}
