//! mediafs@.service under a real systemd.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use crate::support::blocked::BlockedCalls;
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::service::{OpenAcross, SOON, Service};
use crate::support::{Machine, Server, wait_until};

/// Shorter than an operator's. On a busy machine a daemon that is well may be late by seconds.
const WATCHDOG: &str = "WatchdogSec=10s\n";

#[test]
fn the_units_pass_systemd_analyze_verify() {
    let machine = Machine::shared();
    let told = machine.says(
        "systemd-analyze verify mediafs@x.service /usr/local/share/doc/mediafs/srv-media.mount",
    );
    assert_eq!(told, "");
}

#[test]
fn a_service_is_up_when_it_serves_and_stops_drained_and_unmounted() {
    let service = Service::started("durability = \"disk\"\n");
    assert_eq!(service.property("ActiveState"), "active");
    service.wait_for_status("nothing waits for S3");
    assert!(service.property("StatusText").starts_with("serving"));
    fs::create_dir(service.path("d")).unwrap();
    fs::write(service.path("d/f"), b"bytes").unwrap();
    service.ctl("stop");
    assert_eq!(service.object("d/f").as_deref(), Some(&b"bytes"[..]));
    assert!(!service.is_mounted());
    assert_eq!(service.property("Result"), "success");
    service.ctl("start");
    assert_eq!(fs::read(service.path("d/f")).unwrap(), b"bytes");
}

#[test]
fn a_restart_after_an_upgrade_keeps_the_mount_and_what_is_open() {
    let service = Service::started("");
    let open = OpenAcross::open(&service);
    let pid = service.property("MainPID");
    // The same program under a new inode, as an upgrade leaves it.
    let repo = env!("CARGO_MANIFEST_DIR");
    let install = format!("MEDIAFS_BINARY=/opt/mediafs {repo}/scripts/install");
    service.machine.says(&install);
    service.ctl("restart");
    assert_ne!(service.property("MainPID"), pid);
    open.go_on(&service);
    assert_eq!(service.object("new").unwrap(), b"before after");
    service.ctl("stop");
    assert!(!service.is_mounted());
    assert_eq!(service.property("NFileDescriptorStore"), "0");
}

#[test]
fn a_shutdown_uploads_what_waits_before_the_machine_ends() {
    let machine = Machine::boot();
    let service = Service::of(&machine, Server::shared(), "durability = \"disk\"\n");
    service.ctl("start");
    for number in 0..20 {
        fs::write(service.path(&format!("f{number}")), b"bytes").unwrap();
    }
    // It is the init that ends, and with it whoever asked it.
    machine.tries("systemctl poweroff");
    wait_until(SOON, "the machine's end", || !machine.is_running());
    for number in 0..20 {
        let object = service.object(&format!("f{number}"));
        assert_eq!(object.as_deref(), Some(&b"bytes"[..]), "f{number}");
    }
}

#[test]
fn an_uninstallation_unmounts_and_leaves_configuration_and_spool() {
    let machine = Machine::boot();
    let service = Service::of(&machine, Server::shared(), "durability = \"disk\"\n");
    service.ctl("enable --now");
    fs::write(service.path("f"), b"bytes").unwrap();
    let repo = env!("CARGO_MANIFEST_DIR");
    machine.says(&format!("{repo}/scripts/uninstall"));
    assert!(!service.is_mounted());
    assert_eq!(service.object("f").as_deref(), Some(&b"bytes"[..]));
    let left = machine.says(
        "ls -d /usr/local/bin/mediafs /etc/systemd/system/*/mediafs@* \
         /etc/mediafs/*.toml /var/lib/mediafs/*/spool 2>/dev/null || true",
    );
    assert_eq!(left.lines().count(), 2, "{left}");
    assert_eq!(
        machine.says("systemctl list-units --no-legend 'mediafs@*'"),
        ""
    );
}

