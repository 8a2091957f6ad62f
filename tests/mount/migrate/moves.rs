//! `mediafs move`: from bucket to bucket.

use std::fs;
use std::process::Command;

use aws_sdk_s3::types::ChecksumMode;

use crate::support::data::MIB;
use crate::support::migration::Ended;
use crate::support::proxy::{Fault, Rule, Side};
use crate::support::{Migration, pattern};

/// More than one part.
const LONG: usize = 17 * MIB;

/// Two buckets of one server.
struct Places {
    all: Migration,
    target: String,
}

/// The headers that tell what is stored with an object.
#[derive(Debug, PartialEq, Eq)]
struct Stored {
    content_type: Option<String>,
    cache_control: Option<String>,
    metadata: Vec<(String, String)>,
    tags: Vec<(String, String)>,
}

impl Places {
    fn new() -> Self {
        let all = Migration::new();
        let target = format!("{}-new", all.bucket);
        all.client.create_bucket(&target);
        Self { all, target }
    }

    fn command(&self, args: &[&str]) -> Command {
        let target = format!("{}/moved", self.target);
        self.all.move_to(&target, args)
    }

    #[track_caller]
    fn ends(&self, args: &[&str], code: i32) -> Ended {
        let ended = Ended::of(self.command(args).arg("--json"));
        assert_eq!(ended.code, code, "{args:?}: {}", ended.said);
        ended
    }

    /// The same from another endpoint, so that the store cannot copy by itself.
    #[track_caller]
    fn between_services(&self, args: &[&str], code: i32) -> Ended {
        let elsewhere = ["--source-endpoint-url", self.all.endpoint()];
        self.ends(&[args, &elsewhere].concat(), code)
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let put = |s3: aws_sdk_s3::Client| {
            let request = s3.put_object().bucket(&self.all.bucket);
            let request = request
                .key(format!("media/{path}"))
                .body(bytes.to_vec().into());
            request
                .content_type("text/x-own")
                .cache_control("max-age=7")
                .metadata("mode", "33188")
                .tagging("kind=avatar&a=b")
                .send()
        };
        self.all.client.call(put).unwrap();
    }

    fn stored(&self, bucket: &str, key: &str) -> Stored {
        let head = |s3: aws_sdk_s3::Client| {
            let request = s3.head_object().bucket(bucket).key(key);
            request.checksum_mode(ChecksumMode::Enabled).send()
        };
        let head = self.all.client.call(head).unwrap();
        let tags = |s3: aws_sdk_s3::Client| s3.get_object_tagging().bucket(bucket).key(key).send();
        let tags = self.all.client.call(tags).unwrap();
        let mut tags: Vec<_> = tags
            .tag_set()
            .iter()
            .map(|tag| (tag.key().to_owned(), tag.value().to_owned()))
            .collect();
        tags.sort();
        let metadata = head.metadata().into_iter().flatten();
        Stored {
            content_type: head.content_type().map(str::to_owned),
            cache_control: head.cache_control().map(str::to_owned),
            metadata: metadata.map(|(a, b)| (a.clone(), b.clone())).collect(),
            tags,
        }
    }

    /// Both places have the same objects with all that is stored with them.
    #[track_caller]
    fn assert_equal(&self) {
        let client = &self.all.client;
        let list = |bucket: &str, prefix: &str| -> Vec<String> {
            let listed = client.list(bucket, prefix).into_iter();
            listed
                .map(|(key, _)| key[prefix.len()..].to_owned())
                .collect()
        };
        let paths = list(&self.all.bucket, "media/");
        assert_eq!(paths, list(&self.target, "moved/"));
        for path in paths {
            let (old, new) = (format!("media/{path}"), format!("moved/{path}"));
            let bytes = client.get(&self.all.bucket, &old);
            assert!(bytes == client.get(&self.target, &new), "{path}");
            let old = self.stored(&self.all.bucket, &old);
            assert_eq!(old, self.stored(&self.target, &new), "{path}");
        }
        assert!(client.unfinished_uploads(&self.target).is_empty());
    }

