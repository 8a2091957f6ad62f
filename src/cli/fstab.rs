//! `mount.mediafs`: what mount(8) runs for a line of /etc/fstab of type `mediafs`.
//!
//! `mount.mediafs SOURCE DIR [-sfnv] [-t TYPE] [-o OPTION[,OPTION]...]`. An
//! option that is not one of mount(8)'s own is a setting of `mediafs mount`.
//! Source: mount(8), "External helpers" and "Exit status".

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, CommandFactory, Parser};

use super::foreign_options::{self, Foreign};
use super::mount::MountCommand;
use super::shown::outln;
use super::{Cli, Command, daemonize};
use crate::config::{ConfigError, nearest};
use crate::session::{self, Remount, mount_at};
use crate::telemetry;

/// The name under which the program is this one.
pub const PROGRAM: &str = "mount.mediafs";
/// The other name: what mount(8) looks for with the type that the kernel shows.
pub const PROGRAM_OF_SHOWN_TYPE: &str = "mount.fuse.mediafs";

const USAGE: &str = "usage: mount.mediafs BUCKET[/PREFIX] DIR [-sfnv] [-o OPTION[,OPTION]...]";
const INCORRECT_INVOCATION: u8 = 1;
const SYSTEM_ERROR: u8 = 2;
const MOUNT_FAILURE: u8 = 32;

/// Options for mount(8), for systemd, or that a FUSE mount of ours has always.
const IGNORED: [&str; 34] = [
    "_netdev",
    "async",
    "atime",
    "auto",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "group",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "noauto",
    "nodev",
    "nodiratime",
    "nofail",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nouser",
    "owner",
    "relatime",
    "rw",
    "silent",
    "strictatime",
    "suid",
    "sync",
    "user",
    "users",
];

/// Options of mount(8) under another name than ours.
const RENAMED: [(&str, &str); 3] = [
    ("ro", "read-only"),
    ("noexec", "no-exec"),
    ("nonempty", "allow-non-empty"),
];

/// What mount(8) asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    source: OsString,
    dir: OsString,
    options: Vec<String>,
    /// An option that nobody knows is passed over.
    sloppy: bool,
    /// All but the mount itself.
    fake: bool,
    verbose: bool,
}

/// Mounts as mount(8) asks.
pub fn run(args: &[OsString]) -> ExitCode {
    let request = match Request::parse(args) {
        Ok(request) => request,
        Err(why) => return refuse(&format!("{why}\n{USAGE}"), INCORRECT_INVOCATION),
    };
    if request.options.iter().any(|option| option == "remount") {
        return remount(&request);
    }
    let (words, command) = match request.command() {
        Ok(understood) => understood,
        Err(why) => return refuse(&why, INCORRECT_INVOCATION),
    };
    if request.verbose {
        // Of what mount(8) is asked for, its output is the least.
        drop(outln!("{PROGRAM}: mediafs {}", shown(&words)));
    }
    if request.fake || request.is_mounted() {
        return ExitCode::SUCCESS;
    }
    match command.run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = if error.is::<ConfigError>() {
                INCORRECT_INVOCATION
            } else if error.is::<daemonize::CannotStart>() {
                SYSTEM_ERROR
            } else {
                MOUNT_FAILURE
            };
            refuse(&session::in_words(&error), code)
        }
    }
}

/// The command that options stand for, as a line of fstab has them. Errors: in words.
pub fn understand(
    [source, dir]: [OsString; 2],
    options: Vec<String>,
) -> Result<Box<MountCommand>, String> {
    let request = Request {
        source,
        dir,
        options,
        sloppy: false,
        fake: false,
        verbose: false,
    };
    request.command().map(|(_, command)| command)
}

/// Changes flags of a mount that is there; the daemon's settings stay as they are.
fn remount(request: &Request) -> ExitCode {
    let dir = std::path::absolute(PathBuf::from(&request.dir)).unwrap_or_default();
    let options = request.options.iter().map(String::as_str);
    let remount = Remount::parse(options);
    if request.fake {
        return ExitCode::SUCCESS;
    }
    match remount.apply(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error.to_string(), MOUNT_FAILURE),
    }
}

fn refuse(why: &str, code: u8) -> ExitCode {
    telemetry::tell_user(&format!("{PROGRAM}: {}", why.trim_end()));
    ExitCode::from(code)
}

