//! What authentik's loader makes of its settings, case by case: each expected value is
//! from authentik's documentation and boto3's, written by hand.

use std::fs;

use super::*;
use crate::store::AccessKeys;

/// authentik's files and variables of one case.
#[derive(Default)]
struct Case {
    /// Files by name: `config.yml` and `config.d/*` are in authentik's folder, others are named.
    files: Vec<(&'static str, String)>,
    environment: Vec<(&'static str, String)>,
    reports: bool,
}

/// What comes of it, as text by name; `notes` and `keys` are among them.
fn outcome(case: &Case) -> Result<Vec<(String, String)>, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("config.d")).unwrap();
    let mut named = Vec::new();
    for (name, text) in &case.files {
        let path = dir.path().join(name);
        fs::write(&path, text.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        if !name.starts_with("config") && !name.starts_with("secret") {
            named.push(path);
        }
    }
    let usage = if case.reports {
        Usage::Reports
    } else {
        Usage::Media
    };
    let source = AuthentikSource {
        etc: dir.path().to_owned(),
        files: named,
        usage,
    };
    let environment = case.environment.iter();
    let environment = environment.map(|(name, text)| {
        let text = text.replace("DIR", dir.path().to_str().unwrap());
        ((*name).to_owned(), text)
    });
    let read = source.read(environment.collect())?;
    let storage = source.storage(&read);
    let mut found: Vec<(String, String)> = storage
        .settings()?
        .into_iter()
        .map(|setting| {
            let value = match setting.value {
                SettingValue::Text(text) => text,
                SettingValue::Bool(value) => value.to_string(),
            };
            (setting.name.to_owned(), value)
        })
        .collect();
    if let GivenKeys::Keys(keys) = storage.access_keys()? {
        let token = keys.session_token.unwrap_or_default();
        let keys = format!("{} {} {token}", keys.access_key, keys.secret_key);
        found.push(("keys".to_owned(), keys.trim_end().to_owned()));
    }
    found.push(("notes".to_owned(), storage.notes().join("\n")));
    Ok(found)
}

fn one(case: &Case, name: &str) -> String {
    let found = outcome(case).unwrap();
    let found = found.into_iter().find(|(other, _)| other == name);
    found.map_or_else(|| "-".to_owned(), |(_, value)| value)
}

/// Variables of one case, of the environment.
fn variables(lines: &[(&'static str, &str)]) -> Case {
    Case {
        environment: lines
            .iter()
            .map(|(name, text)| (*name, (*text).to_owned()))
            .collect(),
        ..Case::default()
    }
}

fn yaml(text: &str) -> Case {
    Case {
        files: vec![("config.yml", text.to_owned())],
        ..Case::default()
    }
}

const BUCKET: &str = "AUTHENTIK_STORAGE__S3__BUCKET_NAME";
const MEDIA_BUCKET: &str = "AUTHENTIK_STORAGE__MEDIA__S3__BUCKET_NAME";
const REGION: &str = "AUTHENTIK_STORAGE__S3__REGION";
const ENDPOINT: &str = "AUTHENTIK_STORAGE__S3__ENDPOINT";
const ACCESS: &str = "AUTHENTIK_STORAGE__S3__ACCESS_KEY";
const SECRET: &str = "AUTHENTIK_STORAGE__S3__SECRET_KEY";
const STYLE: &str = "AUTHENTIK_STORAGE__S3__ADDRESSING_STYLE";
const SSL: &str = "AUTHENTIK_STORAGE__S3__USE_SSL";

#[test]
fn variables_of_both_eras_name_the_place() {
    for (lines, name, expected) in [
        (&[(BUCKET, "b")][..], "bucket", "b"),
        (&[(MEDIA_BUCKET, "m")], "bucket", "m"),
        // This usage's own hides what all have.
        (&[(BUCKET, "b"), (MEDIA_BUCKET, "m")], "bucket", "m"),
        (&[(BUCKET, "b"), (MEDIA_BUCKET, "")], "bucket", "-"),
        (&[(BUCKET, "b"), (MEDIA_BUCKET, "null")], "bucket", "-"),
        (
            &[
                (BUCKET, "b"),
                ("AUTHENTIK_STORAGE__REPORTS__S3__BUCKET_NAME", "r"),
            ],
            "bucket",
            "b",
        ),
        (&[(BUCKET, "b")], "prefix", "media"),
        (&[(REGION, "eu-west-1")], "region", "eu-west-1"),
        (&[(REGION, "")], "region", "-"),
        (
            &[(REGION, "a"), ("AUTHENTIK_STORAGE__MEDIA__S3__REGION", "b")],
            "region",
            "b",
        ),
        (
            &[("AUTHENTIK_STORAGE__S3__SESSION_PROFILE", "p")],
            "profile",
            "p",
        ),
        (
            &[("AUTHENTIK_STORAGE__MEDIA__S3__SESSION_PROFILE", "p")],
            "profile",
            "p",
        ),
        // Another program's variables, and a name without its second part.
        (&[("STORAGE__S3__BUCKET_NAME", "x")], "bucket", "-"),
        (&[("AUTHENTIK_STORAGE_S3_BUCKET_NAME", "x")], "bucket", "-"),
        // Upper or lower case after the prefix.
        (
            &[("AUTHENTIK_storage__S3__Bucket_Name", "b")],
            "bucket",
            "b",
        ),
    ] {
        assert_eq!(one(&variables(lines), name), expected, "{lines:?}");
    }
}

#[test]
fn endpoint_and_addressing_are_as_boto3_has_them() {
    for (lines, name, expected) in [
        (
            &[(ENDPOINT, "https://s3.provider")][..],
            "endpoint-url",
            "https://s3.provider",
        ),
        (
            &[(ENDPOINT, "https://s3.provider")],
            "force-path-style",
            "true",
        ),
        (
            &[(ENDPOINT, "https://s3.provider"), (STYLE, "auto")],
            "force-path-style",
            "true",
        ),
        (
            &[(ENDPOINT, "https://s3.provider"), (STYLE, "path")],
            "force-path-style",
            "true",
        ),
        (
            &[(ENDPOINT, "https://s3.provider"), (STYLE, "virtual")],
            "force-path-style",
            "false",
        ),
        (
            &[(ENDPOINT, "https://s3.eu-west-1.amazonaws.com")],
            "force-path-style",
            "false",
        ),
        (&[(BUCKET, "b")], "endpoint-url", "-"),
        (&[(BUCKET, "b")], "force-path-style", "-"),
        (&[(STYLE, "path")], "force-path-style", "true"),
        (&[(STYLE, "auto")], "force-path-style", "false"),
        // The endpoint's scheme beats use_ssl.
        (
            &[(ENDPOINT, "https://s3.provider"), (SSL, "false")],
            "endpoint-url",
            "https://s3.provider",
        ),
        (
            &[(SSL, "false"), (REGION, "eu-west-1")],
            "endpoint-url",
            "http://s3.eu-west-1.amazonaws.com",
        ),
        (&[(SSL, "false")], "force-path-style", "false"),
        (&[(SSL, "true")], "endpoint-url", "-"),
        (&[(SSL, "True")], "endpoint-url", "-"),
        // Only true is true.
        (
            &[(SSL, "1")],
            "endpoint-url",
            "http://s3.us-east-1.amazonaws.com",
        ),
        (
            &[(SSL, "yes")],
            "endpoint-url",
            "http://s3.us-east-1.amazonaws.com",
        ),
        (
            &[("AUTHENTIK_STORAGE__MEDIA__S3__ENDPOINT", "http://m:9000")],
            "endpoint-url",
            "http://m:9000",
        ),
    ] {
        assert_eq!(one(&variables(lines), name), expected, "{lines:?}");
    }
}

#[test]
fn a_host_of_aws_is_known_by_its_end() {
    for endpoint in [
        "https://gate.example/s3.amazonaws.com",
        "https://s3.amazonaws.com.example.org",
    ] {
        let case = variables(&[(ENDPOINT, endpoint)]);
        assert_eq!(one(&case, "force-path-style"), "true", "{endpoint}");
    }
}

/// The keys of 2024.2 to 2025.10, which are an override since.
#[test]
fn endpoint_and_addressing_of_the_media_beat_those_of_all() {
    const MEDIA_SSL: &str = "AUTHENTIK_STORAGE__MEDIA__S3__USE_SSL";
    const MEDIA_STYLE: &str = "AUTHENTIK_STORAGE__MEDIA__S3__ADDRESSING_STYLE";
    let case = variables(&[(SSL, "true"), (MEDIA_SSL, "false")]);
    let plain = "http://s3.us-east-1.amazonaws.com";
    assert_eq!(one(&case, "endpoint-url"), plain);
    let case = variables(&[(STYLE, "virtual"), (MEDIA_STYLE, "path")]);
    assert_eq!(one(&case, "force-path-style"), "true");
}

#[test]
fn credentials_are_those_that_authentik_would_use() {
    const TOKEN: &str = "AUTHENTIK_STORAGE__S3__SESSION_TOKEN";
    const OLD_TOKEN: &str = "AUTHENTIK_STORAGE__MEDIA__S3__SECURITY_TOKEN";
    for (lines, expected) in [
        (&[][..], "-"),
        (&[(ACCESS, "a"), (SECRET, "s")], "a s"),
        (&[(ACCESS, "a"), (SECRET, "s"), (TOKEN, "t")], "a s t"),
        (&[(ACCESS, "a"), (SECRET, "s"), (OLD_TOKEN, "t")], "a s t"),
        (
            &[(ACCESS, "a"), (SECRET, "s"), (TOKEN, "t"), (OLD_TOKEN, "o")],
            "a s t",
        ),
        (
            &[
                (ACCESS, "a"),
                (SECRET, "s"),
                ("AUTHENTIK_STORAGE__S3__SECURITY_TOKEN", "t"),
            ],
            "a s t",
        ),
        (&[(ACCESS, ""), (SECRET, "")], "-"),
        // A profile beats keys.
        (
            &[
                (ACCESS, "a"),
                (SECRET, "s"),
                ("AUTHENTIK_STORAGE__S3__SESSION_PROFILE", "p"),
            ],
            "-",
        ),
        // What reads as JSON changes its type for authentik; the text is meant.
        (&[(ACCESS, "123456"), (SECRET, "s")], "123456 s"),
        (&[(ACCESS, "00123"), (SECRET, "s")], "00123 s"),
        (&[(ACCESS, "a"), (SECRET, "1e400")], "a 1e400"),
        (&[(ACCESS, "\"quoted\""), (SECRET, "s")], "quoted s"),
        (&[(ACCESS, "a"), (SECRET, "s+/=\\x")], "a s+/=\\x"),
        (&[(ACCESS, "a"), (SECRET, "https://s#x")], "a https://s#x"),
        (&[(ACCESS, "env://KEY"), (SECRET, "s"), ("KEY", "k")], "k s"),
        (&[(ACCESS, "env://NONE?d"), (SECRET, "s")], "d s"),
        (
            &[(ACCESS, "ENV://KEY#x"), (SECRET, "s"), ("KEY", "k")],
            "k s",
        ),
        (&[(ACCESS, "file:///none/at/all?d"), (SECRET, "s")], "d s"),
    ] {
        assert_eq!(one(&variables(lines), "keys"), expected, "{lines:?}");
    }
}

#[test]
fn a_secret_in_a_file_is_read_from_it_without_its_line_end() {
    let mut case = variables(&[(ACCESS, "a"), (SECRET, "file://DIR/secret?default")]);
    case.files.push(("secret", "from a file \n".to_owned()));
    assert_eq!(one(&case, "keys"), "a from a file");
}

#[test]
fn files_have_authentiks_order() {
    let general = "storage: {s3: {bucket_name: config, region: r}}";
    let part = |bucket: &str| format!("storage:\n  s3:\n    bucket_name: {bucket}\n");
    let mut case = yaml(general);
    assert_eq!(one(&case, "bucket"), "config");
    case.files.push(("config.d/2.yml", part("second")));
    case.files.push(("config.d/1.yml", part("first")));
    case.files.push(("config.d/3.yaml", part("ignored")));
    assert_eq!(one(&case, "bucket"), "second");
    assert_eq!(one(&case, "region"), "r");
    case.files.push(("named.yaml", part("named")));
    assert_eq!(one(&case, "bucket"), "named");
    case.files.push((".env", format!("{BUCKET}=dotenv\nX=y\n")));
    assert_eq!(one(&case, "bucket"), "dotenv");
    case.environment.push((BUCKET, "environment".to_owned()));
    assert_eq!(one(&case, "bucket"), "environment");
}

#[test]
fn files_are_typed_as_yaml() {
    for (text, name, expected) in [
        (
            "storage: {s3: {bucket_name: b, use_ssl: no}}",
            "endpoint-url",
            "http://s3.us-east-1.amazonaws.com",
        ),
        (
            "storage: {s3: {bucket_name: b, use_ssl: 'no'}}",
            "endpoint-url",
            "http://s3.us-east-1.amazonaws.com",
        ),
        (
            "storage: {s3: {bucket_name: b, use_ssl: yes}}",
            "endpoint-url",
            "-",
        ),
        ("storage: {s3: {bucket_name: b, region: ~}}", "region", "-"),
        (
            "storage: {s3: {access_key: 0123, secret_key: 'x'}}",
            "keys",
            "0123 x",
        ),
        (
            "storage: {media: {s3: {bucket_name: m}}, s3: {bucket_name: b}}",
            "bucket",
            "m",
        ),
        (
            "storage:\n  s3:\n    access_key: env://A\n    secret_key: env://B?b\n",
            "keys",
            "a b",
        ),
    ] {
        let mut case = yaml(text);
        case.environment.push(("A", "a".to_owned()));
        assert_eq!(one(&case, name), expected, "{text}");
    }
}

#[test]
fn reports_have_a_place_of_their_own() {
    let lines = [
        (BUCKET, "b"),
        (MEDIA_BUCKET, "m"),
        ("AUTHENTIK_STORAGE__REPORTS__S3__BUCKET_NAME", "r"),
        ("AUTHENTIK_STORAGE__REPORTS__S3__ENDPOINT", "http://r"),
        (REGION, "of-all"),
        ("AUTHENTIK_STORAGE__REPORTS__S3__REGION", "of-reports"),
        (ACCESS, "a"),
        (SECRET, "s"),
        ("AUTHENTIK_STORAGE__REPORTS__S3__ACCESS_KEY", "ra"),
        ("AUTHENTIK_STORAGE__REPORTS__S3__SECRET_KEY", "rs"),
        ("AUTHENTIK_STORAGE__BACKEND", "file"),
        ("AUTHENTIK_STORAGE__REPORTS__BACKEND", "s3"),
    ];
    let mut case = variables(&lines);
    assert_eq!(one(&case, "bucket"), "m");
    assert_eq!(one(&case, "region"), "of-all");
    assert_eq!(one(&case, "keys"), "a s");
    assert_eq!(one(&case, "notes"), "");
    case.reports = true;
    assert_eq!(one(&case, "region"), "of-reports");
    assert_eq!(one(&case, "keys"), "ra rs");
    let notes = one(&case, "notes");
    assert!(
        notes.contains("S3 backend (storage.reports.backend, "),
        "{notes}"
    );
    assert_eq!(one(&case, "bucket"), "r");
    assert_eq!(one(&case, "prefix"), "reports");
    assert_eq!(one(&case, "endpoint-url"), "http://r");
}

#[test]
fn what_a_mount_has_no_use_for_is_told() {
    for (lines, expected) in [
        (&[("AUTHENTIK_STORAGE__BACKEND", "s3")][..], "S3 backend"),
        (&[("AUTHENTIK_STORAGE__MEDIA__BACKEND", "s3")], "S3 backend"),
        (
            &[("AUTHENTIK_STORAGE__S3__CUSTOM_DOMAIN", "d/b")],
            "custom_domain",
        ),
        (
            &[("AUTHENTIK_STORAGE__S3__SECURE_URLS", "false")],
            "secure_urls",
        ),
        (
            &[("AUTHENTIK_STORAGE__S3__OBJECT_ACL", "public-read")],
            "public-read",
        ),
        (&[(ACCESS, "12"), (SECRET, "s")], "as a number"),
        (&[(BUCKET, "true")], "as a number or as true"),
    ] {
        let notes = one(&variables(lines), "notes");
        assert!(notes.contains(expected), "{lines:?}: {notes}");
    }
    for silent in [
        &[("AUTHENTIK_STORAGE__BACKEND", "file")][..],
        &[
            ("AUTHENTIK_STORAGE__BACKEND", "s3"),
            ("AUTHENTIK_STORAGE__MEDIA__BACKEND", "file"),
        ],
        &[("AUTHENTIK_STORAGE__S3__OBJECT_ACL", "private")],
        &[("AUTHENTIK_STORAGE__S3__SIGNATURE_VERSION", "s3v4")],
    ] {
        assert_eq!(one(&variables(silent), "notes"), "", "{silent:?}");
    }
}

#[test]
fn where_authentik_looks_for_its_files_is_told() {
    const ALL: &str = "AUTHENTIK_STORAGE__FILE__PATH";
    const MEDIA: &str = "AUTHENTIK_STORAGE__MEDIA__FILE__PATH";
    const REPORTS: &str = "AUTHENTIK_STORAGE__REPORTS__FILE__PATH";
    for (lines, reports, expected) in [
        (
            &[(ALL, "/data/")][..],
            false,
            "media in /data/media of the container (storage.file.path, AUTHENTIK_STORAGE__FILE__PATH)",
        ),
        (&[(ALL, "/data")], true, "reports in /data/reports of"),
        (
            &[(ALL, "/data"), (MEDIA, "/media")],
            false,
            "media in /media/media of the container, up to 2025.10 in /media itself",
        ),
        (&[(ALL, "/d"), (MEDIA, "/m")], true, "reports in /d/reports"),
        (
            &[(REPORTS, "/r")],
            true,
            "reports in /r/reports of the container (",
        ),
        (&[(ALL, "env://AT?/d")], false, "media in /d/media"),
    ] {
        let case = Case {
            reports,
            ..variables(lines)
        };
        let notes = one(&case, "notes");
        assert!(notes.contains(expected), "{lines:?}: {notes}");
    }
    let case = yaml("storage: {media: {file: {path: /media}}}");
    assert!(one(&case, "notes").contains("in /media/media"));
    for silent in [(REPORTS, "/r"), (ALL, "")] {
        assert_eq!(one(&variables(&[silent]), "notes"), "", "{silent:?}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_its_key_and_place() {
    for (case, expected) in [
        (
            variables(&[("AUTHENTIK_STORAGE__S3__SIGNATURE_VERSION", "s3")]),
            "Signature Version 4",
        ),
        (
            variables(&[("AUTHENTIK_STORAGE__MEDIA__S3__SIGNATURE_VERSION", "s3")]),
            "storage.media.s3.signature_version",
        ),
        (
            variables(&[(ACCESS, "a")]),
            "storage.s3.secret_key is not set",
        ),
        (
            variables(&[(SECRET, "s")]),
            "storage.s3.access_key is not set",
        ),
        (
            variables(&[(ACCESS, "a"), (SECRET, "file:///none/at/all")]),
            "/none/at/all",
        ),
        (variables(&[(BUCKET, "[1]")]), "is no text"),
        (
            variables(&[(STYLE, "Path")]),
            "not one of the styles that boto3 takes: auto, virtual, path",
        ),
        (
            variables(&[(ENDPOINT, "http://h"), (STYLE, "vhost")]),
            "AUTHENTIK_STORAGE__S3__ADDRESSING_STYLE",
        ),
        (yaml("\nstorage: {s3: {bucket_name: [a]}}"), "config.yml:2"),
        (yaml("storage: [\n"), "config.yml"),
    ] {
        let told = outcome(&case).unwrap_err();
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn without_a_bucket_the_file_to_name_is_told() {
    let source = AuthentikSource {
        etc: "/none".into(),
        files: Vec::new(),
        usage: Usage::Media,
    };
    let told = source.settings().unwrap_err();
    assert!(told.contains("--from-authentik="), "{told}");
}

#[test]
fn what_is_empty_is_told_with_its_place_and_with_what_it_hides() {
    let dir = tempfile::tempdir().unwrap();
    let told = |text: &str, name: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        let source = AuthentikSource {
            etc: "/none".into(),
            files: vec![file],
            usage: Usage::Media,
        };
        source.settings().unwrap_err()
    };
    let overridden = format!("{BUCKET}=b\n{MEDIA_BUCKET}=''\n");
    let path = dir.path().join(".env").display().to_string();
    assert_eq!(
        told(&overridden, ".env"),
        format!(
            "storage.media.s3.bucket_name ({MEDIA_BUCKET} of {path}:2) is empty and hides storage.s3.bucket_name ({BUCKET} of {path}:1): give it a value, or remove it"
        )
    );
    for (text, expected) in [
        (
            format!("{BUCKET}=\n"),
            format!("storage.s3.bucket_name ({BUCKET} of {path}:1) is empty: give"),
        ),
        (
            format!("{BUCKET}=env://NO_SUCH_VARIABLE\n"),
            format!("storage.s3.bucket_name ({BUCKET} of {path}:1) is empty: give"),
        ),
        (
            format!(
                "{BUCKET}=b\n{ACCESS}=a\n{SECRET}=s\nAUTHENTIK_STORAGE__MEDIA__S3__SECRET_KEY=\n"
            ),
            format!("is empty and hides storage.s3.secret_key ({SECRET} of {path}:3)"),
        ),
    ] {
        let told = told(&text, ".env");
        assert!(told.contains(&expected), "{told}");
    }
    let yaml = "storage: {s3: {bucket_name: b}, media: {s3: {bucket_name: }}}\n";
    let told = told(yaml, "config.yml");
    assert!(told.contains("storage.media.s3.bucket_name ("), "{told}");
    assert!(told.contains("config.yml:1) is empty and hides"), "{told}");
}

#[test]
fn no_debug_text_shows_a_secret() {
    let keys = AccessKeys {
        access_key: "access".to_owned(),
        secret_key: "secret".to_owned(),
        session_token: None,
    };
    assert_eq!(format!("{keys:?}"), "AccessKeys(***)");
}
