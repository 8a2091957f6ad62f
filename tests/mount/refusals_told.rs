//! What the store said of a request that it refused stands in the log, with the request.

use std::fs;
use std::io::Write;
use std::time::Duration;

use crate::support::proxy::{Fault, Proxy, Rule};
use crate::support::{DURABILITIES, Mount, sys, wait_until};

const SOON: Duration = Duration::from_secs(60);
const ID: &str = "x-amz-request-id: REQUEST-17";

fn refuse(proxy: &Proxy, op: &'static str, key: &str, status: u16, code: &'static str) {
    let fault = Fault::AnswerWith(status, code, ID);
    proxy.rule(Rule::on(op, fault).key(key).always());
}

/// Waits for a warning or an error with all these words in one line.
#[track_caller]
fn tells(mount: &Mount, words: &[&str]) {
    let is_told = || {
        mount.log().lines().any(|line| {
            (line.contains("ERROR") || line.contains("WARN"))
                && words.iter().all(|word| line.contains(word))
        })
    };
    wait_until(SOON, &format!("{words:?} in one line"), is_told);
}

#[test]
fn a_refused_upload_is_told_with_code_message_request_id_operation_and_key() {
    let refusals = [
        (403, "AccessDenied"),
        (412, "PreconditionFailed"),
        (400, "EntityTooLarge"),
        (404, "NoSuchKey"),
        (403, "SignatureDoesNotMatch"),
    ];
    for durability in DURABILITIES {
        let (plan, proxy) = Mount::behind_a_proxy();
        let plan = plan.args(["--request-timeout", "10s", "--drain-timeout", "1s"]);
        let mount = plan.durability(durability).start();
        for (at, (status, code)) in refusals.into_iter().enumerate() {
            let name = format!("refused-{at}");
            refuse(&proxy, "PutObject", &name, status, code);
            let mut file = fs::File::create(mount.path(&name)).unwrap();
            file.write_all(b"bytes").unwrap();
            let closed = sys::close(file);
            assert_eq!(closed.is_err(), durability == "s3", "{code}: {closed:?}");
            tells(
                &mount,
                &[code, "planned", "REQUEST-17", "PutObject", name.as_str()],
            );
        }
    }
}

#[test]
fn a_refused_read_listing_or_removal_is_told() {
    let (plan, proxy) = Mount::behind_a_proxy();
    for key in ["d/read", "e/f", "gone"] {
        plan.client.put(&plan.bucket, key, b"bytes");
    }
    let mount = plan.start();
    refuse(&proxy, "GetObject", "d/read", 403, "AccessDenied");
    let refused = fs::read(mount.path("d/read")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    let words = ["AccessDenied", "planned", "REQUEST-17"];
    let with = |more: [&'static str; 2]| [&words[..], &more].concat();
    tells(&mount, &with(["GetObject", "d/read"]));

    refuse(&proxy, "ListObjectsV2", "e/*", 403, "AccessDenied");
    let refused =
        fs::read_dir(mount.path("e")).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    assert_eq!(
        refused.unwrap_err().kind(),
        std::io::ErrorKind::PermissionDenied
    );
    tells(&mount, &with(["ListObjectsV2", "e/"]));

    refuse(&proxy, "DeleteObject", "gone", 403, "AccessDenied");
    let refused = fs::remove_file(mount.path("gone")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    tells(&mount, &with(["DeleteObject", "gone"]));
}

#[test]
fn the_error_of_a_refused_upload_stands_beside_the_bytes_that_are_kept() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mut mount = plan.start();
    refuse(&proxy, "PutObject", "f", 400, "EntityTooLarge");
    let mut file = fs::File::create(mount.path("f")).unwrap();
    file.write_all(b"bytes").unwrap();
    sys::close(file).unwrap_err();
    mount.unmount();
    let sidecars = mount.sidecars().join("\n");
    for word in ["EntityTooLarge", "planned", "REQUEST-17"] {
        assert!(sidecars.contains(word), "no {word} in {sidecars}");
    }
}

#[test]
fn a_region_that_a_store_names_in_every_error_is_told_only_where_it_is_another() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan.start();
    let fault = Fault::Elsewhere(403, "AccessDenied", "garage");
    proxy.rule(Rule::on("PutObject", fault).key("f").always());
    let mut file = fs::File::create(mount.path("f")).unwrap();
    file.write_all(b"bytes").unwrap();
    sys::close(file).unwrap_err();
    tells(&mount, &["AccessDenied", "PutObject"]);
    assert!(!mount.log().contains("is in region"), "{}", mount.log());
}
