//! `mediafs csi`.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::fstab;
use super::migrate_args::Usage;
use crate::config::Options;
use crate::csi::{self, DriverSettings};
use crate::telemetry::{self, LogArgs, LogIs};

const ENDPOINT: &str = "CSI_ENDPOINT";
const NODE_ID: &str = "NODE_ID";
const SCHEME: &str = "unix://";
/// Source: CSI specification, `NodeGetInfoResponse`.
const NODE_ID_LIMIT_BYTES: usize = 256;

/// Serve volumes to Kubernetes, as the CSI driver of a node
///
/// For the DaemonSet of the Helm chart in scripts/deploy/kubernetes, not for a shell: it
/// leaves its pod for the host, whose systemd runs a daemon for each volume. 'mediafs
/// help kubernetes' says more.
#[derive(Debug, Args)]
pub struct CsiCommand {
    /// Socket that kubelet asks, as unix:///csi/csi.sock [default: CSI_ENDPOINT]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Name of this node [default: NODE_ID, or the host's name]
    #[arg(long, value_name = "NAME")]
    node_id: Option<String>,
    /// Name of the driver
    #[arg(long, value_name = "NAME", default_value = "mediafs.csi")]
    driver_name: String,
    /// Directory of the host for the program that daemons run; its file system must not be noexec
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mediafs/csi/bin", value_parser = program_folder)]
    program_folder: PathBuf,
    /// What to log: error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    #[command(flatten)]
    output: LogArgs,
}

impl CsiCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let endpoint = self.endpoint.or_else(|| std::env::var(ENDPOINT).ok());
        let socket = socket(endpoint.as_deref())?;
        let named = self.node_id.or_else(|| std::env::var(NODE_ID).ok());
        let node_id = named.unwrap_or_else(host_name);
        if node_id.is_empty() || node_id.len() > NODE_ID_LIMIT_BYTES {
            bail!("the node needs a name of at most {NODE_ID_LIMIT_BYTES} bytes: --node-id");
        }
        telemetry::start_logs(&self.log, self.output.output(), LogIs::Required)?;
        csi::serve(DriverSettings {
            socket,
            name: self.driver_name,
            node_id,
            program_folder: self.program_folder,
            read_options,
        })
        .context("cannot run the CSI driver")
    }
}

fn socket(endpoint: Option<&str>) -> Result<PathBuf, Usage> {
    let wanted = || Usage("--endpoint unix:///PATH, or CSI_ENDPOINT, names the socket".to_owned());
    let endpoint = endpoint.ok_or_else(wanted)?;
    let path = endpoint.strip_prefix(SCHEME).unwrap_or(endpoint);
    if Path::new(path).is_absolute() {
        Ok(path.into())
    } else {
        Err(wanted())
    }
}

/// Stands in a unit of systemd as it is: it has nothing that means something there.
fn program_folder(text: &str) -> Result<PathBuf, String> {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "._/-".contains(it);
    let mut parts = Path::new(text).components();
    let is_rooted = parts.next() == Some(Component::RootDir);
    let leads_down = parts.all(|part| matches!(part, Component::Normal(_)));
    if is_rooted && leads_down && text.chars().all(is_plain) {
        Ok(text.into())
    } else {
        Err(
            "must be an absolute path of letters, digits and '.', '_', '-', without '..'"
                .to_owned(),
        )
    }
}

fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// Options are those of mount(8), as a line of fstab has them.
fn read_options(place: &str, mountpoint: &Path, options: &[String]) -> Result<Options, String> {
    let places = [OsString::from(place), mountpoint.into()];
    let command = fstab::understand(places, options.to_vec());
    let command = command.map_err(|why| in_a_line(&why).to_owned())?;
    match command.into_flags() {
        (flags, None) => Ok(flags),
        (_, Some(_)) => Err(csi::not_of_a_volume("config")),
    }
}

/// What is wrong, without how to ask for help on a terminal.
fn in_a_line(why: &str) -> &str {
    let line = why.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::Settings;

    fn read(options: &[&str]) -> Result<Settings, String> {
        let options: Vec<String> = options.iter().map(|it| (*it).to_owned()).collect();
        let (place, mountpoint) = ("my-bucket/media", Path::new("/m"));
        let flags = read_options(place, mountpoint, &options)?;
        csi::settings_of(place, mountpoint.into(), flags)
    }

    #[test]
    fn what_is_the_nodes_is_refused_under_every_name_that_it_has() {
        for option in [
            "nonempty",
            "allow_non_empty",
            "config=/x",
            "credentials_file=/etc/shadow",
            "drain-timeout=1h",
            "foreground",
            "from-authentik",
            "metrics=0.0.0.0:1",
            "mime=/etc/shadow",
            "spool=/tmp",
        ] {
            let told = read(&[option]).unwrap_err();
            assert!(
                told.contains("cannot be set by a volume"),
                "{option}: {told}"
            );
        }
        for option in [
            "ttl=5s",
            "ro",
            "umask=077",
            "cache-size=1GiB",
            "allow_other",
        ] {
            assert!(read(&[option]).is_ok(), "{option}");
        }
    }

    #[test]
    fn attributes_and_flags_become_typed_settings() {
        let settings = read(&[
            "ttl=5s",
            "force-path-style=true",
            "gid=7",
            "umask=027",
            "ro",
        ]);
        let settings = serde_json::to_value(settings.unwrap()).unwrap();
        assert_eq!(settings["bucket"], "my-bucket");
        assert_eq!(settings["prefix"], "media");
        assert_eq!(settings["mountpoint"], "/m");
        assert_eq!(settings["force-path-style"], true);
        assert_eq!(settings["read-only"], true);
        assert_eq!(settings["dir-mode"], "0750");
    }

    #[test]
    fn a_mistake_is_told_in_a_line() {
        for (options, named) in [
            (["ttle=5s"], "ttl"),
            (["ttl=soon"], "ttl"),
            (["endpoint-url=nowhere"], "endpoint-url"),
            (["ca-bundle=own.pem"], "whole path"),
        ] {
            let told = read(&options).unwrap_err();
            assert!(told.contains(named) && told.lines().count() == 1, "{told}");
        }
    }

    #[test]
    fn a_program_folder_means_nothing_else_to_systemd() {
        assert_eq!(
            program_folder("/opt/a-b/c_1.2").unwrap(),
            Path::new("/opt/a-b/c_1.2")
        );
        for wrong in [
            "",
            "opt",
            "/opt/a b",
            "/opt/%i",
            "/opt/../x",
            "/opt/x\n",
            "/opt/$A",
        ] {
            assert!(program_folder(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_endpoint_is_a_socket_of_an_absolute_path() {
        assert_eq!(socket(Some("unix:///a/b")).unwrap(), Path::new("/a/b"));
        assert_eq!(socket(Some("/a/b")).unwrap(), Path::new("/a/b"));
        for wrong in [None, Some("tcp://1.2.3.4:5"), Some("unix://a/b")] {
            assert!(socket(wrong).is_err(), "{wrong:?}");
        }
    }
}
