//! Private CAs, proxies, and services that are addressed wrongly.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::forward_proxy::ForwardProxy;
use crate::support::mount::is_mounted;
use crate::support::programs::{has_all, said};
use crate::support::proxy::{Fault, Rule};
use crate::support::tls_front::TlsFront;
use crate::support::{Mount, MountBuilder, Server, SupervisedMount, sys, wait_until};

/// Every variable that could lead the tests' own requests elsewhere is unset.
fn plan() -> MountBuilder {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
    let mut plan = Mount::builder().unset("AWS_CA_BUNDLE");
    for name in names {
        plan = plan.unset(name).unset(&name.to_lowercase());
    }
    plan
}

/// Mounts, and checks that a file becomes an object and an object a file.
#[track_caller]
fn serves(plan: MountBuilder) -> Mount {
    plan.client.put(&plan.bucket, "g", b"others");
    let mount = plan.start();
    fs::write(mount.path("f"), b"bytes").unwrap();
    assert_eq!(mount.object("f").unwrap(), b"bytes");
    assert_eq!(fs::read(mount.path("g")).unwrap(), b"others");
    mount
}

/// What a mount says that must fail, and how long it takes.
#[track_caller]
fn refusal(plan: &MountBuilder) -> (String, Duration) {
    let began = Instant::now();
    let output = plan.run();
    assert!(!output.status.success(), "{}", said(&output));
    assert!(!is_mounted(&plan.root));
    (said(&output), began.elapsed())
}

/// As `http://s3.invalid:PORT`, which only a proxy finds.
fn hidden_endpoint() -> String {
    let (_, port) = Server::shared().endpoint.rsplit_once(':').unwrap();
    format!("http://s3.invalid:{port}")
}

#[test]
fn a_private_ca_is_trusted_wherever_it_is_named() {
    let front = TlsFront::before(Server::shared());
    let plan = || plan().set("--endpoint-url", front.endpoint("127.0.0.1"));
    serves(plan().arg("--ca-bundle").arg(front.ca()));
    serves(plan().env("MEDIAFS_CA_BUNDLE", front.ca()));
    serves(plan().env("AWS_CA_BUNDLE", front.ca()));
    let by_profile = plan();
    let config = by_profile.scratch().join("config");
    let text = format!("[profile own]\nca_bundle = {}\n", front.ca().display());
    fs::write(&config, text).unwrap();
    let by_profile = by_profile.env("AWS_CONFIG_FILE", &config);
    serves(by_profile.args(["--profile", "own"]));
    let by_file = plan();
    let file = by_file.scratch().join("m.toml");
    fs::copy(front.ca(), by_file.scratch().join("ca.pem")).unwrap();
    fs::write(&file, "ca-bundle = \"ca.pem\"\n").unwrap();
    serves(by_file.arg("--config").arg(&file));
}

#[test]
fn an_unknown_issuer_is_told_at_once_with_what_to_set() {
    let front = TlsFront::before(Server::shared());
    let other = TlsFront::before(Server::shared());
    let plan = || {
        plan()
            .set("--endpoint-url", front.endpoint("127.0.0.1"))
            .args(["--request-timeout", "120s"])
    };
    for plan in [plan(), plan().arg("--ca-bundle").arg(other.ca())] {
        let (text, took) = refusal(&plan);
        has_all(&text, &["--ca-bundle", "AWS_CA_BUNDLE", "not trusted"]);
        assert!(!text.contains("DNS"), "{text}");
        assert!(took < Duration::from_secs(60), "{took:?}: {text}");
    }
}

#[test]
fn a_bundle_that_cannot_be_used_is_refused_with_its_name() {
    let plan = plan();
    let file = plan.scratch().join("ca.pem");
    let plan = plan.env("AWS_CA_BUNDLE", &file);
    let (text, _) = refusal(&plan);
    has_all(&text, &["AWS_CA_BUNDLE", "ca.pem", "No such file"]);
    fs::write(&file, "no certificate").unwrap();
    let (text, _) = refusal(&plan);
    has_all(&text, &["AWS_CA_BUNDLE", "ca.pem", "no certificate"]);
}

