//! The service that mounts, where there is systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use async_trait::async_trait;

use super::plan::{Found, Task};
use crate::config::{CONFIG_DIR, config_files};
use crate::private;
use crate::session::systemctl;

/// It is there where systemd runs. Source: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";
const TEMPLATE: &str = include_str!("../../systemd/mediafs@.service");
const TEMPLATE_NAME: &str = "mediafs@.service";
/// Where an operator's units are.
const UNITS: &str = "/etc/systemd/system";
/// The program, as the template names it.
const PROGRAM: &str = "/usr/local/bin/mediafs";

/// Why no service is made here; none where one can be.
pub fn why_no_service(name: &str, config_file: &Path) -> Option<String> {
    let by_hand = |why: &str| {
        let is_named = config_files(name).iter().any(|file| file == config_file);
        let how = match is_named {
            true => name.to_owned(),
            false => format!("--config {}", config_file.display()),
        };
        Some(format!("{why}: mount with 'mediafs mount {how}'"))
    };
    if !rustix::process::geteuid().is_root() {
        return by_hand("only root starts a service");
    }
    if !Path::new(BOOTED).is_dir() {
        return by_hand("there is no systemd here");
    }
    let read = Path::new(CONFIG_DIR).join(format!("{name}.toml"));
    if config_file != read {
        return by_hand(&format!("the service reads {}", read.display()));
    }
    None
}

/// The template of all mounts.
#[derive(Debug)]
pub struct UnitFile;

impl UnitFile {
    fn path() -> PathBuf {
        Path::new(UNITS).join(TEMPLATE_NAME)
    }
}

#[async_trait(?Send)]
impl Task for UnitFile {
    fn name(&self) -> &'static str {
        "unit"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        Ok(if systemctl::is_true(&["cat", TEMPLATE_NAME])? {
            Found::Done(format!("{TEMPLATE_NAME} is installed"))
        } else {
            Found::ToDo(format!("write {}", Self::path().display()))
        })
    }

    async fn change(&self) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("where this program is")?;
        let program = program.to_str().filter(|path| {
            // A unit has blanks and percent signs mean more than themselves.
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
            path.chars().all(is_plain)
        });
        let program = program.context("the path of this program has characters that a unit cannot have: install it with scripts/install")?;
        let text = TEMPLATE.replace(PROGRAM, program);
        let path = Self::path();
        // Whole or not at all: part of one would be taken for one that is installed.
        private::replace(&path, text.as_bytes())
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        systemctl::run(&["daemon-reload"])
    }
}

/// One mount's own.
#[derive(Debug)]
pub struct Service {
    pub name: String,
    pub config_file: PathBuf,
    /// Whether its configuration was written since it was started.
    pub is_new: Arc<AtomicBool>,
}

impl Service {
    fn unit(&self) -> String {
        format!("mediafs@{}.service", self.name)
    }

    /// Whether it runs with a configuration that is written over by now, by a setup that
    /// did not come to its end too.
    fn is_outdated(&self) -> anyhow::Result<bool> {
        if self.is_new.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let unit = self.unit();
        let since = systemctl::property(&unit, "ActiveEnterTimestamp")?;
        let since = since.strip_prefix('@').and_then(|it| it.parse().ok());
        let since = since.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        let written = fs::metadata(&self.config_file).and_then(|file| file.modified());
        // Of the second in which it was started nobody can tell.
        Ok(match (since, written) {
            (Some(since), Ok(written)) => {
                written >= since + Duration::from_secs(1) && written <= SystemTime::now()
            }
            _ => false,
        })
    }
}

#[async_trait(?Send)]
impl Task for Service {
    fn name(&self) -> &'static str {
        "service"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        let unit = self.unit();
        let is_enabled = systemctl::is_true(&["is-enabled", "--quiet", &unit])?;
        let is_active = systemctl::is_true(&["is-active", "--quiet", &unit])?;
        Ok(match (is_enabled, is_active) {
            (true, true) if self.is_outdated()? => Found::ToDo(format!("restart {unit}")),
            (true, true) => Found::Done(format!("{unit} is enabled and runs")),
            _ => Found::ToDo(format!("enable and start {unit}")),
        })
    }

    async fn change(&self) -> anyhow::Result<()> {
        let unit = self.unit();
        let was_outdated =
            systemctl::is_true(&["is-active", "--quiet", &unit])? && self.is_outdated()?;
        let log = || format!("the mount does not start: 'journalctl -u {unit}' says why");
        systemctl::run(&["enable", "--now", &unit]).with_context(log)?;
        if was_outdated {
            systemctl::run(&["restart", &unit]).with_context(log)?;
        }
        self.is_new.store(false, Ordering::Relaxed);
        Ok(())
    }
}
