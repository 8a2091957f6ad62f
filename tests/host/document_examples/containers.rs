//! Examples with containers: podman's real engine, on the machine of the examples.

use std::fs;

use serde_json::Value;

use super::{BUCKET, Typist};
use crate::support::Client;
use crate::support::examples::{Example, steps};
use crate::support::podman::make_root;
use crate::support::programs::parse_yaml;

const ROOT: &str = "/opt/container";
const PODMAN: &str = "podman --log-level error";
/// Source: containers-storage.conf(5).
const STORAGE: &str = "[storage]\ndriver = \"vfs\"\ngraphroot = \"/var/lib/containers/storage\"\nrunroot = \"/run/containers\"\n";
/// The machine's control groups have no controllers, and may not raise limits. Source:
/// containers.conf(5).
const ENGINE: &str = "[containers]\npids_limit = 0\nnetns = \"none\"\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                      [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n";
/// What the machine mounts where the examples have it. Its spool lies apart: an example of
/// another page finds its daemon by the only spool in the usual place.
const MOUNT: &str =
    "mediafs mount my-bucket/media /srv/mediafs/media --allow-other --spool /opt/spool";

/// The container called `app`, as long as it runs.
struct App<'t> {
    typist: &'t Typist,
}

impl<'t> App<'t> {
    /// With these options of podman, on a root whose `/media` has a file.
    #[track_caller]
    fn start(typist: &'t Typist, options: &str) -> Self {
        let machine = &typist.machine;
        if !machine.path(ROOT).exists() {
            make_root(&machine.path(ROOT));
            fs::write(machine.path(ROOT).join("media/old"), "").unwrap();
            fs::create_dir_all(machine.path("/etc/containers")).unwrap();
            fs::write(machine.path("/etc/containers/storage.conf"), STORAGE).unwrap();
            fs::write(machine.path("/etc/containers/containers.conf"), ENGINE).unwrap();
        }
        typist.types(&format!(
            "{PODMAN} run --detach --name app --read-only{options} --rootfs {ROOT} sleep 1000"
        ));
        Self { typist }
    }

    /// What a shell in it says, which must end with 0.
    #[track_caller]
    fn says(&self, script: &str) -> String {
        self.typist
            .types(&format!("{PODMAN} exec app sh -ec '{script}'"))
    }

    #[track_caller]
    fn pid(&self) -> String {
        let format = "{{.State.Pid}}";
        let pid = self
            .typist
            .types(&format!("{PODMAN} inspect --format '{format}' app"));
        pid.trim().to_owned()
    }
}

impl Drop for App<'_> {
    fn drop(&mut self) {
        let remove = format!("{PODMAN} rm --force --time 0 app");
        self.typist.machine.tries(&remove);
    }
}

/// A volume of compose.yml in the words of podman, which makes no directory of the host.
/// Panics where it says what podman is not told. Source: podman-run(1), `--mount`.
#[track_caller]
fn mount_option(volume: &Value) -> String {
    let mut option = String::from(" --mount ");
    for (name, value) in volume.as_object().unwrap() {
        match name.as_str() {
            "type" | "source" | "target" => {
                option.push_str(&format!("{name}={},", value.as_str().unwrap()));
            }
            "bind" => {
                for (name, value) in value.as_object().unwrap() {
                    match (name.as_str(), value) {
                        ("propagation", Value::String(how)) => {
                            option.push_str(&format!("bind-propagation={how},"));
                        }
                        ("create_host_path", Value::Bool(false)) => {}
                        _ => panic!("{name}: {value}"),
                    }
                }
            }
            _ => panic!("{name}: {value}"),
        }
    }
    option.trim_end_matches(',').to_owned()
}

/// A container with these volumes sees a mount that comes after it, and the next one.
#[track_caller]
pub fn uses_volumes(typist: &Typist, example: &Example) {
    let document = parse_yaml(&example.text).remove(0);
    // A whole file, or some lines of a service.
    let service = document
        .get("services")
        .map_or(&document, |services| &services["app"]);
    let mut options = String::new();
    if let Some(user) = service.get("user") {
        options.push_str(&format!(" --user {}", user.as_str().unwrap()));
    }
    for volume in service["volumes"].as_array().unwrap() {
        options.push_str(&mount_option(volume));
    }
    typist.types("mkdir -p /srv/mediafs/media");
    let app = App::start(typist, &options);
    assert_eq!(app.says("ls /srv/mediafs/media"), "");
    let client = Client::new(typist.server);
    for text in ["first", "second"] {
        typist.types(MOUNT);
        app.says(&format!("echo {text} >/srv/mediafs/media/of-app"));
        let stored = client.get(BUCKET, "media/of-app").unwrap();
        assert_eq!(stored, format!("{text}\n").as_bytes());
        typist.types("umount /srv/mediafs/media");
        assert_eq!(app.says("ls /srv/mediafs/media"), "");
    }
    typist.ends();
}

/// Each attach is to a container without the mount; after a detach it is as before.
#[track_caller]
pub fn attaches(typist: &Typist, example: &Example) {
    typist.types("mkdir -p /srv/mediafs/media");
    typist.types(MOUNT);
    typist.types("echo bytes >/srv/mediafs/media/for-app");
    let mut app = None;
    for (command, _) in steps(&example.text) {
        let attaches = command.starts_with("mediafs attach ");
        if attaches {
            // The first ends before another has its name.
            drop(app.take());
            app = Some(App::start(typist, " --user 1000:1000"));
        }
        let app = app.as_ref().unwrap();
        typist.types(&command.replace("--pid 4711 ", &format!("--pid {} ", app.pid())));
        if attaches {
            assert_eq!(app.says("cat /media/for-app"), "bytes\n", "{command}");
        } else {
            assert_eq!(app.says("ls /media"), "old\n", "{command}");
        }
    }
    drop(app);
    typist.ends();
}
