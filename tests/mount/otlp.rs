//! Spans and metrics that a collector of OpenTelemetry gets, and what it may do without
//! anybody waiting for it.

use std::fs;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::support::collector::{Collector, Mood, text};
use crate::support::control::{curl, listening, status};
use crate::support::metrics::value;
use crate::support::programs::said;
use crate::support::proxy::Fault;
use crate::support::rule::Rule;
use crate::support::{Mount, Server, SupervisedMount, pattern, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// Far below what a collector that hangs keeps an export for.
const QUICK: Duration = Duration::from_secs(5);
const KEY: &str = "doNotExportThisKey0123456789";
const SECRET: &str = "doNotExportThisSecret0123456789";

fn is_call(span: &Span, operation: &str) -> bool {
    span.name == operation && text(&span.attributes, "operation") == operation
}

fn is_request(span: &Span, op: &str, key: &str) -> bool {
    span.name == op && text(&span.attributes, "key") == key
}

#[test]
fn a_call_is_a_span_and_the_requests_it_sends_are_below_it() {
    let collector = Collector::start();
    let mount = collector.given(Mount::builder()).start();
    mount.put_object("dir/f", &pattern(100_000, 1));
    assert_eq!(fs::read(mount.path("dir/f")).unwrap().len(), 100_000);
    let get = collector.wait_for_span("a request", |it| is_request(it, "GetObject", "dir/f"));
    assert_eq!(get.kind, SpanKind::Client as i32);
    let mut above = get.clone();
    wait_until(WITHIN, "the call of the request", || {
        let parent = above.parent_span_id.clone();
        let found = collector.look(|got| {
            let mut spans = got.spans.iter();
            spans.find(|it| it.span_id == parent).cloned()
        });
        above = found.unwrap_or(above.clone());
        is_call(&above, "read")
    });
    assert_eq!(
        (above.kind, &above.trace_id),
        (SpanKind::Server as i32, &get.trace_id)
    );
    assert!(above.parent_span_id.is_empty(), "{above:?}");
    let ino: u64 = text(&above.attributes, "ino").parse().unwrap();
    assert_eq!(
        ino,
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(mount.path("dir/f")).unwrap())
    );
    assert!(above.start_time_unix_nano <= get.start_time_unix_nano);
    assert!(get.end_time_unix_nano >= get.start_time_unix_nano);
    collector.wait_for_span("a call that is answered at once", |it| {
        is_call(it, "opendir") || is_call(it, "open")
    });
    fs::write(mount.path("dir/new"), b"bytes").unwrap();
    collector.wait_for_span("a write", |it| is_call(it, "write"));
    collector.wait_for_span("an upload", |it| is_request(it, "PutObject", "dir/new"));
    // The client of the export is no part of it.
    let others = collector.look(|got| {
        let mut spans = got.spans.iter();
        spans
            .find(|it| it.name.contains("v1/") || it.name == "call" || it.name == "request")
            .cloned()
    });
    assert_eq!(others, None);
    // Attributes that tell how a span is made are none of it.
    let attributes = text(&above.attributes, "otel.name") + &text(&above.attributes, "discarded");
    assert_eq!(attributes, "");
}

#[test]
fn what_is_not_sent_yet_is_sent_at_the_end() {
    let collector = Collector::start();
    let plan = collector.given(Mount::builder());
    let plan = plan.env("OTEL_BSP_SCHEDULE_DELAY", "600000");
    let mut mount = plan.env("OTEL_METRIC_EXPORT_INTERVAL", "600000").start();
    fs::write(mount.path("last"), b"bytes").unwrap();
    assert_eq!(collector.look(|got| got.requests), 0);
    mount.unmount();
    let is_last = |it: &Span| is_request(it, "PutObject", "last");
    assert!(collector.look(|got| got.spans.iter().any(is_last)));
    assert_eq!(collector.number("mediafs_written_bytes", None), Some(5.0));
    let stuck = collector.number("mediafs_state", Some(("state", "stuck")));
    assert_eq!(stuck, Some(0.0), "a mount that has ended well");
}

