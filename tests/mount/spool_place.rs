//! A spool belongs to one bucket, prefix and endpoint: what waits in it goes nowhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::mount::detach;
use crate::support::processes::daemons_of;
use crate::support::programs::{has_all, said};
use crate::support::proxy::Proxy;
use crate::support::spool::{kept, listed, lose_a_race, refused, succeeds};
use crate::support::{Mount, MountBuilder, Server, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn spool_of(mount: &Mount) -> PathBuf {
    mount.scratch().join("spool")
}

/// What a mount says that must be refused.
#[track_caller]
fn refused_mount(plan: &MountBuilder) -> String {
    let output = plan.run();
    if output.status.success() {
        for pid in daemons_of(&plan.root) {
            kill_process(pid, Signal::KILL).ok();
        }
        detach(&plan.root);
        panic!("mounted");
    }
    said(&output)
}

/// A mount of a bucket with the object `gone`, through a proxy.
fn mount_through(proxy: &Proxy, args: &[&str]) -> Mount {
    let plan = Mount::builder()
        .set("--endpoint-url", &proxy.endpoint)
        .set("--ttl", "1h")
        .args(["--negative-ttl", "1h", "--drain-timeout", "0"])
        .args(args);
    plan.client.put(&plan.bucket, "gone", b"ours");
    let mount = plan.start();
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 1);
    assert_eq!(fs::metadata(mount.path("gone")).unwrap().len(), 4);
    mount
}

/// Two files, and with durability on the disk a removal, that wait for an S3 which
/// does not answer when the daemon dies.
fn leave_waiting(mount: &mut Mount, proxy: &Proxy, durability: &str) {
    proxy.all_down();
    std::thread::scope(|scope| {
        for name in ["one", "two"] {
            let path = mount.path(name);
            // With durability in S3 it fails, as the daemon dies.
            scope.spawn(move || fs::write(path, b"ours"));
        }
        wait_until(WITHIN, "two files that wait", || {
            listed(&spool_of(mount)).len() == 2
                && listed(&spool_of(mount))
                    .iter()
                    .all(|(state, ..)| state == "waiting")
        });
        if durability == "disk" {
            fs::remove_file(mount.path("gone")).unwrap();
        }
        mount.kill9();
    });
    proxy.heal();
}

/// A bucket in which others have put all names that the spool has changes of.
fn with_theirs(plan: MountBuilder) -> MountBuilder {
    for name in ["one", "two", "gone"] {
        let key = format!("{}{name}", plan.prefix);
        plan.client.put(&plan.bucket, &key, b"theirs");
    }
    plan
}

#[track_caller]
fn theirs_are_untouched(plan: &MountBuilder) {
    for name in ["one", "two", "gone"] {
        let key = format!("{}{name}", plan.prefix);
        assert_eq!(
            plan.client.get(&plan.bucket, &key).unwrap(),
            b"theirs",
            "{key}"
        );
    }
}

#[test]
fn what_waits_for_one_bucket_goes_to_no_other() {
    for durability in ["disk", "s3"] {
        for attributes in ["fixed", "stored"] {
            waits_for_its_own_bucket(durability, attributes);
        }
    }
}

fn waits_for_its_own_bucket(durability: &str, attributes: &str) {
    let proxy = Proxy::before(Server::shared());
    let args = ["--durability", durability, "--attributes", attributes];
    let mut mount = mount_through(&proxy, &args);
    leave_waiting(&mut mount, &proxy, durability);
    let (bucket, spool) = (mount.bucket().to_owned(), spool_of(&mount));
    let ours = format!("s3://{bucket}/ on {}", proxy.endpoint);
    let waiting = match durability {
        "disk" => "2 files (8 B), 1 delete and 0 renames",
        _ => "2 files (8 B), 0 deletes and 0 renames",
    };
    let at = |plan: MountBuilder| {
        let plan = plan.set("--spool", &spool).args(args);
        with_theirs(plan.set("--endpoint-url", &proxy.endpoint))
    };
    let other = at(Mount::builder());
    let told = refused_mount(&other);
    let hint = format!("mediafs mount {bucket} MOUNTPOINT --endpoint-url");
    let advice = ["mediafs spool list", "another directory with --spool"];
    has_all(&told, &[&ours, &other.bucket, waiting, &hint]);
    has_all(&told, &advice);
    assert!(!told.contains("--spool-moved-from"), "{told}");
    let below = at(Mount::builder().bucket(&bucket).prefix("below"));
    let asked = format!("s3://{bucket}/below/ on");
    has_all(&refused_mount(&below), &[&ours, &asked, waiting]);
    theirs_are_untouched(&other);
    theirs_are_untouched(&below);
    assert_eq!(mount.object("gone").unwrap(), b"ours");
    assert_eq!(mount.object("one"), None);

    mount.remount();
    mount.wait_for_keys("what waited", |keys| {
        let has = |name: &str| keys.iter().any(|key| key == name);
        has("one") && has("two") && has("gone") == (durability == "s3")
    });
    wait_until(WITHIN, "an empty spool", || {
        succeeds(&spool, &["list"]).contains("nothing waits")
    });
    mount.unmount();
    let mut other = other.start();
    assert_eq!(fs::read(other.path("one")).unwrap(), b"theirs");
    other.unmount();
    let told = "belongs to another place from now on";
    has_all(&other.log(), &[told, &ours]);
    for name in ["one", "two", "gone"] {
        assert_eq!(other.object(name).unwrap(), b"theirs");
    }
}

