//! `mediafs unmount --materialize` where containers see the mount: a directory takes its
//! place in all of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use tempfile::{NamedTempFile, TempDir};

use super::attach::Asleep;
use crate::support::container::{Container, Shared};
use crate::support::control::{listening, mediafs};
use crate::support::podman::Podman;
use crate::support::processes::daemons_of;
use crate::support::programs::{has_all, run_within, said, succeeds};
use crate::support::proxy::{Fault, Rule};
use crate::support::{Mount, Server, SupervisedMount, wait_until};

const WITHIN: Duration = Duration::from_secs(120);
const APPLICATION: u32 = 1000;
const ROOT: u32 = 0;

/// Makes, renames and reads files until it is told to stop; tells each round, and what failed.
///
/// `$media`: where; `$own`: how its names begin; `$told`: a folder by which it is told to stop.
const SCRIPT: &str = r#"
n=0
while [ ! -e $told/stop ]; do
    n=$((n + 1))
    echo $n >$media/$own.tmp || echo "! write $n"
    mv $media/$own.tmp $media/$own-$n || echo "! rename $n"
    [ "$(cat $media/$own-$n)" = $n ] || echo "! read $n"
    echo $n
done
"#;

struct Writer {
    child: Child,
    own: &'static str,
    told: PathBuf,
    says: NamedTempFile,
}

impl Writer {
    /// `told` is the folder as the writer has it, and as this process reaches it.
    #[track_caller]
    fn start(
        own: &'static str,
        media: &Path,
        told: (&Path, PathBuf),
        shell: impl FnOnce(&str) -> Command,
    ) -> Self {
        let (media, inside) = (media.display(), told.0.display());
        let script = format!("own={own} media={media} told={inside}\n{SCRIPT}");
        let says = NamedTempFile::new().unwrap();
        let stdout = says.reopen().unwrap();
        let child = shell(&script).stdout(stdout).spawn().unwrap();
        let this = Self {
            child,
            own,
            told: told.1,
            says,
        };
        this.goes_on();
        this
    }

    fn rounds(&self) -> usize {
        let text = fs::read_to_string(self.says.path()).unwrap();
        text.lines().filter(|line| !line.starts_with('!')).count()
    }

    /// Returns once it has done more.
    #[track_caller]
    fn goes_on(&self) {
        let before = self.rounds();
        wait_until(WITHIN, self.own, || self.rounds() >= before + 3);
    }

    /// Nothing failed, and all that it wrote is there.
    #[track_caller]
    fn end(mut self, directory: &Path) {
        fs::write(self.told.join("stop"), "").unwrap();
        assert!(self.child.wait().unwrap().success());
        let text = fs::read_to_string(self.says.path()).unwrap();
        assert!(!text.contains('!'), "{}: {text}", self.own);
        for number in 1..=self.rounds() {
            let path = directory.join(format!("{}-{number}", self.own));
            let found = fs::read_to_string(&path);
            assert_eq!(
                found.ok(),
                Some(format!("{number}\n")),
                "{}",
                path.display()
            );
        }
    }
}

fn open_to_all() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

fn materialize(mount: &Mount, directory: &Path) -> Output {
    run_within(WITHIN, &mut materializing(mount, directory))
}

