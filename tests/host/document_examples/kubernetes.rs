//! Examples for Kubernetes, with the driver and what kubelet would ask of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mediafs::csi::messages::{GetPluginInfoResponse, Mode, NodePublishVolumeRequest};
use serde_json::Value;

use super::{STAND_INS, Typist};
use crate::support::Client;
use crate::support::csi::{DriverPod, capability, secrets};
use crate::support::examples::{self, Example, steps};
use crate::support::programs::parse_yaml;

/// Says how it was called, as the image of a cluster cannot be built without a registry,
/// and Debian has no helm.
const STAND_IN: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n";

/// What is built is what the chart starts.
#[track_caller]
pub fn names_what_is_deployed(typist: &Typist, example: &Example) {
    typist.types(&format!(
        "mkdir -p {STAND_INS}; cat >{STAND_INS}/docker <<'END'\n{STAND_IN}END\n\
         chmod 755 {STAND_INS}/docker; cp {STAND_INS}/docker {STAND_INS}/helm"
    ));
    let repo = Path::new(env!("CARGO_MANIFEST_DIR"));
    let values = repo.join("scripts/deploy/kubernetes/values.yaml");
    let values = parse_yaml(&fs::read_to_string(values).unwrap()).remove(0);
    for (command, _) in steps(&example.text) {
        let said = typist.types(&command);
        let words: Vec<&str> = said.lines().collect();
        match words[..] {
            ["build", "-f", file, "-t", image, "."] => {
                assert!(repo.join(file).exists(), "{command}");
                assert_eq!(image, values["image"], "{command}");
                assert_eq!(image, concat!("mediafs:", env!("CARGO_PKG_VERSION")));
            }
            ["install", _, chart, "--namespace", _] => {
                assert!(repo.join(chart).join("Chart.yaml").exists(), "{command}");
            }
            _ => panic!("{command}"),
        }
    }
    // Others of the examples ask docker itself.
    typist.types(&format!("rm -r {STAND_INS}"));
}

/// A PersistentVolume and the claim that it is for.
struct Volume {
    name: String,
    spec: Value,
    claim: Value,
}

impl Volume {
    #[track_caller]
    fn of(example: &Example) -> Self {
        let objects = parse_yaml(&example.text);
        let [volume, claim] = &objects[..] else {
            panic!("{}", example.text);
        };
        assert_eq!(volume["kind"], "PersistentVolume");
        assert_eq!(claim["kind"], "PersistentVolumeClaim");
        let (spec, metadata) = (&volume["spec"], &claim["metadata"]);
        assert_eq!(&spec["claimRef"], metadata);
        let secret = &spec["csi"]["nodePublishSecretRef"];
        assert_eq!(secret["namespace"], metadata["namespace"]);
        let asked = &claim["spec"];
        assert_eq!(asked["volumeName"], volume["metadata"]["name"]);
        assert_eq!(asked["storageClassName"], "", "none is made for the claim");
        assert_eq!(asked["accessModes"], spec["accessModes"]);
        assert_eq!(asked["resources"]["requests"], spec["capacity"]);
        Self {
            name: text(&volume["metadata"]["name"]),
            spec: spec.clone(),
            claim: metadata.clone(),
        }
    }

    /// As kubelet has the driver mount it for a pod, whose files have this group.
    #[track_caller]
    fn request(&self, typist: &Typist, group: &str) -> NodePublishVolumeRequest {
        assert_eq!(
            self.spec["accessModes"],
            serde_json::json!(["ReadWriteMany"])
        );
        let csi = &self.spec["csi"];
        let attributes = csi["volumeAttributes"].as_object().unwrap();
        let attributes = attributes.iter();
        let mut context: BTreeMap<String, String> = attributes
            .map(|(name, value)| (name.clone(), text(value)))
            .collect();
        // The server is not one of AWS.
        let endpoint = typist.server.endpoint.clone();
        context.insert("endpoint-url".to_owned(), endpoint);
        context.insert("force-path-style".to_owned(), "true".to_owned());
        let folder = format!(
            "/var/lib/kubelet/pods/example/volumes/kubernetes.io~csi/{}",
            self.name
        );
        typist.types(&format!("mkdir -p {folder}"));
        NodePublishVolumeRequest {
            volume_id: text(&csi["volumeHandle"]),
            target_path: format!("{folder}/mount"),
            volume_capability: Some(capability(Mode::MultiNodeMultiWriter, group)),
            readonly: false,
            secrets: secrets(&typist.server.owner),
            volume_context: context,
        }
    }

    fn object(&self, typist: &Typist, path: &str) -> Option<Vec<u8>> {
        let attributes = &self.spec["csi"]["volumeAttributes"];
        let (bucket, prefix) = (text(&attributes["bucket"]), text(&attributes["prefix"]));
        Client::new(typist.server).get(&bucket, &format!("{prefix}/{path}"))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[track_caller]
pub fn publishes(typist: &Typist, example: &Example) {
    let volume = Volume::of(example);
    let driver = DriverPod::start(&typist.machine);
    let info: GetPluginInfoResponse = driver.call("Identity/GetPluginInfo", &()).unwrap();
    assert_eq!(volume.spec["csi"]["driver"], info.name.as_str());
    let request = volume.request(typist, "");
    driver.publish(&request).unwrap();
    let target = &request.target_path;
    typist.types(&format!("echo bytes >{target}/published"));
    assert_eq!(volume.object(typist, "published").unwrap(), b"bytes\n");
    driver.unpublish(&request.volume_id, target).unwrap();
}

/// A pod of authentik writes where its variables say, and it is in the volume.
#[track_caller]
pub fn runs_a_pod(typist: &Typist, example: &Example) {
    let values = &parse_yaml(&example.text)[0]["global"];
    let volume = Volume::of(&examples::of("yaml volume")[0]);
    let [mounted] = &values["volumeMounts"].as_array().unwrap()[..] else {
        panic!("{values}");
    };
    let [source] = &values["volumes"].as_array().unwrap()[..] else {
        panic!("{values}");
    };
    assert_eq!(mounted["name"], source["name"]);
    let claimed = &source["persistentVolumeClaim"]["claimName"];
    assert_eq!(claimed, &volume.claim["name"]);
    let ids = &values["securityContext"];
    let request = volume.request(typist, &ids["fsGroup"].to_string());
    let mut variables = String::new();
    for variable in values["env"].as_array().unwrap() {
        let (name, value) = (text(&variable["name"]), text(&variable["value"]));
        variables.push_str(&format!("{name}={value} "));
    }
    let driver = DriverPod::start(&typist.machine);
    driver.publish(&request).unwrap();
    let (target, path) = (&request.target_path, text(&mounted["mountPath"]));
    let script = r#"[ "$AUTHENTIK_STORAGE__BACKEND" = file ]
        mkdir "$AUTHENTIK_STORAGE__FILE__PATH/media/public"
        echo icon >"$AUTHENTIK_STORAGE__FILE__PATH/media/public/icon""#;
    typist.types(&format!(
        "cat >/opt/pod <<'END'\n{script}\nEND\n\
         unshare --mount --propagation private sh -ec 'mkdir -p {path}; mount --bind {target} {path}; \
         {variables} setpriv --reuid {} --regid {} --groups {} sh -e /opt/pod'",
        ids["runAsUser"], ids["runAsGroup"], ids["fsGroup"]
    ));
    let stored = volume.object(typist, "public/icon");
    assert_eq!(stored.unwrap(), b"icon\n");
    driver.unpublish(&request.volume_id, target).unwrap();
}
