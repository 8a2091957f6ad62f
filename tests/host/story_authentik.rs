//! The media folder of an authentik that runs, moved to S3 and back: its application reads
//! and writes as uid 1000 all the while, in a container of podman, and no call fails.

mod application;
mod operator;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use self::application::Application;
use self::operator::{Operator, as_authentik, ends};
use super::setup_story::provider;
use crate::support::control::{listening, mediafs, run as ask, status};
use crate::support::data::{MIB, sha256};
use crate::support::mount::detach;
use crate::support::podman::Podman;
use crate::support::programs::{has_all, run_within, succeeds};
use crate::support::{Mount, MountBuilder, Server, SupervisedMount, pattern, wait_until};

const APPLICATION_USER: u32 = 1000;
const WITHIN: Duration = Duration::from_secs(120);
const ICONS: &str = "public/application-icons";
/// What the application never changes.
const STILL: &str = "public/flow-backgrounds/**";

type Tree = BTreeMap<String, Vec<u8>>;

fn write(root: &Path, tree: &mut Tree, path: &str, body: &[u8]) {
    let there = root.join(path);
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    fs::write(there, body).unwrap();
    tree.insert(path.to_owned(), body.to_owned());
}

/// `/media` as authentik 2025.10 leaves it.
fn old_media(root: &Path) -> Tree {
    let mut tree = Tree::new();
    write(
        root,
        &mut tree,
        &format!("{ICONS}/old.svg"),
        b"<svg>old</svg>\n",
    );
    for number in 0..30 {
        let path = format!("{ICONS}/{number}.png");
        write(root, &mut tree, &path, &pattern(5000, number));
    }
    for own in ["c", "k", "h"] {
        for name in ["removed", "renamed"] {
            let path = format!("{ICONS}/{own}-{name}.png");
            write(root, &mut tree, &path, path.as_bytes());
        }
    }
    write(
        root,
        &mut tree,
        "public/source-icons/Ünser Logo.png",
        b"logo",
    );
    let background = pattern(6 * MIB, 7);
    write(
        root,
        &mut tree,
        "public/flow-backgrounds/big.jpg",
        &background,
    );
    succeeds(Command::new("chown").args(["-R", "1000:1000"]).arg(root));
    tree
}

fn found(root: &Path) -> Tree {
    fn enter(root: &Path, above: &str, tree: &mut Tree) {
        for entry in fs::read_dir(root.join(above)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{above}{}", entry.file_name().into_string().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => enter(root, &format!("{path}/"), tree),
                false => drop(tree.insert(path, fs::read(entry.path()).unwrap())),
            }
        }
    }
    let mut tree = Tree::new();
    enter(root, "", &mut tree);
    tree
}

/// The same command as the application's user.
fn as_user(command: &Command) -> Command {
    let user = APPLICATION_USER.to_string();
    let mut other = Command::new("setpriv");
    other.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    other.arg(command.get_program()).args(command.get_args());
    other
}

fn attached(container: &Podman, mount: &Mount, verb: &str, places: &[&str]) {
    let mut command = mediafs([verb, "--container", &container.name]);
    if verb == "attach" {
        command.arg("--socket").arg(listening(mount));
    }
    let output = run_within(WITHIN, container.seen_by(&mut command).args(places));
    ends(&output, &[0]);
}

/// Brings what stays as it is into the bucket and mounts over all of it, under the
/// application, which goes on in the old directory.
#[track_caller]
fn cut_over(plan: MountBuilder, operator: &Operator, application: &Application) -> SupervisedMount {
    let root = plan.root.clone();
    let still = ["--include", STILL];
    operator.moves("import", &root, &still, &[0]);
    operator.moves("verify", &root, &still, &[0]);
    application.goes_on();
    let plan = plan
        .prefix("media")
        .bucket(&operator.bucket)
        .without("--endpoint-url")
        .without("--region")
        .without_flag("--force-path-style")
        .without_credentials()
        .args(["--allow-other", "--drain-timeout=10s"])
        .arg("--config")
        .arg(&operator.config);
    SupervisedMount::start(plan)
}

