//! A directory of ten thousand objects that moves, and writers elsewhere.
//!
//! The store is in memory: what a real one does with so many takes the time, not the daemon.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::subtree_locks::{WITHIN, begin, begin_rename, is_under_way, make_dirs};
use crate::support::Mount;
use crate::support::hostile::{
    Answer, Hostile, Request, answer, directory, goes_on, not_found, object, page, xml,
};

const MANY: usize = 10_000;
const WRITERS: usize = 8;
const FILES_EACH: usize = 5;
/// What stands in every file, and in every marker.
const FILE: (&[u8], &str) = (b"bytes", "\"4b3a6218bb3e3a7303e8a171a60fcf92\"");
const MARKER: (&[u8], &str) = (b"", "\"d41d8cd98f00b204e9800998ecf8427e\"");
const WHEN: &str = "Last-Modified: Fri, 02 Jan 2026 03:04:05 GMT";

/// A bucket in which all files are alike. Copies to `p/c/` wait until they may be made.
#[derive(Debug, Default)]
struct Bucket {
    keys: Mutex<BTreeSet<String>>,
    copies: Mutex<Copies>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Copies {
    asked: usize,
    may_be_made: bool,
}

fn content(key: &str) -> (&'static [u8], &'static str) {
    match key.ends_with('/') {
        true => MARKER,
        false => FILE,
    }
}

impl Bucket {
    fn answer(&self, request: &Request) -> Answer {
        let key = request.key.as_str();
        match request.method.as_str() {
            _ if request.is_listing() => self.listing(request),
            "PUT" if request.headers.contains_key("x-amz-copy-source") => self.copy(key),
            "PUT" => {
                self.keys.lock().insert(key.to_owned());
                answer("200 OK", &[&format!("ETag: {}", content(key).1)], b"")
            }
            "DELETE" => {
                self.keys.lock().remove(key);
                answer("204 No Content", &[], b"")
            }
            "POST" => self.delete_many(&String::from_utf8_lossy(&request.body)),
            _ if self.keys.lock().contains(key) => get(request),
            _ => not_found(),
        }
    }

    fn copy(&self, key: &str) -> Answer {
        if key.starts_with("p/c/") {
            let mut copies = self.copies.lock();
            copies.asked += 1;
            self.changed.notify_all();
            let held = |copies: &mut Copies| !copies.may_be_made;
            self.changed.wait_while(&mut copies, held);
        }
        self.keys.lock().insert(key.to_owned());
        let etag = content(key).1;
        xml(&format!(
            "<CopyObjectResult><ETag>{etag}</ETag>\
             <LastModified>2026-01-02T03:04:05.000Z</LastModified></CopyObjectResult>"
        ))
    }

    fn delete_many(&self, asked: &str) -> Answer {
        let mut keys = self.keys.lock();
        let named = asked.split("<Key>").skip(1);
        let named = named.filter_map(|rest| rest.split_once("</Key>"));
        let deleted = named.map(|(key, _)| {
            keys.remove(key);
            format!("<Deleted><Key>{key}</Key></Deleted>")
        });
        let deleted: String = deleted.collect();
        xml(&format!("<DeleteResult>{deleted}</DeleteResult>"))
    }

    fn listing(&self, request: &Request) -> Answer {
        let asked = |name: &str| request.query.get(name).map(String::as_str);
        let limit: usize = asked("max-keys").map_or(1000, |most| most.parse().unwrap());
        let (prefix, after) = (request.prefix(), request.token());
        let after = after.or(asked("start-after")).unwrap_or_default();
        let (mut inside, mut listed) = (String::new(), 0);
        let mut last = after.to_owned();
        let from = (Bound::Included(prefix.max(after)), Bound::Unbounded);
        for key in self.keys.lock().range::<str, _>(from) {
            if key == after {
                continue;
            }
            let Some(rest) = key.strip_prefix(prefix) else {
                break;
            };
            let folded = rest
                .split_once('/')
                .filter(|_| asked("delimiter").is_some());
            let folded = folded.map(|(name, _)| format!("{prefix}{name}/"));
            if folded
                .as_ref()
                .is_some_and(|folded| last.starts_with(folded))
            {
                last.clone_from(key);
                continue;
            }
            if listed == limit {
                inside.push_str(&goes_on(&last));
                break;
            }
            inside.push_str(&match folded {
                Some(folded) => directory(&folded),
                None => object(key, &content(key).0.len().to_string(), content(key).1),
            });
            (listed, last) = (listed + 1, key.clone());
        }
        page(&inside)
    }

