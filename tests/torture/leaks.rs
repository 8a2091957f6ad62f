//! A thousand failures leave nothing behind.

use std::fs;
use std::io::Write;
use std::time::Duration;

use crate::support::data::KIB;
use crate::support::processes::rss_kib_of;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Mount, Server, pattern, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// More than any number of attempts.
const ALWAYS: usize = 1_000_000;
const ROUNDS: usize = 4;
/// Each makes a call of every kind in each round, in a directory of its own:
/// the kernel lets changes of one directory wait for each other.
const CALLERS: usize = 63;
/// What an allocator keeps, and caches that are not full yet, in KiB.
const GROWTH_LIMIT_KIB: u64 = 24 << 10;

/// What the daemon holds of the machine.
#[derive(Debug, Clone, Copy)]
struct Held {
    threads: usize,
    descriptors: usize,
    stages: usize,
}

fn held(mount: &Mount) -> Held {
    let count = |path: std::path::PathBuf| fs::read_dir(path).unwrap().count();
    let of_daemon = |name| count(format!("/proc/{}/{name}", mount.pid()).into());
    Held {
        threads: of_daemon("task"),
        descriptors: of_daemon("fd"),
        stages: count(mount.scratch().join("spool/stage")),
    }
}

/// A write, a read, a mkdir and a rename; how many of them failed.
fn call(mount: &Mount, round: usize, caller: usize) -> usize {
    let path = |name: &str| mount.path(format!("{caller}/{name}"));
    let new = path(&format!("new-{round}"));
    let written = sys::open(new, libc::O_WRONLY | libc::O_CREAT).and_then(|mut file| {
        file.write_all(&pattern(4 * KIB, caller as u64))?;
        sys::close(file)
    });
    let outcomes = [
        written,
        fs::read(path("there")).map(drop),
        fs::create_dir(path(&format!("dir-{round}"))),
        fs::rename(path("there"), path("gone")),
    ];
    outcomes.iter().filter(|outcome| outcome.is_err()).count()
}

fn plan(proxy: &Proxy, round: usize) {
    let (ops, fault): (&[&'static str], Fault) = match round {
        0 => (
            &["PutObject", "GetObject", "CopyObject"],
            Fault::Answer(403, "AccessDenied"),
        ),
        1 => (
            &["PutObject", "GetObject", "CopyObject"],
            Fault::Answer(500, "InternalError"),
        ),
        2 => return proxy.all_down(),
        // A copy may take the store minutes: it is not given up in time.
        _ => (&["PutObject", "GetObject", "HeadObject"], Fault::Stall),
    };
    for op in ops {
        proxy.fail(op, fault, ALWAYS);
    }
}

#[test]
fn a_thousand_failures_leave_no_thread_descriptor_stage_or_memory_behind() {
    let proxy = Proxy::before(Server::seaweedfs());
    let builder = Mount::on(Server::seaweedfs())
        .set("--endpoint-url", &proxy.endpoint)
        .args(["--request-timeout", "2s", "--stale-ttl", "0"])
        .set("--ttl", "0");
    let body = pattern(4 * KIB, 1);
    let objects = (0..CALLERS).map(|number| (format!("{number}/there"), body.clone()));
    builder.client.put_many(&builder.bucket, objects);
    let mount = builder.start();
    let mut failed = 0;
    let mut first = None;
    for round in 0..ROUNDS {
        plan(&proxy, round);
        failed += std::thread::scope(|scope| {
            let mount = &mount;
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| scope.spawn(move || call(mount, round, caller)))
                .collect();
            callers
                .into_iter()
                .map(|caller| caller.join().unwrap())
                .sum::<usize>()
        });
        proxy.heal();
        wait_until(WITHIN, "no stage", || held(&mount).stages == 0);
        first.get_or_insert_with(|| (held(&mount), rss_kib_of(mount.pid())));
    }
    assert!(failed >= 1000, "{failed} calls failed");
    let (first, rss_kib) = first.unwrap();
    wait_until(WITHIN, "what it held after the first round", || {
        let now = held(&mount);
        now.threads <= first.threads && now.descriptors <= first.descriptors
    });
    let grown = rss_kib_of(mount.pid()).saturating_sub(rss_kib);
    assert!(grown < GROWTH_LIMIT_KIB, "{grown} KiB more");
    for number in 0..CALLERS {
        // Two seconds may be short for a busy machine.
        wait_until(WITHIN, "a file after all that", || {
            let read = fs::read(mount.path(format!("{number}/there")));
            read.is_ok_and(|read| {
                assert!(read == body, "{number}");
                true
            })
        });
    }
    wait_until(WITHIN, "a write after all that", || {
        fs::write(mount.path("last"), b"bytes").is_ok()
    });
    assert_eq!(mount.object("last").unwrap(), b"bytes");
}
