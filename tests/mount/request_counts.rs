//! What operations cost in requests, of S3 and of the kernel.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::data::{KIB, MIB, assert_same_bytes};
use crate::support::programs::run_shell;
use crate::support::proxy::{Fault, Proxy, Rule};
use crate::support::{Mount, MountBuilder, pattern};

const MODES: [&str; 2] = ["fixed", "stored"];

fn mount(options: impl Fn(MountBuilder) -> MountBuilder) -> (Mount, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    (options(plan).start(), proxy)
}

/// Names and attributes of everything below, as find(1) and backups ask for them.
fn walk(path: &Path) -> usize {
    let mut found = 0;
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let attributes = fs::symlink_metadata(&path).unwrap();
        assert!(attributes.ino() > 0);
        found += 1;
        if attributes.is_dir() {
            found += walk(&path);
        }
    }
    found
}

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

#[test]
fn a_second_walk_within_the_ttl_asks_s3_nothing() {
    for mode in MODES {
        let (mount, proxy) = mount(|plan| {
            plan.set("--ttl", "10min")
                .args(["--negative-ttl", "0s", "--attributes", mode])
        });
        let objects = (0..60).map(|n| (format!("t/d{}/f{n}", n % 6), b"x".to_vec()));
        mount.client().put_many(mount.bucket(), objects);
        // More than one page.
        let objects = (0..1200).map(|n| (format!("t/long/f{n}"), b"x".to_vec()));
        mount.client().put_many(mount.bucket(), objects);
        mount.wait_for("t/long/f1199", "the files", |path| path.exists());
        let wanted = 60 + 1200 + 7;
        assert_eq!(walk(&mount.path("t")), wanted);
        proxy.wait_until_idle();
        let asked = proxy.seen_in_all();
        assert_eq!(walk(&mount.path("t")), wanted);
        assert_eq!(proxy.seen_in_all(), asked, "{mode}");
        // A name that another client has put since.
        mount.put_object("t/d0/later", b"x");
        assert!(mount.path("t/d0/later").exists());
        assert_eq!(walk(&mount.path("t")), wanted + 1, "found by its name");
    }
}

#[test]
fn a_random_reader_moves_the_blocks_that_it_reads_also_at_the_start_of_a_file() {
    let (mount, proxy) = mount(|plan| plan);
    let body = pattern(48 * MIB, 1);
    mount.put_object("f", &body);
    mount.wait_for("f", "the file", |path| path.exists());
    let file = fs::File::open(mount.path("f")).unwrap();
    let blocks = body.len() / (128 * KIB);
    for nth in 0..40 {
        // Far from the one before, so that it is no sequential reader's.
        let at = nth * 131 % blocks * 128 * KIB + nth * 3 % 32 * 4096;
        let mut got = vec![0; 4096];
        file.read_exact_at(&mut got, at as u64).unwrap();
        assert_same_bytes(&got, &body[at..at + 4096], "a page");
    }
    let moved = proxy.answered_bytes("GetObject");
    assert_eq!(proxy.seen("GetObject"), 40);
    // With the heads of the answers.
    assert!(moved <= 40 * 130 * KIB, "{moved} bytes for 40 pages");
}

#[test]
fn a_small_read_that_s3_does_not_answer_is_asked_for_once_more_before_its_timeout() {
    let timeout = Duration::from_secs(90);
    let (mount, proxy) = mount(|plan| plan.args(["--request-timeout", "90s"]));
    let body = pattern(40 * MIB, 3);
    mount.put_object("f", &body);
    mount.wait_for("f", "the file", |path| path.exists());
    let file = fs::File::open(mount.path("f")).unwrap();
    let blocks = body.len() / (128 * KIB);
    // Each block once, far from the one before; it takes 256 to know what is late.
    let read = |nth: usize| {
        let at = nth * 131 % blocks * 128 * KIB;
        let mut got = vec![0; 4096];
        file.read_exact_at(&mut got, at as u64).unwrap();
        assert_same_bytes(&got, &body[at..at + 4096], "a page");
    };
    // Hardly one of these can be late, so that a second request is allowed then.
    (0..258).for_each(read);
    proxy.wait_until_idle();
    let before = proxy.seen("GetObject");
    proxy.fail("GetObject", Fault::Stall, 1);
    let began = Instant::now();
    read(258);
    assert!(began.elapsed() < timeout / 6, "{:?}", began.elapsed());
    assert_eq!(proxy.seen("GetObject"), before + 2);
}