    fn wait_for_copies(&self, count: usize) {
        let mut copies = self.copies.lock();
        let few = |copies: &mut Copies| copies.asked < count;
        let waited = self.changed.wait_while_for(&mut copies, few, WITHIN);
        assert!(!waited.timed_out(), "{copies:?}");
    }

    fn make_copies(&self) {
        self.copies.lock().may_be_made = true;
        self.changed.notify_all();
    }

    fn count_below(&self, prefix: &str) -> usize {
        let keys = self.keys.lock();
        keys.iter().filter(|key| key.starts_with(prefix)).count()
    }
}

fn get(request: &Request) -> Answer {
    let (body, etag) = content(&request.key);
    let etag = format!("ETag: {etag}");
    let range = request.headers.get("range").filter(|_| !body.is_empty());
    let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((from, to)) = range else {
        return answer("200 OK", &[&etag, WHEN], body);
    };
    let from: usize = from.parse().unwrap();
    let end = to.parse().map_or(body.len(), |last: usize| last + 1);
    let end = end.min(body.len());
    let range = format!("Content-Range: bytes {from}-{}/{}", end - 1, body.len());
    answer(
        "206 Partial Content",
        &[&etag, WHEN, &range],
        &body[from..end],
    )
}

#[test]
fn writers_elsewhere_do_not_wait_for_the_ten_thousand_copies_of_a_directory_that_moves() {
    let bucket = Arc::new(Bucket::default());
    let objects = (0..MANY).map(|number| format!("p/b/{number:05}"));
    bucket.keys.lock().extend(objects);
    let serving = bucket.clone();
    let server = Hostile::new(move |request| serving.answer(request));
    let mut mount = Mount::builder()
        .set("--endpoint-url", &server.endpoint)
        .args(["--request-timeout", "10min"])
        .start();
    make_dirs(&mount, &["w"]);
    mount.wait_for("p/b", "the directory", Path::is_dir);
    let moving = begin_rename(&mount, "p/b", "p/c");
    bucket.wait_for_copies(16);
    let writers: Vec<JoinHandle<Duration>> = (0..WRITERS)
        .map(|writer| {
            let dir = mount.path(format!("w/{writer}"));
            std::thread::spawn(move || longest_call(&dir))
        })
        .collect();
    let longest = begin(move || writers.into_iter().map(|it| it.join().unwrap()).max());
    let longest = longest.recv_timeout(WITHIN).expect("the writers wait");
    assert!(is_under_way(&moving), "its copies are held");
    println!("longest call of {WRITERS} writers beside {MANY} copies: {longest:?}");
    bucket.make_copies();
    moving.recv_timeout(2 * WITHIN).unwrap().unwrap();
    assert_eq!(fs::read_dir(mount.path("p/c")).unwrap().count(), MANY);
    assert_eq!(bucket.count_below("p/c/"), MANY);
    mount.unmount();
    assert_eq!(bucket.count_below("p/b/"), 0);
}

/// Of one writer, who makes, closes, reads, renames and removes files.
fn longest_call(dir: &Path) -> Duration {
    let mut longest = Duration::ZERO;
    let mut timed = |call: &mut dyn FnMut()| {
        let began = Instant::now();
        call();
        longest = longest.max(began.elapsed());
    };
    timed(&mut || fs::create_dir(dir).unwrap());
    for number in 0..FILES_EACH {
        let (path, moved) = (dir.join(number.to_string()), dir.join("moved"));
        timed(&mut || fs::write(&path, b"bytes").unwrap());
        timed(&mut || fs::rename(&path, &moved).unwrap());
        timed(&mut || assert_eq!(fs::read(&moved).unwrap(), b"bytes"));
        timed(&mut || fs::remove_file(&moved).unwrap());
    }
    longest
}
