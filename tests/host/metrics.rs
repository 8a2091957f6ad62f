//! The metrics as Prometheus takes them; the alerts and the dashboard that are made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::collector::Collector;
use crate::support::examples;
use crate::support::metrics::MetricsAt;
use crate::support::proxy::Fault;
use crate::support::suite::tool;
use crate::support::{Mount, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn deployed(name: &str) -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    repository.join("scripts/deploy").join(name)
}

/// The metrics of a mount that has had every kind of work, of which some failed.
fn metrics_under_work() -> String {
    let (plan, proxy) = Mount::behind_a_proxy();
    let (plan, at) = MetricsAt::free(plan.durability("disk"));
    let cache = plan.scratch().join("cache");
    let plan = plan.args(["--spool-size", "1GiB", "--cache"]).arg(cache);
    let collector = Collector::start();
    let plan = plan.args(["--otlp-endpoint", &collector.endpoint]);
    let mount = plan.start();
    at.wait();
    fs::create_dir(mount.path("d")).unwrap();
    for number in 0..20 {
        fs::write(mount.path(format!("d/{number}")), vec![7; 10_000]).unwrap();
        fs::read(mount.path(format!("d/{number}"))).unwrap();
    }
    proxy.fail("PutObject", Fault::Answer(500, "InternalError"), 2);
    let mut open = File::create(mount.path("open")).unwrap();
    open.write_all(b"half").unwrap();
    fs::write(mount.path("again"), b"x").unwrap();
    mount.wait_until_uploaded("again", b"x");
    fs::remove_file(mount.path("d/1")).unwrap();
    let mut text = String::new();
    wait_until(WITHIN, "every kind of metric", || {
        text = at.get("/metrics");
        ["failed_total", "tier=\"disk\"", "release"]
            .iter()
            .all(|part| text.contains(part))
    });
    sys::close(open).unwrap();
    text
}

/// Names of the series that a text of metrics has.
fn names(text: &str) -> BTreeSet<&str> {
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect()
}

/// Names in an expression that begin like those of mediafs.
fn names_asked(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let begins = ["mediafs_", "process_"];
    words
        .filter(|word| begins.iter().any(|begin| word.starts_with(begin)))
        .collect()
}

/// Every expression of a dashboard.
fn expressions<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if ["expr", "query"].contains(&name.as_str()) && value.is_string() {
                    found.extend(value.as_str());
                }
                expressions(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics_of_a_mount_under_work() {
    let text = metrics_under_work();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("metrics");
    fs::write(&file, &text).unwrap();
    let mut promtool = tool("promtool");
    promtool
        .args(["check", "metrics"])
        .stdin(File::open(&file).unwrap());
    let output = promtool.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
    for line in text.lines() {
        let series = line.split(['{', ' ']).next().unwrap();
        assert!(line.starts_with('#') || !series.is_empty(), "{line}");
    }
    let names = names(&text);
    the_deployed_names_are_there(&names);
    let list = &examples::of("text metrics")[0].text;
    let listed: BTreeMap<&str, &str> = list.lines().map(listed_metric).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = name_and_labels(line);
        let parts = ["_bucket", "_sum", "_count"];
        let of_histogram = parts.iter().find_map(|part| name.strip_suffix(part));
        let told = |name: &str| listed.get(name).copied();
        let told = told(name).or_else(|| told(of_histogram?));
        assert_eq!(told, Some(labels.as_str()), "{line}");
    }
}

/// A line of the help's list: a name, and the labels as they stand there.
fn listed_metric(line: &str) -> (&str, &str) {
    let line = line.strip_suffix(" (histogram)").unwrap_or(line);
    line.split_once(' ').unwrap_or((line, ""))
}

/// The name of a series, and the names of its labels as the help has them: `le` is a part of
/// every histogram.
fn name_and_labels(line: &str) -> (&str, String) {
    let Some((name, rest)) = line.split_once('{') else {
        return (line.split(' ').next().unwrap(), String::new());
    };
    let names = rest.split("=\"").map(|before| {
        let begin = before.rfind(['"', ',']).map_or(0, |at| at + 1);
        &before[begin..]
    });
    let mut names: Vec<&str> = names.collect();
    // What stands behind the last value.
    names.pop();
    names.retain(|name| *name != "le");
    match names[..] {
        [] => (name, String::new()),
        _ => (name, format!("{{{}}}", names.join(","))),
    }
}

/// A dashboard and alerts of other names show nothing, and say nothing of it.
fn the_deployed_names_are_there(names: &BTreeSet<&str>) {
    let alerts = fs::read_to_string(deployed("alerts.yml")).unwrap();
    let dashboard = fs::read_to_string(deployed("grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    assert!(asked.len() > 20, "the expressions are found: {asked:?}");
    asked.push(&alerts);
    for expression in asked {
        for name in names_asked(expression) {
            assert!(names.contains(name), "{name}: {names:?}");
        }
    }
}

#[test]
fn the_alerts_are_as_prometheus_reads_them_and_come_when_they_should() {
    for (action, file) in [("check", "alerts.yml"), ("test", "alerts_test.yml")] {
        let mut promtool = tool("promtool");
        promtool.args([action, "rules"]).arg(deployed(file));
        let output = promtool.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
    }
}

#[test]
fn the_configuration_in_the_help_is_as_prometheus_reads_it() {
    for example in examples::of("yaml prometheus") {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), example.text).unwrap();
        let mut promtool = tool("promtool");
        promtool.args(["check", "config", "--syntax-only"]);
        let output = promtool.arg(file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}
