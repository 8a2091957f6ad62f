//! Options of other S3 file systems, as people paste them into a line of fstab.
//!
//! Sources: s3fs(1), goofys(1), mount-s3(1), rclone mount, mount.fuse3(8), mount(8).

/// What an option of another program is here.
#[derive(Debug, PartialEq, Eq)]
pub enum Foreign {
    /// These settings say the same.
    Settings(Vec<String>),
    /// It is so here anyway.
    Always,
    /// What to use instead.
    Instead(&'static str),
}

/// What is so here anyway, or means nothing to a daemon of another make.
const ALWAYS: [&str; 60] = [
    "allow-delete",
    "allow-overwrite",
    "args2env",
    "async_dio",
    "async_read",
    "atomic_o_trunc",
    "auto_cache",
    "auto_unmount",
    "big_writes",
    "complement_stat",
    "curldbg",
    "default_permissions",
    "enable_content_md5",
    "enable_noobj_cache",
    "enable_unsigned_payload",
    "ensure_diskfree",
    "hard_remove",
    "iam_role",
    "incremental-upload",
    "intr",
    "kernel_cache",
    "large_read",
    "list_object_max_keys",
    "listobjectsv2",
    "max_background",
    "max_read",
    "max_readahead",
    "max_thread_count",
    "max_write",
    "maximum-throughput-gbps",
    "multipart_copy_size",
    "multireq_max",
    "no-implicit-dir",
    "no_remote_lock",
    "no_splice_read",
    "no_time_stamp_msg",
    "nocopyapi",
    "nodnscache",
    "noforget",
    "nomixupload",
    "norenameapi",
    "nosscache",
    "notsup_compat_dir",
    "noua",
    "noxmlns",
    "readdir_ino",
    "set_check_cache_sigusr1",
    "sigv4",
    "singlepart_copy_limit",
    "splice_move",
    "splice_read",
    "splice_write",
    "streamupload",
    "subdomain",
    "subtype",
    "update_parent_dir_stat",
    "use-content-type",
    "use_ino",
    "use_session_token",
    "vfs_cache_mode",
];

const TTL: &str = "ttl=, how long to trust what S3 said of a file";
const CACHE: &str = "cache=DIR and cache-size=SIZE, or memory-cache=SIZE for one in memory";
const TIMEOUT: &str = "request-timeout=DURATION";
const NO_SIZE: &str = "no option: a bucket has no size that df could show";
const KEY_FILE: &str = "sse-customer-key-file=FILE, with 32 bytes or these in base64, mode 0600";

/// What to use for an option that has no twin here.
const INSTEAD: [(&str, &str); 61] = [
    ("ac_attr_timeout", TTL),
    ("allow_root", "allow_other"),
    ("ahbe_conf", "no option: extra headers are not supported"),
    ("attr_timeout", TTL),
    ("cheap", "no option: there is no such mode"),
    ("check_cache_dir_exist", CACHE),
    ("compat_dir", "dir-markers=auto, always or never"),
    ("connect_timeout", TIMEOUT),
    ("dbglevel", "log=debug"),
    ("debug", "log=debug"),
    ("debug_fuse", "log=mediafs=debug"),
    ("debug_s3", "log=mediafs::requests=debug"),
    ("defcontext", "context="),
    ("del_cache", CACHE),
    ("entry_timeout", TTL),
    ("fscontext", "context="),
    ("http-timeout", TIMEOUT),
    ("logfile", "log-file=FILE"),
    ("max_stat_cache_size", TTL),
    ("max_dirty_data", "spool-size=SIZE"),
    ("mp_umask", "dir-mode=MODE"),
    ("multipart_size", "part-size=SIZE, such as 8MiB"),
    ("negative_timeout", "negative-ttl=DURATION"),
    (
        "no_check_certificate",
        "ca-bundle=FILE with the CA's certificates",
    ),
    (
        "bucket",
        "the first field of the line: BUCKET or BUCKET/PREFIX",
    ),
    (
        "credlib",
        "profile=NAME of an AWS configuration with credential_process",
    ),
    (
        "credlib_opts",
        "profile=NAME of an AWS configuration with credential_process",
    ),
    ("direct_io", "ttl=0s, where each open is to ask S3"),
    (
        "ecs",
        "no option: credentials of a container are found by themselves",
    ),
    (
        "ibm_iam_auth",
        "an access key and a secret key (HMAC) in a credentials-file",
    ),
    (
        "instance_name",
        "no option: 'mediafs status' names each mount by its place",
    ),
    (
        "nomultipart",
        "part-size=SIZE, up to which a file is one request",
    ),
    (
        "servicepath",
        "endpoint-url=URL, of a store that has its buckets at the root",
    ),
    ("parallel_count", "upload-concurrency=COUNT"),
    (
        "passwd_file",
        "credentials-file=FILE: an AWS credentials file, with the lines [default], aws_access_key_id = ID and aws_secret_access_key = SECRET",
    ),
    ("readwrite_timeout", TIMEOUT),
    ("retries", TIMEOUT),
    ("rootcontext", "context="),
    ("load_sse_c", KEY_FILE),
    ("sigv2", "no option: requests are signed with version 4"),
    (
        "ssl_verify_hostname",
        "ca-bundle=FILE with the CA's certificates",
    ),
    ("stat_cache_expire", TTL),
    ("stat_cache_interval_expire", TTL),
    ("tmpdir", "spool=DIR"),
    ("use_cache", CACHE),
    ("bucket_size", NO_SIZE),
    ("fake_diskfree", NO_SIZE),
    (
        "cipher_suites",
        "no option: TLS 1.2 and 1.3 have the suites that are safe",
    ),
    ("dir_cache_time", TTL),
    ("free_space_ratio", "spool-size=SIZE"),
    (
        "ibm_iam_endpoint",
        "an access key and a secret key (HMAC) in a credentials-file",
    ),
    (
        "imdsv1only",
        "no option: an instance is asked for credentials by IMDSv2",
    ),
    (
        "ipresolve",
        "no option: the system decides between IPv4 and IPv6",
    ),
    ("log-directory", "log-file=FILE"),
    ("max-cache-size", CACHE),
    (
        "multipart_threshold",
        "part-size=SIZE, up to which a file is one request",
    ),
    (
        "proxy_cred_file",
        "proxy=http://USER:PASSWORD@HOST:PORT in a configuration file",
    ),
    ("sse-c", KEY_FILE),
    (
        "ssl_client_cert",
        "no option: client certificates are not supported",
    ),
    ("use_wtf8", "no option: names have to be UTF-8"),
    ("vfs_cache_max_size", CACHE),
];

/// What an option is that is no setting; none where nobody knows it.
pub fn understand(name: &str, value: Option<&str>) -> Option<Foreign> {
    let one = |setting: &str| Some(Foreign::Settings(vec![setting.to_owned()]));
    match (name, value) {
        ("use_path_request_style", _) => one("--force-path-style"),
        ("url" | "host", Some(url)) => one(&format!("--endpoint-url={url}")),
        ("disable_noobj_cache", _) => one("--negative-ttl=0s"),
        ("use_rrs", None | Some("1")) => one("--storage-class=REDUCED_REDUNDANCY"),
        ("use_rrs", _) => Some(Foreign::Always),
        // goofys means the service by it, s3fs the region.
        ("endpoint", Some(url)) if url.contains("://") => one(&format!("--endpoint-url={url}")),
        ("endpoint", Some(region)) => one(&format!("--region={region}")),
        ("stat-cache-ttl" | "type-cache-ttl" | "metadata-ttl", Some(ttl)) => {
            one(&format!("--ttl={ttl}"))
        }
        ("negative-metadata-ttl", Some(ttl)) => one(&format!("--negative-ttl={ttl}")),
        ("upload-checksums", Some("off")) => one("--upload-checksum=none"),
        ("upload-checksums", Some(kind)) => one(&format!("--upload-checksum={kind}")),
        ("storage_class", Some(class)) => one(&format!("--storage-class={}", class.to_uppercase())),
        ("default_acl", Some(acl)) => one(&format!("--acl={acl}")),
        ("no-sign-request", _) | ("public_bucket", None | Some("1")) => one("--anonymous"),
        ("transfer-acceleration", _) => one("--accelerate"),
        ("use_sse" | "sse", None | Some("1")) => one("--sse=AES256"),
        ("sse-kms", Some(key)) => of_kms(key),
        ("use_sse", Some(sse)) => match sse.split_once(':') {
            Some(("kmsid" | "k", key)) => of_kms(key),
            None if sse == "kmsid" || sse == "k" => one("--sse=aws:kms"),
            _ => Some(Foreign::Instead(KEY_FILE)),
        },
        ("use_xattr", None | Some("1")) => one("--attributes=stored"),
        ("use_xattr", _) => Some(Foreign::Always),
        ("umask", Some(mask)) => of_mask(mask, &[("file-mode", 0o666), ("dir-mode", 0o777)]),
        ("fmask", Some(mask)) => of_mask(mask, &[("file-mode", 0o777)]),
        ("dmask", Some(mask)) => of_mask(mask, &[("dir-mode", 0o777)]),
        _ if ALWAYS.contains(&name) => Some(Foreign::Always),
        _ => {
            let mut known = INSTEAD.iter().filter(|(theirs, _)| *theirs == name);
            known.next().map(|(_, use_this)| Foreign::Instead(use_this))
        }
    }
}

fn of_kms(key: &str) -> Option<Foreign> {
    let settings = [
        "--sse=aws:kms".to_owned(),
        format!("--sse-kms-key-id={key}"),
    ];
    Some(Foreign::Settings(settings.to_vec()))
}

fn of_mask(mask: &str, settings: &[(&str, u16)]) -> Option<Foreign> {
    let Some(mask) = u16::from_str_radix(mask, 8).ok().filter(|it| *it <= 0o777) else {
        return Some(Foreign::Instead(
            "file-mode=MODE and dir-mode=MODE, in octal",
        ));
    };
    let settings = settings.iter().map(|(name, all)| {
        let mode = all & !mask;
        format!("--{name}={mode:04o}")
    });
    Some(Foreign::Settings(settings.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_in_two_tables() {
        for (name, _) in INSTEAD {
            assert!(!ALWAYS.contains(&name), "{name}");
            let twins = INSTEAD.iter().filter(|(other, _)| *other == name);
            assert_eq!(twins.count(), 1, "{name}");
        }
    }

    #[test]
    fn every_option_of_the_other_programs_is_known() {
        let s3fs = "ahbe_conf bucket bucket_size check_cache_dir_exist cipher_suites compat_dir complement_stat connect_timeout credlib credlib_opts curldbg dbglevel default_acl del_cache disable_noobj_cache ecs enable_content_md5 enable_noobj_cache enable_unsigned_payload endpoint ensure_diskfree fake_diskfree free_space_ratio host iam_role ibm_iam_auth ibm_iam_endpoint imdsv1only instance_name ipresolve list_object_max_keys listobjectsv2 load_sse_c logfile max_dirty_data max_stat_cache_size max_thread_count mp_umask multipart_copy_size multipart_size multipart_threshold multireq_max no_check_certificate no_time_stamp_msg nocopyapi nodnscache nomixupload nomultipart norenameapi nosscache notsup_compat_dir noua noxmlns parallel_count passwd_file proxy_cred_file public_bucket readwrite_timeout retries servicepath set_check_cache_sigusr1 sigv2 sigv4 singlepart_copy_limit ssl_client_cert ssl_verify_hostname stat_cache_expire stat_cache_interval_expire storage_class streamupload tmpdir umask update_parent_dir_stat url use_cache use_path_request_style use_rrs use_session_token use_sse use_wtf8 use_xattr";
        let goofys = "cheap debug_fuse debug_s3 http-timeout no-implicit-dir sse sse-c sse-kms stat-cache-ttl subdomain type-cache-ttl use-content-type";
        let mount_s3 = "allow-delete allow-overwrite incremental-upload log-directory max-cache-size maximum-throughput-gbps metadata-ttl negative-metadata-ttl no-sign-request transfer-acceleration upload-checksums";
        let rclone = "args2env dir_cache_time vfs_cache_max_size vfs_cache_mode";
        for name in [s3fs, goofys, mount_s3, rclone].join(" ").split(' ') {
            let value = Some(if name == "umask" { "022" } else { "1" });
            assert!(understand(name, value).is_some(), "{name}");
        }
    }

    #[test]
    fn encryption_and_classes_of_other_programs_are_ours() {
        let of = |name, value| match understand(name, value) {
            Some(Foreign::Settings(settings)) => settings.join(" "),
            other => format!("{other:?}"),
        };
        assert_eq!(of("use_sse", None), "--sse=AES256");
        let kms = "--sse=aws:kms --sse-kms-key-id=id";
        assert_eq!(of("use_sse", Some("kmsid:id")), kms);
        assert_eq!(of("sse-kms", Some("id")), kms);
        assert!(of("use_sse", Some("custom:/k")).contains("sse-customer-key-file"));
        assert_eq!(
            of("storage_class", Some("standard_ia")),
            "--storage-class=STANDARD_IA"
        );
        assert_eq!(of("public_bucket", Some("1")), "--anonymous");
    }

    #[test]
    fn masks_become_modes() {
        let of = |name, mask| match understand(name, Some(mask)) {
            Some(Foreign::Settings(settings)) => settings.join(" "),
            other => format!("{other:?}"),
        };
        assert_eq!(of("umask", "0022"), "--file-mode=0644 --dir-mode=0755");
        assert_eq!(of("umask", "077"), "--file-mode=0600 --dir-mode=0700");
        assert_eq!(of("fmask", "0133"), "--file-mode=0644");
        assert_eq!(of("dmask", "0027"), "--dir-mode=0750");
        assert!(of("umask", "rwx").contains("octal"));
        assert!(of("umask", "1777").contains("octal"));
    }
}
