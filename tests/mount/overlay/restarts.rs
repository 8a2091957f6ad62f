//! The next daemon of an overlay.

use std::fs::{self, File};
use std::io::Read;

use super::{held_import, objects, old_directory, old_files, over, tree, wait_for_the_end};
use crate::support::programs::said;
use crate::support::proxy::{Fault, Rule};
use crate::support::{DURABILITIES, SupervisedMount};

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
