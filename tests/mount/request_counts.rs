//! What operations cost in requests, of S3 and of the kernel.

use std::fs;

use crate::support::programs::run_shell;
use crate::support::Mount;

const MODES: [&str; 2] = ["fixed", "stored"];

#[test]
fn attributes_that_no_file_here_has_are_unsupported_and_ls_asks_for_them_once() {
    for mode in MODES {
        let attributes = ["--attributes", mode, "--log", "mediafs=debug"];
        let mount = Mount::builder().args(attributes).start();
        fs::create_dir(mount.path("d")).unwrap();
        for number in 0..30 {
            fs::write(mount.path(format!("d/{number}")), b"x").unwrap();
        }
        for path in [mount.root.clone(), mount.path("d"), mount.path("d/0")] {
            for name in [
                "security.capability",
                "security.selinux",
                "system.posix_acl_access",
                "system.posix_acl_default",
                "trusted.overlay.opaque",
            ] {
                let got = rustix::fs::getxattr(&path, name, &mut [0; 64]);
                let errno = got.unwrap_err().raw_os_error();
                assert_eq!(errno, libc::EOPNOTSUPP, "{name} of {path:?}");
            }
            let own = rustix::fs::getxattr(&path, "user.mediafs.none", &mut [0; 64]);
            assert_eq!(own.unwrap_err().raw_os_error(), libc::ENODATA);
        }
        let asked = || mount.log().matches("operation=\"getxattr\"").count();
        let before = asked();
        assert!(before > 3, "refusals are counted by the log");
        run_shell("ls -l \"$1\"", &[&mount.path("d")]);
        let more = asked() - before;
        assert!(more <= 4, "{more} questions for 30 files");
    }
}
