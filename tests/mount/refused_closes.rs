//! A version that S3 refused: whoever opens its file next finds a version that somebody
//! wrote, and loses nothing that is written then.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{Mount, Server, pattern, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// Programs that open a file again and again, right after a close of it was refused.
#[test]
fn what_a_close_refused_is_never_an_empty_file_for_who_opens_it_next() {
    for durability in ["s3", "disk"] {
        with_refused_closes(durability, |mount, name, before| {
            let until = Instant::now() + Duration::from_millis(15);
            let read = || {
                while Instant::now() < until {
                    let Ok(seen) = fs::read(mount.path(name)) else {
                        continue;
                    };
                    let is_known = seen == b"refused" || Some(seen.as_slice()) == before;
                    assert!(is_known, "{name}: {seen:?}");
                }
            };
            std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(read))));
        });
    }
}

#[test]
fn what_is_written_right_after_a_close_that_was_refused_is_not_lost() {
    with_refused_closes("s3", |mount, name, _| {
        let path = mount.path(name);
        if fs::write(&path, b"second").is_ok() {
            assert_eq!(fs::read(&path).unwrap(), b"second");
            assert_eq!(mount.object(name).unwrap(), b"second");
        }
    });
}

/// What was sealed while its upload was under way is one with it again by then.
#[test]
fn a_kill_after_a_refused_upload_puts_no_half_of_the_file_into_the_bucket() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.durability("disk").set("--ttl", "1h");
    let mut mount = plan.args(["--request-timeout", "300s"]).start();
    let refusal = Rule::on("PutObject", Fault::Answer(400, "EntityTooLarge"));
    let gate = proxy.hold(Side::BeforeServer, refusal.key("f"));
    let mut body = pattern(100_000, 1);
    fs::write(mount.path("f"), &body).unwrap();
    gate.wait_for(1);
    let file = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
    file.write_all_at(b"edit", 50_000).unwrap();
    let reader = fs::File::open(mount.path("f")).unwrap();
    sys::close(file).unwrap();
    gate.open();
    wait_until(WITHIN, "the refusal", || {
        mount.log().contains("upload failed for good")
    });
    mount.kill9();
    drop(reader);
    proxy.heal();
    mount.remount();
    mount.unmount();
    let first = body.clone();
    body[50_000..50_004].copy_from_slice(b"edit");
    let object = mount.object("f");
    let is_whole = |object: &Vec<u8>| *object == first || *object == body;
    assert!(object.as_ref().is_none_or(is_whole), "half a file");
    let kept = mount.lost_and_found();
    assert!(object == Some(body.clone()) || kept.contains(&body));
}

/// Has S3 refuse a version of one file after the other, half of which were there before.
fn with_refused_closes(durability: &str, then: impl Fn(&Mount, &str, Option<&[u8]>)) {
    const ROUNDS: usize = 150;
    let proxy = Proxy::before(Server::shared());
    let plan = Mount::builder().args(["--durability", durability]);
    let mount = plan.set("--endpoint-url", &proxy.endpoint).start();
    for round in 0..ROUNDS {
        let name = format!("f{round}");
        let before = (round % 2 == 0).then_some(b"before".as_slice());
        if let Some(before) = before {
            fs::write(mount.path(&name), before).unwrap();
            wait_until(WITHIN, "the version before", || {
                mount.object(&name).as_deref() == Some(before)
            });
        }
        let refusal = Fault::Answer(412, "PreconditionFailed");
        proxy.rule(Rule::on("PutObject", refusal).key(&name));
        let flags = match before {
            Some(_) => libc::O_WRONLY,
            None => libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL,
        };
        let mut file = sys::open(mount.path(&name), flags).unwrap();
        file.write_all(b"refused").unwrap();
        // With durability on the disk it is refused later.
        sys::close(file).ok();
        then(&mount, &name, before);
    }
    let kept = mount.lost_and_found();
    assert!(kept.iter().all(|bytes| bytes == b"refused"));
}
