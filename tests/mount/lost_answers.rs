//! A change that the store carries out, and whose answer the daemon does not live to see:
//! the kernel sends its request again, and what another client has done since stays.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use std::os::unix::fs::FileExt;
use std::thread;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Signal, kill_process};

use super::resent_requests::{NEWER_AFTER, WITHIN, change_meanwhile, dies_at, ends_with, truncate};
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount, SupervisedMount, wait_until};

/// A change that the store carries out, and whose answer the daemon does not live to see.
pub struct Hidden {
    pub mount: SupervisedMount,
    proxy: Proxy,
}

/// What becomes of a request whose answer nobody sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Applied,
    Lost,
}

pub const SENT: [Sent; 2] = [Sent::Applied, Sent::Lost];

impl Hidden {
    fn with(objects: &[(&str, &str)]) -> Self {
        Self::with_args(objects, &[])
    }

    pub fn with_args(objects: &[(&str, &str)], args: &[&str]) -> Self {
        let (plan, proxy) = Mount::behind_a_proxy();
        let plan = plan.args(args.iter().copied());
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
        change_meanwhile(
            &self.mount,
            self.killed((op, key), Sent::Applied, call),
            || {
                let died = Instant::now();
                wait_until(WITHIN, "the next seconds", || died.elapsed() > NEWER_AFTER);
                meanwhile();
            },
        )
    }

    /// The same at once, and by what the store makes of the request: only versions tell
    /// what came later.
    pub fn change_at_once(
        &self,
        request: (&'static str, &str),
        sent: Sent,
        call: impl FnOnce() -> io::Result<()> + Send,
        meanwhile: impl FnOnce(),
    ) -> io::Result<()> {
        let killed = self.killed(request, sent, call);
        self.mount.change_amid_death(killed, meanwhile)
    }

    /// The call, during whose request the daemon is killed.
    fn killed(
        &self,
        (op, key): (&'static str, &str),
        sent: Sent,
        call: impl FnOnce() -> io::Result<()> + Send,
    ) -> impl FnOnce() -> io::Result<()> + Send {
        let (side, fault) = match sent {
            Sent::Applied => (Side::AfterServer, Fault::Pass),
            Sent::Lost => (Side::BeforeServer, Fault::Reset),
        };
        let held = self.proxy.hold(side, Rule::on(op, fault).key(key));
        let daemon = self.mount.daemon();
        move || {
            thread::scope(|scope| {
                scope.spawn(|| {
                    held.wait_for(1);
                    kill_process(daemon, Signal::KILL).unwrap();
                });
                call()
            })
        }
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

const ATTRIBUTES: [&str; 2] = ["fixed", "stored"];
const THEIRS: &str = "theirs, and longer";

/// Each at the same time, since most of it is waiting.
fn in_each_mode(test: impl Fn(&str, &str, Sent) + Sync) {
    thread::scope(|scope| {
        for durability in DURABILITIES {
            for attributes in ATTRIBUTES {
                for sent in SENT {
                    let test = &test;
                    scope.spawn(move || test(durability, attributes, sent));
                }
            }
        }
    });
}

#[test]
fn a_truncation_whose_answer_was_lost_does_not_cut_what_another_client_puts_there() {
    in_each_mode(|durability, attributes, sent| {
        let args = ["--durability", durability, "--attributes", attributes];
        let hidden = Hidden::with_args(&[("f", "old bytes")], &args);
        let mount = &hidden.mount;
        let cut = hidden.change_at_once(
            ("PutObject", "f"),
            sent,
            || truncate(&mount.path("f"), 3),
            || mount.put_object("f", THEIRS.as_bytes()),
        );
        let what = format!("{durability} {attributes} {sent:?}");
        assert!(cut.is_ok(), "{what}: {cut:?}");
        ends_with(mount, &what, &[("f", THEIRS)]);
    });
}

#[test]
fn a_truncation_whose_answer_was_lost_is_done_where_nobody_else_has_put_anything() {
    in_each_mode(|durability, attributes, sent| {
        let args = ["--durability", durability, "--attributes", attributes];
        let hidden = Hidden::with_args(&[("f", "old bytes")], &args);
        let mount = &hidden.mount;
        let call = || truncate(&mount.path("f"), 3);
        let cut = hidden.change_at_once(("PutObject", "f"), sent, call, || {});
        cut.unwrap();
        let what = format!("{durability} {attributes} {sent:?}");
        ends_with(mount, &what, &[("f", "old")]);
    });
}

/// Wherever the daemon dies between the answer of the store and its own.
#[test]
fn a_truncation_cuts_nothing_of_another_client_wherever_the_daemon_dies() {
    let points = [
        "put_answered=return",
        "publish_recorded=return",
        "publish_uploaded=return",
        "publish_discarded=return",
        "request_done=return",
    ];
    thread::scope(|scope| {
        for point in points {
            scope.spawn(move || {
                let mount = dies_at(point, "s3", &[("f", "old bytes")]);
                let cut = mount.change_amid_death(
                    || truncate(&mount.path("f"), 3),
                    || mount.put_object("f", THEIRS.as_bytes()),
                );
                assert!(cut.is_ok(), "{point}: {cut:?}");
                ends_with(&mount, point, &[("f", THEIRS)]);
            });
        }
    });
}

/// What is done through a handle, and sent by fsync(2).
#[test]
fn what_is_written_through_a_handle_does_not_reach_what_another_client_puts_there() {
    let changes: [fn(&fs::File) -> io::Result<()>; 3] = [
        |file| file.set_len(3),
        |file| file.write_all_at(b"written", 9),
        |file| {
            Ok(fallocate(
                file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                1,
                2,
            )?)
        },
    ];
    in_each_mode(|durability, attributes, sent| {
        for change in changes {
            let args = ["--durability", durability, "--attributes", attributes];
            let hidden = Hidden::with_args(&[("f", "old bytes")], &args);
            let mount = &hidden.mount;
            let file = fs::OpenOptions::new().append(true).open(mount.path("f"));
            let file = file.unwrap();
            let call = || {
                change(&file)?;
                file.sync_all()
            };
            let put = || mount.put_object("f", THEIRS.as_bytes());
            let written = hidden.change_at_once(("PutObject", "f"), sent, call, put);
            let what = format!("{durability} {attributes} {sent:?}");
            if let Err(error) = written {
                assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{what}");
            }
            drop(file);
            ends_with(mount, &what, &[("f", THEIRS)]);
        }
    });
}

/// The bytes whose upload a removal cancels may be uploaded by the successor before that
/// is asked for again.
#[test]
fn a_removal_takes_what_the_successor_has_uploaded_for_its_predecessor() {
    let hidden = Hidden::with(&[("f", "old")]);
    let mount = &hidden.mount;
    let upload = Rule::on("PutObject", Fault::Reset).key("f");
    let upload = hidden.proxy.hold(Side::BeforeServer, upload);
    let path = mount.path("f");
    let writer = thread::spawn(move || fs::write(path, "new"));
    upload.wait_for(1);
    let remove = || fs::remove_file(mount.path("f"));
    let request = ("DeleteObject", "f");
    let removed = hidden.change_at_once(request, Sent::Applied, remove, || {});
    removed.unwrap();
    // Its close is sent again too, and may come after the removal.
    let (Ok(()) | Err(_)) = writer.join().unwrap();
    mount.wait_for("f", "the removal", |path| !path.exists());
    mount.unmount();
    assert!(mount.keys().is_empty(), "{:?}", mount.keys());
}