#[track_caller]
fn wait_for_the_end(mount: &Mount) {
    wait_until(WITHIN, "the end of the overlay", || {
        let overlay = status(mount)["overlay"].clone();
        overlay.is_null() || overlay["ended"] == true
    });
}

/// A directory takes the mount's place under applications of the host and of a container.
/// Returns the names of their files.
#[track_caller]
fn back(
    mount: &Mount,
    (operator, inside): (&Operator, Application),
    local: &Path,
    model: &mut Tree,
) -> Vec<String> {
    inside.tell("changes", "");
    inside.goes_on();
    let application = Application::here("h", &mount.root, operator.home.join("told"));
    application.tell("changes", "");
    application.goes_on();
    let socket = listening(mount);
    let words = [
        "unmount",
        mount.root.to_str().unwrap(),
        "--socket",
        socket.to_str().unwrap(),
        "--materialize",
        local.to_str().unwrap(),
        "--yes",
        "--delete",
    ];
    let owner = &Server::shared().owner;
    let mut command = Command::new(&operator.program);
    command
        .args(words)
        .env("AWS_ACCESS_KEY_ID", &*owner.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &*owner.secret_key);
    ends(&operator.runs(&mut command), &[0]);
    application.goes_on();
    inside.goes_on();
    [application.end(model), inside.end(model)].concat()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap() {
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" => "image/jpeg",
        "txt" => "text/plain",
        other => panic!("{other}"),
    }
}

#[test]
fn a_media_folder_moves_to_s3_and_back_under_an_application_that_sees_no_error() {
    let server = Server::shared();
    let plan = Mount::builder().own_binary();
    let root = plan.root.clone();
    let root_text = root.to_str().unwrap();
    let mut model = old_media(&root);
    let operator = Operator::new(&plan, server);
    let place = format!("{}/media", operator.bucket);

    let env = "--from-authentik=.env";
    let overlay = ["--overlay", root_text];
    let doctor = [&["doctor", env, &place, root_text], &overlay[..]].concat();
    let told = operator.does_as_root(&doctor, &[1]);
    has_all(&told, &["there is no bucket", "can be mounted on"]);
    let setup = [
        "setup",
        env,
        "--provider",
        provider(server),
        "--yes",
        root_text,
    ];
    operator.does(&[&setup[..], &overlay].concat(), &[0]);
    let config = operator.config.to_str().unwrap();
    operator.does_as_root(&["doctor", "--config", config], &[0]);

    let container = Podman::with(&root);
    let application = Application::inside(&container, "c", Path::new("/media"));
    application.tell("changes", "");
    let mount = cut_over(plan, &operator, &application);
    application.goes_on();
    attached(&container, &mount, "attach", &[root_text, "/media"]);
    application.goes_on();
    mount.kill_daemon();
    application.goes_on();
    wait_for_the_end(&mount);
    application.goes_on();

    let local = operator.home.join("local");
    ends(&ask(&mount, &["flush", root_text]), &[0]);
    // What the application makes meanwhile is another run's.
    operator.moves("export", &local, &[], &[0, 3, 4]);
    operator.moves("verify", &local, &["--include", STILL], &[0]);

    // authentik 2025.12 has the same files below /data.
    attached(&container, &mount, "attach", &[root_text, "/data/media"]);
    application.tell("moved", "");
    application.goes_on();
    attached(&container, &mount, "detach", &["/media"]);
    application.goes_on();
    application.end(&mut model);
    assert_eq!(found(&mount.root), model);

    let inside = Application::inside(&container, "k", Path::new("/data/media"));
    let going_on = back(&mount, (&operator, inside), &local, &mut model);
    assert!(found(&local) == model && found(&root) == model);
    for (key, (kind, digest)) in as_authentik(&operator.bucket) {
        let path = key.strip_prefix("media/").unwrap().to_owned();
        assert_eq!(kind, content_type(&path), "{key}");
        // These applications have gone on in the directory.
        if !going_on.contains(&path) {
            let body = model.remove(&path).expect(&path);
            assert_eq!(digest, sha256(&body), "{key}");
        }
    }
    model.retain(|path, _| !going_on.contains(path));
    assert!(model.is_empty(), "not in the bucket: {:?}", model.keys());
    detach(&root);
}
