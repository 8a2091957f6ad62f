//! What is read of a mount over HTTP: metrics, health, and who is answered.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::control::{curl, done, listening, status};
use crate::support::metrics::{MetricsAt, value};
use crate::support::proxy::Fault;
use crate::support::{Mount, SupervisedMount, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const ALWAYS: usize = 1_000_000;
/// In which health is answered, whatever S3 does.
const QUICK: Duration = Duration::from_millis(100);

/// The number of calls of an operation that were answered.
fn calls(text: &str, operation: &str) -> f64 {
    let name = "mediafs_call_duration_seconds_count";
    value(text, &format!("{name}{{operation=\"{operation}\"}}"))
}

#[test]
fn histograms_count_the_calls_and_the_requests_that_were_made() {
    let (plan, at) = MetricsAt::free(Mount::builder());
    let mount = plan.start();
    at.wait();
    let before = at.get("/metrics");
    for number in 0..7 {
        fs::write(mount.path(format!("f{number}")), vec![1; 1000]).unwrap();
    }
    for number in 0..7 {
        assert_eq!(
            fs::read(mount.path(format!("f{number}"))).unwrap().len(),
            1000
        );
    }
    let made = [("create", 7.0), ("write", 7.0), ("open", 7.0)];
    let since = |text: &str, operation: &str| calls(text, operation) - calls(&before, operation);
    let mut after = String::new();
    // A call is counted once it is answered.
    wait_until(WITHIN, "the last calls are counted", || {
        after = at.get("/metrics");
        let mut all = made.iter().chain(&[("release", 14.0)]);
        all.all(|(operation, made)| since(&after, operation) >= *made)
    });
    for (operation, made) in made {
        let counted = since(&after, operation);
        assert_eq!(counted, made, "{operation}: {after}");
    }
    let written = value(&after, "mediafs_written_bytes_total");
    assert_eq!(
        written - value(&before, "mediafs_written_bytes_total"),
        7000.0
    );
    wait_until(WITHIN, "a time when no request is under way", || {
        let told = status(&mount);
        let requests = told["requests"]["by_kind"].as_object().unwrap();
        assert!(requests["PutObject"].as_u64().unwrap() >= 7, "{told}");
        let latency = &told["requests"]["latency"];
        let mut requests = requests.iter();
        requests.all(|(kind, sent)| latency[kind]["count"] == *sent)
    });
}

#[test]
fn the_metrics_are_the_numbers_of_the_status_at_the_socket_and_at_the_address() {
    let (plan, at) = MetricsAt::free(Mount::builder());
    let mount = plan.start();
    at.wait();
    fs::write(mount.path("f"), vec![1; 5000]).unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    let (mut told, mut texts) = (Value::Null, Vec::new());
    // Nothing but the mount's start may send a request meanwhile.
    wait_until(WITHIN, "numbers that stay", || {
        let before = status(&mount);
        let by_socket = curl(&listening(&mount), "/metrics", None);
        texts = vec![at.get("/metrics"), by_socket];
        told = status(&mount);
        let shown = |told: &Value| {
            let requests = &told["requests"];
            let all = [
                &requests["sent_bytes"],
                &requests["by_kind"],
                &told["spool"]["used_bytes"],
            ];
            all.map(Value::clone)
        };
        shown(&told) == shown(&before)
    });
    for text in texts {
        for (series, want) in [
            (
                "mediafs_s3_sent_bytes_total",
                &told["requests"]["sent_bytes"],
            ),
            ("mediafs_spool_used_bytes", &told["spool"]["used_bytes"]),
            ("mediafs_memory_limit_bytes", &told["memory"]["limit_bytes"]),
            ("mediafs_takeovers_total", &told["takeovers"]),
            (
                "mediafs_s3_requests_total{request=\"PutObject\"}",
                &told["requests"]["by_kind"]["PutObject"],
            ),
        ] {
            assert_eq!(value(&text, series), number(want), "{series}: {text}");
        }
        assert_eq!(value(&text, "mediafs_s3_up"), 1.0);
        assert_eq!(value(&text, "mediafs_state{state=\"alive\"}"), 1.0);
        assert!(value(&text, "process_open_fds") > 5.0, "{text}");
    }
    let by_address: Value = serde_json::from_str(&at.get("/api/status")).unwrap();
    assert_eq!(by_address["pid"], told["pid"]);
    let all: Value = serde_json::from_str(&at.get("/api/mounts")).unwrap();
    assert_eq!(all[0]["status"]["mountpoint"], told["mountpoint"]);
    let page = curl(&listening(&mount), "/", None);
    assert!(page.contains(mount.bucket()), "{page}");
}

#[test]
fn health_is_answered_quickly_and_readiness_gives_the_reason_while_s3_is_down() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let (plan, at) = MetricsAt::free(plan.args(["--request-timeout", "6s"]));
    let mount = plan.start();
    at.wait();
    assert_eq!(at.get("/healthz"), "alive\n");
    assert_eq!(at.get("/readyz"), "ready\n");
    proxy.fail("*", Fault::Stall, ALWAYS);
    wait_until(WITHIN, "an outage", || {
        drop(fs::metadata(mount.path("unknown")));
        at.asked("/readyz", &[]).code == 503
    });
    let ready = at.asked("/readyz", &[]);
    assert!(
        ready.body.starts_with("not ready: S3 unreachable since"),
        "{ready:?}"
    );
    // Of several, since a busy machine is slow now and then.
    wait_until(WITHIN, "a quick answer", || {
        let began = Instant::now();
        assert!(at.get("/healthz").starts_with("degraded: S3 unreachable"));
        began.elapsed() < QUICK
    });
    let metrics = at.get("/metrics");
    assert_eq!(value(&metrics, "mediafs_s3_up"), 0.0);
    let timed_out = "mediafs_s3_requests_failed_total{reason=\"TimedOut\"}";
    assert!(value(&metrics, timed_out) > 0.0, "{metrics}");
    assert!(
        value(&metrics, "mediafs_s3_retries_total") > 0.0,
        "{metrics}"
    );
    proxy.heal();
    wait_until(WITHIN, "S3 again", || at.asked("/readyz", &[]).code == 200);
}

