//! What is found of the store beyond its permissions: checksums, tags, keys, the way to it.

use super::{line, report, told};
use crate::support::forward_proxy::ForwardProxy;
use crate::support::proxy::{Fault, Rule, Side};
use crate::support::servers::free_ports;
use crate::support::{Mount, MountBuilder, Server};

const NO_TAGS: &str = "<Tagging><TagSet></TagSet></Tagging>";

/// Without a proxy of the tests' own environment.
fn without_proxies(mut plan: MountBuilder) -> MountBuilder {
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        plan = plan.unset(name).unset(&name.to_lowercase());
    }
    plan
}

#[test]
fn an_object_in_whose_place_a_directory_is_shown_is_told() {
    let plan = Mount::on(Server::moto());
    for key in ["a", "a/b", "c/", "c/d"] {
        plan.client.put(&plan.bucket, key, b"");
    }
    let words = ["1 cannot be shown", "a (a directory has its name)"];
    told(&plan, "keys", "warn", &words);
    let counted = ["3 files and 1 directory markers"];
    told(&plan, "objects", "ok", &counted);
}

#[test]
fn what_a_store_does_with_a_checksum_is_told() {
    let compares = ["compares a CRC-64/NVME"];
    told(&Mount::builder(), "checksums", "ok", &compares);
    let (plan, proxy) = Mount::behind_a_proxy();
    let refusal = Fault::Answer(400, "InvalidArgument");
    proxy.rule(Rule::on("*", refusal).header("x-amz-checksum-").of_store());
    told(&plan, "checksums", "warn", &["Content-MD5"]);
    let none = Mount::builder().args(["--upload-checksum", "none"]);
    told(&none, "checksums", "warn", &["no checksum goes along"]);
}

#[test]
fn a_store_that_does_not_compare_checksums_is_told() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let taken = Rule::on("PutObject", Fault::Document(""));
    proxy.rule(taken.key(".mediafs-doctor-*-checksum").of_store());
    told(&plan, "checksums", "warn", &["not those of their checksum"]);
}

#[test]
fn a_checksum_that_may_not_be_tried_is_told_with_the_permission() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let refused = Rule::on("PutObject", Fault::Answer(403, "AccessDenied"));
    proxy.rule(refused.key(".mediafs-doctor-*-checksum").of_store());
    let words = ["not known", "AccessDenied", "allow s3:PutObject"];
    told(&plan, "checksums", "warn", &words);
}

/// Some take as long as the doctor waits for an answer: all at once.
fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            let test = &test;
            scope.spawn(move || test(case));
        }
    });
}

#[test]
fn tags_that_a_store_refuses_or_loses_are_told() {
    let cases = [
        (Fault::Answer(501, "NotImplemented"), "nothing to do"),
        (Fault::Answer(403, "AccessDenied"), "s3:GetObjectTagging"),
        (Fault::Document(NO_TAGS), "does not keep them"),
        (Fault::Answer(503, "SlowDown"), "run it again"),
    ];
    at_once(cases, |(fault, word)| {
        let (plan, proxy) = Mount::behind_a_proxy();
        proxy.rule(Rule::on("GetObjectTagging", fault).of_store());
        told(&plan, "tags", "warn", &[word]);
        assert_eq!(plan.client.list(&plan.bucket, ""), []);
    });
}

#[test]
fn what_could_not_be_looked_at_in_time_is_told() {
    let cases = [
        ("HeadObject", "user_settings.py", "user_settings.py"),
        ("HeadObject", "logo.png", "content types"),
        ("ListMultipartUploads", "*", "list uploads"),
    ];
    at_once(cases, |(op, key, check)| {
        let (plan, proxy) = Mount::behind_a_proxy();
        plan.client.put(&plan.bucket, "logo.png", b"x");
        let busy = Rule::on(op, Fault::Answer(503, "SlowDown"));
        proxy.rule(busy.key(key).of_store());
        told(&plan, check, "warn", &["run it again"]);
    });
}

