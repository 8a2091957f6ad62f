//! The types that browsers are told, by the extension of a file's name.

use std::fs;

use crate::support::Mount;

fn type_of(mount: &Mount, key: &str) -> Option<String> {
    mount
        .client()
        .head(mount.bucket(), key)
        .unwrap()
        .content_type
}

#[test]
fn what_browsers_play_and_run_has_the_type_that_they_need() {
    let mount = Mount::fresh();
    for (name, expected) in [
        ("segment.ts", "video/mp2t"),
        ("list.m3u8", "application/vnd.apple.mpegurl"),
        ("module.mjs", "text/javascript"),
        ("script.js", "text/javascript"),
        ("program.wasm", "application/wasm"),
        ("picture.webp", "image/webp"),
        ("picture.AVIF", "image/avif"),
        ("picture.heic", "image/heic"),
        ("part.m4s", "video/iso.segment"),
        ("list.mpd", "application/dash+xml"),
        ("font.woff2", "font/woff2"),
        ("page.html", "text/html"),
        ("picture.png", "image/png"),
    ] {
        fs::write(mount.path(name), b"bytes").unwrap();
        assert_eq!(type_of(&mount, name).as_deref(), Some(expected), "{name}");
    }
    fs::rename(mount.path("page.html"), mount.path("renamed.ts")).unwrap();
    assert_eq!(type_of(&mount, "renamed.ts").as_deref(), Some("video/mp2t"));
}

#[test]
fn a_file_of_types_comes_before_what_is_built_in() {
    for attributes in ["fixed", "stored"] {
        let plan = Mount::builder().args(["--attributes", attributes]);
        let types = plan.scratch().join("mime.types");
        let text = "# A comment\n\ntext/x-typescript\tts tsx # of ours\napplication/x-own  own\nimage/unused\n";
        fs::write(&types, text).unwrap();
        let mount = plan.arg("--mime").arg(&types).start();
        for (name, expected) in [
            ("code.ts", "text/x-typescript"),
            ("code.TSX", "text/x-typescript"),
            ("a.own", "application/x-own"),
            ("list.m3u8", "application/vnd.apple.mpegurl"),
        ] {
            fs::write(mount.path(name), b"bytes").unwrap();
            assert_eq!(type_of(&mount, name).as_deref(), Some(expected), "{name}");
        }
    }
}

#[test]
fn a_file_of_types_that_cannot_be_used_is_refused_with_its_line() {
    let plan = Mount::builder();
    let types = plan.scratch().join("mime.types");
    let plan = plan.arg("--mime").arg(&types);
    let refusal = |plan: &crate::support::MountBuilder| {
        let output = plan.run();
        assert!(!output.status.success());
        crate::support::programs::said(&output)
    };
    assert!(refusal(&plan).contains("mime.types"));
    fs::write(&types, "image/png png\nno type\n").unwrap();
    let told = refusal(&plan);
    assert!(told.contains("line 2 does not begin with a type"), "{told}");
}