#[test]
fn a_start_that_cannot_serve_fails_and_says_why() {
    let service = Service::on(Server::shared(), "");
    let config = service
        .machine
        .path(&format!("/etc/mediafs/{}.toml", service.name));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(&service.bucket, "no-such-bucket")).unwrap();
    service
        .machine
        .says(&format!("systemctl start --no-block {}", service.unit));
    wait_until(SOON, "the reason in the log", || {
        service.machine.log_of(&service.unit).contains("no bucket")
    });
    assert_ne!(service.property("ActiveState"), "active");
}

#[test]
fn credentials_come_from_the_unit_and_not_from_its_environment() {
    let service = Service::started("");
    let pid = service.property("MainPID");
    let told = service
        .machine
        .says(&format!("tr '\\0' '\\n' </proc/{pid}/environ"));
    assert!(told.contains("CREDENTIALS_DIRECTORY"), "{told}");
    let secret = service.machine.says(&format!(
        "grep secret /etc/mediafs/{}.credentials",
        service.name
    ));
    let secret = secret.split('=').nth(1).unwrap().trim();
    let held = told
        .lines()
        .any(|line| line.split('=').nth(1) == Some(secret));
    assert!(!held, "{told}");
    fs::write(service.path("f"), b"x").unwrap();
    assert_eq!(service.object("f").unwrap(), b"x");
}

#[test]
fn a_reload_changes_what_is_logged_and_names_what_takes_a_restart() {
    let service = Service::started("");
    fs::write(service.path("quiet"), b"x").unwrap();
    assert!(
        !service
            .machine
            .log_of(&service.unit)
            .contains("op=PutObject")
    );
    let config = service
        .machine
        .path(&format!("/etc/mediafs/{}.toml", service.name));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text + "log = \"mediafs=debug\"\nttl = \"2s\"\npart-size = \"16MiB\"\n",
    )
    .unwrap();
    service.ctl("reload");
    wait_until(SOON, "the reload's word", || {
        service.machine.log_of(&service.unit).contains("reloaded")
    });
    fs::write(service.path("loud"), b"x").unwrap();
    wait_until(SOON, "requests in the log", || {
        service
            .machine
            .log_of(&service.unit)
            .contains("op=PutObject")
    });
    let log = service.machine.log_of(&service.unit);
    let restart = log.lines().find(|line| line.contains("restart the daemon"));
    assert!(restart.unwrap().contains("part-size"), "{log}");
    assert!(log.contains("changed=\"log ttl\""), "{log}");
    fs::write(&config, "nonsense").unwrap();
    service.ctl("reload");
    wait_until(SOON, "the refusal", || {
        service
            .machine
            .log_of(&service.unit)
            .contains("reload failed")
    });
    wait_until(SOON, "the end of the reload", || {
        service.property("ActiveState") == "active"
    });
    fs::write(service.path("still"), b"x").unwrap();
}

#[test]
fn a_daemon_that_hangs_is_replaced_by_the_watchdog() {
    let service = Service::on(Server::shared(), "");
    service.machine.drop_in(
        &service.unit,
        &format!("[Service]\n{WATCHDOG}RestartSec=100ms\n"),
    );
    service.ctl("start");
    fs::write(service.path("f"), b"bytes").unwrap();
    let mut open = fs::File::open(service.path("f")).unwrap();
    let first = service.property("MainPID");
    service.machine.says(&format!("kill -STOP {first}"));
    wait_until(SOON, "another daemon", || {
        let now = service.property("MainPID");
        now != first && now != "0" && service.property("ActiveState") == "active"
    });
    assert!(service.machine.journal().contains("Watchdog timeout"));
    // The descriptor store of systemd has kept the mount: what was open stays so.
    let mut read = String::new();
    open.read_to_string(&mut read).unwrap();
    assert_eq!(read, "bytes");
    assert_eq!(fs::read(service.path("f")).unwrap(), b"bytes");
}

