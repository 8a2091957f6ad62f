//! What comes before the first request: mountpoint, privileges, the run time, the spool
//! and its place.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;

use crate::config::{Config, HardeningConfig};
use crate::overlay::OldDirectory;
use crate::private;
use crate::session::client;
use crate::session::compose;
use crate::session::mount::bare;
use crate::session::mount::mountpoint::{self, MountpointError, NonEmpty};
use crate::session::overlay;
use crate::session::privileges;
use crate::session::systemd_job;
use crate::session::takeover::fd_store::{self, KeptDescriptor};
use crate::session::takeover::inherited::{self, Inherited};
use crate::store::s3::{OnNetworkError, S3Store};
use crate::telemetry::write_logs;
use crate::write_path::Place;

/// Who waits for a mount.
pub trait Waiter {
    /// Something that the mount waits for itself.
    fn note(&self, text: &str);
    /// The mount serves.
    fn ready(&self);
}

/// What there is before the bucket is asked for anything.
#[derive(Debug)]
pub struct Prepared {
    /// With the canonical mountpoint.
    pub config: Config,
    /// The mountpoint as it was configured.
    pub asked: PathBuf,
    pub runtime: Runtime,
    pub s3: Arc<S3Store>,
    pub place: Place,
    pub inherited: Inherited,
    /// Of an overlay.
    pub old: Option<OldDirectory>,
}

impl Prepared {
    /// Errors: the mountpoint's, the spool's; privileges cannot be given up.
    pub fn new(config: Config, waiter: &dyn Waiter) -> anyhow::Result<Self> {
        let asked = std::path::absolute(&config.mountpoint)?;
        // Before other threads use the environment.
        let device = fd_store::inherited(KeptDescriptor::Device);
        if device.is_none() {
            private::check_directory(&config.spool_dir).context("spool")?;
        }
        // Before anything is mounted over it.
        let old = overlay::open(&config)?;
        // What is mounted there answers nothing until somebody resumes it.
        let free = match device {
            Some(_) => None,
            None => Some(free_mountpoint(&config)?),
        };
        if config.hardening == HardeningConfig::On {
            let confined = match old {
                Some(_) => privileges::confine_over_a_directory(),
                None => privileges::confine(),
            };
            confined.context("privileges cannot be given up")?;
        }
        write_logs();
        for capped in &config.capped {
            tracing::warn!("{capped}");
        }
        for note in &config.notes {
            tracing::info!("{note}");
        }
        if let Err(error) = privileges::raise_open_files() {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
        let runtime = Runtime::new().context("cannot start the runtime")?;
        let on_error = match device {
            Some(_) => OnNetworkError::Ignore,
            None => OnNetworkError::Refuse,
        };
        let s3 = Arc::new(runtime.block_on(client::s3(&config, on_error))?);
        let place = compose::place(&config, &s3);
        let inherited = inherited::find(&config, &place, device, &|text| waiter.note(text))?;
        let mountpoint = match (inherited.mountpoint(), free) {
            (Some(mountpoint), _) => mountpoint.to_owned(),
            (None, Some(free)) => free,
            (None, None) => free_mountpoint(&config)?,
        };
        let hidden = bare::hidden_files(&mountpoint);
        if !hidden.is_none() && config.overlay.as_ref() != Some(&mountpoint) {
            let told = bare::told_hidden(&mountpoint, hidden);
            tracing::warn!("{told}");
            waiter.note(&told);
        }
        Ok(Self {
            config: Config {
                mountpoint,
                ..config
            },
            asked,
            runtime,
            s3,
            place,
            inherited,
            old,
        })
    }
}

/// Where to mount, if that is free for it.
fn free_mountpoint(config: &Config) -> anyhow::Result<PathBuf> {
    if systemd_job::unit().is_some() {
        mountpoint::clear_dead(&config.mountpoint).context("a dead mount cannot be cleared")?;
    }
    Ok(check_mountpoint(config)?)
}

/// Resolves where to mount, and checks that it can be mounted on.
pub fn check_mountpoint(config: &Config) -> Result<PathBuf, MountpointError> {
    let non_empty = if config.allow_non_empty {
        NonEmpty::Allow
    } else {
        NonEmpty::Refuse
    };
    match mountpoint::check(&config.mountpoint, non_empty) {
        // What is in it is shown.
        Err(MountpointError::NotEmpty(mountpoint)) if overlay::is_of(config, &mountpoint) => {
            Ok(mountpoint)
        }
        checked => checked,
    }
}
