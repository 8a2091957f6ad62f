//! From authentik's settings to a file in the bucket: setup, doctor, mount, status, flush,
//! unmount, as root under systemd and as a plain user.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::programs::{at_home, has_all, run_within, said};
use crate::support::{Client, Machine, Mount, Server, wait_until};

const USER: u32 = 1000;
const WITHIN: Duration = Duration::from_secs(120);

/// What authentik's documentation has people write.
fn env_file(server: &Server, bucket: &str) -> String {
    let (endpoint, owner) = (&server.endpoint, &server.owner);
    let settings = [
        ("BACKEND", "s3"),
        ("S3__ENDPOINT", endpoint),
        ("S3__REGION", server.region),
        ("S3__ACCESS_KEY", &owner.access_key),
        ("S3__SECRET_KEY", &owner.secret_key),
        ("S3__BUCKET_NAME", bucket),
        ("S3__CUSTOM_DOMAIN", "media.example.com"),
        ("S3__SECURE_URLS", "true"),
    ];
    let lines = settings.iter();
    let lines = lines.map(|(name, value)| format!("AUTHENTIK_STORAGE__MEDIA__{name}={value}\n"));
    lines.collect()
}

/// What `--provider` calls the server that `scripts/compat` has chosen, or SeaweedFS.
pub fn provider(server: &Server) -> &'static str {
    match server.region {
        "garage" => "garage",
        _ => "seaweedfs",
    }
}

/// Servers of different make, each once.
fn servers() -> Vec<&'static Server> {
    let (shared, moto) = (Server::shared(), Server::moto());
    let is_one = shared.endpoint == moto.endpoint;
    [shared]
        .into_iter()
        .chain((!is_one).then_some(moto))
        .collect()
}

#[test]
fn as_root_authentiks_settings_become_a_service_whose_files_are_objects() {
    for (number, server) in servers().into_iter().enumerate() {
        as_root(server, &format!("story{number}"));
    }
}

#[track_caller]
fn as_root(server: &Server, name: &str) {
    let provider = provider(server);
    let machine = Machine::shared();
    let bucket = format!("{name}-{}", std::process::id());
    fs::write(machine.path("/root/.env"), env_file(server, &bucket)).unwrap();
    let setup = format!(
        "cd /root && mediafs setup --from-authentik=.env --provider {provider} /srv/{name} --yes"
    );
    let said = machine.says(&setup);
    has_all(&said, &["done  bucket", "done  service"]);
    assert!(machine.says(&setup).ends_with("nothing to do\n"));
    machine.says(&format!("mediafs doctor {name}"));
    let unit = format!("mediafs@{name}.service");
    assert_eq!(machine.property(&unit, "ActiveState"), "active");
    let status = machine.says(&format!("mediafs status {name}"));
    has_all(&status, &[&bucket, &format!("/srv/{name}")]);
    machine.says(&format!("echo bytes >/srv/{name}/public/f"));
    machine.says(&format!("mediafs flush /srv/{name}/public/f"));
    let stored = Client::new(server).get(&bucket, "media/public/f");
    assert_eq!(stored.as_deref(), Some(&b"bytes\n"[..]));
    machine.says(&format!(
        "mediafs healthcheck {name} && mediafs unmount {name}"
    ));
    assert_eq!(machine.property(&unit, "ActiveState"), "inactive");
    machine.says(&format!(
        "systemctl disable mediafs@{name}; chattr -i /srv/{name} || true"
    ));
}

/// A user with a home, and the program where that user can run it.
struct User {
    home: std::path::PathBuf,
    program: std::path::PathBuf,
}

impl User {
    /// In a mount namespace of its own, where everybody may open /dev/fuse.
    fn command(&self, script: &str) -> Command {
        const AS_USER: &str = "
            [ -c fuse ] || mknod -m 666 fuse c 10 229
            mount --bind fuse /dev/fuse
            exec setpriv --reuid \"$1\" --regid \"$1\" --clear-groups sh -ec \"$2\" sh \"$3\"";
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-ec",
                AS_USER,
                "sh",
            ])
            .args([&USER.to_string(), script])
            .arg(&self.program);
        at_home(&mut command, &self.home);
        command
    }

    #[track_caller]
    fn says(&self, script: &str) -> String {
        let output = run_within(WITHIN, &mut self.command(script));
        assert!(output.status.success(), "{script}: {}", said(&output));
        said(&output)
    }
}

fn make_run_folder(home: &Path) {
    let run = home.join("run");
    fs::create_dir(&run).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&run, Some(USER), Some(USER)).unwrap();
}