#[test]
fn a_daemon_is_replaced_while_the_kernel_holds_a_notification_back() {
    let proxy = Proxy::before(Server::shared());
    let service = Service::on(Server::shared(), "ttl = \"500ms\"\n");
    let config = format!("/etc/mediafs/{}.toml", service.name);
    let config = service.machine.path(&config);
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(&Server::shared().endpoint, &proxy.endpoint);
    fs::write(&config, text).unwrap();
    service.machine.drop_in(
        &service.unit,
        &format!("[Service]\n{WATCHDOG}Environment=_MEDIAFS_NOTIFY_IN_CONTAINER=1\n"),
    );
    service.ctl("start");
    fs::create_dir(service.path("d")).unwrap();
    fs::write(service.path("d/f"), b"first").unwrap();
    let mut calls = BlockedCalls::of(
        &service.path(""),
        Path::new(&format!("/srv/{}", service.name)),
    );
    for (round, ends) in ["kill -KILL", "kill -STOP", "systemctl restart"]
        .into_iter()
        .enumerate()
    {
        let first = service.property("MainPID");
        calls.open_file();
        let gate = proxy.hold(
            Side::BeforeServer,
            Rule::on("PutObject", Fault::Pass).key("d/new*"),
        );
        calls.lock_directory(&format!("os.mkdir('d/new{round}')"), &gate);
        service
            .client
            .put(&service.bucket, "d/f", format!("{round}").as_bytes());
        calls.wait_for_a_notification_that_waits();
        let of = if ends.starts_with("kill") {
            &first
        } else {
            &service.unit
        };
        service.machine.says(&format!("{ends} {of}"));
        wait_until(SOON, "another daemon", || {
            let now = service.property("MainPID");
            now != first && now != "0" && service.property("ActiveState") == "active"
        });
        calls.released();
        gate.open();
        fs::write(service.path("d/after"), b"whole").unwrap();
        assert_eq!(service.object("d/after").unwrap(), b"whole");
    }
    drop(calls);
    service.ctl("stop");
    assert!(!service.is_mounted());
    assert_eq!(service.property("Result"), "success");
}

#[test]
fn an_outage_of_s3_does_not_get_the_daemon_killed() {
    let server = Server::private();
    let service = Service::on(
        &server,
        "durability = \"disk\"\ndrain-timeout = \"1s\"\nrequest-timeout = \"5s\"\n",
    );
    service
        .machine
        .drop_in(&service.unit, &format!("[Service]\n{WATCHDOG}"));
    service.ctl("start");
    let pid = service.property("MainPID");
    let mut file = fs::File::create(service.path("f")).unwrap();
    server.freeze();
    file.write_all(b"bytes").unwrap();
    crate::support::sys::close(file).unwrap();
    service.wait_for_status("1 upload waits for S3");
    let fed = || service.property("WatchdogTimestampMonotonic");
    // It eats twice in the time after which it would be killed.
    for _ in 0..3 {
        let before = fed();
        wait_until(SOON, "the watchdog's next meal", || fed() != before);
    }
    assert_eq!(service.property("MainPID"), pid);
    assert_eq!(service.property("NRestarts"), "0");
    // The drain is bounded, and what is left waits for the next start.
    service.ctl("stop");
    assert!(!service.is_mounted());
    assert_eq!(service.property("Result"), "success");
    server.thaw();
    service.ctl("start");
    wait_until(SOON, "the upload", || {
        service.object("f").as_deref() == Some(b"bytes")
    });
}

