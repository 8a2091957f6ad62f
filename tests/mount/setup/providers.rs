//! `--provider`: where a service's requests go, for which region they are signed, and what
//! is skipped that it does not have.

use super::{Plan, state};
use crate::support::forward_proxy::ForwardProxy;
use crate::support::programs::{has_all, said};
use crate::support::proxy::{Fault, Rule};
use crate::support::requests::header;
use crate::support::servers::OWNER;
use crate::support::{MountBuilder, Server};

/// With what the service is known by, and nothing of the tests' own.
fn told_by_its_provider(plan: Plan) -> Plan {
    let mut mount = plan.mount.without("--region");
    mount = mount.without_flag("--force-path-style");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        mount = mount.unset(name).unset(&name.to_lowercase());
    }
    Plan { mount, ..plan }
}

#[test]
fn each_provider_has_requests_signed_for_its_region_and_names_the_bucket_in_the_path() {
    let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
    let plan = told_by_its_provider(plan);
    let host = proxy.endpoint.trim_start_matches("http://");
    proxy.keep_heads();
    for (provider, region) in [
        ("r2", "auto"),
        ("wasabi", "us-east-1"),
        ("gcs", "auto"),
        ("garage", "garage"),
        ("seaweedfs", "us-east-1"),
        ("minio", "us-east-1"),
        ("ceph", "us-east-1"),
    ] {
        let before = proxy.heads("ListObjectsV2").len();
        let output = plan.run(&["--dry-run", "--provider", provider]);
        assert!(output.status.success(), "{provider}: {}", said(&output));
        let heads = proxy.heads("ListObjectsV2");
        let [head, ..] = &heads[before..] else {
            panic!("{provider} lists nothing");
        };
        let begin = format!("GET /{}", plan.mount.bucket);
        assert!(head.starts_with(&begin), "{provider}: {head}");
        assert_eq!(header(head, "host"), Some(host), "{provider}");
        let scope = format!("/{region}/s3/aws4_request");
        let signed = header(head, "authorization").unwrap();
        assert!(signed.contains(&scope), "{provider}: {signed}");
    }
}

#[test]
fn each_provider_that_is_hosted_is_asked_at_its_own_endpoint() {
    let asked = |provider: &str, region: &[&str]| {
        let way = ForwardProxy::new();
        let url = format!("http://{}", way.address);
        let plan = told_by_its_provider(Plan::on(Server::moto()));
        let mount = plan.mount.without("--endpoint-url");
        let mount = mount.args(["--request-timeout", "5s", "--proxy", &url]);
        let plan = Plan { mount, ..plan };
        let provider = ["--dry-run", "--provider", provider];
        let output = plan.run(&[&provider[..], region].concat());
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let passed = way.passed().into_iter().map(|it| it.line);
        let passed: Vec<String> = passed.collect();
        let [first, ..] = passed.as_slice() else {
            panic!("nothing was asked: {}", said(&output));
        };
        let host = first.split([' ', ':']).nth(1).unwrap().to_owned();
        host.replace(&plan.mount.bucket, "BUCKET")
    };
    let hosts = [
        (
            "aws",
            &["--region", "eu-central-1"][..],
            "BUCKET.s3.eu-central-1.amazonaws.com",
        ),
        ("aws", &[], "BUCKET.s3.us-east-1.amazonaws.com"),
        (
            "b2",
            &["--region", "eu-central-003"],
            "s3.eu-central-003.backblazeb2.com",
        ),
        ("wasabi", &[], "s3.us-east-1.wasabisys.com"),
        (
            "wasabi",
            &["--region", "eu-central-2"],
            "s3.eu-central-2.wasabisys.com",
        ),
        ("gcs", &[], "storage.googleapis.com"),
    ];
    std::thread::scope(|scope| {
        for (provider, region, host) in hosts {
            scope.spawn(move || assert_eq!(asked(provider, region), host, "{provider}"));
        }
    });
}

#[test]
fn what_a_provider_needs_and_nobody_has_named_is_wrong_usage() {
    let refused = |plan: Plan, provider: &str, word: &str| {
        let output = plan.run(&["--provider", provider]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        has_all(&said(&output), &[word]);
    };
    let nowhere = || {
        let plan = told_by_its_provider(Plan::on(Server::moto()));
        let mount: MountBuilder = plan.mount.without("--endpoint-url");
        Plan { mount, ..plan }
    };
    for provider in ["r2", "garage", "seaweedfs", "minio", "ceph"] {
        refused(nowhere(), provider, "--endpoint-url");
    }
    refused(nowhere(), "b2", "--region");
    refused(Plan::on(Server::moto()), "aws", "leave out one of them");
}

/// As R2, B2 and Garage do, each of some of these.
#[test]
fn settings_that_a_provider_does_not_have_are_skipped_by_name_and_all_else_is_done() {
    const SETTINGS: [(&str, &str, &str); 4] = [
        (
            "public access",
            "GetPublicAccessBlock",
            "PutPublicAccessBlock",
        ),
        ("ACL", "GetBucketAcl", "PutBucketAcl"),
        ("versioning", "GetBucketVersioning", "PutBucketVersioning"),
        ("lifecycle rule", "GetBucketLifecycle", "PutBucketLifecycle"),
    ];
    let options = ["--provider", "minio", "--versioning"];
    for (status, code) in [(501, "NotImplemented"), (405, "MethodNotAllowed")] {
        let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
        let plan = plan.made().with(&options);
        for (_, get, put) in SETTINGS {
            for op in [get, put] {
                proxy.rule(Rule::on(op, Fault::Answer(status, code)).of_store());
            }
        }
        let (steps, ended) = plan.steps(&[]);
        assert_eq!(ended, 0, "{steps:#?}");
        for (name, ..) in SETTINGS {
            assert_eq!(state(&steps, name), "skipped", "{steps:#?}");
        }
        for name in ["configuration", "credentials"] {
            assert_eq!(state(&steps, name), "done", "{steps:#?}");
        }
        plan.has_nothing_to_do(&[]);
        let text = std::fs::read_to_string(plan.credentials()).unwrap();
        assert!(text.contains(&*OWNER.access_key));
    }
}