fn materializing(mount: &Mount, directory: &Path) -> Command {
    let owner = &Server::shared().owner;
    let mut command = mediafs(["unmount", "--yes", "--socket"]);
    command
        .arg(listening(mount))
        .arg(&mount.root)
        .arg("--materialize")
        .arg(directory)
        .env("AWS_ACCESS_KEY_ID", &*owner.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &*owner.secret_key)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn plan_on(shared: &Shared) -> SupervisedMount {
    let plan = Mount::builder().mountpoint(shared.mountpoint());
    SupervisedMount::start(plan.args(["--allow-other", "--drain-timeout=10s"]))
}

/// One that shows the mount by `attach`.
#[track_caller]
fn attached_to(mount: &Mount, old: &Path) -> Container {
    let container = Container::private(old);
    let mut command = mediafs(["attach", "--pid", &container.pid().to_string(), "--socket"]);
    command.arg(listening(mount)).arg(&mount.root).arg("/mnt");
    let output = run_within(WITHIN, &mut command);
    assert!(output.status.success(), "{}", said(&output));
    container
}

/// A folder of the mount at another place of the host, until it is dropped.
struct Bound(TempDir);

impl Bound {
    #[track_caller]
    fn to(folder: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        succeeds(
            Command::new("mount")
                .arg("--bind")
                .arg(folder)
                .arg(dir.path()),
        );
        succeeds(Command::new("mount").arg("--make-private").arg(dir.path()));
        Self(dir)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[test]
fn a_directory_takes_the_mounts_place_in_every_container_under_writers_that_see_no_error() {
    let (shared, old, told) = (Shared::new(), open_to_all(), open_to_all());
    let mount = plan_on(&shared);
    fs::create_dir(mount.path("public")).unwrap();
    fs::write(mount.path("public/logo"), "logo").unwrap();
    let above = Container::with(shared.folder());
    let read_only = Container::private(&shared.mountpoint());
    read_only.says(ROOT, "mount -o remount,bind,ro /mnt");
    let attached = attached_to(&mount, old.path());
    let podman = Podman::with_volume(&format!("{}:/media:rslave", shared.folder().display()));
    let bound = Bound::to(&mount.path("public"));

    let here = || (told.path(), told.path().to_owned());
    let writers = [
        Writer::start("above", Path::new("/mnt/media"), here(), |script| {
            above.command(APPLICATION, script)
        }),
        Writer::start("attached", Path::new("/mnt"), here(), |script| {
            attached.command(APPLICATION, script)
        }),
        Writer::start(
            "podman",
            Path::new("/media/media"),
            (Path::new("/tmp"), podman.path("/tmp")),
            |script| podman.shell(script),
        ),
    ];
    let local = tempfile::tempdir().unwrap();
    let directory = local.path().join("media");
    let output = materialize(&mount, &directory);
    let text = said(&output);
    assert!(output.status.success(), "{text}{}", mount.log());
    let place = format!("on {}", bound.0.path().display());
    has_all(&text, &["on /mnt/media of ", "on /mnt of ", &place]);
    assert!(!text.contains("old mount"), "{text}");
    writers.iter().for_each(Writer::goes_on);
    for writer in writers {
        writer.end(&directory);
    }
    for pid in [
        above.pid(),
        read_only.pid(),
        attached.pid(),
        std::process::id(),
    ] {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let left = mounts
            .lines()
            .find(|it| it.contains(&*mount.root.to_string_lossy()) && it.contains("fuse.mediafs"));
        assert_eq!(left, None);
    }
    assert_eq!(read_only.says(APPLICATION, "cat /mnt/public/logo"), "logo");
    let (written, why) = read_only.tries(ROOT, "echo x >/mnt/x");
    assert!(!written && why.contains("Read-only"), "{why}");
    assert_eq!(fs::read(bound.0.path().join("logo")).unwrap(), b"logo");
    assert!(daemons_of(&mount.root).is_empty());
}

/// A process in another user namespace that has this mount of mediafs and no other: those
/// of other tests are to go on without it.
#[track_caller]
fn other_users_see(mount: &Mount, propagation: &str) -> Asleep {
    const SCRIPT: &str = r#"
        awk '/ - fuse.mediafs / { print $5 }' /proc/self/mountinfo |
            while read -r place; do [ "$place" = "$1" ] || umount -l "$place" || true; done
        shift
        exec unshare --user --map-root-user --mount "$@""#;
    let root = mount.root.to_str().unwrap();
    let outer = ["--mount", "--propagation", propagation];
    let script = ["sh", "-ec", SCRIPT, "sh", root];
    let inner = match propagation {
        "private" => ["--propagation", "private"],
        _ => ["--propagation", "unchanged"],
    };
    Asleep::in_namespaces(&[&outer[..], &script, &inner].concat())
}

#[test]
fn a_container_that_cannot_be_entered_keeps_the_mount_as_it_is() {
    let shared = Shared::new();
    let mount = plan_on(&shared);
    fs::write(mount.path("f"), "text").unwrap();
    let local = tempfile::tempdir().unwrap();
    let directory = local.path().join("media");
    let asleep = other_users_see(&mount, "private");
    let output = materialize(&mount, &directory);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    has_all(&said(&output), &["sleep (pid ", "another user namespace"]);
    assert!(!directory.exists());
    drop(asleep);

    // Where it follows the host, it is not entered.
    let asleep = other_users_see(&mount, "slave");
    let output = materialize(&mount, &directory);
    assert!(output.status.success(), "{}{}", said(&output), mount.log());
    let place = format!("/proc/{}/root{}/f", asleep.pid(), mount.root.display());
    assert_eq!(fs::read_to_string(place).unwrap(), "text");
}

fn on_top(path: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = format!(" {} ", path.display());
    let mut there = mounts.lines().filter(|line| line.contains(&at));
    there.next_back().map(str::to_owned)
}

#[test]
fn a_directory_that_a_killed_command_left_below_the_mount_is_seen_by_nobody() {
    for again in [false, true] {
        let mount = SupervisedMount::start(Mount::builder());
        fs::write(mount.path("f"), "before").unwrap();
        let local = tempfile::tempdir().unwrap();
        let directory = local.path().join("media");
        for bytes in ["once", "written since"] {
            let mut command = materializing(&mount, &directory);
            command.args(["--timeout", "10s"]);
            let killed = run_within(WITHIN, command.env("FAILPOINTS", "place_put_below=return"));
            assert_eq!(killed.status.signal(), Some(9), "{}", said(&killed));
            // Changes are held for that long.
            fs::write(mount.path("f"), bytes).unwrap();
        }
        if again {
            let output = materialize(&mount, &directory);
            assert!(output.status.success(), "{}", said(&output));
            assert_eq!(fs::read(mount.path("f")).unwrap(), b"written since");
            succeeds(Command::new("umount").arg(&mount.root));
        } else {
            let mut command = mediafs(["unmount", "--socket"]);
            let output = run_within(WITHIN, command.arg(listening(&mount)).arg(&mount.root));
            assert!(output.status.success(), "{}", said(&output));
            has_all(&said(&output), &["was killed: taken away"]);
        }
        assert_eq!(on_top(&mount.root), None);
        assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
    }
}

#[test]
fn a_mount_whose_overlay_has_not_ended_is_not_replaced() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let refused = Rule::on("PutObject", Fault::Answer(503, "SlowDown"));
    proxy.rule(refused.key("old").always());
    let old = tempfile::tempdir().unwrap();
    fs::write(old.path().join("old"), "alone").unwrap();
    let mount = SupervisedMount::start(plan.arg("--overlay").arg(old.path()));
    let local = tempfile::tempdir().unwrap();
    let directory = local.path().join("media");
    let output = materialize(&mount, &directory);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    has_all(
        &said(&output),
        &["has files that the bucket lacks", "is not needed any more"],
    );
    assert_eq!(fs::read(mount.path("old")).unwrap(), b"alone");
    assert!(!directory.exists());
}
