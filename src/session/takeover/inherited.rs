//! Whether this daemon resumes the session of a predecessor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::mount::UnmountFlags;

use crate::config::Config;
use crate::session::mount::FS_TYPE;
use crate::session::mount::connection::is_connected;
use crate::session::mount::mountinfo::mount_at;
use crate::session::takeover::fd_store::{self, KeptDescriptor};
use crate::session::takeover::spool_lock::take_lock;
use crate::session_state::{self, SessionLog, SessionState};
use crate::store::StoreAbilities;
use crate::write_path::{Claim, ClaimedSpool, Place, PlacedSpool, SpoolError};

/// What is asked of a store before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartupCheck {
    /// A listing and, where it is to be written, which conditions it heeds.
    WhetherItServes,
    /// A predecessor has asked, and found out so much.
    Nothing(StoreAbilities),
}

/// What a predecessor left to this one, if anything.
#[derive(Debug)]
pub struct Inherited {
    spool: ClaimedSpool,
    session: Option<(OwnedFd, SessionState)>,
    /// Why there is none, where there might have been.
    refused: Option<String>,
}

/// The spool for this daemon alone, and what the kernel was told so far.
#[derive(Debug)]
pub struct InheritedSession {
    pub placed: PlacedSpool,
    pub session_log: Arc<SessionLog>,
    pub saved: SessionState,
}

/// Takes the spool, which must be this place's, and looks for a session to resume.
///
/// To be called before anything looks into the mountpoint of a `device`: until a
/// daemon goes on, nobody answers there. `note` says what it waits for, if it does.
/// Errors: `SpoolError` when the spool is in use, or another place's; nothing is
/// changed then.
pub fn find(
    config: &Config,
    place: &Place,
    device: Option<OwnedFd>,
    note: &dyn Fn(&str),
) -> anyhow::Result<Inherited> {
    let lock = take_lock(config, note).inspect_err(|error| {
        if is_read_only(error) && device.is_some() {
            give_up(config);
        }
    })?;
    let spool = lock.claim(Claim {
        place: place.clone(),
        moved_from: config.spool_moved_from.clone(),
    })?;
    let (session, refused) = match device {
        None => (None, None),
        Some(device) => match claim(config, place, device)? {
            Ok(session) => (Some(session), None),
            Err(reason) => (None, Some(reason)),
        },
    };
    Ok(Inherited {
        spool,
        session,
        refused,
    })
}

impl Inherited {
    /// Where the session is mounted.
    pub fn mountpoint(&self) -> Option<&Path> {
        let (_, saved) = self.session.as_ref()?;
        Some(&saved.session.as_ref()?.mountpoint)
    }

    /// Applications wait for who goes on: an outage must not keep him from it.
    pub fn asking(&self) -> StartupCheck {
        match &self.session {
            Some((_, saved)) if !self.spool.has_moved() => {
                let session = saved.session.as_ref();
                StartupCheck::Nothing(session.map_or_else(Default::default, |it| it.abilities))
            }
            _ => StartupCheck::WhetherItServes,
        }
    }

    /// For a mount there. Errors: the disk's.
    pub fn open(self, mountpoint: &Path) -> anyhow::Result<(InheritedSession, Option<OwnedFd>)> {
        let placed = self.spool.record(mountpoint)?;
        let path = session_state::path_in(placed.dir());
        let (device, saved) = self.session.unzip();
        let session_log = match &saved {
            Some(saved) => SessionLog::resume(&path, saved)?,
            None if fd_store::is_present() => SessionLog::awaiting(&path),
            None => SessionLog::default(),
        };
        let open = InheritedSession {
            placed,
            session_log: Arc::new(session_log),
            saved: saved.unwrap_or_else(|| SessionState {
                refused: self.refused,
                ..SessionState::default()
            }),
        };
        Ok((open, device))
    }
}