#[test]
fn a_proxy_is_used_wherever_it_is_named() {
    let via = |change: &dyn Fn(MountBuilder, &str) -> MountBuilder| {
        let proxy = ForwardProxy::new();
        let url = format!("http://{}", proxy.address);
        let plan = plan().set("--endpoint-url", hidden_endpoint());
        serves(change(plan, &url));
        let passed = proxy.passed();
        assert!(!passed.is_empty());
        assert!(
            passed
                .iter()
                .all(|it| it.line.contains("http://s3.invalid:"))
        );
    };
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        via(&|plan, url| plan.env(name, url));
    }
    via(&|plan, url| plan.args(["--proxy", url]));
    via(&|plan, url| plan.env("MEDIAFS_PROXY", url));
    // Lower case comes first, and what is empty is unset.
    let nowhere = "http://127.0.0.1:9";
    via(&|plan, url| plan.env("HTTP_PROXY", nowhere).env("http_proxy", url));
    via(&|plan, url| plan.env("HTTP_PROXY", url).env("http_proxy", ""));
    // The option comes before the environment.
    via(&|plan, url| {
        let plan = plan.env("HTTP_PROXY", nowhere);
        plan.args(["--proxy", url])
    });
}

#[test]
fn requests_over_tls_go_through_a_tunnel_of_the_proxy() {
    let front = TlsFront::before(Server::shared());
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "MEDIAFS_PROXY"] {
        let proxy = ForwardProxy::new();
        let plan = plan()
            .set("--endpoint-url", front.endpoint("s3.invalid"))
            .arg("--ca-bundle")
            .arg(front.ca())
            .env(name, format!("http://ann:geheim@{}", proxy.address))
            .args(["--log", "trace"]);
        let mut mount = serves(plan);
        mount.unmount();
        let passed = proxy.passed();
        assert!(!passed.is_empty(), "{name}");
        for it in passed {
            assert!(it.line.starts_with("CONNECT s3.invalid:"), "{it:?}");
            assert_eq!(it.authorization.as_deref(), Some("Basic YW5uOmdlaGVpbQ=="));
        }
        let log = mount.log();
        for secret in ["geheim", "YW5uOmdlaGVpbQ"] {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None);
        }
    }
}

#[test]
fn no_proxy_names_what_is_reached_without_one() {
    for no_proxy in ["127.0.0.0/8", "127.0.0.1", "example.com, 127.0.0.0/16", "*"] {
        let proxy = ForwardProxy::new();
        let url = format!("http://{}", proxy.address);
        serves(plan().env("HTTP_PROXY", &url).env("NO_PROXY", no_proxy));
        serves(plan().env("http_proxy", &url).env("no_proxy", no_proxy));
        serves(plan().args(["--proxy", &url]).env("NO_PROXY", no_proxy));
        assert!(
            proxy.passed().is_empty(),
            "{no_proxy}: {:?}",
            proxy.passed()
        );
        serves(plan().env("HTTP_PROXY", &url).env("NO_PROXY", "10.0.0.0/8"));
        assert!(!proxy.passed().is_empty());
    }
}

#[test]
fn credentials_come_through_the_proxy_too() {
    let proxy = ForwardProxy::new();
    let plan = plan()
        .without_credentials()
        .args(["--request-timeout", "6s"]);
    let token = plan.scratch().join("token");
    fs::write(&token, "token").unwrap();
    let plan = plan
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", &token)
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
        .env("HTTPS_PROXY", format!("http://{}", proxy.address));
    refusal(&plan);
    let passed = proxy.passed();
    assert!(
        passed.iter().any(|it| it.line.starts_with("CONNECT sts.")),
        "{passed:?}"
    );
}

#[test]
fn single_sign_on_goes_through_the_proxy_too() {
    const CONFIG: &str = "[profile own]\nregion = us-east-1\nsso_region = us-east-1\nsso_role_name = r\nsso_account_id = 123456789012\nsso_start_url = https://example.awsapps.com/start\n";
    const TOKEN: &str = r#"{"accessToken": "token", "expiresAt": "2099-01-01T00:00:00Z"}"#;
    // Named by the SHA-1 of the start URL.
    const CACHED: &str = ".aws/sso/cache/e8be5486177c5b5392bd9aa76563515b29358e6e.json";
    let proxy = ForwardProxy::new();
    let plan = plan()
        .without_credentials()
        .args(["--request-timeout", "6s", "--profile", "own"]);
    let home = plan.scratch().to_owned();
    fs::create_dir_all(home.join(CACHED).parent().unwrap()).unwrap();
    fs::write(home.join(CACHED), TOKEN).unwrap();
    fs::write(home.join(".aws/config"), CONFIG).unwrap();
    let plan = plan.env("HOME", &home).unset("AWS_CONFIG_FILE");
    refusal(&plan.args(["--proxy", &format!("http://{}", proxy.address)]));
    let passed = proxy.passed();
    let is_sso = |line: &str| line.starts_with("CONNECT portal.sso.");
    assert!(passed.iter().any(|it| is_sso(&it.line)), "{passed:?}");
}

