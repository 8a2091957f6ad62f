//! What a run tells of itself, how fast it is at most, and what it may not read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::data::MIB;
use crate::support::migration::Ended;
use crate::support::programs::{has_all, run_by, run_shell};
use crate::support::{Migration, Mount, pattern, sha256};

const USER: &str = "65534";

#[test]
fn a_summary_tells_what_was_moved_from_where_to_where_and_how_long_it_took() {
    let all = Migration::new();
    all.file("a.png", "four");
    all.file("d/b", "seven b");
    let report = all.scratch.path().join("report");
    let report = report.to_str().unwrap();
    let sent = all.ends("import", &["--yes", "--report", report], 0);
    let summary = &sent.summary;
    for (field, expected) in [
        ("summary", "import"),
        ("outcome", "equal"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("bucket", &all.bucket),
        ("prefix", "media/"),
        ("directory", all.tree.to_str().unwrap()),
    ] {
        assert_eq!(summary[field], expected, "{field} of {summary}");
    }
    assert!(summary["seconds"].as_f64().unwrap() > 0.0, "{summary}");
    for (count, names) in [("sent", 2), ("equal", 2), ("errors", 0), ("deleted", 0)] {
        assert_eq!(sent.count(count), names, "{count} of {summary}");
    }
    assert_eq!(summary["sent"]["bytes"], 11);
    let put = all.proxy.seen("PutObject");
    assert_eq!(summary["requests"]["PutObject"], put, "{summary}");
    let written = fs::read_to_string(report).unwrap();
    let (lines, last) = written.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(summary["digest"], sha256(format!("{lines}\n").as_bytes()));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(last).unwrap(),
        *summary
    );
    let back = all.scratch.path().join("back");
    let fetched = Ended::of(&mut all.command_on("export", &back, &["--yes", "--json"]));
    assert_eq!(fetched.summary["summary"], "export", "{}", fetched.said);
    assert_eq!(fetched.summary["fetched"]["bytes"], 11);
}

#[test]
fn no_more_bytes_are_moved_in_a_second_than_asked_for() {
    let all = Migration::new();
    for number in 0..4 {
        all.file(&format!("f{number}"), pattern(MIB, number));
    }
    let slowly = ["--yes", "--json", "--bwlimit", "1MiB"];
    let target = format!("{}-new", all.bucket);
    all.client.create_bucket(&target);
    let back = all.scratch.path().join("back");
    // From another endpoint, so that the bytes go through.
    let elsewhere = ["--source-endpoint-url", all.endpoint()];
    let commands = [
        all.command("import", &slowly),
        all.command_on("export", &back, &slowly),
        all.move_to(&target, &[&slowly[..], &elsewhere].concat()),
    ];
    for mut command in commands {
        let ended = Ended::of(&mut command);
        assert_eq!(ended.code, 0, "{}", ended.said);
        let moved = ended.count("sent") + ended.count("fetched");
        assert_eq!(moved, 4, "{}", ended.summary);
        let seconds = ended.summary["seconds"].as_f64().unwrap();
        assert!(seconds > 3.5, "{}", ended.summary);
    }
}

#[test]
fn a_directory_beside_a_manifest_is_wrong_usage() {
    let all = Migration::new();
    all.file("a", "a");
    let manifest = all.scratch.path().join("manifest");
    let manifest = ["--manifest", manifest.to_str().unwrap()];
    all.ends("import", &[&["--yes"], &manifest[..]].concat(), 0);
    let refused = all.ends("verify", &manifest, 2);
    has_all(
        &refused.said,
        &["in place of DIR", all.tree.to_str().unwrap()],
    );
}

#[test]
fn a_path_where_the_bucket_belongs_is_wrong_usage() {
    let all = Migration::new();
    for name in ["import", "verify", "export"] {
        let tree = all.tree.to_str().unwrap();
        let mut command = all.command_between(name, &all.tree, tree, &["--json"]);
        let refused = Ended::of(&mut command);
        assert_eq!(refused.code, 2, "{name}: {}", refused.said);
        has_all(&refused.said, &[tree, "BUCKET[/PREFIX]", "in their order"]);
    }
}

#[test]
fn what_cannot_be_read_is_refused_or_skipped_and_nothing_is_deleted_for_it() {
    let all = Migration::new();
    for path in ["plain", "secret", "locked/below"] {
        all.file(path, path);
    }
    for path in ["secret", "locked/below"] {
        all.object(path, "stored before");
    }
    let scratch = all.scratch.path();
    run_shell(
        "chown -R 65534:65534 \"$1\" && chmod 000 \"$1/tree/secret\" \"$1/tree/locked\"",
        &[scratch],
    );
    let plan = Mount::builder().user(USER.parse().unwrap());
    let import = |args: &[&str]| {
        let mut user = Command::new("setpriv");
        user.args(["--reuid", USER, "--regid", USER, "--clear-groups", "env"]);
        let mut command = all.command("import", &[&["--yes", "--json"], args].concat());
        let own = Command::new(plan.program());
        let command = of_program(own, &mut command);
        Ended::of(&mut run_by(user, &command))
    };
    let refused = import(&["--delete", "--force"]);
    assert_eq!(refused.code, 3, "{}", refused.said);
    let named = ["! locked/", "! secret", "- locked/below"];
    assert_eq!(refused.differences(), named);
    has_all(&refused.line("secret").to_string(), &["Permission denied"]);
    let skipped = import(&["--unreadable", "skip"]);
    assert_eq!(skipped.code, 0, "{}", skipped.said);
    assert_eq!(skipped.summary["odd"]["unreadable"], 2);
    for path in ["secret", "locked/below"] {
        assert_eq!(all.stored(path).unwrap(), b"stored before");
    }
    assert_eq!(all.stored("plain").unwrap(), b"plain");
    for path in ["secret", "locked"] {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(all.tree.join(path), open).unwrap();
    }
}

/// The same words and variables for another program.
fn of_program(mut program: Command, command: &mut Command) -> Command {
    program.args(command.get_args());
    for (name, value) in command.get_envs() {
        program.env(name, value.unwrap());
    }
    program
}
