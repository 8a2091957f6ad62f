//! What an object has besides its bytes, kept through edits, renames and chmod.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};

use crate::support::data::MIB;
use crate::support::programs::run_shell;
use crate::support::{Mount, MountBuilder, Server, pattern, wait_until};

const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);
const EXPIRES_AT: i64 = 4_102_444_800;

/// Puts an object with everything that S3 keeps beside the bytes.
#[track_caller]
fn put_dressed(mount: &Mount, key: &str, body: &[u8]) {
    put_with_headers(mount, key, body, Some(ServerSideEncryption::AwsKms));
}

/// Not every store has keys.
#[track_caller]
fn put_with_headers(mount: &Mount, key: &str, body: &[u8], sse: Option<ServerSideEncryption>) {
    let (bucket, key, body) = (mount.bucket().to_owned(), key.to_owned(), body.to_vec());
    let kms_key = sse.as_ref().map(|_| "the-key".to_owned());
    mount.client().call(async move |s3| {
        s3.put_object()
            .bucket(bucket)
            .key(key)
            .body(ByteStream::from(body))
            .content_type("text/plain; charset=iso-8859-15")
            .cache_control("max-age=7")
            .content_disposition("attachment; filename=x")
            .content_language("de")
            .expires(DateTime::from_secs(EXPIRES_AT))
            .storage_class(StorageClass::StandardIa)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key)
            .metadata("owner-app", "authentik")
            .metadata("colour", "red")
            .tagging("team=media&stage=a%20b")
            .send()
            .await
            .unwrap();
    });
}

fn head(mount: &Mount, key: &str) -> Option<HeadObjectOutput> {
    let (bucket, key) = (mount.bucket().to_owned(), key.to_owned());
    let head =
        async move |s3: aws_sdk_s3::Client| s3.head_object().bucket(bucket).key(key).send().await;
    mount.client().call(head).ok()
}

/// Of (Content-Type, Cache-Control, user metadata): what an edit keeps.
#[track_caller]
fn has_its_headers(mount: &Mount, key: &str, what: &str) {
    let head = head(mount, key).unwrap();
    assert_eq!(
        head.content_type(),
        Some("text/plain; charset=iso-8859-15"),
        "{what}"
    );
    assert_eq!(head.cache_control(), Some("max-age=7"), "{what}");
    assert_eq!(
        head.content_disposition(),
        Some("attachment; filename=x"),
        "{what}"
    );
    assert_eq!(head.content_language(), Some("de"), "{what}");
    let metadata = head.metadata().unwrap();
    assert_eq!(metadata["owner-app"], "authentik", "{what}");
    assert_eq!(metadata["colour"], "red", "{what}");
}

/// Of what a store must tell to be asked for: what a copy keeps too.
#[track_caller]
fn has_everything(mount: &Mount, key: &str, what: &str) {
    has_its_headers(mount, key, what);
    let head = head(mount, key).unwrap();
    assert_eq!(
        head.storage_class(),
        Some(&StorageClass::StandardIa),
        "{what}"
    );
    assert_eq!(
        head.expires_string(),
        Some("Fri, 01 Jan 2100 00:00:00 GMT"),
        "{what}"
    );
    assert_eq!(
        head.server_side_encryption(),
        Some(&ServerSideEncryption::AwsKms),
        "{what}"
    );
    assert_eq!(head.ssekms_key_id(), Some("the-key"), "{what}");
    let (bucket, key) = (mount.bucket().to_owned(), key.to_owned());
    let tags = mount.client().call(async move |s3| {
        let asked = s3.get_object_tagging().bucket(bucket).key(key).send().await;
        asked.unwrap().tag_set().to_vec()
    });
    let mut tags: Vec<_> = tags.iter().map(|tag| (tag.key(), tag.value())).collect();
    tags.sort();
    assert_eq!(tags, [("stage", "a b"), ("team", "media")], "{what}");
}

fn seen(mount: &Mount, key: &str) {
    mount.wait_for(key, "the object", std::path::Path::exists);
}

