//! What is left goes into the bucket, beside whatever else changes it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use super::{
    WITHIN, held_import, objects, of_overlay, old_directory, old_files, over, tree,
    wait_for_the_end, write,
};
use crate::support::control::{done, run};
use crate::support::data::MIB;
use crate::support::programs::{has_all, said};
use crate::support::proxy::{Fault, Rule, Side};
use crate::support::{Mount, pattern, wait_until};

#[test]
fn the_import_ends_and_a_mount_without_the_overlay_shows_the_same_tree() {
    let plan = Mount::builder().args(["--part-size", "5MiB"]);
    let old = old_directory(&plan);
    let mut model = old_files(&old);
    let long = pattern(12 * MIB, 3);
    write(&old, "long.bin", &long);
    write(&old, "page.html", "<p>");
    model.insert("long.bin".to_owned(), long);
    model.insert("page.html".to_owned(), b"<p>".into());
    let mut mount = over(plan, &old).start();
    wait_for_the_end(&mount);
    assert!(
        mount
            .log()
            .contains("the old directory is not needed any more")
    );
    let shown = done(&mount, &["status", mount.root.to_str().unwrap()]);
    assert!(
        shown.contains("is not needed any more: every object was verified"),
        "{shown}"
    );
    assert_eq!(objects(&mount), model);
    let head = mount.client().head(mount.bucket(), "page.html").unwrap();
    assert_eq!(head.content_type.as_deref(), Some("text/html"));
    fs::rename(&old, old.with_extension("away")).unwrap();
    assert_eq!(tree(&mount.root), model);
    // With the option: it does nothing any more.
    mount.unmount();
    mount.remount();
    assert_eq!(tree(&mount.root), model);
    assert!(of_overlay(&mount).is_null());
    assert!(mount.client().unfinished_uploads(mount.bucket()).is_empty());
}

#[test]
fn an_import_overwrites_nothing_that_was_put_meanwhile() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    let mut model = old_files(&old);
    let gate = proxy.hold(
        Side::BeforeServer,
        Rule::on("PutObject", Fault::Pass).key("d/*").always(),
    );
    let mount = over(plan, &old).start();
    gate.wait_for(1);
    mount.put_object("d/x", b"another client's");
    mount.put_object("d/e/y", b"this one's too");
    gate.open();
    proxy.heal();
    wait_for_the_end(&mount);
    model.insert("d/x".to_owned(), b"another client's".into());
    model.insert("d/e/y".to_owned(), b"this one's too".into());
    assert_eq!(objects(&mount), model);
    wait_until(WITHIN, "the other client's version", || {
        tree(&mount.root) == model
    });
}

#[test]
fn a_removal_while_the_file_is_on_its_way_leaves_nothing_in_the_bucket() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    write(&old, "d/f", "on its way");
    write(&old, "kept", "kept");
    let gate = proxy.hold(
        Side::BeforeServer,
        Rule::on("PutObject", Fault::Pass).key("d/f"),
    );
    let mount = over(plan, &old).start();
    gate.wait_for(1);
    let path = mount.path("d/f");
    let removal = std::thread::spawn(move || fs::remove_file(path));
    gate.open();
    removal.join().unwrap().unwrap();
    assert!(!mount.path("d/f").exists());
    wait_for_the_end(&mount);
    assert!(mount.object("d/f").is_none());
    assert_eq!(mount.object("kept").unwrap(), b"kept");
}

#[test]
fn who_still_writes_to_the_old_directory_is_noticed_and_told() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    old_files(&old);
    symlink("a", old.join("link")).unwrap();
    // One file keeps the overlay from ending meanwhile.
    proxy.rule(
        Rule::on("PutObject", Fault::Answer(503, "SlowDown"))
            .key("a.txt")
            .always(),
    );
    let mount = over(plan, &old).start();
    wait_until(WITHIN, "a walk", || of_overlay(&mount)["counted"] == true);
    wait_until(WITHIN, "an object", || mount.object("d/x").is_some());
    write(&old, "d/late", "late");
    wait_until(WITHIN, "the kernel's word", || {
        of_overlay(&mount)["outside_names"]
            .to_string()
            .contains("d/late")
    });
    assert!(
        mount
            .log()
            .contains("somebody still changes the old directory")
    );
    wait_until(WITHIN, "the new file", || mount.path("d/late").exists());
    write(&old, "d/x", "changed after it was sent");
    proxy.heal();
    let mut told = Value::Null;
    // Each walk counts anew.
    wait_until(WITHIN, "the walk's word", || {
        told = of_overlay(&mount);
        told["changed"] == 1
    });
    assert_eq!(told["changed_names"][0], "d/x", "{told}");
    assert_eq!(told["odd_names"][0], "link", "{told}");
    assert_eq!(told["ended"], false);
    let shown = done(&mount, &["status", mount.root.to_str().unwrap()]);
    assert!(
        shown.contains("changed after they were sent: d/x"),
        "{shown}"
    );
    wait_until(WITHIN, "the new file's object", || {
        mount.object("d/late").is_some()
    });
}

