//! The examples of README and help topics, as they stand there, on a machine of
//! their own with mediafs installed.
//!
//! A block of code says by its first words what becomes of it. What is shown below a command
//! has to be its output, where `...` stands for anything. Later blocks build on files of
//! earlier ones; what is mounted ends with its block.
//!
//! | first words          | what becomes of it |
//! |----------------------|--------------------|
//! | `console run`        | typed; with a NAME behind it, the service `mediafs@NAME` is started before |
//! | `console ask`        | the same at a terminal, where each question gets a yes |
//! | `console hidden`     | as `ask`, with a file in the directory under the mount |
//! | `console reader`     | typed by one who may only read the bucket; it ends with 1 |
//! | `console container`  | typed beside a running container called `app` |
//! | `console image`      | its words are compared with files of `scripts/deploy` |
//! | `console demo`       | stands in `scripts/test`, which runs it |
//! | `console package`    | typed where the package lies (`tests/host/packages.rs`) |
//! | `toml FILE`          | read by the parser, and written to FILE |
//! | `env FILE`           | written to FILE |
//! | `fstab`              | mounted by mount(8) |
//! | `yaml compose`       | its volumes are those of a container that uses the mount |
//! | `yaml volume`        | published by the CSI driver |
//! | `yaml chart`         | the same, for a pod with these values |
//! | `yaml prometheus`    | read by promtool (`tests/host/metrics.rs`) |
//! | `text metrics`       | compared with the metrics of a mount (`tests/host/metrics.rs`) |

mod containers;
mod kubernetes;

use std::fs;

use mediafs::config::{ConfigSource, Options, Target};

use crate::support::examples::{self, Example, is_as_shown, steps};
use crate::support::servers::{Credentials, READER};
use crate::support::{Client, Machine, Server};

const BUCKET: &str = "my-bucket";
/// Those that the examples name besides.
const OTHER_BUCKETS: [&str; 3] = ["authentik", "old-bucket", "new-bucket"];
/// Where programs of the machine stand that only say what they were asked.
const STAND_INS: &str = "/opt/stand-ins";

/// The machine has none of its own.
const TERMINALS: &str = "[ -e /dev/ptmx ] || {
     mkdir -p /dev/pts
     mount -t devpts -o ptmxmode=666 devpts /dev/pts
     ln -s pts/ptmx /dev/ptmx
 }";

/// Where a command reads and writes.
#[derive(Debug, Clone, Copy)]
enum At {
    Pipe,
    /// Each of its questions is answered.
    Terminal,
    /// By one whose key may not write; it fails.
    PipeOfReader,
}

struct Typist {
    machine: Machine,
    server: &'static Server,
}

impl Typist {
    fn new() -> Self {
        let (server, machine) = (Server::shared(), Machine::boot());
        let client = Client::new(server);
        client.create_bucket(BUCKET);
        for bucket in OTHER_BUCKETS {
            client.create_bucket(bucket);
        }
        client.put("old-bucket", "media/a", b"old");
        let uploads = machine.path("/srv/uploads");
        fs::create_dir_all(&uploads).unwrap();
        fs::write(uploads.join("a"), "x").unwrap();
        let owner = &server.owner;
        let credentials = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            owner.access_key, owner.secret_key
        );
        fs::create_dir_all(machine.path("/root/.aws")).unwrap();
        fs::write(machine.path("/root/.aws/credentials"), credentials).unwrap();
        machine.drop_in(
            "mediafs@.service",
            &format!(
                "[Service]\nEnvironment=AWS_EC2_METADATA_DISABLED=true AWS_REGION={} MEDIAFS_ENDPOINT_URL={} MEDIAFS_FORCE_PATH_STYLE=true\n",
                server.region, server.endpoint
            ),
        );
        Self { machine, server }
    }

    /// A command as root types it in the folder of the repository.
    fn typed(&self, command: &str, user: &Credentials) -> String {
        let endpoint = &self.server.endpoint;
        let binary = if command.starts_with("scripts/") {
            "MEDIAFS_BINARY=/opt/mediafs "
        } else {
            ""
        };
        format!(
            "for name in $(env | sed -n 's/^\\(MEDIAFS_TEST_[^=]*\\)=.*/\\1/p'); do unset $name; done\n\
             export HOME=/root AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} AWS_REGION={}\n\
             export AWS_EC2_METADATA_DISABLED=true MEDIAFS_ENDPOINT_URL={endpoint} MEDIAFS_FORCE_PATH_STYLE=true\n\
             export PATH={STAND_INS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
             cd '{}'\n{binary}{command}",
            user.access_key,
            user.secret_key,
            self.server.region,
            env!("CARGO_MANIFEST_DIR")
        )
    }

    /// Types a command, which must end with 0, and returns what it said.
    #[track_caller]
    fn types(&self, command: &str) -> String {
        self.machine.says(&self.typed(command, &self.server.owner))
    }

    #[track_caller]
    fn runs(&self, example: &Example, at: At) {
        for (command, shown) in steps(&example.text) {
            let said = match at {
                At::Pipe => self.types(&command),
                At::Terminal => self.types(&format!(
                    "{TERMINALS}\nprintf 'y\ny\n' | script -qec '{command}' /dev/null"
                )),
                At::PipeOfReader => {
                    let (done, said) = self.machine.tries(&self.typed(&command, &READER));
                    assert!(!done, "{command}: {said}");
                    said
                }
            };
            assert!(
                shown.is_empty() || is_as_shown(&said, &shown),
                "{}: {command}: {said}",
                example.document.display()
            );
        }
        self.ends();
    }

    /// With a file that the mount hides, which is in the bucket then.
    #[track_caller]
    fn runs_above_hidden(&self, example: &Example) {
        self.types("echo below >/srv/media/below");
        self.types("mediafs mount my-bucket/media /srv/media --allow-non-empty");
        self.runs(example, At::Terminal);
        let client = Client::new(self.server);
        assert_eq!(client.get(BUCKET, "media/below").unwrap(), b"below\n");
        self.types("rm /srv/media/below");
    }

    #[track_caller]
    fn mounts(&self, example: &Example) {
        fs::write(self.machine.path("/etc/fstab"), &example.text).unwrap();
        let place = example.text.split_whitespace().nth(1).unwrap();
        self.types(&format!(
            "mount -a -t mediafs; echo bytes >{place}/fstab; umount {place}; ! mountpoint -q {place}"
        ));
        self.ends();
        fs::remove_file(self.machine.path("/etc/fstab")).unwrap();
    }

    /// An example's file with credentials that the server takes.
    fn with_keys(&self, text: &str) -> String {
        let owner = &self.server.owner;
        text.replace("=access_key\n", &format!("={}\n", owner.access_key))
            .replace("=secret_key\n", &format!("={}\n", owner.secret_key))
    }

    /// Takes away what an example has mounted, once its import has ended.
    #[track_caller]
    fn ends(&self) {
        self.types(
            r#"for place in $(awk '$3 == "fuse.mediafs" {print $2}' /proc/mounts); do
                 while mediafs status "$place" --json | grep -Eq '"ended": ?false'; do sleep 0.1; done
               done"#,
        );
        self.types("systemctl stop 'mediafs@*.service'; umount -a -t fuse.mediafs");
        // A directory that has taken a mount's place.
        self.types("! mountpoint -q /srv/media || umount /srv/media");
    }
}

