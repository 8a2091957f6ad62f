//! The successor of an overlay's daemon.

use std::fs::{self, File};
use std::io::{Read, Write};

use rustix::process::{Signal, kill_process};

use super::{
    WITHIN, held_import, objects, old_directory, old_files, over, tree, wait_for_the_end, write,
};
use crate::support::data::MIB;
use crate::support::programs::said;
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount, SupervisedMount, pattern, wait_until};

#[test]
fn what_is_removed_or_renamed_is_hidden_through_a_kill_and_never_sent() {
    for durability in DURABILITIES {
        let (plan, proxy) = held_import();
        let old = old_directory(&plan);
        let before = old_files(&old);
        let mut mount = over(plan.durability(durability), &old).start();
        proxy.rule(
            Rule::on("PutObject", Fault::Answer(503, "SlowDown"))
                .key("d/e/*")
                .always(),
        );
        fs::remove_file(mount.path("a")).unwrap();
        fs::rename(mount.path("a.txt"), mount.path("d/b.txt")).unwrap();
        fs::rename(mount.path("gone"), mount.path("moved")).unwrap();
        fs::remove_file(mount.path("both")).unwrap();
        fs::write(mount.path("both"), "again").unwrap();
        fs::remove_dir_all(mount.path("empty")).unwrap();
        let mut model = before.clone();
        model.remove("a");
        model.remove("empty/inside/");
        let renamed = [
            ("a.txt", "d/b.txt"),
            ("gone/1", "moved/1"),
            ("gone/2", "moved/2"),
        ];
        for (from, to) in renamed {
            let body = model.remove(from).unwrap();
            model.insert(to.to_owned(), body);
        }
        model.insert("both".to_owned(), b"again".into());
        assert_eq!(tree(&mount.root), model, "{durability}");
        mount.kill9();
        mount.remount();
        assert_eq!(tree(&mount.root), model, "{durability} after a kill");
        proxy.heal();
        wait_for_the_end(&mount);
        assert_eq!(tree(&mount.root), model, "{durability} after the end");
        assert_eq!(tree(&old), before, "the old directory is never changed");
        mount.wait_for_keys("the bucket", |keys| keys.len() == model.len());
        assert_eq!(objects(&mount), model);
    }
}

#[test]
fn a_successor_goes_on_with_a_directory_that_the_mount_covers() {
    let (plan, proxy) = held_import();
    proxy.rule(
        Rule::on("PutObject", Fault::Answer(503, "SlowDown"))
            .key("d/*")
            .always(),
    );
    let mut model = old_files(&plan.root);
    let root = plan.root.clone();
    let mount = SupervisedMount::start(over(plan, &root));
    let mut open = File::open(mount.path("d/x")).unwrap();
    fs::remove_file(mount.path("a")).unwrap();
    model.remove("a");
    mount.kill_daemon();
    assert_eq!(tree(&mount.root), model);
    let mut found = String::new();
    open.read_to_string(&mut found).unwrap();
    assert_eq!(found, "old x");
    drop(open);
    proxy.heal();
    fs::write(mount.path("d/x"), "new x").unwrap();
    model.insert("d/x".to_owned(), b"new x".into());
    mount.kill_daemon();
    wait_for_the_end(&mount);
    assert_eq!(tree(&mount.root), model);
    mount.kill_daemon();
    assert_eq!(tree(&mount.root), model);
    assert_eq!(objects(&mount), model);
    mount.unmount();
    assert_eq!(fs::read(root.join("a")).unwrap(), b"old a");
}

#[test]
fn an_overlay_that_has_not_ended_is_not_left_out_by_mistake() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    old_files(&old);
    proxy.rule(
        Rule::on("PutObject", Fault::Answer(503, "SlowDown"))
            .key("d/*")
            .always(),
    );
    let mut mount = over(plan, &old).start();
    mount.unmount();
    let other = mount.scratch().join("other");
    fs::create_dir(&other).unwrap();
    mount.change_arg("--overlay", &other);
    let refused = mount.run_again();
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("mount with --overlay"),
        "{}",
        said(&refused)
    );
    mount.change_arg("--overlay", &old);
    proxy.heal();
    mount.remount();
    wait_for_the_end(&mount);
}

const OVERLAY: &str = "MEDIAFS_OVERLAY";

/// A mount whose overlay has ended, and what it shows.
fn ended() -> (Mount, Proxy, super::Tree) {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    let model = old_files(&old);
    let log = plan.scratch().join("log");
    let plan = plan.durability("disk").arg("--log-file").arg(log);
    let mount = plan.env(OVERLAY, &old).start();
    wait_for_the_end(&mount);
    (mount, proxy, model)
}

