//! Stores that refuse, answers that are lost, setups that are killed or run at once.

use std::process::Stdio;

use super::{Plan, WITHIN, aborts_uploads, state};
use crate::support::programs::{has_all, said};
use crate::support::proxy::{Fault, Rule, Side};
use crate::support::{Server, wait_until};

/// Each change of the bucket that a setup makes on moto.
const CHANGES: [&str; 5] = [
    "CreateBucket",
    "PutPublicAccessBlock",
    "PutBucketEncryption",
    "PutBucketLifecycle",
    "PutBucketCors",
];
const READS: [&str; 5] = [
    "GetPublicAccessBlock",
    "GetBucketAcl",
    "GetBucketEncryption",
    "GetBucketLifecycle",
    "GetBucketCors",
];

fn whole(plan: Plan) -> Plan {
    plan.with(&["--default-encryption", "--cors-origin", "a"])
}

fn name_of(op: &str) -> &'static str {
    match op.trim_start_matches("Get").trim_start_matches("Put") {
        "CreateBucket" => "bucket",
        "PublicAccessBlock" => "public access",
        "BucketAcl" => "ACL",
        "BucketEncryption" => "default encryption",
        "BucketLifecycle" => "lifecycle rule",
        "BucketCors" => "CORS",
        other => panic!("{other}"),
    }
}

#[test]
fn what_the_store_does_not_know_is_skipped_and_what_is_forbidden_is_told() {
    for (status, code, of_read, of_change) in [
        (501, "NotImplemented", "skipped", "skipped"),
        (405, "MethodNotAllowed", "skipped", "skipped"),
        (403, "AccessDenied", "skipped", "failed"),
    ] {
        let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
        let plan = whole(plan);
        for op in READS {
            proxy.rule(Rule::on(op, Fault::Answer(status, code)).always());
        }
        let (steps, exit) = plan.steps(&[]);
        assert_eq!(exit, 0, "{steps:#?}");
        assert_eq!(state(&steps, "bucket"), "done");
        for op in READS {
            assert_eq!(state(&steps, name_of(op)), of_read, "{steps:#?}");
        }
        assert_eq!(state(&steps, "configuration"), "done");
        proxy.heal();
        for op in &CHANGES[1..] {
            proxy.rule(Rule::on(op, Fault::Answer(status, code)).always());
        }
        let (steps, exit) = plan.steps(&[]);
        for op in &CHANGES[1..] {
            assert_eq!(state(&steps, name_of(op)), of_change, "{steps:#?}");
        }
        assert_eq!(exit, i32::from(of_change == "failed"), "{steps:#?}");
    }
}

#[test]
fn what_the_store_gives_no_answer_to_has_failed_and_is_not_taken_for_done() {
    let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
    let plan = whole(plan);
    for op in READS {
        proxy.rule(Rule::on(op, Fault::Answer(503, "SlowDown")).always());
    }
    let (steps, exit) = plan.steps(&[]);
    for op in READS {
        assert_eq!(state(&steps, name_of(op)), "failed", "{steps:#?}");
    }
    assert_eq!(exit, 1, "{steps:#?}");
}

#[test]
fn default_encryption_with_which_the_store_takes_no_object_is_taken_back() {
    let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
    proxy.rule(Rule::on("PutObject", Fault::Answer(400, "KMS.NotFoundException")).always());
    let (steps, exit) = plan.steps(&["--default-encryption"]);
    assert_eq!(state(&steps, "default encryption"), "failed", "{steps:#?}");
    assert_eq!(exit, 1);
    proxy.heal();
    let (steps, _) = plan.steps(&["--default-encryption"]);
    assert_eq!(state(&steps, "default encryption"), "done", "{steps:#?}");
}

#[test]
fn a_bucket_that_may_not_be_made_ends_the_setup_and_one_that_is_found_late_does_not() {
    let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
    for (status, code) in [(403, "AccessDenied"), (409, "BucketAlreadyExists")] {
        proxy.rule(Rule::on("CreateBucket", Fault::Answer(status, code)).always());
        let output = plan.run(&["--yes"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        has_all(&said(&output), &["fail  bucket", code]);
        assert!(!plan.file().exists());
        proxy.heal();
    }
    let not_yet = Rule::on("ListObjectsV2", Fault::Answer(404, "NoSuchBucket"));
    proxy.rule(not_yet.times(5));
    let of_settings = Rule::on("PutBucketLifecycle", Fault::Answer(404, "NoSuchBucket"));
    proxy.rule(of_settings);
    let first = plan.run(&["--yes"]);
    has_all(&said(&first), &["done  bucket"]);
    plan.succeeds(&[]);
    plan.has_nothing_to_do(&[]);
}

#[test]
fn lost_and_doubled_answers_leave_everything_set_once() {
    for fault in [Fault::LoseAnswer, Fault::Twice, Fault::CutAnswer] {
        let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
        let plan = whole(plan);
        for op in CHANGES {
            proxy.rule(Rule::on(op, fault));
        }
        plan.run(&["--yes"]);
        proxy.heal();
        plan.succeeds(&[]);
        plan.has_nothing_to_do(&[]);
        let rules = plan.lifecycle();
        assert_eq!(rules.iter().filter(|rule| aborts_uploads(rule)).count(), 1);
    }
}

#[test]
fn a_setup_that_is_killed_at_any_change_is_gone_on_with() {
    let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
    let plan = whole(plan);
    for (number, op) in CHANGES.into_iter().enumerate() {
        let side = [Side::BeforeServer, Side::AfterServer][number % 2];
        let gate = proxy.hold(side, Rule::on(op, Fault::Pass));
        let mut command = plan.command(&["--yes"]);
        proxy.kill_at(&gate, &mut command);
    }
    plan.succeeds(&[]);
    plan.has_nothing_to_do(&[]);
}

#[test]
fn of_two_setups_at_once_one_waits_for_its_turn_or_finds_all_done() {
    let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
    let made = Rule::on("CreateBucket", Fault::Pass).always();
    let gate = proxy.hold(Side::AfterServer, made);
    let mut first = plan.command(&["--yes"]);
    let mut first = first.stdout(Stdio::null()).spawn().unwrap();
    gate.wait_for(1);
    let second = plan.run(&["--yes"]);
    assert!(!second.status.success());
    has_all(&said(&second), &["another setup"]);
    gate.open();
    let mut status = None;
    wait_until(WITHIN, "the first setup's end", || {
        status = first.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
    plan.has_nothing_to_do(&[]);
}

#[test]
fn rules_with_elements_that_would_be_lost_are_left_alone() {
    let (plan, proxy) = Plan::behind_a_proxy(Server::moto());
    let plan = plan.made();
    let rules = "<LifecycleConfiguration><Rule><ID>t</ID><Status>Enabled</Status>\
        <Filter><Prefix>x</Prefix></Filter><Expiration><Days>3</Days></Expiration>\
        <DelMarkerExpiration><Days>1</Days></DelMarkerExpiration></Rule></LifecycleConfiguration>";
    proxy.rule(Rule::on("GetBucketLifecycle", Fault::Document(rules)).always());
    let (steps, code) = plan.steps(&[]);
    assert_eq!(
        (state(&steps, "lifecycle rule"), code),
        ("skipped", 0),
        "{steps:#?}"
    );
    assert!(
        format!("{steps:?}").contains("DelMarkerExpiration"),
        "{steps:#?}"
    );
    assert_eq!(proxy.seen("PutBucketLifecycle"), 0);
}