#[test]
fn the_proxy_of_the_environment_is_named_without_its_password() {
    let way = ForwardProxy::new();
    let (_, port) = Server::shared().endpoint.rsplit_once(':').unwrap();
    let plan = without_proxies(Mount::builder())
        .set("--endpoint-url", format!("http://s3.invalid:{port}"))
        .env("HTTP_PROXY", format!("http://ann:geheim@{}", way.address));
    let named = format!("http://{} (HTTP_PROXY)", way.address);
    told(&plan, "proxy", "ok", &[&named]);
    let (findings, _) = report(&mut plan.subcommand("doctor"));
    assert!(!format!("{findings:?}").contains("geheim"));
    let [port] = free_ports();
    let dead = without_proxies(Mount::builder())
        .set("--endpoint-url", "http://s3.invalid")
        .args(["--request-timeout", "1s"])
        .env("ALL_PROXY", format!("http://127.0.0.1:{port}"));
    told(
        &dead,
        "endpoint",
        "fail",
        &["through the proxy", "ALL_PROXY"],
    );
    let past = without_proxies(Mount::builder())
        .env("HTTP_PROXY", format!("http://{}", way.address))
        .env("NO_PROXY", "127.0.0.0/8");
    let (findings, _) = report(&mut past.subcommand("doctor"));
    assert_eq!(line(&findings, "proxy")["found"], "none for the endpoint");
}

#[test]
fn what_a_doctor_that_was_killed_has_left_is_as_old_as_the_store_says() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let (left, file) = (".mediafs-doctor-00000000000000f1", ".mediafs-doctors");
    for key in [left, file] {
        plan.client.put(&plan.bucket, key, b"x");
    }
    let found = |check: &str| {
        let (findings, _) = report(&mut plan.subcommand("doctor"));
        findings.iter().any(|finding| finding["check"] == check)
    };
    assert!(!found("scratch objects"), "another doctor may be at work");
    proxy.set_clock(700);
    assert!(found("scratch objects"));
    let keys = plan.client.list(&plan.bucket, "");
    assert_eq!(keys, [(file.to_owned(), 1)]);
}

#[test]
fn what_a_doctor_leaves_that_is_killed_at_any_request_is_deleted_by_a_later_one() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let (client, bucket) = (&plan.client, &plan.bucket);
    client.put(bucket, "file", b"x");
    client.begin_upload(bucket, "file");
    for (op, side) in [
        ("PutObject", Side::AfterServer),
        ("HeadObject", Side::BeforeServer),
        ("UploadPart", Side::AfterServer),
        ("DeleteObject", Side::BeforeServer),
    ] {
        let rule = Rule::on(op, Fault::Pass).key(".mediafs-doctor-*");
        let gate = proxy.hold(side, rule);
        let mut command = plan.subcommand("doctor");
        proxy.kill_at(&gate, &mut command);
    }
    let left = client.list(bucket, "");
    let scratch = left.len() - 1;
    assert!(scratch >= 4, "each has left some: {left:?}");
    assert_eq!(client.unfinished_uploads(bucket).len(), 2);
    let (young, _) = report(&mut plan.subcommand("doctor"));
    for check in ["scratch objects", "scratch uploads"] {
        assert!(young.iter().all(|it| it["check"] != check), "{young:#?}");
    }
    assert_eq!(client.list(bucket, ""), left, "another may be at work");
    proxy.set_clock(700);
    let (findings, _) = report(&mut plan.subcommand("doctor"));
    let found = &line(&findings, "scratch objects")["found"];
    let told = format!("{scratch} of a doctor or a mount that was killed are deleted");
    assert_eq!(found, &told);
    assert_eq!(line(&findings, "scratch uploads")["state"], "ok");
    assert_eq!(client.list(bucket, ""), [("file".to_owned(), 1)]);
    assert_eq!(client.unfinished_uploads(bucket), ["file"]);
}