#[test]
fn a_request_that_s3_refuses_has_the_code_and_the_id_on_its_span() {
    let collector = Collector::start();
    let (plan, proxy) = Mount::behind_a_proxy();
    plan.client.put(&plan.bucket, "denied", b"bytes");
    let denied = Fault::Answer(403, "AccessDenied");
    proxy.rule(Rule::on("GetObject", denied).key("denied").always());
    let mount = collector.given(plan).start();
    let read = fs::read(mount.path("denied"));
    assert_eq!(sys::errno(read), libc::EACCES);
    let get = collector.wait_for_span("a failed request", |it| {
        is_request(it, "GetObject", "denied") && !text(&it.attributes, "kind").is_empty()
    });
    let of = |key: &str| text(&get.attributes, key);
    assert_eq!(
        (of("kind"), of("code")),
        ("AccessDenied".to_owned(), "AccessDenied".to_owned())
    );
    assert_eq!(get.status.as_ref().unwrap().code, StatusCode::Error as i32);
    let read = collector.wait_for_span("its call", |it| {
        is_call(it, "read") && !text(&it.attributes, "error").is_empty()
    });
    assert_eq!(read.status.as_ref().unwrap().code, StatusCode::Error as i32);
    // The store itself gives an id, as where it is asked at the mount what it can do.
    let refused = collector.wait_for_span("a condition that does not hold", |it| {
        text(&it.attributes, "code") == "PreconditionFailed"
    });
    assert!(
        !text(&refused.attributes, "request_id").is_empty(),
        "{refused:?}"
    );
}

#[test]
fn the_metrics_are_those_of_prometheus_with_the_same_names_and_numbers() {
    let collector = Collector::start();
    let mount = collector
        .given(Mount::builder())
        .env("OTEL_SERVICE_NAME", "media-of-a-test")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        .start();
    fs::write(mount.path("f"), vec![1; 5000]).unwrap();
    wait_until(WITHIN, "the bytes that were written", || {
        collector.number("mediafs_written_bytes", None) == Some(5000.0)
    });
    let puts = ("request", "PutObject");
    wait_until(WITHIN, "the same number of requests", || {
        let told = status(&mount)["requests"]["by_kind"]["PutObject"].as_f64();
        told.is_some() && collector.number("mediafs_s3_requests", Some(puts)) == told
    });
    assert_eq!(
        collector.number("mediafs_state", Some(("state", "alive"))),
        Some(1.0)
    );
    let prometheus = curl(&listening(&mount), "/metrics", None);
    assert_eq!(value(&prometheus, "mediafs_written_bytes_total"), 5000.0);
    let types = prometheus
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let mut wanted: Vec<String> = types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let counted = name.strip_suffix("_total").filter(|_| kind == "counter");
            counted.unwrap_or(name).to_owned()
        })
        .collect();
    wanted.sort();
    let (mut names, resource, histogram) = collector.look(|got| {
        let names: Vec<String> = got.metrics.iter().map(|it| it.name.clone()).collect();
        let mut metrics = got.metrics.iter();
        let calls = metrics.find(|it| it.name == "mediafs_call_duration_seconds");
        (
            names,
            got.resource.clone().unwrap(),
            calls.unwrap().data.clone(),
        )
    });
    names.sort();
    assert_eq!(names, wanted);
    let of = |key: &str| text(&resource.attributes, key);
    assert_eq!(of("service.name"), "media-of-a-test");
    assert_eq!(of("deployment.environment"), "test");
    assert_eq!(of("mediafs.bucket"), mount.bucket());
    let Some(Data::Histogram(histogram)) = histogram else {
        panic!("{histogram:?}");
    };
    let point = &histogram.data_points[0];
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.count, point.bucket_counts.iter().sum::<u64>());
}

#[test]
fn a_collector_that_fails_hangs_or_is_away_holds_nobody_up_and_what_it_misses_is_counted() {
    for mood in [Some(Mood::Fails), Some(Mood::Hangs), None] {
        let mut collector = Some(Collector::start());
        let mut mount = collector.as_ref().unwrap().given(Mount::builder()).start();
        collector
            .as_ref()
            .unwrap()
            .wait_for_span("a span", |_| true);
        match mood {
            Some(mood) => collector.as_ref().unwrap().be(mood),
            None => drop(collector.take()),
        }
        let began = Instant::now();
        for number in 0..20 {
            let path = mount.path(format!("f{number}"));
            fs::write(&path, b"bytes").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"bytes");
        }
        assert!(began.elapsed() < WITHIN, "{mood:?}");
        wait_until(WITHIN, "a warning", || {
            // A busy collector still has files: more calls, until more is lost than fits.
            drop(fs::metadata(mount.path("f0")));
            mount.log().contains("does not take what is exported")
        });
        let told = status(&mount);
        assert!(
            told["otlp"]["failed"].as_u64().unwrap() > 0,
            "{mood:?}: {told}"
        );
        if mood == Some(Mood::Fails) {
            let collector = collector.as_ref().unwrap();
            let counted = curl(&listening(&mount), "/metrics", None);
            assert!(
                value(&counted, "mediafs_otlp_spans_dropped_total") > 0.0,
                "{counted}"
            );
            collector.be(Mood::Takes);
            fs::write(mount.path("later"), b"bytes").unwrap();
            collector.wait_for_span("a span again", |it| is_request(it, "PutObject", "later"));
            wait_until(WITHIN, "the end of the warning", || {
                mount.log().contains("takes spans and metrics again")
            });
            let dropped = "mediafs_otlp_spans_dropped";
            wait_until(WITHIN, "what was dropped", || {
                collector.number(dropped, None).is_some_and(|it| it > 0.0)
            });
        }
        assert_eq!(mount.object("f19").unwrap(), b"bytes");
        let began = Instant::now();
        mount.unmount();
        assert!(
            began.elapsed() < QUICK + WITHIN / 4,
            "{mood:?}: {:?}",
            began.elapsed()
        );
    }
}

