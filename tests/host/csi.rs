//! `mediafs csi` on a machine with systemd, as kubelet drives it: what csi-sanity checks of
//! a driver without a controller, and what pods see while driver and daemon die.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use mediafs::csi::messages::{
    AccessType, GetPluginInfoResponse, Mode, NodeGetCapabilitiesResponse, NodeGetInfoResponse,
    NodePublishVolumeRequest, ProbeResponse, RpcType,
};
use tonic::Code;

use crate::support::csi::{DriverPod, PersistentVolume, Refused, capability, secrets};
use crate::support::servers::SUCCESSOR;
use crate::support::{Machine, Server, run_python, wait_until};

const SOON: Duration = Duration::from_secs(60);
const APPLICATION: u32 = 1000;

/// Where kubelet wants the volume of a pod; it makes the folder above.
#[track_caller]
fn target_of(machine: &Machine, pod: &str) -> String {
    let folder = format!("/var/lib/kubelet/pods/{pod}/volumes/kubernetes.io~csi/pv");
    machine.says(&format!("mkdir -p {folder}"));
    format!("{folder}/mount")
}

/// A pod that has a volume on its /mnt, and writes a file again and again for as long as it can.
struct Application<'m> {
    machine: &'m Machine,
    unit: String,
}

impl<'m> Application<'m> {
    #[track_caller]
    fn start(machine: &'m Machine, name: &str, target: &str) -> Self {
        let unit = format!("app-{name}.service");
        machine.says(&format!(
            "systemd-run --quiet --collect --unit={unit} -p PrivateMounts=yes -p BindPaths={target}:/mnt \
             setpriv --reuid {APPLICATION} --clear-groups \
             sh -c 'exec 3>/mnt/open; while date +%N >/mnt/again; do sleep 0.1; done'"
        ));
        Self { machine, unit }
    }

    /// What a shell of the pod says, which must end with 0.
    #[track_caller]
    fn says(&self, script: &str) -> String {
        let pid = self.machine.property(&self.unit, "MainPID");
        self.machine.says(&format!(
            "nsenter -t {pid} -m setpriv --reuid {APPLICATION} --clear-groups sh -ec '{script}'"
        ))
    }

    /// It has not met an error, and writes what arrives in the bucket.
    #[track_caller]
    fn goes_on(&self, volume: &PersistentVolume) {
        let before = volume.object("again");
        wait_until(SOON, "what the application writes now", || {
            assert_eq!(self.machine.property(&self.unit, "ActiveState"), "active");
            let now = volume.object("again");
            now.is_some() && now != before
        });
    }
}

impl Drop for Application<'_> {
    fn drop(&mut self) {
        let unit = &self.unit;
        self.machine.tries(&format!("systemctl stop {unit}"));
    }
}

/// The unit of a volume's daemon, which is up.
#[track_caller]
fn unit_of(machine: &Machine, name: &str) -> String {
    let units = machine.says(&format!(
        "systemctl list-units --plain --no-legend 'mediafs-csi@{name}_*'"
    ));
    assert_eq!(units.lines().count(), 1, "{units}");
    units.split_whitespace().next().unwrap().to_owned()
}

/// Nothing of a volume is left.
#[track_caller]
fn check_gone(machine: &Machine, name: &str, target: &str) {
    let list = format!("systemctl list-units --all --plain --no-legend 'mediafs-csi@{name}_*'");
    wait_until(SOON, "the end of the unit", || {
        machine.says(&list).is_empty()
    });
    let mounts = machine.says("cat /proc/self/mountinfo");
    assert!(!mounts.contains(&format!("/{name}_")), "{mounts}");
    assert!(!mounts.contains(target), "{mounts}");
    assert!(!machine.tries(&format!("test -e {target}")).0);
}

/// Nothing of the volume is on the node.
#[track_caller]
fn check_forgotten(machine: &Machine, name: &str) {
    let (left, told) = machine.tries(&format!("ls -d /var/lib/mediafs/csi/{name}_*"));
    assert!(!left, "{told}");
}

#[track_caller]
fn check_refused<T: std::fmt::Debug>(outcome: Result<T, Refused>, code: Code, words: &str) {
    let (refused, why) = outcome.unwrap_err();
    assert_eq!(refused, code, "{why}");
    assert!(why.contains(words), "{why}");
}