    fn some_objects(&self) {
        self.put("public/a.png", b"a");
        self.put("public/a.png.d/b", b"b");
        self.put("public/c", b"c");
        self.put("empty", b"");
        self.put("folder/", b"");
        self.put("long", &pattern(LONG, 1));
        self.put("one-part", &pattern(3 * MIB, 2));
    }
}

#[test]
fn one_service_copies_by_itself_with_all_that_is_stored_and_the_second_run_lists_alone() {
    let places = Places::new();
    places.some_objects();
    let dry = places.ends(&["--dry-run"], 3);
    assert_eq!(dry.differences().len(), 7);
    assert_eq!(places.ends(&[], 5).count("copied"), 0);
    // So that the long one is copied in parts.
    let first = places.ends(&["--yes", "--copy-part-size", "8MiB"], 0);
    // This server finds no source of a copy that ends in a slash.
    assert_eq!(first.count("copied"), 6, "{}", first.said);
    assert_eq!(first.line("folder/")["done"], "sent");
    assert_eq!(places.all.proxy.seen("UploadPartCopy"), 3);
    assert!(places.all.proxy.seen("PutObject") <= 2);
    assert_eq!(places.all.proxy.seen("UploadPart"), 0);
    // The parts of the long one give it another ETag: it alone is read, on both sides.
    assert!(places.all.proxy.seen("GetObject") <= 2 * LONG.div_ceil(8 * MIB));
    places.assert_equal();
    let before = places.all.proxy.seen_in_all();
    let again = places.ends(&["--yes"], 0);
    assert_eq!(again.count("equal"), 7);
    assert_eq!(
        places.all.proxy.seen_in_all() - before,
        2,
        "{}",
        again.summary
    );
    let text = places.command(&["--yes"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("only in OLD"), "{text}");
    // The old place stays.
    assert_eq!(places.all.paths().len(), 7);
}

#[test]
fn between_two_services_bytes_headers_and_tags_come_over_and_are_compared() {
    let places = Places::new();
    places.some_objects();
    let first = places.between_services(&["--yes"], 0);
    assert_eq!(first.count("sent"), 7, "{}", first.said);
    assert_eq!(places.all.proxy.seen("CopyObject"), 0);
    places.assert_equal();
    let again = places.between_services(&["--yes"], 0);
    assert_eq!(again.count("equal"), 7);
    // Without what the first run knows.
    fs::remove_dir_all(places.all.scratch.path().join("state")).unwrap();
    let again = places.between_services(&["--yes"], 0);
    assert_eq!(again.count("equal"), 7, "{}", again.said);
    assert_eq!(again.line("public/a.png")["proof"], "md5");
}

#[test]
fn a_store_that_does_not_copy_between_buckets_is_told_and_bytes_go_through() {
    let places = Places::new();
    places.some_objects();
    let refused = Fault::Answer(403, "AccessDenied");
    places
        .all
        .proxy
        .rule(Rule::on("CopyObject", refused).key("*").always());
    let ended = places.ends(&["--yes"], 0);
    assert!(ended.said.contains("does not copy"), "{}", ended.said);
    assert_eq!(ended.count("sent") + ended.count("copied"), 7);
    places.assert_equal();
}

#[test]
fn an_object_that_the_store_does_not_copy_says_nothing_of_the_others() {
    let places = Places::new();
    places.some_objects();
    let refused = Fault::Answer(403, "AccessDenied");
    let odd = Rule::on("CopyObject", refused).key("moved/public/a.png");
    places.all.proxy.rule(odd.always());
    let ended = places.ends(&["--yes"], 0);
    let said = &ended.said;
    assert!(said.contains("does not copy public/a.png"), "{said}");
    assert!(!said.contains("from one bucket"), "{said}");
    // The store does not find what ends in a slash.
    assert_eq!((ended.count("sent"), ended.count("copied")), (2, 5));
    places.assert_equal();
}

#[test]
fn what_differs_is_replaced_what_is_more_is_deleted_if_asked_and_what_others_write_stays() {
    let places = Places::new();
    places.some_objects();
    places.ends(&["--yes"], 0);
    let client = &places.all.client;
    client.put(&places.target, "moved/empty", b"not empty");
    client.put(&places.target, "moved/more", b"more");
    places.put("public/a.png", b"changed");
    let dry = places.ends(&["--dry-run", "--delete"], 3);
    assert_eq!(dry.differences(), ["* empty", "* public/a.png", "- more"]);
    places.ends(&["--yes"], 0);
    assert!(client.get(&places.target, "moved/more").is_some());
    let deleted = places.ends(&["--yes", "--delete"], 0);
    assert_eq!(deleted.count("deleted"), 1);
    places.assert_equal();
    // Another client is faster between the plan and the copy.
    for elsewhere in [false, true] {
        places.put("public/a.png", format!("again {elsewhere}").as_bytes());
        let theirs = format!("theirs {elsewhere}");
        let op = if elsewhere { "PutObject" } else { "CopyObject" };
        let rule = Rule::on(op, Fault::Pass).key("*").always();
        let gate = places.all.proxy.hold(Side::BeforeServer, rule);
        let ended = std::thread::scope(|scope| {
            let running = scope.spawn(|| match elsewhere {
                false => places.ends(&["--yes"], 3),
                true => places.between_services(&["--yes"], 3),
            });
            gate.wait_for(1);
            client.put(&places.target, "moved/public/a.png", theirs.as_bytes());
            gate.open();
            running.join().unwrap()
        });
        assert!(ended.said.contains("its version is kept"), "{}", ended.said);
        let there = client.get(&places.target, "moved/public/a.png");
        assert_eq!(there.as_deref(), Some(theirs.as_bytes()));
        places.all.proxy.heal();
    }
    places.ends(&["--yes"], 0);
    places.assert_equal();
}

#[test]
fn each_place_has_its_own_profile_and_no_place_is_moved_into_itself() {
    let places = Places::new();
    places.put("a", b"a");
    let owner = &places.all.command("verify", &[]);
    let value = |name: &str| {
        let mut all = owner.get_envs();
        let found = all.find(|(key, _)| *key == name).unwrap();
        found.1.unwrap().to_str().unwrap().to_owned()
    };
    let (key, secret) = (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"));
    let credentials = places.all.scratch.path().join("credentials");
    let profile = |name: &str, secret: &str| {
        format!("[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    };
    let text = profile("old", &secret) + &profile("new", &secret) + &profile("wrong", "x");
    fs::write(&credentials, text).unwrap();
    let moved = |source: &str, target: &str| {
        let args = ["--yes", "--source-profile", source, "--profile", target];
        let mut command = places.command(&args);
        command
            .arg("--json")
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env("AWS_SHARED_CREDENTIALS_FILE", &credentials);
        Ended::of(&mut command)
    };
    assert_eq!(moved("old", "wrong").code, 1);
    assert_eq!(moved("wrong", "new").code, 1);
    let ended = moved("old", "new");
    assert_eq!(
        (ended.code, ended.count("copied")),
        (0, 1),
        "{}",
        ended.said
    );
    places.assert_equal();
    // Variables would take the place of both.
    let both = places.ends(&["--yes", "--source-profile", "old"], 2);
    assert!(both.said.contains("AWS_ACCESS_KEY_ID"), "{}", both.said);
    for itself in ["media", "media/below", ""] {
        let target = format!("{}/{itself}", places.all.bucket);
        let mut command = places.all.move_to(&target, &["--yes", "--json"]);
        let ended = Ended::of(&mut command);
        assert_eq!(ended.code, 5, "{itself}: {}", ended.said);
    }
    let nothing = format!("{}/nothing", places.target);
    let mut empty = places.all.move_to(&nothing, &["--yes", "--json"]);
    places.all.client.delete(&places.all.bucket, "media/a");
    assert_eq!(Ended::of(&mut empty).code, 5);
}
