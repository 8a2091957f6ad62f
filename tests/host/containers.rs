//! Mounts as containers see them, and the files that deploy them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::container::{Container, Shared};
use crate::support::mount::is_mounted;
use crate::support::processes::{daemon_among, daemons_of};
use crate::support::programs::{run_within, said};
use crate::support::{Mount, MountBuilder, SupervisedMount, run_python, wait_until};
use rustix::process::{Signal, kill_process};

const SOON: Duration = Duration::from_secs(60);
const APPLICATION: u32 = 1000;
const ROOT: u32 = 0;

fn plan_on(shared: &Shared) -> MountBuilder {
    Mount::builder()
        .mountpoint(shared.mountpoint())
        .arg("--allow-other")
}

/// The application writes, reads, lists, renames and removes in a new folder; root reads what it wrote.
#[track_caller]
fn check_use(container: &Container, folder: &str) {
    let script =
        format!("mkdir {folder}; cd {folder}; echo bytes >f; mv f g; ls; cat g; echo x >h; rm h");
    assert_eq!(container.says(APPLICATION, &script), "g\nbytes\n");
    let script = format!("cat {folder}/g; stat -c %u {folder}/g");
    assert_eq!(container.says(ROOT, &script), "bytes\n1000\n");
}

#[test]
fn a_mount_appears_in_a_container_that_was_there_before_it() {
    let shared = Shared::new();
    let container = Container::with(&shared.mountpoint());
    assert_eq!(container.says(ROOT, "ls /mnt"), "");
    let (written, _) = container.tries(ROOT, "echo x >/etc/mediafs-test");
    assert!(!written, "the container's root is read-only");
    let mount = plan_on(&shared).start();
    check_use(&container, "/mnt/d");
    assert_eq!(mount.object("d/g").unwrap(), b"bytes\n");
    mount.put_object("other", b"from another client");
    wait_until(SOON, "what another client put", || {
        let read = container.tries(APPLICATION, "cat /mnt/other");
        read == (true, "from another client".to_owned())
    });
}

#[test]
fn a_mount_that_is_made_again_appears_again_in_the_container() {
    let shared = Shared::new();
    let mut mount = plan_on(&shared).start();
    // The folder above: a bind of the mount itself would keep the first one for ever.
    let container = Container::with(shared.folder());
    check_use(&container, "/mnt/media/first");
    mount.unmount();
    assert_eq!(container.says(ROOT, "ls /mnt/media"), "");
    mount.remount();
    let read = container.says(APPLICATION, "cat /mnt/media/first/g");
    assert_eq!(read, "bytes\n");
    check_use(&container, "/mnt/media/second");
}

#[test]
fn a_container_keeps_its_files_through_a_crash_of_the_daemon_and_its_replacement() {
    let shared = Shared::new();
    let mount = SupervisedMount::start(plan_on(&shared));
    // Of the mount itself, which nobody could repair from outside.
    let container = Container::with(&shared.mountpoint());
    check_use(&container, "/mnt/before");
    mount.kill_daemon();
    check_use(&container, "/mnt/after-crash");
    let killed = mount.daemon();
    kill_process(killed, Signal::USR2).unwrap();
    mount.wait_for_successor(killed);
    check_use(&container, "/mnt/after-upgrade");
    for folder in ["before", "after-crash", "after-upgrade"] {
        let read = container.says(ROOT, &format!("cat /mnt/{folder}/g"));
        assert_eq!(read, "bytes\n", "{folder}");
    }
    // Its own mount namespace keeps the file system as long as it lives.
    drop(container);
    mount.unmount();
}

