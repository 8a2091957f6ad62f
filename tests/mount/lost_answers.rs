//! A change that the store carries out, and whose answer the daemon does not live to see:
//! the kernel sends its request again, and what another client has done since stays.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use rustix::process::{Signal, kill_process};

use super::resent_requests::{NEWER_AFTER, WITHIN, change_meanwhile, ends_with};
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{Mount, SupervisedMount, wait_until};

/// A change that the store carries out, and whose answer the daemon does not live to see.
struct Hidden {
    mount: SupervisedMount,
    proxy: Proxy,
}

impl Hidden {
    fn with(objects: &[(&str, &str)]) -> Self {
        let (plan, proxy) = Mount::behind_a_proxy();
        for (key, body) in objects {
            plan.client.put(&plan.bucket, key, body.as_bytes());
        }
        let mount = SupervisedMount::start(plan.set("--ttl", "1s"));
        Self { mount, proxy }
    }

    /// What the call comes to whose request of this kind is answered after the daemon's
    /// death, while another client acts later than it.
    fn change(
        &self,
        (op, key): (&'static str, &str),
        call: impl FnOnce() -> io::Result<()> + Send,
        meanwhile: impl FnOnce(),
    ) -> io::Result<()> {
        let rule = Rule::on(op, Fault::Pass).key(key);
        let answer = self.proxy.hold(Side::AfterServer, rule);
        let daemon = self.mount.daemon();
        let killed = || {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    answer.wait_for(1);
                    let applied = || self.proxy.answered_bytes(op) > 0 || answer.held() > 0;
                    wait_until(WITHIN, "the change", applied);
                    kill_process(daemon, Signal::KILL).unwrap();
                });
                call()
            })
        };
        let changed = change_meanwhile(&self.mount, killed, || {
            let died = Instant::now();
            wait_until(WITHIN, "the next seconds", || died.elapsed() > NEWER_AFTER);
            meanwhile();
        });
        answer.open();
        changed
    }
}

#[test]
fn a_removal_whose_answer_was_lost_does_not_remove_what_another_client_puts_there() {
    for theirs in ["theirs", "old"] {
        let hidden = Hidden::with(&[("f", "old")]);
        let mount = &hidden.mount;
        let removed = hidden.change(
            ("DeleteObject", "f"),
            || fs::remove_file(mount.path("f")),
            || mount.put_object("f", theirs.as_bytes()),
        );
        removed.unwrap();
        ends_with(mount, theirs, &[("f", theirs)]);
    }
}

#[test]
fn a_directory_whose_removal_was_not_answered_stays_where_another_client_makes_it() {
    let hidden = Hidden::with(&[("d/", "")]);
    let mount = &hidden.mount;
    let removed = hidden.change(
        ("DeleteObject", "d/"),
        || fs::remove_dir(mount.path("d")),
        || mount.put_object("d/", b""),
    );
    removed.unwrap();
    mount.wait_for("d", "the directory of the other client", Path::is_dir);
    mount.unmount();
    assert_eq!(mount.keys(), ["d/"]);
}

#[test]
fn a_copy_whose_answer_was_lost_does_not_replace_what_another_client_puts_there() {
    for theirs in [None, Some("theirs")] {
        let hidden = Hidden::with(&[("f", "copied"), ("g", "")]);
        let mount = &hidden.mount;
        let source = fs::File::open(mount.path("f")).unwrap();
        let target = fs::OpenOptions::new().write(true).open(mount.path("g"));
        let target = target.unwrap();
        let copy = || {
            let copied = rustix::fs::copy_file_range(&source, None, &target, None, 6)?;
            assert_eq!(copied, 6);
            Ok(())
        };
        let put_theirs = || {
            if let Some(theirs) = theirs {
                mount.put_object("g", theirs.as_bytes());
            }
        };
        hidden
            .change(("CopyObject", "g"), copy, put_theirs)
            .unwrap();
        drop(target);
        drop(source);
        let left = theirs.unwrap_or("copied");
        ends_with(mount, left, &[("f", "copied"), ("g", left)]);
    }
}