#[test]
fn what_begins_after_the_end_of_an_overlay_needs_none_of_it() {
    let (mut mount, proxy, mut model) = ended();
    mount.unmount();
    mount.change_env(OVERLAY, None);
    let mount = SupervisedMount::again(mount);
    for (round, signal) in [Signal::KILL, Signal::USR2].into_iter().enumerate() {
        let held = Rule::on("PutObject", Fault::Answer(503, "SlowDown"));
        proxy.rule(held.always());
        let (from, to) = (format!("from {round}"), format!("to {round}"));
        fs::write(mount.path("d/x"), &from).unwrap();
        fs::write(mount.path(&from), &from).unwrap();
        let mut open = File::create(mount.path(&to)).unwrap();
        open.write_all(b"half ").unwrap();
        let copy = proxy.hold(Side::BeforeServer, Rule::on("CopyObject", Fault::Pass));
        std::thread::scope(|scope| {
            let (old, new) = (mount.path("d/e"), mount.path("moving"));
            let renamed = scope.spawn(move || fs::rename(old, new));
            copy.wait_for(1);
            let daemon = mount.daemon();
            kill_process(daemon, signal).unwrap();
            mount.wait_for_successor(daemon);
            proxy.open_gates();
            proxy.heal();
            renamed.join().unwrap().unwrap();
        });
        open.write_all(b"whole").unwrap();
        drop(open);
        for name in ["y", "z"] {
            let body = model.remove(&format!("d/e/{name}")).unwrap();
            model.insert(format!("moving/{name}"), body);
        }
        model.insert("d/x".to_owned(), from.clone().into());
        model.insert(from.clone(), from.into());
        model.insert(to, b"half whole".into());
        assert_eq!(tree(&mount.root), model, "{signal:?}");
        fs::rename(mount.path("moving"), mount.path("d/e")).unwrap();
        for name in ["y", "z"] {
            let body = model.remove(&format!("moving/{name}")).unwrap();
            model.insert(format!("d/e/{name}"), body);
        }
    }
    mount.unmount();
    assert_eq!(objects(&mount), model);
}

#[test]
fn what_began_before_the_end_lands_without_the_option_and_the_old_directory() {
    let (mut mount, proxy, mut model) = ended();
    let held = Rule::on("PutObject", Fault::Answer(503, "SlowDown")).key("d/*");
    proxy.rule(held.always());
    let mut edited = File::options()
        .append(true)
        .open(mount.path("d/x"))
        .unwrap();
    edited.write_all(b", and more").unwrap();
    drop(edited);
    fs::write(mount.path("d/e/y"), "new y").unwrap();
    mount.kill9();
    fs::remove_dir_all(mount.scratch().join("old")).unwrap();
    mount.change_env(OVERLAY, None);
    proxy.heal();
    mount.remount();
    model.insert("d/x".to_owned(), b"old x, and more".into());
    model.insert("d/e/y".to_owned(), b"new y".into());
    assert_eq!(tree(&mount.root), model);
    mount.unmount();
    assert_eq!(objects(&mount), model);
    mount.remount();
    assert_eq!(tree(&mount.root), model);
}

#[test]
fn a_successor_goes_on_with_an_overlay_that_the_configuration_leaves_out() {
    let (plan, proxy) = held_import();
    let root = plan.root.clone();
    let mut model = old_files(&root);
    let held = Rule::on("PutObject", Fault::Answer(503, "SlowDown"));
    proxy.rule(held.key("d/*").always());
    let config = plan.scratch().join("media.toml");
    fs::write(&config, format!("overlay = {root:?}\n")).unwrap();
    let mount = SupervisedMount::start(plan.arg("--config").arg(&config));
    fs::remove_file(mount.path("a")).unwrap();
    model.remove("a");
    fs::write(&config, "").unwrap();
    for _ in 0..2 {
        mount.kill_daemon();
        assert_eq!(tree(&mount.root), model);
    }
    proxy.heal();
    wait_for_the_end(&mount);
    assert_eq!(objects(&mount), model);
}

#[test]
fn an_upload_of_a_long_old_file_goes_on_with_the_parts_that_are_missing() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    let long = pattern(12 * MIB, 3);
    write(&old, "long.bin", &long);
    write(&old, "removed.bin", pattern(12 * MIB, 4));
    proxy.keep_heads();
    let held = |path| {
        let cut_off = Rule::on("UploadPart", Fault::Reset);
        proxy.hold(Side::BeforeServer, cut_off.key(path).after(2))
    };
    let gates = [held("long.bin"), held("removed.bin")];
    let plan = plan.args(["--part-size", "5MiB"]);
    let mut mount = over(plan, &old).start();
    gates.iter().for_each(|gate| gate.wait_for(1));
    let sent = |op: &str, path: &str| {
        let heads = proxy.heads(op).into_iter();
        heads.filter(|head| head.contains(path)).count()
    };
    let others = || proxy.seen("UploadPart") - sent("UploadPart", ".bin");
    wait_until(WITHIN, "two parts of each", || {
        proxy.passed("UploadPart") >= others() + 4
    });
    mount.kill9();
    proxy.heal();
    proxy.open_gates();
    proxy.wait_until_idle();
    // Until it is removed.
    let slow = Rule::on("UploadPart", Fault::Answer(503, "SlowDown"));
    proxy.rule(slow.key("removed.bin").always());
    proxy.keep_heads();
    mount.remount();
    fs::remove_file(mount.path("removed.bin")).unwrap();
    wait_for_the_end(&mount);
    assert_eq!(sent("CreateMultipartUpload", "long.bin"), 0);
    assert_eq!(sent("UploadPart", "long.bin"), 1);
    assert_eq!(mount.object("long.bin").unwrap(), long);
    mount.unmount();
    assert!(mount.client().unfinished_uploads(mount.bucket()).is_empty());
}