/// It stays until Ctrl-C, and builds: the script of the tests runs it with a program that
/// is built.
#[track_caller]
fn is_run_by_the_tests(example: &Example) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/test");
    let script = fs::read_to_string(script).unwrap();
    for (command, _) in steps(&example.text) {
        assert!(
            script.contains(&format!(" {command} --once\n")),
            "{command}"
        );
    }
}

#[test]
fn every_example_of_a_document_works_as_it_stands_there() {
    let typist = Typist::new();
    for example in examples::all() {
        println!("{}: {}", example.document.display(), example.text);
        match example.kind {
            "console run" | "console ask" => {
                if !example.more.is_empty() {
                    typist.types(&format!("systemctl start mediafs@{}", example.more));
                }
                let at = match example.kind {
                    "console ask" => At::Terminal,
                    _ => At::Pipe,
                };
                typist.runs(&example, at);
            }
            "console hidden" => typist.runs_above_hidden(&example),
            "console reader" => typist.runs(&example, At::PipeOfReader),
            "console container" => containers::attaches(&typist, &example),
            "console image" => kubernetes::names_what_is_deployed(&typist, &example),
            "console demo" => is_run_by_the_tests(&example),
            "toml" | "env" => {
                let path = typist.machine.path(&example.more);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, typist.with_keys(&example.text)).unwrap();
            }
            "fstab" => typist.mounts(&example),
            "yaml compose" => containers::uses_volumes(&typist, &example),
            "yaml volume" => kubernetes::publishes(&typist, &example),
            "yaml chart" => kubernetes::runs_a_pod(&typist, &example),
            other => assert!(examples::is_read_elsewhere(other), "{other}"),
        }
    }
    let bytes = Client::new(typist.server).get(BUCKET, "media/fstab");
    assert_eq!(bytes.unwrap(), b"bytes\n");
}

#[test]
fn every_configuration_of_a_document_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    let mut written = String::new();
    for example in examples::all() {
        if example.kind == "env" {
            written = example.more;
            fs::write(dir.path().join("env"), &example.text).unwrap();
        } else if example.kind == "toml" {
            let path = dir.path().join("m.toml");
            // This machine is no example's.
            let here = dir.path().join("env");
            let here = here.to_str().unwrap();
            let text = match written.as_str() {
                "" => example.text.clone(),
                written => example.text.replace(written, here),
            };
            fs::write(&path, text).unwrap();
            let source = ConfigSource::new(
                Target::FromFile,
                Some(&path),
                Options::default(),
                "/".into(),
            );
            let config = source.unwrap().load();
            assert!(config.is_ok(), "{config:?} in {example:?}");
            count += 1;
        }
    }
    assert!(count > 0);
}
