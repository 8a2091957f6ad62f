//! `mediafs unmount` where S3 does not get everything.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::control_commands::{get_known, on_disk_plan};
use crate::support::control::{done, failed, run};
use crate::support::mount::is_mounted;
use crate::support::programs::{has_all, said};
use crate::support::{DURABILITIES, Mount};

#[test]
fn an_unmount_with_s3_down_lists_what_is_unsent_and_leaves_it_only_when_told_to() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = on_disk_plan(plan, "10s").args(["--drain-timeout", "1s"]);
    let mut mount = plan.start();
    get_known(&mount);
    proxy.all_down();
    fs::write(mount.path("precious"), b"bytes").unwrap();
    let root = mount.root.to_str().unwrap().to_owned();
    let told = failed(&mount, &["unmount", &root, "--timeout", "3s"]);
    let progress = "still to be sent: 1 file (5 B), 0 deletes";
    assert!(told.contains(progress), "{told}");
    assert!(told.contains("precious"), "{told}");
    assert!(
        told.contains(mount.scratch().join("spool").to_str().unwrap()),
        "{told}"
    );
    assert!(told.contains("--leave-in-spool"), "{told}");
    assert!(told.contains("still mounted after"), "{told}");
    assert!(!told.contains("after 0s"), "{told}");
    assert!(is_mounted(&mount.root));
    assert_eq!(fs::read(mount.path("precious")).unwrap(), b"bytes");
    let told = done(
        &mount,
        &["unmount", &root, "--timeout", "1s", "--leave-in-spool"],
    );
    assert!(told.contains("1 file"), "{told}");
    assert!(mount.wait_for_exit().success(), "{}", mount.log());
    assert!(!is_mounted(&mount.root));
    proxy.heal();
    mount.remount();
    mount.wait_until_uploaded("precious", b"bytes");
}

#[test]
fn an_unmount_under_an_open_file_says_that_its_bytes_are_kept() {
    for durability in DURABILITIES {
        let mut mount = Mount::builder()
            .durability(durability)
            .args(["--drain-timeout", "1s"])
            .start();
        let mut file = fs::File::create(mount.path("f")).unwrap();
        file.write_all(b"not closed").unwrap();
        let root = mount.root.to_str().unwrap().to_owned();
        let unmounting = ["unmount", &root, "--leave-in-spool", "--json"];
        let output = run(&mount, &[&unmounting[..], &["--timeout", "1s"]].concat());
        assert_eq!(output.status.code(), Some(1), "{durability}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let kept = (&told["done"], &told["lost_found"]);
        assert_eq!(kept, (&false.into(), &1.into()), "{told:#}");
        has_all(&said(&output), &["1 file", "not closed", "lost+found"]);
        assert!(mount.wait_for_exit().success(), "{}", mount.log());
        assert_eq!(mount.lost_and_found(), [b"not closed"]);
    }
}

#[test]
fn a_timeout_is_of_the_whole_unmount_whoever_has_files_open() {
    // A stop by itself would wait as long.
    const PATIENT: Duration = Duration::from_secs(300);
    for (durability, writes) in [("s3", false), ("s3", true), ("disk", true)] {
        let drain = format!("{}s", PATIENT.as_secs());
        let plan = Mount::builder().durability(durability);
        let mut mount = plan.args(["--drain-timeout", &drain]).start();
        fs::write(mount.path("f"), b"closed").unwrap();
        let root = mount.root.to_str().unwrap().to_owned();
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .read(true)
            .write(writes)
            .open(mount.path("f"))
            .unwrap();
        let mut words = vec!["unmount", &root, "--timeout", "2s"];
        if writes {
            file.write_all(b"not").unwrap();
            // What a program writes still is waited for first.
            words.push("--leave-in-spool");
        }
        let began = Instant::now();
        let output = run(&mount, &words);
        assert!(began.elapsed() < PATIENT / 3, "{:?}", began.elapsed());
        let text = said(&output);
        has_all(
            &text,
            &["has f open", "for at most", "lost the mount", "unmounted"],
        );
        assert_eq!(output.status.code(), Some(i32::from(writes)), "{text}");
        assert!(mount.wait_for_exit().success(), "{}", mount.log());
        assert!(!is_mounted(&mount.root));
        assert!(file.read(&mut [0; 1]).is_err());
        let kept = if writes { 1 } else { 0 };
        assert_eq!(mount.lost_and_found().len(), kept, "{text}");
    }
}
