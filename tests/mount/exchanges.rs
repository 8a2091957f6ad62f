//! RENAME_EXCHANGE takes three renames in the store: what another client puts amid them
//! stays, and one that fails is taken back.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{Client, Mount, wait_until};

const WITHIN: Duration = Duration::from_secs(120);
type Put = fn(&Client, &str, &str, &[u8]);

const THEIRS: &str = "theirs";
/// A request that is held is not given up.
const PATIENT: &str = "300s";
/// One that is never answered is, and what a busy server answers is not.
const HASTY: &str = "15s";
const MODES: [[&str; 4]; 3] = [
    ["--durability", "s3", "--attributes", "fixed"],
    ["--durability", "s3", "--attributes", "stored"],
    ["--durability", "disk", "--attributes", "stored"],
];

/// Two files that change places.
struct Exchange {
    mount: Mount,
    proxy: Proxy,
}

impl Exchange {
    fn new(mode: &[&str]) -> Self {
        Self::of(mode, PATIENT, Client::put)
    }

    fn of(mode: &[&str], request_timeout: &str, put: impl Fn(&Client, &str, &str, &[u8])) -> Self {
        let (plan, proxy) = Mount::behind_a_proxy();
        for (key, body) in [("f", "of f"), ("g", "of g")] {
            put(&plan.client, &plan.bucket, key, body.as_bytes());
        }
        let plan = plan.args(["--request-timeout", request_timeout]);
        let mount = plan.args(mode.to_vec()).start();
        Self { mount, proxy }
    }

    fn rename(&self) -> io::Result<()> {
        let (f, g) = (self.mount.path("f"), self.mount.path("g"));
        Ok(renameat_with(CWD, f, CWD, g, RenameFlags::EXCHANGE)?)
    }

    /// What it comes to, where another client acts while a copy is held.
    fn rename_amid(&self, copy: Rule, meanwhile: impl FnOnce(&Mount)) -> io::Result<()> {
        let gate = self.proxy.hold(Side::BeforeServer, copy);
        thread::scope(|scope| {
            let exchange = scope.spawn(|| self.rename());
            gate.wait_for(1);
            meanwhile(&self.mount);
            gate.open();
            exchange.join().unwrap()
        })
    }

    #[track_caller]
    fn ends_with(mut self, what: &str, f: &str, g: &str) {
        let wanted = [("f", f), ("g", g)];
        for (name, body) in wanted {
            let shows = |path: &Path| fs::read_to_string(path).is_ok_and(|it| it == body);
            self.mount.wait_for(name, what, shows);
        }
        let wanted = wanted.map(|(key, body)| (key.to_owned(), body.as_bytes().to_vec()));
        wait_until(WITHIN, what, || objects(&self.mount) == wanted);
        self.mount.unmount();
        assert_eq!(objects(&self.mount), wanted, "{what}");
    }
}

impl Exchange {
    /// It has failed, and nobody could tell how far it had come.
    #[track_caller]
    fn keeps_both(self, what: &str) {
        self.proxy.heal();
        let Self {
            mut mount,
            proxy: _proxy,
        } = self;
        mount.unmount();
        let left = objects(&mount);
        for body in ["of f", "of g"] {
            let has = left.iter().any(|(_, it)| it == body.as_bytes());
            assert!(has, "{what}: {body} is lost: {left:?}");
        }
        let log = mount.log();
        assert!(
            log.contains("one of them may have this name now"),
            "{what}: {log}"
        );
    }
}

fn objects(mount: &Mount) -> Vec<(String, Vec<u8>)> {
    let keys = mount.keys().into_iter();
    keys.filter_map(|key| Some((key.clone(), mount.object(&key)?)))
        .collect()
}

/// In each mode, for the copy of the second step, to `f`, and for that of the third, to `g`.
fn for_each_step(test: impl Fn(&[&str], &str) + Sync) {
    thread::scope(|scope| {
        for mode in &MODES {
            for key in ["f", "g"] {
                let test = &test;
                scope.spawn(move || test(mode, key));
            }
        }
    });
}

/// The name by which the first file goes.
const ASIDE: &str = ".mediafs-exchange-*";

/// Where S3 deletes at once, for the delete of each step, of objects that were put in one
/// and of others that were uploaded in parts.
fn for_each_delete(request_timeout: &str, test: impl Fn(Exchange, &str, &str) + Sync) {
    let puts: [(&str, Put); 2] = [("in one", Client::put), ("in parts", Client::put_in_a_part)];
    thread::scope(|scope| {
        for mode in &MODES[..2] {
            for key in ["f", "g", ASIDE] {
                for (how, put) in puts {
                    let test = &test;
                    scope.spawn(move || {
                        let what = format!("{key} {how} {mode:?}");
                        test(Exchange::of(mode, request_timeout, put), key, &what);
                    });
                }
            }
        }
    });
}