#[test]
fn a_missing_unit_is_written_an_older_service_restarted_and_an_uninstallation_frees_the_folder() {
    let server = Server::shared();
    let provider = provider(server);
    let machine = Machine::boot();
    let bucket = format!("story-unit-{}", std::process::id());
    fs::write(machine.path("/root/.env"), env_file(server, &bucket)).unwrap();
    machine.says(
        "rm -r /usr/local/lib/systemd/system/mediafs@.service /etc/systemd/system/mediafs@*
         systemctl daemon-reload",
    );
    let setup = format!(
        "cd /root && AWS_EC2_METADATA_DISABLED=true mediafs setup --from-authentik=.env \
         --provider {provider} /srv/unit --yes"
    );
    // The unit is longer than that: the kernel kills who writes more.
    let (done, said) = machine.tries(&format!("ulimit -f 8; {setup}"));
    assert!(!done && said.contains("done  configuration"), "{said}");
    has_all(&machine.says(&setup), &["done  unit", "done  service"]);
    let unit = machine.says("cat /etc/systemd/system/mediafs@.service");
    let start = "ExecStart=/usr/local/bin/mediafs mount --foreground --config /etc/mediafs/%i.toml";
    has_all(&unit, &[start, "Type=notify"]);
    let of_service = |name: &str| machine.property("mediafs@unit.service", name);
    assert_eq!(of_service("UnitFileState"), "enabled");
    let before = of_service("MainPID");
    // A file of the second in which it was started is not told from one before it.
    wait_until(WITHIN, "another second", || {
        machine.says("date +%s") > started_at(&machine)
    });
    let changed = machine.says(&format!("{setup} --ttl 5m --force"));
    has_all(&changed, &["done  configuration", "done  service"]);
    assert_ne!(of_service("MainPID"), before);
    let shown = machine.says("mediafs config show unit");
    has_all(&shown, &["5m"]);
    let write = "echo x >/srv/unit/f";
    machine.says(&format!(
        "{write}; {}/scripts/uninstall",
        env!("CARGO_MANIFEST_DIR")
    ));
    assert!(Client::new(server).get(&bucket, "media/f").is_some());
    machine.says("rmdir /srv/unit");
}

/// When the service was started, in the words of date(1).
fn started_at(machine: &Machine) -> String {
    let show = "systemctl show --timestamp=unix --value -p ActiveEnterTimestamp mediafs@unit";
    machine.says(show).replace('@', "")
}

#[test]
fn as_a_plain_user_they_become_a_configuration_that_mounts() {
    servers().into_iter().for_each(as_a_plain_user);
}

#[track_caller]
fn as_a_plain_user(server: &'static Server) {
    let plan = Mount::on(server).user(USER);
    let bucket = format!("{}-story", plan.bucket);
    let home = plan.scratch().to_owned();
    fs::write(home.join(".env"), env_file(server, &bucket)).unwrap();
    make_run_folder(&home);
    let user = User {
        program: plan.program(),
        home: home.clone(),
    };
    let setup = "\"$1\" setup --from-authentik=.env --force-path-style mnt --yes";
    let first = user.says(setup);
    has_all(
        &first,
        &[
            "done  bucket",
            "done  credentials",
            "skip  guard",
            "skip  service",
        ],
    );
    assert!(user.says(setup).ends_with("nothing to do\n"));
    let file = home.join(".config/mediafs/mnt.toml");
    let of = format!("--config {}", file.display());
    // Of a daemon that has gone with its mount.
    let sockets = home.join("run/mediafs");
    fs::create_dir(&sockets).unwrap();
    drop(UnixListener::bind(sockets.join("stale.sock")).unwrap());
    for path in [&sockets, &sockets.join("stale.sock")] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    fs::set_permissions(&sockets, fs::Permissions::from_mode(0o700)).unwrap();
    let told = user.says(&format!(
        "\"$1\" doctor {of}
         \"$1\" mount {of}
         \"$1\" status
         echo bytes >mnt/public/f
         \"$1\" flush mnt/public/f
         \"$1\" healthcheck
         \"$1\" unmount mnt --json"
    ));
    let unmounted = ["\"unmounted\": true", "\"done\": true"];
    has_all(
        &told,
        &[&[bucket.as_str(), "alive"], &unmounted[..]].concat(),
    );
    let stored = plan.client.get(&bucket, "media/public/f");
    assert_eq!(stored.as_deref(), Some(&b"bytes\n"[..]));
}