#[test]
fn a_sequential_reader_gets_its_bytes_as_they_arrive_by_many_requests_at_once() {
    let (mount, proxy) = mount(|plan| plan);
    let body = pattern(64 * MIB, 2);
    mount.put_object("f", &body);
    mount.wait_for("f", "the file", |path| path.exists());
    let late = Fault::AnswerLate(Duration::from_millis(200));
    proxy.rule(Rule::on("GetObject", late).always());
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &body, "all of it");
    let (requests, at_once) = (proxy.seen("GetObject"), proxy.most_at_once("GetObject"));
    assert!((16..=28).contains(&requests), "{requests} requests");
    assert!(at_once >= 8, "{at_once} at once");
}

#[test]
fn files_that_are_read_in_parallel_cost_few_long_requests() {
    const FILES: usize = 8;
    let (mount, proxy) = mount(|plan| plan);
    let body = pattern(32 * MIB, 4);
    for number in 0..FILES {
        mount.put_object(&number.to_string(), &body);
    }
    mount.wait_for("7", "the last file", |path| path.exists());
    std::thread::scope(|scope| {
        for number in 0..FILES {
            let (path, body) = (mount.path(number.to_string()), &body);
            scope.spawn(move || assert_same_bytes(&fs::read(path).unwrap(), body, "a file"));
        }
    });
    // 80 for 64 MiB each, of which 16 begin with short ones.
    let requests = proxy.seen("GetObject");
    assert!(requests <= 48, "{requests}");
}

#[test]
fn what_the_kernel_has_of_a_file_is_read_again_without_a_request() {
    let (mount, proxy) = mount(|plan| plan.args(["--memory-cache", "16MiB"]));
    let body = pattern(48 * MIB, 5);
    mount.put_object("f", &body);
    mount.wait_for("f", "the file", |path| path.exists());
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &body, "first");
    // The kernel may need the memory of some pages at any time.
    let asks_nothing = |_| {
        let asked = proxy.seen_in_all();
        assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &body, "again");
        proxy.seen_in_all() == asked
    };
    assert!((0..5).any(asks_nothing));
}

#[test]
fn a_long_directory_is_listed_by_the_page_and_renamed_by_a_head_and_a_copy_for_each_file() {
    const FILES: usize = 2500;
    let (mount, proxy) = mount(|plan| plan.set("--ttl", "60s"));
    let objects = (0..FILES).map(|n| (format!("d/{n:04}"), b"x".to_vec()));
    mount.client().put_many(mount.bucket(), objects);
    mount.wait_for("d", "the directory", |path| path.exists());
    let before = proxy.seen("ListObjectsV2");
    for times in 1..=2 {
        let listed = run_shell("ls -l \"$1\" | wc -l", &[&mount.path("d")]);
        assert_eq!(listed.trim(), (1 + FILES).to_string());
        let pages = proxy.seen("ListObjectsV2") - before;
        assert!(pages <= 4, "{pages} after {times}");
    }
    fs::rename(mount.path("d"), mount.path("e")).unwrap();
    assert_eq!(proxy.seen("CopyObject"), FILES);
    // The encryption of an object, which a copy does not keep, is in no listing. The
    // others are of the names that were looked up.
    let heads = proxy.seen("HeadObject");
    // Where an answer is late, two in a hundred are sent a second time.
    let twice = FILES / 50 + 4;
    assert!(heads <= FILES + 4 + twice, "{heads} requests");
}

#[test]
fn a_small_file_that_is_created_costs_one_put() {
    for mode in MODES {
        for durability in ["s3", "disk"] {
            let (mount, proxy) = mount(|plan| {
                plan.durability(durability)
                    .set("--ttl", "60s")
                    .args(["--attributes", mode])
            });
            fs::create_dir(mount.path("d")).unwrap();
            fs::write(mount.path("d/first"), b"x").unwrap();
            mount.wait_until_uploaded("d/first", b"x");
            if mode == "fixed" {
                mount.wait_for_keys("the first file replaces the marker", |keys| {
                    keys == ["d/first"]
                });
            }
            let asked = proxy.seen_in_all();
            let began = Instant::now();
            for number in 0..40 {
                fs::write(mount.path(format!("d/{number}")), b"bytes").unwrap();
            }
            for number in 0..40 {
                mount.wait_until_uploaded(&format!("d/{number}"), b"bytes");
            }
            let (puts, others): (Vec<_>, _) = (proxy.seen_after(asked).into_iter())
                .partition(|operation| *operation == "PutObject");
            assert_eq!(puts.len(), 40, "{mode} {durability}");
            // That a name is absent counts for a second. An answer that is late is asked
            // for twice.
            let seconds = began.elapsed().as_secs();
            assert!(
                others.len() as u64 <= 2 * (seconds + 1),
                "{mode} {durability}: {others:?}"
            );
            assert!(
                others.iter().all(|operation| *operation == "ListObjectsV2"),
                "{mode} {durability}: {others:?}"
            );
        }
    }
}