#[test]
fn a_password_on_the_command_line_and_what_is_no_http_proxy_are_refused_and_not_repeated() {
    let (text, _) = refusal(&plan().args(["--proxy", "http://ann:geheim@127.0.0.1:9"]));
    has_all(&text, &["--proxy", "HTTPS_PROXY"]);
    assert!(!text.contains("geheim"), "{text}");
    let (text, _) = refusal(&plan().env("HTTPS_PROXY", "socks5://ann:geheim@127.0.0.1:9"));
    has_all(&text, &["HTTPS_PROXY", "SOCKS"]);
    assert!(!text.contains("geheim"), "{text}");
}

#[test]
fn a_bucket_in_the_host_name_that_nobody_finds_is_told_with_the_name_and_the_option() {
    let plan = plan()
        .without_flag("--force-path-style")
        .set("--endpoint-url", "http://s3.invalid:8333")
        .args(["--request-timeout", "2s"]);
    let (text, _) = refusal(&plan);
    let host = format!("{}.s3.invalid", plan.bucket);
    has_all(&text, &[&host, "--force-path-style"]);
}

#[test]
fn an_arn_that_cannot_be_used_is_refused_in_words() {
    let at_another = "arn:aws:s3:us-east-1:123456789012:accesspoint/ap/media";
    let with_endpoint = || plan().without_flag("--force-path-style");
    for (plan, words) in [
        (plan().bucket("arn:aws:s3:::bucket"), "ARN"),
        (plan().bucket(at_another), "force-path-style"),
        (with_endpoint().bucket(at_another), "an endpoint of its own"),
    ] {
        let (text, _) = refusal(&plan);
        has_all(&text, &[words, "-s3alias"]);
    }
}

#[test]
fn endpoints_of_aws_are_asked_for_by_their_names() {
    let via = |options: &[&str], bucket: &str, host: &str| {
        let proxy = ForwardProxy::new();
        let plan = plan()
            .without("--endpoint-url")
            .without_flag("--force-path-style")
            .bucket(bucket)
            .set("--region", "us-west-2")
            .args(["--request-timeout", "3s", "--proxy"])
            .arg(format!("http://{}", proxy.address))
            .args(options);
        refusal(&plan);
        let passed = proxy.passed();
        let asked = passed
            .iter()
            .any(|it| it.line.contains(&format!("{host}:443")));
        assert!(asked, "{host}: {passed:?}");
    };
    via(&[], "b-1", "b-1.s3.us-west-2.amazonaws.com");
    via(
        &["--dual-stack"],
        "b-1",
        "b-1.s3.dualstack.us-west-2.amazonaws.com",
    );
    via(&["--fips"], "b-1", "b-1.s3-fips.us-west-2.amazonaws.com");
    via(&["--accelerate"], "b-1", "b-1.s3-accelerate.amazonaws.com");
    via(
        &[],
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/media",
        "ap-123456789012.s3-accesspoint.eu-west-1.amazonaws.com",
    );
    for option in ["--dual-stack", "--fips", "--accelerate"] {
        let plan = plan().without_flag("--force-path-style").arg(option);
        let (text, _) = refusal(&plan);
        has_all(&text, &[option, "leave out one of them"]);
    }
}

/// Codes and statuses by which a store says that a bucket is in another region.
const ELSEWHERE: [(u16, &str); 2] = [
    (301, "PermanentRedirect"),
    (400, "AuthorizationHeaderMalformed"),
];
const REGION_LINE: &str = "x-amz-bucket-region: eu-north-1";