#[test]
fn a_successor_goes_on_exporting() {
    let collector = Collector::start();
    let mount = SupervisedMount::start(collector.given(Mount::builder()));
    collector.wait_for_span("a span", |_| true);
    mount.kill_daemon();
    fs::write(mount.path("after"), b"bytes").unwrap();
    collector.wait_for_span("one of the successor", |it| {
        is_request(it, "PutObject", "after")
    });
    wait_until(WITHIN, "its takeover", || {
        collector.number("mediafs_takeovers", None) == Some(1.0)
    });
}

#[test]
fn a_key_of_the_collector_is_sent_to_it_and_told_to_nobody_and_no_secret_of_s3_is_exported() {
    let collector = Collector::start();
    let mut mount = collector
        .given(Mount::on(Server::moto()))
        .args(["--log", "trace"])
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            format!("authorization=Bearer%20{KEY},x-a=b"),
        )
        .env("AWS_SESSION_TOKEN", SECRET)
        .start();
    fs::write(mount.path("f"), b"doNotExportTheseBytes").unwrap();
    collector.wait_for_span("an upload", |it| is_request(it, "PutObject", "f"));
    let headers = collector.look(|got| got.headers.clone());
    assert_eq!(headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(headers["content-type"], "application/x-protobuf");
    collector.be(Mood::Fails);
    drop(fs::metadata(mount.path("f")));
    wait_until(WITHIN, "a warning", || {
        mount.log().contains("does not take what is exported")
    });
    let shown = curl(&listening(&mount), "/status", None);
    mount.unmount();
    let bodies = collector.look(|got| got.bodies.concat());
    let bodies = String::from_utf8_lossy(&bodies).into_owned();
    for (what, text) in [("log", mount.log()), ("status", shown), ("export", bodies)] {
        for secret in [KEY, SECRET, "doNotExportTheseBytes"] {
            assert!(!text.contains(secret), "{what} has {secret}");
        }
    }
}

#[test]
fn nothing_is_exported_unless_asked_and_the_standard_variable_asks_too() {
    let collector = Collector::start();
    let quiet = Mount::builder().start();
    fs::write(quiet.path("f"), b"bytes").unwrap();
    assert!(status(&quiet).get("otlp").is_none());
    assert!(!curl(&listening(&quiet), "/metrics", None).contains("otlp"));
    assert_eq!(collector.look(|got| got.requests), 0);
    let asked = Mount::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)
        .env("OTEL_TRACES_SAMPLER", "always_on")
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .start();
    fs::write(asked.path("g"), b"bytes").unwrap();
    collector.wait_for_span("an upload", |it| is_request(it, "PutObject", "g"));
}

#[test]
fn an_endpoint_that_is_none_is_refused_and_a_share_of_nothing_exports_metrics_alone() {
    for bad in [
        "localhost:4318",
        "ftp://localhost",
        "http://ann:geheim@localhost:4318",
    ] {
        let output = Mount::builder().args(["--otlp-endpoint", bad]).run();
        let told = said(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains("otlp-endpoint") && !told.contains("geheim"),
            "{told}"
        );
    }
    let collector = Collector::start();
    let plan = collector.given(Mount::builder());
    let mut mount = plan.set("--otlp-sample-ratio", "0").start();
    fs::write(mount.path("f"), vec![1; 100]).unwrap();
    wait_until(WITHIN, "the metrics", || {
        collector.number("mediafs_written_bytes", None) == Some(100.0)
    });
    mount.unmount();
    assert!(collector.look(|got| got.spans.is_empty()));
}