#[test]
fn a_bucket_that_has_moved_is_confirmed_and_nothing_else_is() {
    let (before, after) = (
        Proxy::before(Server::shared()),
        Proxy::before(Server::shared()),
    );
    let mut mount = mount_through(&before, &["--durability", "disk"]);
    leave_waiting(&mut mount, &before, "disk");
    let spool = spool_of(&mount);
    let moved = |plan: MountBuilder| {
        plan.set("--endpoint-url", &after.endpoint)
            .set("--spool", &spool)
            .args(["--durability", "disk", "--negative-ttl", "1h"])
    };
    let same_bucket = || moved(Mount::builder().bucket(mount.bucket()));
    let told = refused_mount(&same_bucket());
    let flag = format!("--spool-moved-from {}", before.endpoint);
    has_all(
        &told,
        &[&before.endpoint, &after.endpoint, "1 delete", &flag],
    );
    // The word is for one endpoint, and neither for a bucket nor for a prefix.
    let wrong = same_bucket().args(["--spool-moved-from", "http://127.0.0.1:1"]);
    has_all(&refused_mount(&wrong), &[&flag]);
    let confirmed = |plan: MountBuilder| plan.args(["--spool-moved-from", &before.endpoint]);
    let other = with_theirs(confirmed(moved(Mount::builder())));
    refused_mount(&other);
    theirs_are_untouched(&other);
    let below = confirmed(same_bucket().prefix("below"));
    refused_mount(&below);
    assert_eq!(mount.object("one"), None);

    let mut now = confirmed(same_bucket()).start();
    now.wait_for_keys("what waited", |keys| keys == ["one", "two"]);
    has_all(&now.log(), &["has moved", &before.endpoint]);
    now.unmount();
    // It is recorded: the word is not needed again, and does not hold for the way back.
    let mut now = same_bucket().set("--ttl", "1h").start();
    assert_eq!(fs::read_dir(&now.root).unwrap().count(), 2);
    after.all_down();
    fs::write(now.path("three"), b"x").unwrap();
    now.kill9();
    let back = same_bucket().set("--endpoint-url", &before.endpoint);
    has_all(
        &refused_mount(&back),
        &[&format!("--spool-moved-from {}", after.endpoint)],
    );
}

#[test]
fn an_endpoint_that_is_written_otherwise_is_the_same() {
    let proxy = Proxy::before(Server::shared());
    let mut mount = mount_through(&proxy, &["--durability", "disk"]);
    leave_waiting(&mut mount, &proxy, "disk");
    let plan = Mount::builder()
        .bucket(mount.bucket())
        .set("--spool", spool_of(&mount));
    let port = proxy.endpoint.rsplit(':').next().unwrap();
    let slash = format!("http://127.1:{port}/");
    let mut now = plan
        .without("--endpoint-url")
        .env("AWS_ENDPOINT_URL_S3", slash)
        .start();
    now.wait_for_keys("what waited", |keys| keys == ["one", "two"]);
    now.unmount();
}

/// A configuration of the AWS chain that names an endpoint.
fn aws_config(scratch: &Path, endpoint: &str) -> PathBuf {
    let path = scratch.join("aws-config");
    fs::write(&path, format!("[default]\nendpoint_url = {endpoint}\n")).unwrap();
    path
}