#[test]
fn a_bucket_in_another_region_is_followed_once_and_the_log_names_the_region() {
    for (status, code) in ELSEWHERE {
        for fault in [
            Fault::AnswerWith(status, code, REGION_LINE),
            Fault::Elsewhere(status, code, "eu-north-1"),
        ] {
            let (plan, proxy) = Mount::behind_a_proxy();
            proxy.rule(Rule::on("*", fault).signed_for("us-east-1").of_store());
            let mut mount = serves(plan);
            let told = |mount: &Mount| mount.log().matches("region=eu-north-1").count();
            assert_eq!(told(&mount), 1, "{fault:?}");
            // Credentials that are read anew go there too.
            mount.signal(rustix::process::Signal::HUP);
            wait_until(Duration::from_secs(60), "a reload", || {
                mount.log().contains("credentials reloaded")
            });
            fs::write(mount.path("later"), b"bytes").unwrap();
            assert!(!mount.log().contains("names another endpoint or region"));
            mount.remount();
            assert_eq!(fs::read(mount.path("later")).unwrap(), b"bytes");
            assert_eq!(told(&mount), 2, "{fault:?}");
        }
    }
}

/// A successor asks nothing at its start.
#[test]
fn a_successor_follows_its_first_request_to_the_region_of_the_bucket() {
    let (plan, proxy) = Mount::behind_a_proxy();
    // The answer to a HEAD has no body, and no code.
    let fault = Fault::AnswerWith(400, "AuthorizationHeaderMalformed", REGION_LINE);
    proxy.rule(Rule::on("*", fault).signed_for("us-east-1").of_store());
    let mount = SupervisedMount::start(plan.set("--ttl", "0"));
    fs::write(mount.path("f"), b"first").unwrap();
    mount.kill_daemon();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"first");
    fs::write(mount.path("f"), b"second").unwrap();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"second");
}

#[test]
fn a_bucket_that_no_region_has_is_told_with_the_region() {
    let (plan, proxy) = Mount::behind_a_proxy();
    for (status, code) in ELSEWHERE {
        let fault = Fault::AnswerWith(status, code, REGION_LINE);
        proxy.rule(Rule::on("ListObjectsV2", fault).always());
        let asked = proxy.seen("ListObjectsV2");
        let (text, _) = refusal(&plan);
        has_all(&text, &["use --region eu-north-1"]);
        assert_eq!(proxy.seen("ListObjectsV2") - asked, 2, "followed once");
        proxy.heal();
        // What would be another host is none.
        let fault = Fault::AnswerWith(status, code, "x-amz-bucket-region: evil.example/");
        proxy.rule(Rule::on("ListObjectsV2", fault).always());
        let asked = proxy.seen("ListObjectsV2");
        let (text, _) = refusal(&plan);
        has_all(&text, &["name it with --region"]);
        assert_eq!(proxy.seen("ListObjectsV2") - asked, 1, "not followed");
        proxy.heal();
    }
}

/// The signature covers the bytes of an upload where nothing else protects their way.
#[test]
fn bytes_are_signed_over_plain_http_and_protected_by_tls_and_a_checksum_over_https() {
    let files = [("short", b"bytes".to_vec()), ("long", vec![1; 9 << 20])];
    let write = |mount: &Mount, name: &str, bytes: &[u8]| {
        let mut file = File::create(mount.path(name)).unwrap();
        file.write_all(bytes).unwrap();
        sys::close(file)
    };
    let (over_http, proxy) = Mount::behind_a_proxy();
    for op in ["PutObject", "UploadPart"] {
        let refused = Fault::Answer(403, "AccessDenied");
        let rule = Rule::on(op, refused).header("x-amz-content-sha256: unsigned-payload");
        proxy.rule(rule.always());
    }
    let mount = over_http.start();
    for (name, bytes) in &files {
        write(&mount, name, bytes).unwrap();
        assert!(mount.object(name).unwrap() == *bytes, "{name}");
    }
    let front = TlsFront::before_endpoint(&proxy.endpoint);
    let over_tls = plan()
        .set("--endpoint-url", front.endpoint("127.0.0.1"))
        .arg("--ca-bundle")
        .arg(front.ca());
    let mount = over_tls.start();
    for (name, bytes) in &files {
        assert!(write(&mount, name, bytes).is_err(), "{name} was signed");
    }
    proxy.heal();
    for (name, bytes) in &files {
        write(&mount, name, bytes).unwrap();
        assert!(mount.object(name).unwrap() == *bytes, "{name}");
    }
}