#[test]
fn files_replaced_by_tmp_fsync_and_rename_cost_a_put_a_copy_and_at_most_one_delete() {
    const FILES: usize = 100;
    for mode in MODES {
        let (mount, proxy) = mount(|plan| plan.args(["--attributes", mode]));
        let replace = |number: usize, body: &[u8]| {
            let name = format!("f{number:03}.txt");
            let tmp = mount.path(format!("{name}.tmp"));
            let mut file = fs::File::create(&tmp).unwrap();
            file.write_all(body).unwrap();
            file.sync_all().unwrap();
            drop(file);
            fs::rename(&tmp, mount.path(&name)).unwrap();
        };
        let objects = (0..FILES).map(|n| (format!("f{n:03}.txt"), b"old".to_vec()));
        mount.client().put_many(mount.bucket(), objects);
        assert_eq!(walk(&mount.root), FILES);
        for number in 0..FILES {
            replace(number, format!("new {number}").as_bytes());
        }
        mount.wait_for_keys("the old names to go", |keys| keys.len() == FILES);
        let kinds = [
            "PutObject",
            "HeadObject",
            "CopyObject",
            "DeleteObject",
            "DeleteObjects",
        ];
        let kinds = kinds.map(|kind| (kind, proxy.seen(kind)));
        let came = |kind| kinds.iter().find(|(seen, _)| *seen == kind).unwrap().1;
        assert_eq!((came("PutObject"), came("CopyObject")), (FILES, FILES));
        // Attributes of versions younger than two seconds are asked for again.
        assert!(mode == "stored" || came("HeadObject") == 0, "{kinds:?}");
        // How many go together is a matter of time.
        assert!(
            came("DeleteObject") + came("DeleteObjects") <= FILES,
            "{kinds:?}"
        );
        for number in [0, 50, 99] {
            let name = format!("f{number:03}.txt");
            let want = format!("new {number}").into_bytes();
            assert_eq!(mount.object(&name).unwrap(), want);
            let head = mount.client().head(mount.bucket(), &name).unwrap();
            assert_eq!(head.content_type.as_deref(), Some("text/plain"));
        }
    }
}

#[test]
fn a_cold_walk_over_200_directories_lists_the_tree_ahead() {
    for mode in MODES {
        let (mount, proxy) = mount(|plan| plan.set("--ttl", "60s").args(["--attributes", mode]));
        let objects = (0..1000).map(|n| {
            let body = n.to_string().into_bytes();
            (format!("t/d{:03}/f{n:04}", n % 200), body)
        });
        mount.client().put_many(mount.bucket(), objects);
        let deep = (0..300).map(|n| (format!("t/deep/{}/{}/f{n}", n % 10, n % 30), b"x".to_vec()));
        mount.client().put_many(mount.bucket(), deep);
        mount.wait_for("t/deep", "the tree", |path| path.exists());
        let wanted = run_shell("find \"$1\" | wc -l", &[&mount.path("t")]);
        assert_eq!(
            wanted.trim(),
            (1 + 200 + 1000 + 1 + 10 + 30 + 300).to_string()
        );
        let lists = proxy.seen("ListObjectsV2");
        assert!(lists <= 14, "{mode}: {lists}");
        // What changes meanwhile is seen as ever.
        fs::write(mount.path("t/d199/new"), b"new").unwrap();
        fs::remove_file(mount.path("t/d198/f0198")).unwrap();
        let found = run_shell("find \"$1\" | wc -l", &[&mount.path("t")]);
        assert_eq!(found.trim(), wanted.trim(), "one came and one went");
        assert_eq!(fs::read(mount.path("t/d007/f0207")).unwrap(), b"207");
        let more = proxy.seen("ListObjectsV2") - lists;
        assert!(more <= 2, "{mode}: {more} for a name that was absent");
    }
}