#[test]
fn an_endpoint_of_the_aws_configuration_counts_and_does_not_change_under_a_mount() {
    let (ours, theirs) = (
        Proxy::before(Server::shared()),
        Proxy::before(Server::shared()),
    );
    let plan = Mount::builder()
        .without("--endpoint-url")
        .args(["--durability", "disk"]);
    let config = aws_config(plan.scratch(), &ours.endpoint);
    let mut mount = plan.env("AWS_CONFIG_FILE", &config).start();
    aws_config(mount.scratch(), &theirs.endpoint);
    mount.signal(Signal::HUP);
    wait_until(WITHIN, "credentials reloaded", || {
        mount.log().contains("credentials reloaded")
    });
    has_all(&mount.log(), &["names another endpoint", &theirs.endpoint]);
    fs::write(mount.path("f"), b"ours").unwrap();
    mount.wait_for_keys("the upload", |keys| keys == ["f"]);
    assert_eq!(theirs.passed("PutObject"), 0);
    ours.all_down();
    fs::write(mount.path("g"), b"ours").unwrap();
    mount.kill9();
    assert!(!mount.try_start(), "mounted");
    mount.wait_for_exit();
    has_all(
        &mount.log(),
        &[&format!("--spool-moved-from {}", ours.endpoint)],
    );
    ours.heal();
    aws_config(mount.scratch(), &ours.endpoint);
    mount.remount();
    mount.wait_for_keys("the upload", |keys| keys == ["f", "g"]);
}

/// Takes away from the record of a spool's place what the previous version did not write.
fn make_older(spool: &Path) {
    let path = spool.join("mount.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let fields = record.as_object_mut().unwrap();
    for name in ["endpoint", "check"] {
        assert!(fields.remove(name).is_some(), "{text}");
    }
    fs::write(&path, record.to_string()).unwrap();
}

#[test]
fn a_spool_without_a_record_belongs_to_the_place_that_is_mounted() {
    for kind in ["no endpoint", "no record"] {
        let proxy = Proxy::before(Server::shared());
        let mut mount = mount_through(&proxy, &["--durability", "disk"]);
        leave_waiting(&mut mount, &proxy, "disk");
        let spool = spool_of(&mount);
        if kind == "no record" {
            fs::remove_file(spool.join("mount.json")).unwrap();
        } else {
            make_older(&spool);
            // What is recorded counts.
            let other = with_theirs(Mount::builder().set("--spool", &spool));
            has_all(&refused_mount(&other), &[mount.bucket(), "2 files (8 B)"]);
            theirs_are_untouched(&other);
        }
        mount.remount();
        has_all(
            &mount.log(),
            &[
                "counts as belonging to this mount",
                "2 files (8 B), 1 delete",
            ],
        );
        mount.wait_for_keys("what waited", |keys| keys == ["one", "two"]);
        let record = fs::read_to_string(spool.join("mount.json")).unwrap();
        has_all(&record, &[mount.bucket(), &proxy.endpoint, "check"]);
    }
}

#[test]
fn a_damaged_record_of_the_place_is_no_permission() {
    let proxy = Proxy::before(Server::shared());
    let mut mount = mount_through(&proxy, &["--durability", "disk"]);
    leave_waiting(&mut mount, &proxy, "disk");
    let record = spool_of(&mount).join("mount.json");
    let text = fs::read_to_string(&record).unwrap();
    let bucket = mount.bucket().to_owned();
    let changed = format!("{}x", &bucket[..bucket.len() - 1]);
    fs::write(&record, text.replace(&bucket, &changed)).unwrap();
    assert!(!mount.try_start(), "mounted");
    mount.wait_for_exit();
    has_all(
        &mount.log(),
        &["mount.json is damaged", "2 files (8 B)", "remove that file"],
    );
    fs::remove_file(&record).unwrap();
    mount.remount();
    mount.wait_for_keys("what waited", |keys| keys == ["one", "two"]);
}

#[test]
fn kept_bytes_are_written_to_their_own_place_only() {
    let mut mount = Mount::fresh();
    lose_a_race(&mount, "f", b"ours", b"theirs");
    let spool = spool_of(&mount);
    let id = kept(&spool, "f");
    mount.unmount();
    mount.client().delete(mount.bucket(), "f");
    // Kept bytes are sent by nobody: they are no reason to refuse.
    let plan = Mount::builder().set("--spool", &spool);
    let mut other = plan.mountpoint(&mount.root).start();
    let told = refused(&spool, &["retry", &id]);
    let ours = format!("s3://{}/ on", mount.bucket());
    has_all(&told, &[&ours, other.bucket(), "mediafs spool export"]);
    has_all(&succeeds(&spool, &["show", &id]), &[&ours]);
    assert!(other.keys().is_empty());
    other.unmount();
    // Nor into what another spool's mount shows at the same mountpoint.
    let mut third = Mount::builder().mountpoint(&mount.root).start();
    has_all(&refused(&spool, &["retry", &id]), &[&ours, third.bucket()]);
    assert!(third.keys().is_empty());
    third.unmount();

    mount.remount();
    succeeds(&spool, &["retry", &id]);
    assert_eq!(mount.object("f").unwrap(), b"ours");
}
