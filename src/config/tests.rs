use std::fs;

use clap::{Args, FromArgMatches};
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format, Toml};
use serde_json::{Value, json};

use super::explain::explain;
use super::variables::Variables;
use super::*;

fn place() -> Target {
    Target::new(
        Some("s3://bucket/media/".to_owned()),
        Some("/srv/media".into()),
    )
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn load(target: Target, file: Option<&Path>, flags: Options) -> Result<Config, ConfigError> {
    ConfigSource::new(target, file, flags, "/typed".into())?.load()
}

fn error(text: &str) -> String {
    let (_dir, path) = file(text);
    load(place(), Some(&path), Options::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn arguments_name_bucket_prefix_and_mountpoint() {
    let config = load(place(), None, Options::default()).unwrap();
    assert_eq!(
        (config.bucket.as_str(), config.prefix.as_str()),
        ("bucket", "media/")
    );
    assert_eq!(config.mountpoint, Path::new("/srv/media"));
    assert_eq!(config.ttl, Duration::from_secs(60));
}

#[test]
fn a_flag_beats_the_file_which_beats_the_default() {
    let (_dir, path) =
        file("ttl = \"5s\"\nnegative-ttl = 0\nfile-mode = \"0600\"\nblock-size = \"2MiB\"\n");
    let flags = Options {
        ttl: Some(Period(Duration::from_secs(7))),
        ..Options::default()
    };
    let config = load(place(), Some(&path), flags).unwrap();
    assert_eq!(config.ttl, Duration::from_secs(7));
    assert_eq!(config.negative_ttl, Duration::ZERO);
    assert_eq!(config.attributes.file_mode, 0o600);
    assert_eq!(config.block_size_bytes, 2 << 20);
    assert_eq!(config.part_size_bytes, 8 << 20);
}

#[test]
fn everything_can_stand_in_a_file() {
    let (_dir, path) =
        file("bucket = \"b\"\nprefix = \"p\"\nmountpoint = \"/m\"\nallow-other = true\n");
    let config = load(Target::new(None, None), Some(&path), Options::default()).unwrap();
    assert_eq!(
        (config.bucket.as_str(), config.prefix.as_str()),
        ("b", "p/")
    );
    assert!(config.allow_other);
}

#[test]
fn an_unknown_key_is_an_error_with_a_suggestion() {
    let told = error("negativ-ttl = 3\n");
    assert!(
        told.contains("negativ-ttl") && told.contains("did you mean \"negative-ttl\""),
        "{told}"
    );
}

#[test]
fn a_bad_value_names_its_key_and_its_file() {
    let told = error("ttl = \"soon\"\n");
    assert!(
        told.contains("ttl") && told.contains("m.toml") && told.contains("soon"),
        "{told}"
    );
    let told = error("request-timeout = \"1ms\"\n");
    assert!(
        told.contains("request-timeout") && told.contains("m.toml"),
        "{told}"
    );
    let told = error("spool-size = \"10KiB\"\n");
    assert!(
        told.contains("spool-size") && told.contains("at least 1MiB"),
        "{told}"
    );
}

#[test]
fn a_value_of_another_kind_is_told_with_its_origin_once() {
    let told = error("ttl = [1]\n");
    assert!(told.ends_with("\"60s\" or \"0644\""), "{told}");
    assert!(told.starts_with("ttl (from /"), "{told}");
    let told = error("ttl = \n");
    assert!(told.starts_with("configuration (from /"), "{told}");
    let variable = Variables::new([("ttl".to_owned(), "[1]".to_owned())]);
    let refused = Figment::from(variable).extract::<Options>();
    let told = explain(refused.unwrap_err().into_iter().next()).to_string();
    assert!(told.starts_with("ttl (from MEDIAFS_TTL): "), "{told}");
    assert!(told.ends_with("\"60s\" or \"0644\""), "{told}");
}

/// Each is a flag, or an argument: the other ways are compared with that one.
#[test]
fn a_file_takes_nothing_that_is_no_option_or_argument() {
    let file = Toml::string("no-such-setting = 1\n");
    let refused = Figment::from(file).extract::<Options>().unwrap_err();
    let Kind::UnknownField(_, taken) = refused.kind else {
        panic!("{refused}");
    };
    let shown = show::names_and_defaults().into_iter();
    let mut shown: Vec<String> = shown.map(|(name, _)| name).collect();
    let mut taken = taken.to_vec();
    shown.sort();
    taken.sort_unstable();
    assert_eq!(shown, taken);
}

#[test]
fn an_endpoint_with_a_password_is_refused_and_not_repeated() {
    for name in ["endpoint-url", "spool-moved-from"] {
        let told = error(&format!("{name} = \"https://user:geheim@host\"\n"));
        assert!(told.contains(name) && !told.contains("geheim"), "{told}");
    }
}

#[test]
fn prefixes_that_could_escape_are_refused() {
    for bad in ["a//b", "../x", "a/./b"] {
        assert!(target::clean_prefix(bad).is_err(), "{bad}");
    }
    assert_eq!(target::clean_prefix("/a/b").unwrap(), "a/b/");
    assert_eq!(target::clean_prefix("").unwrap(), "");
}

#[test]
fn a_named_mount_reads_its_file_and_says_where_it_looked() {
    let target = Target::new(Some("nosuchmount".to_owned()), None);
    let told = load(target, None, Options::default())
        .unwrap_err()
        .to_string();
    assert!(told.contains("/etc/mediafs/nosuchmount.toml"), "{told}");
}

#[test]
fn a_bucket_without_a_mountpoint_says_what_is_missing() {
    let target = Target::new(Some("bucket/media".to_owned()), None);
    let told = load(target, None, Options::default())
        .unwrap_err()
        .to_string();
    assert!(told.contains("no mountpoint given"), "{told}");
}

#[test]
fn a_configuration_is_read_again_and_tells_what_differs() {
    let (_dir, path) = file("bucket = \"b\"\nmountpoint = \"m\"\nttl = \"5s\"\nlog = \"info\"\n");
    let flags = Options {
        log: Some("debug".to_owned()),
        ..Options::default()
    };
    let source = ConfigSource::new(Target::FromFile, Some(&path), flags, "/".into()).unwrap();
    let first = source.load().unwrap();
    assert!(first.mountpoint.is_absolute());
    assert_eq!(first.differences(&source.load().unwrap()), [""; 0]);
    fs::write(
        &path,
        "bucket = \"c\"\nmountpoint = \"m\"\nnegative-ttl = 0\nlog = \"warn\"\n",
    )
    .unwrap();
    let second = source.load().unwrap();
    assert_eq!(
        first.differences(&second),
        ["bucket", "negative-ttl", "ttl"]
    );
    fs::write(&path, "nonsense").unwrap();
    assert!(source.load().is_err());
}

#[test]
fn what_is_far_too_much_is_capped_with_a_word() {
    let text =
        "fuse-threads = 5000\ndrain-timeout = \"18446744073709551615\"\nupload-concurrency = 9\n";
    let (_dir, path) = file(text);
    let config = load(place(), Some(&path), Options::default()).unwrap();
    assert_eq!(
        (config.fuse_threads, config.memory.upload_concurrency),
        (64, 9)
    );
    assert_eq!(config.drain_timeout, limits::PERIOD_LIMIT);
    let [threads, drain] = &config.capped[..] else {
        panic!("{:?}", config.capped);
    };
    assert!(threads.contains("fuse-threads = 5000") && threads.contains("64"));
    assert!(drain.contains("drain-timeout"));
}

#[test]
fn relative_paths_count_from_the_file_they_stand_in_or_from_where_the_command_was_given() {
    let (dir, path) = file("spool = \"own/spool\"\nlog-file = \"../l\"\n");
    let flags = Options {
        credentials_file: Some("credentials".into()),
        ..Options::default()
    };
    let target = Target::new(Some("b".to_owned()), Some("mnt".into()));
    let config = load(target, Some(&path), flags).unwrap();
    assert_eq!(config.mountpoint, Path::new("/typed/mnt"));
    assert_eq!(
        config.s3.credentials_file.unwrap(),
        Path::new("/typed/credentials")
    );
    assert_eq!(config.spool_dir, dir.path().join("own/spool"));
}

#[test]
fn a_bad_value_of_the_command_line_names_its_flag() {
    let flags = Options {
        request_timeout: Some(Period(Duration::ZERO)),
        ..Options::default()
    };
    let told = load(place(), None, flags).unwrap_err().to_string();
    assert_eq!(
        told,
        "request-timeout (from --request-timeout): must be at least 1s"
    );
    let target = Target::new(Some("a b/p".to_owned()), Some("/m".into()));
    let told = load(target, None, Options::default()).unwrap_err();
    assert!(
        told.to_string()
            .starts_with("bucket (from the command line): "),
        "{told}"
    );
}

#[test]
fn each_setting_is_shown_with_where_it_was_written() {
    let (_dir, path) = file(
        "# first\nttl = \"5s\"\n\nlog = \"debug\"\nproxy = \"http://user:secret@proxy:8080\"\n",
    );
    let flags = Options {
        log: Some("warn".to_owned()),
        ..Options::default()
    };
    let source = ConfigSource::new(place(), Some(&path), flags, "/typed".into()).unwrap();
    let settings = source.settings().unwrap();
    let of = |name: &str| {
        let found = settings.iter().find(|it| it.name == name).unwrap();
        (
            found
                .value
                .as_ref()
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            found.origin.clone(),
        )
    };
    let in_line = |line| SettingOrigin::File {
        path: path.clone(),
        line: Some(line),
    };
    assert_eq!(of("bucket"), ("bucket".to_owned(), SettingOrigin::Argument));
    assert_eq!(of("ttl"), ("5s".to_owned(), in_line(2)));
    let flag = SettingOrigin::Flag("--log".to_owned());
    assert_eq!(of("log"), ("warn".to_owned(), flag));
    assert_eq!(
        of("negative-ttl"),
        ("1s".to_owned(), SettingOrigin::Default)
    );
    assert_eq!(
        of("proxy"),
        ("http://***@proxy:8080".to_owned(), in_line(5))
    );
    assert!(of("spool").0.ends_with("/spool"), "what it comes to here");
    assert!(settings.len() > 40, "{}", settings.len());
}

/// What is written for every setting, beside the words that it has.
const TEXTS: [&str; 12] = [
    "123456789012",
    "7",
    "1.10",
    "0.25",
    "-1",
    "true",
    "false",
    "5s",
    "8MiB",
    "a-b",
    "/a/b",
    "127.0.0.1:9750",
];

/// A setting as a flag, where it has one; in a file; as a variable.
fn each_way(name: &str, text: &str) -> [Option<Value>; 3] {
    let value = |options: Options| options.by_name().remove(name);
    let command = Options::augment_args(clap::Command::new("").no_binary_name(true));
    let flag = command.try_get_matches_from([format!("--{name}={text}")]);
    let flag = flag.and_then(|matches| Options::from_arg_matches(&matches));
    let flag = match name {
        "bucket" | "prefix" | "mountpoint" => Some(json!(text)),
        _ => flag.ok().and_then(value),
    };
    let in_file = |written: String| {
        let file = Toml::string(&format!("{name} = {written}"));
        Figment::from(file).extract::<Options>().ok()
    };
    let in_file = in_file(format!("{text:?}")).or_else(|| in_file(text.to_owned()));
    let variable = Variables::new([(name.to_owned(), text.to_owned())]);
    let variable = Figment::from(variable).extract::<Options>().ok();
    [flag, in_file.and_then(value), variable.and_then(value)]
}

#[test]
fn a_setting_is_the_same_as_a_flag_in_a_file_and_as_a_variable() {
    let command = Options::augment_args(clap::Command::new(""));
    for (name, _) in show::names_and_defaults() {
        let known = |it: &&clap::Arg| it.get_long() == Some(name.as_str());
        let words = command.get_arguments().find(known);
        let words = words.map(clap::Arg::get_possible_values);
        let words = words.unwrap_or_default();
        let words = words.iter().map(|word| word.get_name());
        let mut taken = 0;
        for text in TEXTS.into_iter().chain(words) {
            // As a flag it has a file, or nothing.
            if name == "from-authentik" && ["true", "false"].contains(&text) {
                continue;
            }
            let [flag, in_file, variable] = each_way(&name, text);
            assert_eq!(variable, flag, "{name} = {text}, as a variable");
            assert_eq!(in_file, flag, "{name} = {text}, in a file");
            taken += usize::from(flag.is_some());
        }
        assert!(taken > 0, "{name}: nothing is taken");
    }
}

#[test]
fn a_variable_of_digits_is_text_where_text_is_wanted() {
    for name in ["expected-bucket-owner", "bucket", "prefix", "profile"] {
        for text in ["123456789012", "00012", "1.10", "true", "[a]"] {
            let [_, _, variable] = each_way(name, text);
            assert_eq!(variable, Some(json!(text)), "{name} = {text}");
        }
    }
    let [_, _, variable] = each_way("from-authentik", "true");
    assert_eq!(variable, Some(json!([])), "those that authentik has anyhow");
    let [_, _, variable] = each_way("from-authentik", "[a, b]");
    assert_eq!(variable, Some(json!(["a", "b"])));
    let wrong = Variables::new([("fuse-threads".to_owned(), "many".to_owned())]);
    let told = explain(
        Figment::from(wrong)
            .extract::<Options>()
            .unwrap_err()
            .into_iter()
            .next(),
    );
    assert!(
        told.to_string().contains("(from MEDIAFS_FUSE_THREADS)"),
        "{told}"
    );
}

#[test]
fn the_root_of_authentiks_data_is_known_by_every_way_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    let is_refused = |path: &Path, of_authentik| {
        super::target::check_data_root(("bucket", ""), path, of_authentik).is_err()
    };
    for path in ["/data", "/data/", "/./data", "/nosuch/../data"] {
        assert!(is_refused(Path::new(path), false), "{path}");
    }
    assert!(is_refused(&link, true));
    assert!(is_refused(&data.join("../data/."), true));
    assert!(!is_refused(&link, false) && !is_refused(dir.path(), true));
}

#[test]
fn a_prefix_is_refused_on_authentiks_data_as_a_whole_bucket_is() {
    let mount = |prefix: &str, mountpoint: &str, data_root| {
        let target = Target::new(Some(format!("b/{prefix}")), Some(mountpoint.into()));
        let flags = Options {
            data_root,
            ..Options::default()
        };
        let loaded = load(target, None, flags);
        loaded.map(drop).map_err(|error| error.to_string())
    };
    for (prefix, instead) in [
        (
            "",
            "Mount b/media on /data/media and b/reports on /data/reports:",
        ),
        ("x", "Mount b/x/media on /data/media and b/x/reports on"),
        (
            "x/media",
            "Mount b/x/media on /data/media and b/x/reports on",
        ),
        ("reports/", "Mount b/media on /data/media and b/reports on"),
    ] {
        let told = mount(prefix, "/data", None).unwrap_err();
        assert!(told.contains("/data/user_settings.py"), "{told}");
        assert!(told.contains(instead), "{told}");
        assert_eq!(mount(prefix, "/data", Some(true)), Ok(()));
    }
    for mountpoint in ["/data/media", "/data/reports", "/srv/data"] {
        assert_eq!(mount("media", mountpoint, None), Ok(()));
    }
}
