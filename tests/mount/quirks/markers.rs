//! Stores that keep no keys that end in `/`: directories work without their markers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::said_once;
use crate::support::proxy::{Fault, PROBE, Proxy, Rule};
use crate::support::{Mount, MountBuilder, Server, SupervisedMount};

const TIMEOUT: Duration = Duration::from_secs(60);
const TOLD: &str = "this store keeps no keys that end in '/'";
/// It says that it has the object, and has none.
const TAKEN_AND_GONE: Fault =
    Fault::Page(200, "ETag: \"d41d8cd98f00b204e9800998ecf8427e\"\r\n", "");

/// A mount that looks at the store each time.
fn without_markers(fault: Fault) -> (MountBuilder, Proxy) {
    // Not SeaweedFS, which has directories of its own.
    let proxy = Proxy::before(Server::moto());
    proxy.rule(Rule::on("PutObject", fault).key("*/").of_store());
    let plan = Mount::on(Server::moto()).set("--endpoint-url", &proxy.endpoint);
    if fault == Fault::Page(200, "", "") {
        let failed = Fault::Answer(500, "InternalError");
        proxy.rule(Rule::on("HeadObject", failed).key("*/").of_store());
    }
    let plan = plan.args(["--request-timeout", "60s"]).set("--ttl", "0s");
    (plan, proxy)
}

#[test]
fn without_markers_directories_are_made_emptied_moved_and_removed() {
    for fault in [
        Fault::Answer(501, "NotImplemented"),
        Fault::Answer(400, "InvalidArgument"),
        Fault::Answer(403, "AccessDenied"),
        Fault::Answer(500, "InternalError"),
        // As s3s-fs, which answers for such a key without an ETag and for a HEAD with 500.
        Fault::Page(200, "", ""),
        TAKEN_AND_GONE,
    ] {
        let (plan, _proxy) = without_markers(fault);
        let mount = plan.args(["--attributes", "stored"]).start();
        said_once(&mount, TOLD);
        let began = Instant::now();
        fs::create_dir_all(mount.path("d/e")).unwrap();
        fs::set_permissions(mount.path("d"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(mount.path("d/e/f"), "bytes").unwrap();
        mount.wait_until_uploaded("d/e/f", b"bytes");
        fs::remove_file(mount.path("d/e/f")).unwrap();
        assert!(fs::metadata(mount.path("d/e")).unwrap().is_dir());
        fs::rename(mount.path("d"), mount.path("moved")).unwrap();
        fs::remove_dir(mount.path("moved/e")).unwrap();
        fs::write(mount.path("moved/g"), "more").unwrap();
        let took = began.elapsed();
        assert!(took < TIMEOUT / 2, "{fault:?}: {took:?}");
        mount.wait_for_keys("the file alone", |keys| keys == ["moved/g"]);
        fs::remove_file(mount.path("moved/g")).unwrap();
        fs::remove_dir(mount.path("moved")).unwrap();
        assert_eq!(fs::read_dir(mount.path("")).unwrap().count(), 0);
        let left = mount.all_keys();
        assert!(!left.iter().any(|key| key.contains(PROBE)), "{left:?}");
        said_once(&mount, TOLD);
    }
}

#[test]
fn a_directory_without_a_marker_is_there_after_a_kill() {
    let (plan, _proxy) = without_markers(Fault::Answer(500, "InternalError"));
    let mount = SupervisedMount::start(plan);
    fs::create_dir(mount.path("d")).unwrap();
    mount.kill_daemon();
    assert!(fs::metadata(mount.path("d")).unwrap().is_dir());
    fs::create_dir(mount.path("d/e")).unwrap();
    assert!(fs::metadata(mount.path("d/e")).unwrap().is_dir());
}
