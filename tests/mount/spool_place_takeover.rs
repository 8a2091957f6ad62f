//! A daemon that another one follows, whose configuration names another place by then.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::mount::is_mounted;
use crate::support::programs::has_all;
use crate::support::proxy::Proxy;
use crate::support::service::{SOON, Service};
use crate::support::supervised_mount::SupervisedMount;
use crate::support::{Mount, Server, Worker, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// A mount in the background whose endpoint stands in a file.
fn held_with_a_file(endpoint: &str, more: &str) -> (SupervisedMount, PathBuf) {
    let plan = Mount::builder().without("--endpoint-url");
    let config = plan.scratch().join("config.toml");
    fs::write(&config, format!("endpoint-url = \"{endpoint}\"\n{more}")).unwrap();
    let held = SupervisedMount::start(plan.arg("--config").arg(&config));
    (held, config)
}

#[test]
fn a_successor_with_another_endpoint_touches_nothing_and_the_right_one_goes_on() {
    for durability in ["disk", "s3"] {
        let proxy = Proxy::before(Server::shared());
        let other = Proxy::before(Server::shared());
        let more = format!("durability = \"{durability}\"\n");
        let (mount, config) = held_with_a_file(&proxy.endpoint, &more);
        let mut worker = Worker::at(mount.scratch());
        worker.write_new(mount.path("f").to_str().unwrap(), "before ");
        let right = fs::read_to_string(&config).unwrap();
        fs::write(&config, right.replace(&proxy.endpoint, &other.endpoint)).unwrap();
        kill_process(mount.daemon(), Signal::KILL).unwrap();
        wait_until(WITHIN, "a refusal", || mount.log().contains("belongs to"));
        has_all(
            &mount.log(),
            &["1 file (7 B)", &proxy.endpoint, &other.endpoint],
        );
        assert!(is_mounted(&mount.root));
        fs::write(&config, right).unwrap();
        worker
            .run("os.write(fd, b'and after'); os.close(fd)")
            .unwrap();
        mount.wait_for_keys("the upload", |keys| keys == ["f"]);
        assert_eq!(mount.object("f").unwrap(), b"before and after");
        drop(worker);
        mount.unmount();
    }
}

#[test]
fn a_successor_goes_on_with_a_bucket_that_has_moved_by_the_word_of_its_configuration() {
    let proxy = Proxy::before(Server::shared());
    let other = Proxy::before(Server::shared());
    let (mount, config) = held_with_a_file(&proxy.endpoint, "");
    let mut worker = Worker::at(mount.scratch());
    worker.write_new(mount.path("f").to_str().unwrap(), "before ");
    let moved = format!(
        "endpoint-url = \"{}\"\nspool-moved-from = \"{}\"\n",
        other.endpoint, proxy.endpoint
    );
    fs::write(&config, moved).unwrap();
    proxy.all_down();
    mount.kill_daemon();
    worker
        .run("os.write(fd, b'and after'); os.close(fd)")
        .unwrap();
    assert_eq!(mount.object("f").unwrap(), b"before and after");
    // And so does the one after it, without that word.
    worker.write_new(mount.path("g").to_str().unwrap(), "before ");
    fs::write(&config, format!("endpoint-url = \"{}/\"\n", other.endpoint)).unwrap();
    mount.kill_daemon();
    worker
        .run("os.write(fd, b'and after'); os.close(fd)")
        .unwrap();
    assert_eq!(mount.object("g").unwrap(), b"before and after");
    drop(worker);
    mount.unmount();
}

#[test]
fn a_successor_for_another_place_begins_anew_when_nothing_waits() {
    let (mount, config) = held_with_a_file(&Server::shared().endpoint, "");
    fs::write(mount.path("f"), b"x").unwrap();
    let reader = fs::File::open(mount.path("f")).unwrap();
    let proxy = Proxy::before(Server::shared());
    fs::write(&config, format!("endpoint-url = \"{}\"\n", proxy.endpoint)).unwrap();
    mount.kill_daemon();
    wait_until(WITHIN, "a new mount", || fs::read(mount.path("f")).is_ok());
    // Of the session before; the kernel knows attributes for a while.
    wait_until(WITHIN, "an error", || reader.metadata().is_err());
    has_all(
        &mount.log(),
        &[
            "belongs to another place from now on",
            "it shows the bucket on",
        ],
    );
    drop(reader);
    mount.unmount();
}

#[test]
fn a_service_with_another_bucket_is_refused_until_it_has_its_own_again() {
    let server = Server::private();
    let service = Service::on(&server, "durability = \"disk\"\ndrain-timeout = \"0s\"\n");
    service.ctl("start");
    fs::write(service.path("gone"), b"ours").unwrap();
    wait_until(SOON, "the upload", || service.object("gone").is_some());
    server.freeze();
    fs::write(service.path("f"), b"ours").unwrap();
    fs::remove_file(service.path("gone")).unwrap();
    service.ctl("stop");
    server.thaw();
    let other = format!("{}-other", service.bucket);
    service.client.create_bucket(&other);
    service.client.put(&other, "f", b"theirs");
    service.client.put(&other, "gone", b"theirs");
    let config = service
        .machine
        .path(&format!("/etc/mediafs/{}.toml", service.name));
    let right = fs::read_to_string(&config).unwrap();
    fs::write(&config, right.replace(&service.bucket, &other)).unwrap();
    let (started, _) = service
        .machine
        .tries(&format!("systemctl start {}", service.unit));
    assert!(!started, "started");
    wait_until(SOON, "the refusal in the log", || {
        let log = service.machine.log_of(&service.unit);
        log.contains("1 file (4 B), 1 delete")
    });
    let log = service.machine.log_of(&service.unit);
    has_all(
        &log,
        &[
            "1 file (4 B), 1 delete",
            &service.bucket,
            &other,
            "mediafs spool list",
        ],
    );
    assert_eq!(service.client.get(&other, "f").unwrap(), b"theirs");
    assert_eq!(service.client.get(&other, "gone").unwrap(), b"theirs");
    fs::write(&config, right).unwrap();
    // The unit is started again and again: also by itself.
    service.ctl("start");
    wait_until(SOON, "what waited", || {
        service.object("f").is_some() && service.object("gone").is_none()
    });
    assert_eq!(service.client.get(&other, "f").unwrap(), b"theirs");
}