#[test]
fn the_service_has_two_capabilities_and_its_own_directories() {
    let service = Service::started("attributes = \"stored\"\n");
    let pid = service.property("MainPID");
    let status = service.machine.says(&format!("cat /proc/{pid}/status"));
    // CAP_SYS_ADMIN is 21, CAP_DAC_READ_SEARCH is 2, CAP_LEASE is 28. Source: capabilities(7).
    let bounding = format!("CapBnd:\t{:016x}", (1 << 21) | (1 << 2) | (1 << 28));
    assert!(status.contains(&bounding), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let listed = service.machine.says(&format!(
        "ls -d /var/lib/mediafs/{0}/spool/journal /var/cache/mediafs/{0}/attributes /run/mediafs/{0}",
        service.name
    ));
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let scored = service
        .machine
        .says("systemd-analyze security --threshold=45 mediafs@x.service --no-pager | tail -1");
    assert!(scored.contains("exposure level"), "{scored}");
}

#[test]
fn relative_paths_of_a_service_count_from_the_file_that_names_them() {
    let service = Service::on(Server::shared(), "credentials-file = \"own-credentials\"\n");
    let folder = service.machine.path("/etc/mediafs");
    let given = folder.join(format!("{}.credentials", service.name));
    std::fs::rename(given, folder.join("own-credentials")).unwrap();
    service.ctl("start");
    std::fs::write(service.path("f"), b"bytes").unwrap();
    assert_eq!(service.object("f").unwrap(), b"bytes");
}

#[test]
fn a_service_answers_under_its_name_and_an_unmount_stops_it() {
    let service = Service::started("durability = \"disk\"\n");
    let (machine, name) = (service.machine, &service.name);
    let says = |words: &str| machine.says(&format!("mediafs {words}"));
    let told = says(&format!("status {name} --json"));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["name"], name.as_str());
    assert_eq!(told["unit"], service.unit.as_str());
    assert_eq!(told["pid"].to_string(), service.property("MainPID"));
    assert!(says(&format!("healthcheck {name}")).contains("alive"));
    machine.says(&format!("ls /run/mediafs/{name}.sock"));
    std::fs::write(service.path("f"), b"bytes").unwrap();
    says(&format!("flush /srv/{name}/f"));
    assert_eq!(service.object("f").unwrap(), b"bytes");
    let before = service.property("MainPID");
    service.ctl("restart");
    let again = says(&format!("status {name} --json"));
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_ne!(again["pid"].to_string(), before);
    assert_eq!(again["mounted_unix_seconds"], told["mounted_unix_seconds"]);
    says(&format!("reload {name}"));
    let unmounted = says(&format!("unmount {name}"));
    assert!(unmounted.contains("S3 has everything"), "{unmounted}");
    assert!(!service.is_mounted());
    assert_eq!(service.property("ActiveState"), "inactive");
    assert!(!machine.tries(&format!("ls /run/mediafs/{name}.sock")).0);
}

#[test]
fn a_service_logs_to_the_journal_with_fields_that_it_is_searched_by() {
    let proxy = Proxy::before(Server::shared());
    let service = Service::on(Server::shared(), "");
    let config = format!("/etc/mediafs/{}.toml", service.name);
    let config = service.machine.path(&config);
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(&Server::shared().endpoint, &proxy.endpoint);
    fs::write(&config, text).unwrap();
    service.client.put(&service.bucket, "denied", b"bytes");
    let denied = Fault::Answer(403, "AccessDenied");
    proxy.rule(Rule::on("GetObject", denied).key("denied").always());
    service.ctl("start");
    assert!(fs::read(service.path("denied")).is_err());
    let search = format!(
        "journalctl --quiet --no-pager -o json -u {} MEDIAFS_S3_CODE=AccessDenied",
        service.unit
    );
    let mut found = String::new();
    wait_until(SOON, "its entry", || {
        found = service.machine.says(&search);
        !found.is_empty()
    });
    let first = found.lines().next().unwrap();
    let entry: serde_json::Value = serde_json::from_str(first).unwrap();
    assert_eq!(entry["MEDIAFS_OPERATION"], "read");
    assert_eq!(entry["MEDIAFS_S3_KEY"], "denied");
    assert_eq!(entry["PRIORITY"], "3");
    assert_eq!(entry["_TRANSPORT"], "journal");
    assert_eq!(entry["SYSLOG_IDENTIFIER"], "mediafs");
    assert!(entry["MESSAGE"].as_str().unwrap().starts_with("failed"));
}