/// Claims the session on an inherited descriptor, if it is the one of this mount.
///
/// What cannot be resumed is taken away, so that the mountpoint is free; then
/// applications that had files open there get ENOTCONN.
fn claim(
    config: &Config,
    place: &Place,
    device: OwnedFd,
) -> anyhow::Result<Result<(OwnedFd, SessionState), String>> {
    let path = session_state::path_in(&config.spool_dir);
    let mut mountpoint = std::path::absolute(&config.mountpoint)?;
    let mut known = None;
    let reason = match session_state::saved(&path) {
        Ok(Some(saved)) => match mismatch(config, place, &saved, &device)? {
            None => return Ok(Ok((device, saved))),
            Some(reason) => {
                if let Some(session) = saved.session {
                    mountpoint = session.mountpoint;
                    known = Some(session.device);
                }
                reason
            }
        },
        Ok(None) => "there is no complete session file".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(%reason, "cannot resume the previous session: mounting again; programs with open files get ENOTCONN");
    clear(&mountpoint, known.as_deref())?;
    // With its last copy the session ends, for programs that have files open too.
    fd_store::forget(KeptDescriptor::Device);
    session_state::forget(&path)?;
    Ok(Err(reason))
}

fn is_read_only(error: &SpoolError) -> bool {
    match error {
        SpoolError::Io { source, .. } => source.kind() == io::ErrorKind::ReadOnlyFilesystem,
        _ => false,
    }
}

/// Ends a session that nobody can resume, since no record of it can be written:
/// what is in its file may lack the last ones. Programs do not wait for a successor.
fn give_up(config: &Config) {
    tracing::error!(spool = %config.spool_dir.display(), "the spool's disk is read-only: cannot resume the previous session; programs with open files get ENOTCONN");
    let cleared = std::path::absolute(&config.mountpoint)
        .map_err(Into::into)
        .and_then(|mountpoint| clear(&mountpoint, None));
    if let Err(error) = cleared {
        tracing::warn!(%error, "the previous mount stays at the mountpoint");
    }
    fd_store::forget(KeptDescriptor::Device);
}

/// Why the session is not of this mount, if it is not.
fn mismatch(
    config: &Config,
    place: &Place,
    saved: &SessionState,
    device: &OwnedFd,
) -> anyhow::Result<Option<String>> {
    let Some(session) = &saved.session else {
        return Ok(Some("no session recorded".to_owned()));
    };
    if (&session.bucket, &session.prefix) != (&config.bucket, &config.prefix) {
        let (bucket, prefix) = (&session.bucket, &session.prefix);
        return Ok(Some(format!("it shows {bucket}/{prefix}")));
    }
    if let Some(endpoint) = &session.endpoint
        && ![&place.endpoint, &config.spool_moved_from].contains(&&session.endpoint)
    {
        return Ok(Some(format!("it shows the bucket on {endpoint}")));
    }
    if session.asked != std::path::absolute(&config.mountpoint)? {
        let path = session.mountpoint.display();
        return Ok(Some(format!("it is mounted on {path}")));
    }
    let mounted = mount_at(&session.mountpoint)?;
    if mounted.is_none_or(|entry| entry.device != session.device) {
        // An umount holds. Who has files open is served to the end, which is now if nobody has.
        tracing::info!(path = %session.mountpoint.display(), "the previous session is not mounted there any more");
        return Ok(None);
    }
    if !is_connected(device.as_fd()) {
        return Ok(Some("its connection was aborted".to_owned()));
    }
    Ok(None)
}

/// Detaches what a predecessor left on the mountpoint: the mount of this `device`, any
/// of mediafs where it is not known.
fn clear(mountpoint: &Path, device: Option<&str>) -> anyhow::Result<()> {
    let left = mount_at(mountpoint)?.is_some_and(|entry| {
        entry.fs_type == FS_TYPE && device.is_none_or(|device| entry.device == device)
    });
    if left {
        rustix::mount::unmount(mountpoint, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}