fn refused(key: &str) -> Rule {
    Rule::on("CopyObject", Fault::Answer(403, "AccessDenied")).key(key)
}

#[test]
fn what_another_client_puts_under_a_name_that_is_free_amid_an_exchange_stays() {
    for_each_step(|mode, key| {
        let exchange = Exchange::new(mode);
        let copy = Rule::on("CopyObject", Fault::Pass).key(key);
        let done = exchange.rename_amid(copy, |mount| mount.put_object(key, THEIRS.as_bytes()));
        done.unwrap();
        let (f, g) = match key {
            "f" => (THEIRS, "of f"),
            _ => ("of g", THEIRS),
        };
        exchange.ends_with(&format!("{key} {mode:?}"), f, g);
    });
}

#[test]
fn an_exchange_whose_second_or_third_step_is_refused_is_taken_back() {
    for_each_step(|mode, key| {
        let exchange = Exchange::new(mode);
        exchange.proxy.rule(refused(key));
        let failed = exchange.rename().unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(libc::EACCES));
        exchange.ends_with(&format!("{key} {mode:?}"), "of f", "of g");
    });
}

#[test]
fn an_exchange_whose_first_step_is_refused_has_changed_nothing() {
    for mode in &MODES {
        let exchange = Exchange::new(mode);
        exchange.proxy.rule(refused(ASIDE));
        let failed = exchange.rename().unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(libc::EACCES));
        exchange.ends_with(&format!("{mode:?}"), "of f", "of g");
    }
}

/// In each mode, for the copy of each step.
fn for_each_copy(test: impl Fn(Exchange, &str, &str) + Sync) {
    thread::scope(|scope| {
        for mode in &MODES {
            for key in [ASIDE, "f", "g"] {
                let test = &test;
                scope.spawn(move || {
                    test(Exchange::new(mode), key, &format!("{key} {mode:?}"));
                });
            }
        }
    });
}

#[test]
fn an_exchange_of_which_the_answer_to_a_copy_is_lost_finds_the_copy() {
    for_each_copy(|exchange, key, what| {
        let lost = Rule::on("CopyObject", Fault::LoseAnswer);
        exchange.proxy.rule(lost.key(key));
        exchange.rename().unwrap();
        exchange.ends_with(what, "of g", "of f");
    });
}

#[test]
fn an_exchange_of_which_nothing_tells_whether_a_copy_is_made_keeps_both_files() {
    thread::scope(|scope| {
        for mode in &MODES {
            scope.spawn(move || {
                let exchange = Exchange::of(mode, HASTY, Client::put);
                for (op, fault) in [
                    ("CopyObject", Fault::LoseAnswer),
                    ("HeadObject", Fault::Reset),
                ] {
                    exchange.proxy.rule(Rule::on(op, fault).key(ASIDE).always());
                }
                exchange.rename().unwrap_err();
                exchange.keeps_both(&format!("{mode:?}"));
            });
        }
    });
}

#[test]
fn an_exchange_of_which_one_answer_to_a_delete_is_lost_is_done() {
    for_each_delete(PATIENT, |exchange, key, what| {
        let lost = Rule::on("DeleteObject", Fault::LoseAnswer);
        exchange.proxy.rule(lost.key(key));
        exchange.rename().unwrap();
        exchange.ends_with(what, "of g", "of f");
    });
}

#[test]
fn what_another_client_puts_amid_an_exchange_that_fails_stays() {
    for_each_step(|mode, key| {
        let exchange = Exchange::new(mode);
        let copy = refused(key);
        let failed = exchange.rename_amid(copy, |mount| mount.put_object(key, THEIRS.as_bytes()));
        failed.unwrap_err();
        let (f, g) = match key {
            "f" => (THEIRS, "of g"),
            _ => ("of f", THEIRS),
        };
        exchange.ends_with(&format!("{key} {mode:?}"), f, g);
    });
}

#[test]
fn an_exchange_of_which_a_delete_is_refused_is_taken_back() {
    for_each_delete(PATIENT, |exchange, key, what| {
        let refused = Rule::on("DeleteObject", Fault::Answer(403, "AccessDenied"));
        exchange.proxy.rule(refused.key(key));
        let failed = exchange.rename().unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(libc::EACCES), "{what}");
        exchange.ends_with(what, "of f", "of g");
    });
}

#[test]
fn an_exchange_of_which_the_answer_to_a_delete_is_lost_keeps_both_files() {
    for_each_delete(HASTY, |exchange, key, what| {
        let lost = Rule::on("DeleteObject", Fault::LoseAnswer);
        exchange.proxy.rule(lost.key(key).always());
        exchange.rename().unwrap_err();
        exchange.keeps_both(what);
    });
}