#[test]
fn an_edit_in_the_default_mode_keeps_headers_and_user_metadata() {
    for durability in ["s3", "disk"] {
        let mount = Mount::builder()
            .args(["--durability", durability, "--part-size", "5MiB"])
            .args(["--copy-part-size", "5MiB"])
            .start();
        let edits = [
            ("append", "printf more >> \"$1\""),
            (
                "edit",
                "printf edit | dd of=\"$1\" bs=1 seek=3 conv=notrunc status=none",
            ),
            ("truncate", "truncate -s 100 \"$1\""),
            ("grow", "truncate -s 9000 \"$1\""),
            ("twice", "printf a >> \"$1\"; printf b >> \"$1\""),
        ];
        for (name, script) in edits {
            let body = pattern(2000, 1);
            put_with_headers(&mount, &format!("{name}.html"), &body, None);
            seen(&mount, &format!("{name}.html"));
            run_shell(script, &[&mount.path(format!("{name}.html"))]);
        }
        // Longer ones are sent in parts, some of them before close.
        put_with_headers(&mount, "long.html", &pattern(6 * MIB, 2), None);
        seen(&mount, "long.html");
        let file = fs::OpenOptions::new()
            .write(true)
            .open(mount.path("long.html"))
            .unwrap();
        for part in 6..14_u64 {
            file.write_all_at(&pattern(MIB, part), part << 20).unwrap();
        }
        drop(file);
        let names = edits.iter().map(|(name, _)| *name).chain(["long"]);
        for name in names {
            let key = format!("{name}.html");
            let len = fs::metadata(mount.path(&key)).unwrap().len();
            wait_until(WITHIN, "the edit in the bucket", || {
                head(&mount, &key).is_some_and(|head| head.content_length() == Some(len as i64))
            });
            has_its_headers(&mount, &key, &format!("{durability}: {name}"));
        }
    }
}

#[test]
fn a_file_that_is_written_anew_has_the_headers_of_its_name() {
    let mount = Mount::fresh();
    put_with_headers(&mount, "f.html", b"old", None);
    seen(&mount, "f.html");
    fs::write(mount.path("f.html"), b"new").unwrap();
    let head = head(&mount, "f.html").unwrap();
    assert_eq!(head.content_type(), Some("text/html"));
    assert_eq!(head.cache_control(), None);
}

#[test]
fn a_rename_keeps_headers_that_another_client_has_put_with_the_same_bytes() {
    let mount = Mount::builder().set("--ttl", "0").start();
    fs::write(mount.path("f.txt"), b"same").unwrap();
    put_with_headers(&mount, "f.txt", b"same", None);
    fs::rename(mount.path("f.txt"), mount.path("f.html")).unwrap();
    let head = head(&mount, "f.html").unwrap();
    assert_eq!(head.content_type(), Some("text/html"));
    assert_eq!(head.cache_control(), Some("max-age=7"));
}

fn on_moto(attributes: &str) -> MountBuilder {
    Mount::on(Server::moto())
        .args(["--attributes", attributes, "--copy-part-size", "5MiB"])
        .args(["--part-size", "5MiB"])
}

#[test]
fn a_rename_keeps_storage_class_tags_expiry_and_encryption() {
    for attributes in ["fixed", "stored"] {
        let mount = on_moto(attributes).start();
        for (name, len) in [("short", 3000), ("long", 11 * MIB)] {
            let old = format!("{name}.html");
            put_dressed(&mount, &old, &pattern(len, 3));
            seen(&mount, &old);
            for new in [format!("{name}-2.html"), format!("{name}-3.html")] {
                put_dressed(&mount, &format!("{new}-source.html"), &pattern(len, 3));
                seen(&mount, &format!("{new}-source.html"));
                fs::rename(mount.path(format!("{new}-source.html")), mount.path(&new)).unwrap();
                has_everything(&mount, &new, &format!("{attributes}: {new}"));
            }
        }
        put_dressed(&mount, "d/short.html", &pattern(100, 4));
        put_dressed(&mount, "d/long.html", &pattern(6 * MIB, 4));
        seen(&mount, "d/long.html");
        fs::rename(mount.path("d"), mount.path("e")).unwrap();
        for key in ["e/short.html", "e/long.html"] {
            has_everything(&mount, key, &format!("{attributes}: {key}"));
        }
    }
}

#[test]
fn chmod_and_chown_keep_them_too() {
    let mount = on_moto("stored").start();
    for (name, len) in [("short.html", 3000), ("long.html", 6 * MIB)] {
        put_dressed(&mount, name, &pattern(len, 5));
        seen(&mount, name);
        fs::set_permissions(mount.path(name), Permissions::from_mode(0o600)).unwrap();
        has_everything(&mount, name, &format!("chmod {name}"));
        chown(mount.path(name), Some(7), Some(8)).unwrap();
        has_everything(&mount, name, &format!("chown {name}"));
    }
}

#[test]
fn an_edit_keeps_them_too() {
    for attributes in ["fixed", "stored"] {
        let mount = on_moto(attributes).start();
        put_dressed(&mount, "f.html", &pattern(3000, 6));
        seen(&mount, "f.html");
        run_shell("printf more >> \"$1\"", &[&mount.path("f.html")]);
        has_everything(&mount, "f.html", attributes);
    }
}
