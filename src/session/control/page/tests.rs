use serde_json::{Value, json};

use super::*;
use crate::session::control::answers::Status;

const HOSTILE: &str = "<img src=x onerror=\"document.title='owned'\">' \" & \u{202e}";

fn status(change: impl Fn(&mut Value)) -> Status {
    let nothing = json!({"files": 0, "bytes": 0});
    let mut told = json!({
        "name": "media", "mountpoint": "/srv/media", "pid": 1, "state": "alive", "reasons": [],
        "version": "0.1.0", "bucket": "b", "prefix": "media/", "endpoint": "https://s3.example",
        "durability": "s3", "attributes": "fixed", "unit": null, "uptime_seconds": 61,
        "mounted_unix_seconds": 0,
        "s3": {"serves": true, "cause": null, "since_unix_seconds": null, "last_failure": null},
        "uploads": {
            "dirty": nothing, "queued": nothing, "uploading": nothing, "failed": nothing,
            "oldest_age_seconds": null, "files": []
        },
        "lost_found": {"files": 0, "last": []},
        "deletes": {"waiting": 0, "failing": false},
        "hidden_keys": 0,
        "spool": {"dir": "/spool", "used_bytes": 0, "limit_bytes": null, "free_bytes": 1000},
        "cache": {"used_bytes": 0, "limit_bytes": 1},
        "requests": {"by_kind": {}, "failed": 0, "sent_bytes": 0, "received_bytes": 0},
        "cost": {"requests_usd_per_day": 0.5, "prices": ""},
        "recent": []
    });
    change(&mut told);
    serde_json::from_value(told).unwrap()
}

fn page(status: Status) -> String {
    html(&[MountStatus::new(None, Ok(status))])
}

#[test]
fn no_name_becomes_markup_wherever_it_stands() {
    let page = page(status(|told| {
        for field in [
            "name",
            "mountpoint",
            "bucket",
            "prefix",
            "endpoint",
            "version",
        ] {
            told[field] = HOSTILE.into();
        }
        told["spool"]["dir"] = HOSTILE.into();
        told["state"] = "stuck".into();
        told["reasons"] = json!([HOSTILE]);
        told["uploads"]["files"] = json!([{
            "path": HOSTILE, "state": HOSTILE, "bytes": 1, "age_seconds": 1, "error": HOSTILE
        }]);
        told["lost_found"] = json!({"files": 1, "last": [{
            "id": HOSTILE, "key": HOSTILE, "bytes": 1, "reason": HOSTILE, "at_unix_seconds": 1
        }]});
        told["recent"] = json!([{"at_unix_seconds": 1, "level": HOSTILE, "text": HOSTILE}]);
        told["s3"] = json!({
            "serves": false, "cause": HOSTILE, "since_unix_seconds": 1, "last_failure": null
        });
    }));
    assert!(
        page.matches("&lt;img src=x onerror=&quot;").count() > 12,
        "{page}"
    );
    assert!(!page.contains("<img"), "{page}");
    // No attribute but those that are written here.
    assert!(!page.contains("onerror=\""), "{page}");
    assert!(!page.contains('\u{202e}'), "{page}");
}

#[test]
fn the_policy_names_the_script_and_the_style_that_the_page_has() {
    let page = page(status(|_| {}));
    let within = |tag: &str| {
        let (_, rest) = page.split_once(&format!("<{tag}>")).unwrap();
        rest.split_once(&format!("</{tag}>")).unwrap().0
    };
    for tag in ["script", "style"] {
        let hash = STANDARD.encode(Sha256::digest(within(tag)));
        assert!(policy().contains(&format!("{tag}-src 'sha256-{hash}'")));
        assert_eq!(page.matches(&format!("<{tag}")).count(), 1);
    }
    assert!(policy().starts_with("default-src 'none';"));
    assert!(!page.contains("http://") || !page.contains("src="));
}

#[test]
fn what_is_wrong_is_told_with_what_to_type() {
    let page = page(status(|told| {
        told["s3"] = json!({
            "serves": false, "cause": "unreachable", "since_unix_seconds": 0, "last_failure": null
        });
        told["lost_found"]["files"] = 2.into();
        told["spool"]["used_bytes"] = 9500.into();
        told["spool"]["dir"] = "/a b".into();
    }));
    for part in [
        "S3 does not answer since 1970-01-01 00:00:00 UTC.",
        "<code>mediafs doctor b/media</code>",
        "2 files could not be uploaded.",
        "<code>mediafs spool list --spool &#39;/a b&#39;</code>",
        "The spool is nearly full",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let page = super::tests::page(status(|_| {}));
    assert!(!page.contains("class=\"problems\""), "{page}");
}

#[test]
fn every_mount_of_the_host_is_listed_and_those_that_answer_are_shown() {
    let one = || status(|_| {});
    let alone = page(one());
    assert!(!alone.contains("Mounts of this host"));
    let other = MountStatus::new(Some("/run/mediafs/old.sock".into()), Err("dead".to_owned()));
    let page = html(&[
        MountStatus::new(None, Ok(one())),
        other,
        MountStatus::new(None, Ok(status(|told| told["name"] = "reports".into()))),
    ]);
    assert_eq!(page.matches("<section class=\"mount\"").count(), 2);
    for part in [
        "no answer",
        "old</th>",
        "#mount-1\">reports",
        "id=\"mount-1\"",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}