#[test]
fn who_is_sent_there_by_another_page_is_refused_and_nothing_can_be_changed() {
    let (plan, at) = MetricsAt::free(Mount::builder());
    let mount = plan.start();
    at.wait();
    for path in ["/", "/metrics", "/api/status", "/healthz"] {
        let refused = at.asked(path, &["-H", "Host: evil.example"]);
        assert_eq!(refused.code, 421, "{path}: {refused:?}");
        assert!(!refused.body.contains(mount.bucket()), "{refused:?}");
        assert_eq!(at.asked(path, &["-H", "Host: localhost:1"]).code, 200);
        assert_eq!(at.asked(path, &["-X", "POST"]).code, 405, "{path}");
    }
    for path in ["/unmount", "/reload", "/flush", "/refresh"] {
        assert_eq!(at.asked(path, &["-X", "POST"]).code, 404, "{path}");
    }
    let page = at.asked("/", &[]);
    for header in [
        "content-security-policy: default-src 'none';",
        "x-content-type-options: nosniff",
        "cross-origin-resource-policy: same-origin",
        "cache-control: no-store",
    ] {
        assert!(page.headers.contains(header), "{header}: {page:?}");
    }
    assert!(!page.headers.contains("access-control"), "{page:?}");
}

#[test]
fn an_address_that_is_taken_is_told_and_had_once_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = MetricsAt(taken.local_addr().unwrap().to_string());
    let mount = Mount::builder().args(["--metrics", &at.0]).start();
    wait_until(WITHIN, "a warning", || {
        mount.log().contains("another program listens there")
    });
    fs::write(mount.path("f"), b"it is a mount all the same").unwrap();
    drop(taken);
    at.wait();
    assert!(at.get("/metrics").contains("mediafs_s3_up 1"));
}

#[test]
fn an_address_that_is_none_is_refused_and_one_of_others_is_warned_of() {
    let output = Mount::builder().args(["--metrics", "media:port"]).run();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("127.0.0.1:9750"), "{said}");
    let mount = Mount::builder().args(["--metrics", "0.0.0.0:0"]).start();
    wait_until(WITHIN, "a warning", || {
        mount.log().contains("is not a loopback address")
    });
    let without = Mount::fresh();
    assert!(!without.log().contains("status page"), "{}", without.log());
}

#[test]
fn a_successor_listens_at_the_same_address_and_counts_the_takeover() {
    let (plan, at) = MetricsAt::free(Mount::builder());
    let mount = SupervisedMount::start(plan);
    at.wait();
    assert_eq!(at.value("mediafs_takeovers_total"), 0.0);
    for killed in 1..=2 {
        mount.kill_daemon();
        wait_until(WITHIN, "the successor's answer", || {
            let answer = at.asked("/metrics", &[]);
            value(&answer.body, "mediafs_takeovers_total") == f64::from(killed)
        });
    }
    assert_eq!(status(&mount)["takeovers"], 2);
    assert!(done(&mount, &["status", mount.root.to_str().unwrap()]).contains("2 takeovers"));
}