#[test]
fn s3_may_be_away_for_a_while() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    let mut model = old_files(&old);
    let plan = plan.durability("disk").args(["--request-timeout", "10s"]);
    let mount = over(plan, &old).start();
    assert_eq!(tree(&mount.root), model);
    proxy.rule(Rule::on("*", Fault::Answer(503, "SlowDown")).always());
    assert_eq!(fs::read(mount.path("d/x")).unwrap(), b"old x");
    fs::write(mount.path("d/x"), "written meanwhile").unwrap();
    fs::remove_file(mount.path("d/e/y")).unwrap();
    model.insert("d/x".to_owned(), b"written meanwhile".into());
    model.remove("d/e/y");
    assert_eq!(fs::read(mount.path("d/x")).unwrap(), b"written meanwhile");
    assert!(!mount.path("d/e/y").exists());
    proxy.heal();
    wait_for_the_end(&mount);
    assert_eq!(tree(&mount.root), model);
    mount.wait_for_keys("the bucket", |keys| keys.len() == model.len());
    assert_eq!(objects(&mount), model);
}

/// What an old directory alone has is in no bucket yet.
#[test]
fn an_unmount_before_the_end_says_what_the_bucket_lacks() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    write(&old, "held", "old");
    let refused = Rule::on("PutObject", Fault::Answer(503, "SlowDown"));
    proxy.rule(refused.key("held").always());
    let mut mount = over(plan, &old).start();
    wait_until(WITHIN, "a walk", || of_overlay(&mount)["counted"] == true);
    let root = mount.root.to_str().unwrap().to_owned();
    let told = run(&mount, &["unmount", &root, "--json"]);
    assert!(told.status.success(), "{}", said(&told));
    let text = said(&told);
    has_all(
        &text,
        &[
            "has files that S3 lacks",
            "1 file, 3 B left",
            "\"done\": false",
        ],
    );
    assert!(mount.wait_for_exit().success());
}

#[test]
fn an_old_file_that_the_store_cannot_have_beside_other_keys_keeps_the_overlay_from_ending() {
    let other = Mount::fresh();
    other.put_object("a/b", b"new");
    let plan = Mount::builder().bucket(other.bucket());
    let old = old_directory(&plan);
    write(&old, "a", "old");
    let mount = over(plan, &old).start();
    // SeaweedFS has a directory there.
    wait_until(WITHIN, "what failed", || {
        of_overlay(&mount)["failures"][0]["path"] == "a"
    });
    let told = of_overlay(&mount);
    assert_eq!(told["ended"], false, "{told}");
    let why = told["failures"][0]["error"].to_string();
    assert!(why.contains("keys below it"), "{why}");
}

#[test]
fn who_writes_to_the_old_directory_after_the_end_is_told_of() {
    let plan = Mount::builder();
    let old = old_directory(&plan);
    old_files(&old);
    let mount = over(plan, &old).start();
    wait_for_the_end(&mount);
    write(&old, "d/x", "changed after the end");
    wait_until(WITHIN, "the kernel's word", || {
        of_overlay(&mount)["outside_names"][0] == "d/x"
    });
    let told = "somebody still changes the old directory";
    wait_until(WITHIN, "the log", || mount.log().contains(told));
}

#[test]
fn an_owner_or_a_link_from_outside_is_told_and_keeps_no_overlay_from_ending() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    let model = old_files(&old);
    // One file keeps the overlay from ending meanwhile.
    let refused = Rule::on("PutObject", Fault::Answer(503, "SlowDown"));
    proxy.rule(refused.key("a.txt").always());
    let mount = over(plan, &old).start();
    for sent in ["d/x", "d/e/y"] {
        wait_until(WITHIN, "an object", || mount.object(sent).is_some());
    }
    fs::set_permissions(old.join("d/x"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(old.join("d/e/y"), old.with_extension("link")).unwrap();
    wait_until(WITHIN, "a walk's word", || {
        let told = of_overlay(&mount)["outside_names"].to_string();
        told.contains("d/x") && told.contains("d/e/y")
    });
    proxy.heal();
    wait_for_the_end(&mount);
    assert_eq!(objects(&mount), model);
    assert_eq!(tree(&mount.root), model);
}