#[test]
fn a_csi_driver_without_controller_says_what_it_is() {
    let pod = DriverPod::start(Machine::shared());
    let info: GetPluginInfoResponse = pod.call("Identity/GetPluginInfo", &()).unwrap();
    assert_eq!(info.name, "mediafs.csi");
    assert_eq!(info.vendor_version, env!("CARGO_PKG_VERSION"));
    let probed: ProbeResponse = pod.call("Identity/Probe", &()).unwrap();
    assert_eq!(probed.ready, Some(true));
    let able: () = pod.call("Identity/GetPluginCapabilities", &()).unwrap();
    assert_eq!(able, ());
    let able: NodeGetCapabilitiesResponse = pod.call("Node/NodeGetCapabilities", &()).unwrap();
    let able: Vec<RpcType> = able
        .capabilities
        .into_iter()
        .map(|it| it.rpc.unwrap().r#type())
        .collect();
    assert_eq!(
        able,
        [RpcType::SingleNodeMultiWriter, RpcType::VolumeMountGroup]
    );
    let node: NodeGetInfoResponse = pod.call("Node/NodeGetInfo", &()).unwrap();
    assert_eq!(node.node_id, "node-1");
    for call in [
        "Node/NodeStageVolume",
        "Node/NodeGetVolumeStats",
        "Controller/CreateVolume",
    ] {
        let outcome: Result<(), Refused> = pod.call(call, &());
        check_refused(outcome, Code::Unimplemented, "not a call");
    }
}

#[test]
fn csi_requests_that_are_wrong_are_refused_by_the_codes_of_the_specification() {
    let (machine, server) = (Machine::shared(), Server::shared());
    let pod = DriverPod::start(machine);
    let volume = PersistentVolume::on(server, "wrong");
    let target = target_of(machine, "wrong");
    let refused = |code: Code, words: &str, change: &dyn Fn(&mut NodePublishVolumeRequest)| {
        let mut request = volume.request(server, &target);
        change(&mut request);
        check_refused(pod.publish(&request), code, words);
    };
    let wrong = Code::InvalidArgument;
    refused(wrong, "volume_id", &|it| it.volume_id.clear());
    refused(wrong, "target_path", &|it| it.target_path.clear());
    refused(wrong, "volume_capability", &|it| {
        it.volume_capability = None;
    });
    refused(wrong, "block device", &|it| {
        let capability = it.volume_capability.as_mut().unwrap();
        capability.access_type = Some(AccessType::Block(()));
    });
    refused(wrong, "MULTI_NODE_SINGLE_WRITER", &|it| {
        it.volume_capability = Some(capability(Mode::MultiNodeSingleWriter, ""));
    });
    refused(wrong, "ttl", &|it| {
        it.volume_context.insert("ttle".to_owned(), "5s".to_owned());
    });
    refused(wrong, "spool", &|it| {
        it.volume_context.insert("spool".to_owned(), "/".to_owned());
    });
    refused(wrong, "mime", &|it| {
        it.volume_context
            .insert("mime".to_owned(), "/etc/shadow".to_owned());
    });
    refused(wrong, "bucket", &|it| {
        it.volume_context
            .insert("bucket".to_owned(), "--config=/etc/shadow".to_owned());
    });
    assert!(!machine.tries("ls -d /var/lib/mediafs/csi/wrong_*").0);
    // Of the daemon, in its words; the secret is in none, nor in a log.
    refused(Code::Internal, "does not serve", &|it| {
        it.volume_context
            .insert("bucket".to_owned(), "no-such-bucket".to_owned());
        it.volume_context
            .insert("request-timeout".to_owned(), "2s".to_owned());
        it.secrets.insert(
            "AWS_SECRET_ACCESS_KEY".to_owned(),
            "hunter2hunter2".to_owned(),
        );
    });
    check_gone(machine, "wrong", &target);
    check_forgotten(machine, "wrong");
    assert!(
        !machine
            .says("journalctl --no-pager -o export")
            .contains("hunter2")
    );
    check_refused(pod.unpublish("", &target), wrong, "volume_id");
    check_refused(pod.unpublish("wrong/volume", ""), wrong, "target_path");
    pod.unpublish("never published", &target).unwrap();
    pod.unpublish("wrong/volume", &target).unwrap();
}

#[test]
fn the_csi_driver_leaves_an_operators_own_mount_at_a_target_alone() {
    let (machine, server) = (Machine::shared(), Server::shared());
    let pod = DriverPod::start(machine);
    let volume = PersistentVolume::on(server, "own");
    let target = target_of(machine, "own");
    let request = volume.request(server, &target);
    let (owner, bucket, endpoint) = (&server.owner, &volume.bucket, &server.endpoint);
    machine.says(&format!(
        "mkdir {target}; AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} /opt/mediafs mount {bucket} {target} \
         --endpoint-url={endpoint} --region={} --force-path-style",
        owner.access_key, owner.secret_key, server.region
    ));
    machine.says(&format!("echo own >{target}/f"));
    check_refused(
        pod.publish(&request),
        Code::AlreadyExists,
        "has another mount",
    );
    for id in [volume.id.as_str(), "never published"] {
        check_refused(pod.unpublish(id, &target), Code::NotFound, "mount");
    }
    assert_eq!(machine.says(&format!("cat {target}/f")), "own\n");
    machine.says(&format!("/opt/mediafs unmount {target}"));
    pod.unpublish("never published", &target).unwrap();
}

#[test]
fn a_pod_goes_on_while_the_csi_driver_and_the_daemon_are_killed() {
    let (machine, server) = (Machine::shared(), Server::shared());
    let volume = PersistentVolume::on(server, "story");
    let target = target_of(machine, "story");
    let mut request = volume.request(server, &target);
    request
        .volume_context
        .insert("storage-class".to_owned(), "STANDARD".to_owned());
    let first = DriverPod::start(machine);
    first.publish(&request).unwrap();
    first.publish(&request).unwrap();
    let unit = unit_of(machine, "story");
    let app = Application::start(machine, "story", &target);
    app.goes_on(&volume);
    let folder = machine.says("ls -d /var/lib/mediafs/csi/story_*");
    let credentials = machine.path(&format!("{}/credentials", folder.trim()));
    assert_eq!(
        std::fs::metadata(credentials).unwrap().mode() & 0o777,
        0o600
    );
    let daemon = machine.property(&unit, "MainPID");

    first.kill();
    app.goes_on(&volume);
    assert_eq!(machine.property(&unit, "MainPID"), daemon);
    app.says("echo without a driver >/mnt/new");
    assert_eq!(volume.object("new").unwrap(), b"without a driver\n");

    let second = DriverPod::start(machine);
    second.publish(&request).unwrap();
    let mut other = request.clone();
    other.readonly = true;
    check_refused(second.publish(&other), Code::AlreadyExists, "readonly");
    let mut other = request.clone();
    other
        .volume_context
        .insert("ttl".to_owned(), "5s".to_owned());
    check_refused(second.publish(&other), Code::AlreadyExists, "ttl");
    let mut other = request.clone();
    other.volume_id = "another volume".to_owned();
    check_refused(second.publish(&other), Code::AlreadyExists, "another mount");

    machine.says(&format!("systemctl kill -s KILL --kill-who=main {unit}"));
    wait_until(SOON, "another daemon", || {
        let now = machine.property(&unit, "MainPID");
        now != daemon && now != "0"
    });
    app.goes_on(&volume);
    assert_eq!(app.says("cat /mnt/new"), "without a driver\n");
    drop(app);
    second.unpublish(&volume.id, &target).unwrap();
    // A spool that knows of requests of the killed daemon without an answer stays.
    check_gone(machine, "story", &target);
    second.unpublish(&volume.id, &target).unwrap();
}

#[test]
fn pods_of_a_node_share_the_daemon_of_a_volume_until_the_last_is_gone() {
    let (machine, server) = (Machine::shared(), Server::shared());
    let pod = DriverPod::start(machine);
    let volume = PersistentVolume::on(server, "shared");
    let targets = ["shared-1", "shared-2", "shared-3"].map(|it| target_of(machine, it));
    let mut request = volume.request(server, &targets[0]);
    request.volume_capability = Some(capability(Mode::MultiNodeMultiWriter, "4321"));
    pod.publish(&request).unwrap();
    let mut reads = request.clone();
    reads.target_path.clone_from(&targets[1]);
    reads.readonly = true;
    // The Secret is another one by now.
    reads.secrets = secrets(&SUCCESSOR);
    pod.publish(&reads).unwrap();
    let credentials = machine.says("cat /var/lib/mediafs/csi/shared_*/credentials");
    assert!(
        credentials.contains("aws_access_key_id = k2\n"),
        "{credentials}"
    );
    unit_of(machine, "shared");
    let [writes, reads] = [&targets[0], &targets[1]];
    let script = format!("echo x >{writes}/f; cat {reads}/f; stat -c %g:%a {reads}/f");
    assert_eq!(machine.says(&script), "x\n4321:664\n");
    let (written, why) = machine.tries(&format!("echo y >{reads}/f"));
    assert!(!written && why.contains("Read-only"), "{why}");

    let mut third = request.clone();
    third.target_path.clone_from(&targets[2]);
    third.volume_capability = Some(capability(Mode::SingleNodeSingleWriter, "4321"));
    check_refused(pod.publish(&third), Code::FailedPrecondition, "OncePod");
    third.volume_capability = Some(capability(Mode::MultiNodeMultiWriter, "1234"));
    check_refused(pod.publish(&third), Code::FailedPrecondition, "fsGroup");

    pod.unpublish(&volume.id, writes).unwrap();
    assert_eq!(machine.says(&format!("cat {reads}/f")), "x\n");
    assert_eq!(volume.object("f").unwrap(), b"x\n");
    pod.unpublish(&volume.id, reads).unwrap();
    check_gone(machine, "shared", reads);
    check_forgotten(machine, "shared");
}

/// Renders the chart as Helm does, as far as its templates go, and prints the arguments of
/// the driver.
const CHART: &str = r#"
import json, pathlib, re, sys, yaml
chart = pathlib.Path(sys.argv[1]) / "scripts/deploy/kubernetes"
about = yaml.safe_load((chart / "Chart.yaml").read_text())
scope = {"Values": yaml.safe_load((chart / "values.yaml").read_text()),
         "Chart": {"AppVersion": about["appVersion"], "Name": about["name"]},
         "Release": {"Namespace": "storage"}}
def value(path):
    found = scope
    for name in path.strip(".").split("."):
        found = found[name]
    return found
def render(match):
    words = match[1].split()
    if words[0] == "toJson":
        return json.dumps(value(words[1]))
    assert len(words) == 1 and words[0].startswith("."), match[0]
    return str(value(words[0]))
kinds = {}
for template in sorted((chart / "templates").glob("*.yaml")):
    text = re.sub(r"\{\{\s*(.*?)\s*\}\}", render, template.read_text())
    for document in yaml.safe_load_all(text):
        kinds[document["kind"]] = document
driver = kinds["CSIDriver"]
name = driver["metadata"]["name"]
assert driver["spec"]["volumeLifecycleModes"] == ["Persistent"]
assert driver["spec"]["attachRequired"] is False
pod = kinds["DaemonSet"]["spec"]["template"]["spec"]
assert pod["hostPID"] is True
containers = {container["name"]: container for container in pod["containers"]}
volumes = {volume["name"]: volume for volume in pod["volumes"]}
for container in containers.values():
    for mount in container["volumeMounts"]:
        assert mount["name"] in volumes, mount
assert volumes["plugin"]["hostPath"]["path"].endswith("/plugins/" + name)
assert "--driver-name=" + name in containers["driver"]["args"]
assert containers["driver"]["securityContext"]["privileged"] is True
assert "--kubelet-registration-path=" + volumes["plugin"]["hostPath"]["path"] + "/csi.sock" in containers["registrar"]["args"]
assert about["appVersion"] in pathlib.Path(sys.argv[1], "Cargo.toml").read_text()
print(*containers["driver"]["args"])
"#;

#[test]
fn the_chart_renders_and_its_driver_knows_its_arguments() {
    let printed = run_python(CHART, &[Path::new(env!("CARGO_MANIFEST_DIR"))]);
    let mut help = std::process::Command::new(env!("CARGO_BIN_EXE_mediafs"));
    let help = help.args(["csi", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let flags = printed.split_whitespace().filter(|it| it.starts_with("--"));
    for flag in flags {
        let name = flag.split('=').next().unwrap();
        assert!(help.contains(name), "{name}\n{help}");
    }
}
