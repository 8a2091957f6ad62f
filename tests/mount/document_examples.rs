//! The examples of README and help topics, as they stand there, on a machine of
//! their own with mediafs installed.
//!
//! A block of code says by its first words what becomes of it: `console run` is
//! typed, and what it shows below a command has to be its output; with a NAME
//! behind it, the service `mediafs@NAME` is started before. `console ask` is the same at
//! a terminal, where each question gets a yes. `toml FILE` is
//! read by the parser and written to FILE, as `env FILE` is; `fstab` is mounted by mount(8). Later
//! blocks build on files of earlier ones; what is mounted ends with its block.
//!
//! A plain `console` is not typed: it shows one answer of several (doctor), is run by the
//! test script (`scripts/demo`), or needs what other tests have: files below a mount,
//! containers, Kubernetes, a package (`tests/host/`).

use std::fs;
use std::path::{Path, PathBuf};

use mediafs::config::{ConfigSource, Options, Target};
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag};

use crate::support::{Client, Machine, Server};

const BUCKET: &str = "my-bucket";
/// Those that the examples name besides.
const OTHER_BUCKETS: [&str; 3] = ["authentik", "old-bucket", "new-bucket"];

#[derive(Debug)]
struct Example {
    document: PathBuf,
    kind: String,
    text: String,
}

/// README first, as it is read.
fn examples() -> Vec<Example> {
    let repo = Path::new(env!("CARGO_MANIFEST_DIR"));
    let topics = fs::read_dir(repo.join("src/cli/help")).unwrap();
    let mut topics: Vec<PathBuf> = topics.map(|entry| entry.unwrap().path()).collect();
    topics.retain(|path| path.extension().is_some_and(|it| it == "md"));
    topics.sort();
    topics.insert(0, repo.join("README.md"));
    topics.iter().flat_map(|path| examples_in(path)).collect()
}

fn examples_in(document: &Path) -> Vec<Example> {
    let markdown = fs::read_to_string(document).unwrap();
    let mut found = Vec::new();
    let mut open = false;
    for event in Parser::new(&markdown) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(kind))) => {
                open = true;
                found.push(Example {
                    document: document.to_owned(),
                    kind: kind.into_string(),
                    text: String::new(),
                });
            }
            Event::Text(text) if open => found.last_mut().unwrap().text.push_str(&text),
            Event::End(_) => open = false,
            _ => {}
        }
    }
    found
}

/// A command, and the lines that are shown below it.
fn steps(text: &str) -> Vec<(String, Vec<String>)> {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        let command = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "));
        match (command, steps.last_mut()) {
            (None, Some((before, _))) if before.ends_with('\\') => {
                before.push('\n');
                before.push_str(line);
            }
            (Some(command), _) => steps.push((command.to_owned(), Vec::new())),
            (None, Some((_, shown))) => shown.push(line.to_owned()),
            (None, None) => panic!("no command above {line:?}"),
        }
    }
    steps
}

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

    /// Runs a command as root in the folder of the repository, and returns what it said.
    #[track_caller]
    fn types(&self, command: &str) -> String {
        let (owner, endpoint) = (&self.server.owner, &self.server.endpoint);
        let binary = if command.starts_with("scripts/") {
            "MEDIAFS_BINARY=/opt/mediafs "
        } else {
            ""
        };
        let script = format!(
            "for name in $(env | sed -n 's/^\\(MEDIAFS_TEST_[^=]*\\)=.*/\\1/p'); do unset $name; done\n\
             export HOME=/root AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} AWS_REGION={}\n\
             export AWS_EC2_METADATA_DISABLED=true MEDIAFS_ENDPOINT_URL={endpoint} MEDIAFS_FORCE_PATH_STYLE=true\n\
             export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
             cd '{}'\n{binary}{command}",
            owner.access_key,
            owner.secret_key,
            self.server.region,
            env!("CARGO_MANIFEST_DIR")
        );
        self.machine.says(&script)
    }

    #[track_caller]
    fn runs(&self, example: &Example, at: At) {
        for (command, shown) in steps(&example.text) {
            let said = self.types(&match at {
                At::Pipe => command.clone(),
                At::Terminal => {
                    format!("{TERMINALS}\nprintf 'y\ny\n' | script -qec '{command}' /dev/null")
                }
            });
            if !shown.is_empty() {
                let said: Vec<&str> = said.lines().collect();
                assert_eq!(said, shown, "{}: {command}", example.document.display());
            }
        }
        self.ends();
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

#[test]
fn every_example_of_a_document_works_as_it_stands_there() {
    let typist = Typist::new();
    let mut counts = [0; 3];
    for example in examples() {
        println!("{}: {}", example.document.display(), example.text);
        let mut words = example.kind.split(' ');
        match (words.next(), words.next()) {
            (Some("console"), Some(how @ ("run" | "ask"))) => {
                if let Some(name) = words.next() {
                    typist.types(&format!("systemctl start mediafs@{name}"));
                }
                let at = match how {
                    "ask" => At::Terminal,
                    _ => At::Pipe,
                };
                typist.runs(&example, at);
                counts[0] += 1;
            }
            (Some("toml" | "env"), Some(path)) => {
                let path = typist.machine.path(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, typist.with_keys(&example.text)).unwrap();
                counts[1] += 1;
            }
            (Some("fstab"), None) => {
                typist.mounts(&example);
                counts[2] += 1;
            }
            (Some("console" | "text" | "yaml"), None) => {}
            _ => panic!("what becomes of this? {example:?}"),
        }
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    let bytes = Client::new(typist.server).get(BUCKET, "media/fstab");
    assert_eq!(bytes.unwrap(), b"bytes\n");
}

#[test]
fn every_configuration_of_a_document_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    let mut written = String::new();
    for example in examples() {
        if let Some(path) = example.kind.strip_prefix("env ") {
            path.clone_into(&mut written);
            fs::write(dir.path().join("env"), &example.text).unwrap();
        } else if example.kind.starts_with("toml") {
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