#[test]
fn a_mount_made_in_a_container_with_rshared_appears_on_the_host_and_in_others() {
    let shared = Shared::new();
    let container = Container::with(&shared.mountpoint());
    let plan = plan_on(&shared);
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "--propagation", "unchanged"])
        .arg(plan.program());
    let output = run_within(SOON, &mut plan.command_after(unshare));
    assert!(output.status.success(), "{}", said(&output));
    assert!(is_mounted(&shared.mountpoint()));
    check_use(&container, "/mnt/d");
    let stored = plan.client.get(&plan.bucket, "d/g");
    assert_eq!(stored.unwrap(), b"bytes\n");
    let daemon = daemon_among(&daemons_of(&shared.mountpoint()));
    kill_process(daemon.unwrap(), Signal::TERM).unwrap();
    wait_until(SOON, "the daemon's end", || {
        daemons_of(&shared.mountpoint()).is_empty()
    });
    assert!(!is_mounted(&shared.mountpoint()));
    assert_eq!(container.says(ROOT, "ls /mnt"), "");
}

/// Prints what the files of scripts/deploy say of mediafs.
const DEPLOYMENT: &str = r#"
import pathlib, sys, tomllib, yaml
repo = pathlib.Path(sys.argv[1])
deploy = repo / "scripts/deploy"
compose = yaml.safe_load((deploy / "compose.yml").read_text())
services = compose["services"]
for name, service in services.items():
    for other in service.get("depends_on", {}):
        assert other in services, other
    for volume in service["volumes"] if "volumes" in service else []:
        if volume["type"] == "volume":
            assert volume["source"] in compose["volumes"], volume
def propagation(service, target):
    return next(v["bind"]["propagation"] for v in services[service]["volumes"] if v["target"] == target)
assert propagation("server", "/srv/mediafs") == propagation("worker", "/srv/mediafs") == "rslave"
assert propagation("mediafs", "/srv/mediafs") == "rshared"
build = services["mediafs"]["build"]
assert (deploy / build["context"]).resolve() == repo.resolve()
containerfile = repo / build["dockerfile"]
for line in containerfile.read_text().splitlines():
    if line.startswith("COPY ") and "--from" not in line:
        for source in line.split()[1:-1]:
            assert (repo / source).exists(), source
            assert "!" + source in containerfile.with_name("Containerfile.dockerignore").read_text().split(), source
documents = list(yaml.safe_load_all((deploy / "kubernetes.yaml").read_text()))
kinds = {document["kind"]: document for document in documents}
for kind in ("DaemonSet", "Deployment"):
    pod = kinds[kind]["spec"]["template"]["spec"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"] + pod.get("initContainers", []):
        for mount in container["volumeMounts"]:
            assert mount["name"] in volumes, mount
def mounts(kind):
    pod = kinds[kind]["spec"]["template"]["spec"]
    return {m["mountPath"]: m.get("mountPropagation") for c in pod["containers"] for m in c["volumeMounts"]}
assert mounts("DaemonSet")["/srv/mediafs"] == "Bidirectional"
assert mounts("Deployment")["/srv/mediafs"] == "HostToContainer"
daemon = kinds["DaemonSet"]["spec"]["template"]["spec"]["containers"][0]
assert all(probe in daemon for probe in ("startupProbe", "readinessProbe", "livenessProbe"))
config = kinds["ConfigMap"]["data"]["media.toml"]
assert tomllib.loads(config)["mountpoint"] == "/srv/mediafs/media"
print(config)
print("--", *services["mediafs"]["command"], *daemon["args"])
"#;

#[test]
fn the_deployments_parse_and_name_what_exists() {
    let repo = Path::new(env!("CARGO_MANIFEST_DIR"));
    let printed = run_python(DEPLOYMENT, &[repo]);
    let (config, args) = printed.split_once("--").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("media.toml");
    // Every setting is one, and the first that cannot be is the mountpoint of a node.
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mediafs"));
    command
        .args(["mount", "--foreground", "--config"])
        .arg(&file);
    let output = run_within(SOON, &mut command);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("/srv/mediafs/media does not exist"),
        "{}",
        said(&output)
    );
    let mut help = Command::new(env!("CARGO_BIN_EXE_mediafs"));
    let help = said(&run_within(SOON, help.args(["mount", "--help"])));
    for flag in args
        .split_whitespace()
        .filter(|word| word.starts_with("--"))
    {
        assert!(help.contains(flag), "{flag}");
    }
}
