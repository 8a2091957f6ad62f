//! A store whose clock differs from this host's: what came first is told by its clock alone.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount};

/// Of the store's clock, in seconds.
const AHEAD: [i64; 2] = [-60, 60];
const THEIRS: &[u8] = b"theirs";

/// Each durability with each clock, at once: some wait for an object to grow old.
fn in_each_mode(test: impl Fn(&Mount, &Proxy, &str) + Sync) {
    thread::scope(|scope| {
        for (durability, ahead) in DURABILITIES
            .into_iter()
            .flat_map(|it| AHEAD.map(|s| (it, s)))
        {
            let test = &test;
            scope.spawn(move || {
                let (plan, proxy) = Mount::behind_a_proxy();
                proxy.set_clock(ahead);
                let plan = plan.durability(durability).set("--ttl", "1h");
                let mount = plan.args(["--request-timeout", "300s"]).start();
                test(&mount, &proxy, &format!("{durability}, {ahead} s"));
            });
        }
    });
}

#[test]
fn what_another_client_puts_after_a_removal_stays_whatever_the_clocks_say() {
    in_each_mode(|mount, proxy, mode| {
        fs::write(mount.path("f"), "old").unwrap();
        mount.wait_until_uploaded("f", b"old");
        let deletes = ["DeleteObject", "DeleteObjects"].map(|op| {
            let rule = Rule::on(op, Fault::Pass).key("f");
            proxy.hold(Side::BeforeServer, rule)
        });
        let op = usize::from(mode.contains("disk"));
        thread::scope(|scope| {
            let removed = scope.spawn(|| fs::remove_file(mount.path("f")));
            deletes[op].wait_for(1);
            mount.put_object("f", THEIRS);
            deletes[op].open();
            removed.join().unwrap().unwrap();
        });
        mount.wait_for("f", "the object of the other client", |path| {
            fs::read(path).is_ok_and(|bytes| bytes == THEIRS)
        });
        assert_eq!(mount.object("f").unwrap(), THEIRS, "{mode}");
    });
}

#[test]
fn a_removal_takes_what_was_there_before_it_whatever_the_clocks_say() {
    in_each_mode(|mount, _, _| {
        fs::write(mount.path("f"), "old").unwrap();
        mount.wait_until_uploaded("f", b"old");
        // Within the ttl this mount does not know of it.
        mount.put_object("f", THEIRS);
        // Times of objects and of answers are whole seconds.
        thread::sleep(Duration::from_secs(3));
        fs::remove_file(mount.path("f")).unwrap();
        mount.wait_for_keys("the end of it", <[String]>::is_empty);
    });
}

#[test]
fn an_upload_that_lands_after_its_file_was_removed_goes_whatever_the_clocks_say() {
    in_each_mode(|mount, proxy, mode| {
        let rule = Rule::on("PutObject", Fault::Pass).key("f");
        let upload = proxy.hold(Side::BeforeServer, rule);
        let looks = thread::scope(|scope| {
            let written = scope.spawn(|| fs::write(mount.path("f"), "new"));
            upload.wait_for(1);
            fs::remove_file(mount.path("f")).unwrap();
            let looks = proxy.hold_looks("f");
            written.join().unwrap().unwrap();
            looks
        });
        proxy.land("PutObject", &upload, &looks);
        mount.wait_for_keys(mode, <[String]>::is_empty);
    });
}