fn shown(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

impl Request {
    fn parse(args: &[OsString]) -> Result<Self, String> {
        let mut places = Vec::new();
        let mut request = Self {
            source: OsString::new(),
            dir: OsString::new(),
            options: Vec::new(),
            sloppy: false,
            fake: false,
            verbose: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let letters = arg.as_bytes().strip_prefix(b"-").unwrap_or_default();
            if letters.is_empty() {
                places.push(arg.clone());
                continue;
            }
            let mut letters = letters.iter();
            while let Some(letter) = letters.next() {
                match letter {
                    b's' => request.sloppy = true,
                    b'f' => request.fake = true,
                    b'v' => request.verbose = true,
                    // There is no mtab to leave alone.
                    b'n' => {}
                    b'o' | b't' | b'N' => {
                        let rest = OsStr::from_bytes(letters.as_slice());
                        let value = if rest.is_empty() {
                            args.next().map(OsString::as_os_str)
                        } else {
                            Some(rest)
                        };
                        let value = value
                            .and_then(OsStr::to_str)
                            .ok_or_else(|| format!("-{} wants a value", char::from(*letter)))?;
                        if *letter == b'o' {
                            request.options.extend(split_options(value));
                        }
                        break;
                    }
                    other => return Err(format!("unknown option -{}", char::from(*other))),
                }
            }
        }
        let [source, dir] = <[OsString; 2]>::try_from(places)
            .map_err(|places| format!("{} places given, not two", places.len()))?;
        Ok(Self {
            source,
            dir,
            ..request
        })
    }

    /// The command that says the same, with its arguments.
    fn command(&self) -> Result<(Vec<OsString>, Box<MountCommand>), String> {
        let words = self.words()?;
        let program = OsString::from("mediafs");
        match Cli::try_parse_from(std::iter::once(&program).chain(&words)) {
            Ok(Cli {
                command: Command::Mount(command),
            }) => Ok((words, command)),
            Ok(_) => Err(USAGE.to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The arguments of `mediafs` that say the same.
    fn words(&self) -> Result<Vec<OsString>, String> {
        let cli = Cli::command();
        let mount = cli.find_subcommand("mount");
        let known: Vec<&Arg> = mount
            .into_iter()
            .flat_map(|it| it.get_arguments())
            .collect();
        let mut words = vec![format!("--fsname={}", self.source.to_string_lossy())];
        for option in &self.options {
            for word in self.setting(option, &known)? {
                // Of two that are the same the later one counts, as for mount(8).
                let name = |word: &str| word.split('=').next().map(str::to_owned);
                match words.iter_mut().find(|it| name(it) == name(&word)) {
                    Some(earlier) => *earlier = word,
                    None => words.push(word),
                }
            }
        }
        // After `--` no place is taken for a flag.
        let places = ["--".into(), self.source.clone(), self.dir.clone()];
        let mount = std::iter::once(OsString::from("mount"));
        let flags = words.into_iter().map(OsString::from);
        Ok(mount.chain(flags).chain(places).collect())
    }

    /// The settings that an option stands for.
    fn setting(&self, option: &str, known: &[&Arg]) -> Result<Vec<String>, String> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        // As goofys has its own in a line of fstab.
        let name = name.strip_prefix("--").unwrap_or(name);
        if is_ignored(name) {
            return Ok(Vec::new());
        }
        let renamed = RENAMED.iter().find(|(theirs, _)| *theirs == name);
        let ours = renamed.map_or_else(|| name.replace('_', "-"), |(_, ours)| (*ours).to_owned());
        let setting = known.iter().find(|it| it.get_long() == Some(&ours));
        if let Some(setting) = setting {
            let Some(value) = value else {
                let is_incomplete = setting.get_action().takes_values();
                return Ok(match foreign_options::understand(name, None) {
                    Some(Foreign::Settings(settings)) if is_incomplete => settings,
                    _ => vec![format!("--{ours}")],
                });
            };
            if is_path(setting) && !value.starts_with('/') {
                return Err(format!(
                    "{option:?}: write the whole path, from /: mount(8) may run in any directory"
                ));
            }
            return Ok(vec![format!("--{ours}={value}")]);
        }
        match foreign_options::understand(name, value) {
            Some(Foreign::Settings(settings)) => Ok(settings),
            Some(Foreign::Always) => Ok(Vec::new()),
            _ if self.sloppy => Ok(Vec::new()),
            Some(Foreign::Instead(use_this)) => {
                Err(format!("option {name:?} is not supported: use {use_this}"))
            }
            None => {
                let names = known.iter().filter_map(|it| it.get_long());
                let meant = nearest(&ours, names);
                let hint = meant.map_or_else(String::new, |it| format!(" did you mean {it:?}?"));
                Err(format!(
                    "unknown option {name:?}:{hint} see 'mediafs mount --help'"
                ))
            }
        }
    }

    /// Whether the mount is there already, as after `mount -a` with another new line.
    fn is_mounted(&self) -> bool {
        let dir = std::path::absolute(PathBuf::from(&self.dir)).unwrap_or_default();
        let entry = mount_at(&dir).ok().flatten();
        entry.is_some_and(|entry| OsStr::new(&entry.source) == self.source)
    }
}

fn is_path(setting: &Arg) -> bool {
    let names = setting.get_value_names().unwrap_or_default();
    names
        .iter()
        .any(|name| ["FILE", "DIR"].contains(&name.as_str()))
}

fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name)
        || name.starts_with("x-")
        || name.starts_with("X-")
        || name.starts_with("comment")
}

/// Options between commas; a value in double quotes may have commas of its own.
fn split_options(text: &str) -> Vec<String> {
    let mut options = vec![String::new()];
    let mut quoted = false;
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => options.push(String::new()),
            _ => {
                if let Some(last) = options.last_mut() {
                    last.push(letter);
                }
            }
        }
    }
    options.retain(|option| !option.is_empty());
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Request::parse(&args)
    }

    fn words(line: &str) -> Result<String, String> {
        Ok(shown(&parse(line)?.words()?))
    }

    #[test]
    fn options_become_settings_and_those_of_mount_are_passed_over() {
        let line = "b/p /m -o rw,nosuid,_netdev,nofail,noauto,user,x-systemd.automount,x-systemd.requires=a.service,defaults,allow_other,ttl=5s";
        assert_eq!(
            words(line).unwrap(),
            "mount --fsname=b/p --allow-other --ttl=5s -- b/p /m"
        );
        assert_eq!(
            words("b /m -o ro,noexec -o nonempty").unwrap(),
            "mount --fsname=b --read-only --no-exec --allow-non-empty -- b /m"
        );
        assert_eq!(
            words("b /m -o fsname=other").unwrap(),
            "mount --fsname=other -- b /m"
        );
    }

    #[test]
    fn an_option_that_nobody_knows_is_refused_unless_sloppy() {
        assert!(
            words("b /m -o allow_othr")
                .unwrap_err()
                .contains("allow_othr")
        );
        assert_eq!(
            words("b /m -s -o allow_othr").unwrap(),
            "mount --fsname=b -- b /m"
        );
    }

    #[test]
    fn options_of_other_programs_are_understood_or_told_what_to_use() {
        let s3fs = "b /m -o _netdev,allow_other,use_path_request_style,url=https://s3.example.com,iam_role=auto,umask=0022,endpoint=eu-west-1,nonempty,x-systemd.automount";
        assert_eq!(
            words(s3fs).unwrap(),
            "mount --fsname=b --allow-other --force-path-style --endpoint-url=https://s3.example.com --file-mode=0644 --dir-mode=0755 --region=eu-west-1 --allow-non-empty -- b /m"
        );
        let goofys = "b /m -o endpoint=http://minio:9000,dir-mode=0777,file-mode=0666,stat-cache-ttl=10s,uid=1000,default_permissions";
        assert_eq!(
            words(goofys).unwrap(),
            "mount --fsname=b --endpoint-url=http://minio:9000 --dir-mode=0777 --file-mode=0666 --ttl=10s --uid=1000 -- b /m"
        );
        let by_flags = "b /m -o --file-mode=0666,--dir-mode=0777,--uid=1000,--gid=1000,--acl=private,--sse,--type-cache-ttl=10s,--endpoint=http://minio:9000,--region=eu-west-1,--profile=p,--stat-cache-ttl=1m0s";
        assert_eq!(
            words(by_flags).unwrap(),
            "mount --fsname=b --file-mode=0666 --dir-mode=0777 --uid=1000 --gid=1000 --acl=private --sse=AES256 --ttl=1m0s --endpoint-url=http://minio:9000 --region=eu-west-1 --profile=p -- b /m"
        );
        let without_a_twin = "b /m -o kernel_cache,auto_cache,listobjectsv2,list_object_max_keys=1000,multipart_copy_size=512,nodnscache,nosscache,noua,max_thread_count=5";
        assert_eq!(words(without_a_twin).unwrap(), "mount --fsname=b -- b /m");
        let by_host = "b /m -o host=https://s3.example.com,use_rrs,disable_noobj_cache";
        assert_eq!(
            words(by_host).unwrap(),
            "mount --fsname=b --endpoint-url=https://s3.example.com --storage-class=REDUCED_REDUNDANCY --negative-ttl=0s -- b /m"
        );
        for (option, instead) in [
            ("bucket=b", "first field"),
            ("direct_io", "ttl=0s"),
            ("servicepath=/services", "endpoint-url="),
            ("nomultipart", "part-size="),
            ("stat_cache_interval_expire=5", "ttl="),
            ("ecs", "by themselves"),
            ("credlib=libs3.so", "profile="),
            ("instance_name=one", "mediafs status"),
            ("--cheap", "no such mode"),
            ("passwd_file=/etc/passwd-s3fs", "credentials-file="),
            ("use_cache=/tmp", "memory-cache="),
            ("mp_umask=022", "dir-mode="),
            ("fscontext=a", "context="),
            ("allow_root", "allow_other"),
            ("dbglevel=info", "log="),
            ("allow_othr", "allow-other"),
        ] {
            let told = words(&format!("b /m -o {option}")).unwrap_err();
            let name = option.split('=').next().unwrap();
            let name = name.trim_start_matches("--");
            assert!(told.contains(instead) && told.contains(name), "{told}");
            assert!(words(&format!("b /m -s -o {option}")).is_ok(), "{option}");
        }
    }

    #[test]
    fn of_two_options_that_are_the_same_the_later_one_counts() {
        let told = words(
            "b /m -o ttl=5s,umask=022,force_path_style,ttl=6s,dir-mode=0700,use_path_request_style",
        );
        assert_eq!(
            told.unwrap(),
            "mount --fsname=b --ttl=6s --file-mode=0644 --dir-mode=0700 --force-path-style -- b /m"
        );
    }

    #[test]
    fn a_relative_path_is_refused_in_every_option_that_is_one() {
        for name in [
            "config",
            "credentials-file",
            "log_file",
            "spool",
            "ca-bundle",
            "mime",
        ] {
            let told = words(&format!("b /m -o {name}=own/x")).unwrap_err();
            assert!(told.contains("whole path") && told.contains(name), "{told}");
            assert!(words(&format!("b /m -o {name}=/own/x")).is_ok(), "{name}");
        }
        assert!(words("b /m -o endpoint-url=http://h,proxy=http://p").is_ok());
    }

    #[test]
    fn a_place_is_never_taken_for_a_flag() {
        let places = ["--from-authentik=/x", "/m"].map(OsString::from);
        let (flags, _) = understand(places, Vec::new()).unwrap().into_flags();
        assert!(flags.from_authentik.is_none());
    }

    #[test]
    fn options_may_come_first_and_letters_together() {
        let request = parse("-nvf -oro b /m").unwrap();
        assert_eq!(
            (request.fake, request.verbose, request.sloppy),
            (true, true, false)
        );
        assert_eq!(request.options, ["ro"]);
        assert_eq!((request.source, request.dir), ("b".into(), "/m".into()));
    }

    #[test]
    fn what_is_no_request_is_told() {
        assert!(parse("b").unwrap_err().contains("two"));
        assert!(parse("b /m /n").unwrap_err().contains("two"));
        assert!(parse("b /m -x").unwrap_err().contains("-x"));
        assert!(parse("b /m -o").unwrap_err().contains("-o"));
    }

    #[test]
    fn a_quoted_value_keeps_its_commas() {
        assert_eq!(
            split_options("a,fsname=\"x,y\",,b"),
            ["a", "fsname=x,y", "b"]
        );
    }
}
