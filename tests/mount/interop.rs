//! Other tools on the same bucket: s3fs and rclone read what is stored here, and
//! what they stored is read here.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use crate::support::mount::{detach, is_mounted};
use crate::support::programs::{succeeds, wait_until};
use crate::support::servers::dies_with_parent;
use crate::support::{Mount, Server, pattern};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, utimensat,
};

const WITHIN: Duration = Duration::from_secs(60);

fn stored() -> Mount {
    Mount::builder()
        .args(["--attributes", "stored", "--negative-ttl", "0"])
        .set("--ttl", "0")
        .start()
}

/// The bucket of a mount, mounted by s3fs until it is dropped.
struct S3fs {
    child: Child,
    root: PathBuf,
}

impl S3fs {
    fn beside(mount: &Mount) -> Self {
        let server = Server::shared();
        let root = mount.scratch().join("s3fs");
        fs::create_dir(&root).unwrap();
        let password = mount.scratch().join("s3fs-password");
        let owner = &server.owner;
        fs::write(
            &password,
            format!("{}:{}", owner.access_key, owner.secret_key),
        )
        .unwrap();
        fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).unwrap();
        let child = dies_with_parent("TERM", "s3fs")
            .arg(mount.bucket())
            .arg(&root)
            .args([
                "-f",
                "-o",
                "use_path_request_style,use_xattr,notsup_compat_dir",
            ])
            .args(["-o", &format!("url={}", server.endpoint)])
            .args(["-o", &format!("endpoint={}", server.region)])
            .args(["-o", &format!("passwd_file={}", password.display())])
            .spawn()
            .unwrap();
        let this = Self { child, root };
        wait_until(WITHIN, "s3fs", || is_mounted(&this.root));
        this
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Drop for S3fs {
    fn drop(&mut self) {
        detach(&self.root);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// rclone with the bucket of a mount as `media:BUCKET`.
fn rclone(mount: &Mount) -> Command {
    let server = Server::shared();
    let mut command = Command::new("rclone");
    command
        // Its HTTP client cannot take one.
        .env_remove("AWS_CA_BUNDLE")
        .env("RCLONE_CONFIG", mount.scratch().join("no-such-file"))
        .env("RCLONE_CONFIG_MEDIA_TYPE", "s3")
        .env("RCLONE_CONFIG_MEDIA_PROVIDER", "Other")
        .env("RCLONE_CONFIG_MEDIA_ENDPOINT", &server.endpoint)
        .env("RCLONE_CONFIG_MEDIA_REGION", server.region)
        .env(
            "RCLONE_CONFIG_MEDIA_ACCESS_KEY_ID",
            &*server.owner.access_key,
        )
        .env(
            "RCLONE_CONFIG_MEDIA_SECRET_ACCESS_KEY",
            &*server.owner.secret_key,
        );
    command
}

fn remote(mount: &Mount, path: &str) -> String {
    format!("media:{}/{path}", mount.bucket())
}

/// A file with a mode, an owner and times of its own.
fn leave_a_file(root: &Path) {
    let file = root.join("f.txt");
    fs::write(&file, pattern(5000, 1)).unwrap();
    chown(&file, Some(1234), Some(5678)).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    let at = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
    let times = Timestamps {
        last_access: at(1_000_000_000),
        last_modification: at(981_173_106),
    };
    utimensat(CWD, &file, &times, AtFlags::empty()).unwrap();
}

#[track_caller]
fn is_the_file(root: &Path) {
    let file = root.join("f.txt");
    assert_eq!(fs::read(&file).unwrap(), pattern(5000, 1));
    let seen = fs::metadata(&file).unwrap();
    assert_eq!((seen.uid(), seen.gid()), (1234, 5678));
    assert_eq!(seen.mode(), 0o100_640);
    assert_eq!(seen.mtime(), 981_173_106);
    assert_eq!(seen.atime(), 1_000_000_000);
}

fn make_a_fifo(path: &Path) {
    let mode = Mode::from_bits_retain(0o640);
    mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
}

fn xattr(path: &Path) -> Vec<u8> {
    let mut value = [0; 100];
    let len = rustix::fs::getxattr(path, "user.colour", &mut value[..]).unwrap();
    value[..len].to_vec()
}

#[test]
fn s3fs_reads_what_is_stored_here() {
    let mount = stored();
    leave_a_file(&mount.root);
    symlink("f.txt", mount.path("link")).unwrap();
    make_a_fifo(&mount.path("fifo"));
    let file = mount.path("f.txt");
    rustix::fs::setxattr(&file, "user.colour", b"r\0d", XattrFlags::empty()).unwrap();
    let s3fs = S3fs::beside(&mount);
    is_the_file(&s3fs.root);
    assert_eq!(
        fs::read_link(s3fs.path("link")).unwrap(),
        Path::new("f.txt")
    );
    assert_eq!(xattr(&s3fs.path("f.txt")), b"r\0d");
    let fifo = fs::metadata(s3fs.path("fifo")).unwrap();
    assert_eq!(fifo.mode(), 0o010_640);
}

#[test]
fn what_s3fs_stored_is_read_here() {
    let mount = stored();
    let s3fs = S3fs::beside(&mount);
    leave_a_file(&s3fs.root);
    symlink("f.txt", s3fs.path("link")).unwrap();
    let file = s3fs.path("f.txt");
    rustix::fs::setxattr(&file, "user.colour", b"r\0d", XattrFlags::empty()).unwrap();
    make_a_fifo(&s3fs.path("fifo"));
    fs::create_dir(s3fs.path("d")).unwrap();
    fs::write(s3fs.path("d/inner"), b"x").unwrap();
    is_the_file(&mount.root);
    assert_eq!(
        fs::read_link(mount.path("link")).unwrap(),
        Path::new("f.txt")
    );
    assert_eq!(xattr(&mount.path("f.txt")), b"r\0d");
    assert_eq!(fs::read(mount.path("d/inner")).unwrap(), b"x");
    let fifo = fs::metadata(mount.path("fifo")).unwrap();
    assert_eq!(fifo.mode(), 0o010_640);
}

#[test]
fn rclone_reads_what_is_stored_here() {
    let mount = stored();
    leave_a_file(&mount.root);
    let back = mount.scratch().join("back");
    succeeds(
        rclone(&mount)
            .arg("copy")
            .arg(remote(&mount, ""))
            .arg(&back),
    );
    let seen = fs::metadata(back.join("f.txt")).unwrap();
    assert_eq!(seen.mtime(), 981_173_106);
    assert_eq!(fs::read(back.join("f.txt")).unwrap(), pattern(5000, 1));
    succeeds(
        rclone(&mount)
            .arg("check")
            .arg(remote(&mount, ""))
            .arg(&back),
    );
}

#[test]
fn what_rclone_stored_is_read_here() {
    let mount = stored();
    let source = mount.scratch().join("source");
    fs::create_dir(&source).unwrap();
    leave_a_file(&source);
    let mut copy = rclone(&mount);
    copy.args(["copy", "--metadata"]).arg(&source);
    succeeds(copy.arg(remote(&mount, "")));
    is_the_file(&mount.root);
}
