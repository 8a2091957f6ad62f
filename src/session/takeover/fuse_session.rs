//! The mount and its session with the kernel, begun or resumed.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use fuser::Session;

use crate::config::Config;
use crate::fuse::{Adapter, Agreement};
use crate::session::mount::connection::Connection;
use crate::session::mount::mountinfo::mount_at;
use crate::session::mount::{self, Execution, MountSettings, Mounted, Sharing, UnmountMode};
use crate::session::notifier::Notifier;
use crate::session::takeover::access;
use crate::session::takeover::fd_store::{self, KeptDescriptor};
use crate::session::takeover::fuse_init::{self, Handshake, Resent};
use crate::session_state::{self, Record, SavedSession, SessionLog, SessionState};
use crate::store::StoreAbilities;
use crate::write_path::Place;

/// Applications that wait for a successor are released when none has come so long
/// after the daemon died and with it all who would start one.
const SUCCESSOR_WITHIN: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct KernelSession {
    pub mounted: Arc<Mounted>,
    pub session: Session<Adapter>,
    pub notifier: Arc<Notifier>,
    /// None where its bytes cannot be read.
    pub agreed: Option<Agreement>,
    /// How many daemons have resumed it, this one included.
    pub takeovers: u64,
}

/// What the mount was asked for.
#[derive(Debug, Clone, Copy)]
pub struct MountRequest<'a> {
    pub place: &'a Place,
    pub mountpoint: &'a Path,
    /// What the store was found to heed.
    pub abilities: StoreAbilities,
    pub mounted_at: SystemTime,
}

/// What a predecessor left of the session.
#[derive(Debug)]
pub struct PredecessorSession {
    session: SavedSession,
    under_way: BTreeSet<u64>,
}

impl PredecessorSession {
    /// None where there is no session to resume.
    pub fn of(saved: &SessionState) -> Option<Self> {
        Some(Self {
            session: saved.session.clone()?,
            under_way: saved.under_way.clone(),
        })
    }
}

/// Resumes what a predecessor began, or mounts. Errors: the kernel's; there
/// is no process for the notifier.
pub fn start(
    config: &Config,
    asked: MountRequest<'_>,
    session_log: &SessionLog,
    inherited: Option<(OwnedFd, PredecessorSession)>,
    adapter: Adapter,
) -> anyhow::Result<KernelSession> {
    match inherited {
        Some((device, predecessor)) => {
            resume(config, asked, device, &predecessor, session_log, adapter)
        }
        None => begin(config, asked, session_log, adapter),
    }
}

/// Mounts, and hands a copy of the descriptor to the store where there is one.
///
/// Errors: with what to do about them; the mountpoint is free again then.
fn begin(
    config: &Config,
    asked: MountRequest<'_>,
    session_log: &SessionLog,
    adapter: Adapter,
) -> anyhow::Result<KernelSession> {
    let settings = MountSettings {
        source: config.fsname.clone(),
        sharing: if config.allow_other {
            Sharing::AllUsers
        } else {
            Sharing::OwnerOnly
        },
        access: access::configured(config),
        execution: if config.no_exec {
            Execution::Refused
        } else {
            Execution::Allowed
        },
        context: mount::selinux::context(config.context.as_deref()),
    };
    let (device, mounted) = mount::mount(&config.mountpoint, &settings)?;
    let mounted = Arc::new(mounted);
    let session = agree(config, asked, session_log, &device, adapter)
        .and_then(|session| Ok((session, notifier(&mounted, device)?)));
    let ((session, agreed), notifier) = session.inspect_err(|_| give_back(&mounted))?;
    Ok(KernelSession {
        mounted,
        session,
        notifier,
        agreed,
        takeovers: 0,
    })
}

fn agree(
    config: &Config,
    asked: MountRequest<'_>,
    session_log: &SessionLog,
    device: &OwnedFd,
    adapter: Adapter,
) -> anyhow::Result<(Session<Adapter>, Option<Agreement>)> {
    if session_log.is_kept() {
        fd_store::keep(KeptDescriptor::Device, device)
            .context("the descriptor store does not answer")?;
    }
    let (session, Handshake { init, answer }) =
        fuse_init::begin(device, adapter, fuse_config(config))?;
    let agreed = Agreement::read(&init, &answer);
    let entry = mount_at(&config.mountpoint)?.context("the mount is gone again")?;
    session_log.begin(SavedSession {
        bucket: config.bucket.clone(),
        prefix: config.prefix.clone(),
        endpoint: asked.place.endpoint.clone(),
        mountpoint: config.mountpoint.clone(),
        asked: asked.mountpoint.to_owned(),
        device: entry.device,
        init,
        init_answer: answer,
        mounted_at: asked.mounted_at,
        takeovers: 0,
        abilities: asked.abilities,
        access: Some(access::of(config, None)),
    })?;
    Ok((session, agreed))
}

fn resume(
    config: &Config,
    asked: MountRequest<'_>,
    device: OwnedFd,
    predecessor: &PredecessorSession,
    session_log: &SessionLog,
    adapter: Adapter,
) -> anyhow::Result<KernelSession> {
    let PredecessorSession { session, under_way } = predecessor;
    let current = SavedSession {
        endpoint: asked.place.endpoint.clone(),
        abilities: asked.abilities,
        access: Some(access::of(config, Some(session))),
        takeovers: session.takeovers.saturating_add(1),
        ..session.clone()
    };
    let takeovers = current.takeovers;
    session_log.record(|| Record::Session(current));
    let said = Handshake {
        init: session.init.clone(),
        answer: session.init_answer.clone(),
    };
    let session = fuse_init::resume(&device, &said, adapter, fuse_config(config))?;
    match fuse_init::resend(&device)
        .context("the kernel does not send requests in progress again")?
    {
        Resent::Yes => tracing::info!("resumed the session of the predecessor"),
        Resent::NotByThisKernel => {
            fuse_init::interrupt(&device, under_way)?;
            for request in under_way.iter().copied() {
                session_log.record(|| Record::Answered { request });
            }
            tracing::warn!(
                calls = under_way.len(),
                "resumed the session of the predecessor; this kernel (before 6.9) cannot resend requests: calls in flight return EINTR"
            );
        }
    }
    let number = &predecessor.session.device;
    let mounted = Mounted::of_session(&config.mountpoint, number, &device);
    let mounted = Arc::new(mounted);
    let notifier = notifier(&mounted, device)?;
    Ok(KernelSession {
        mounted,
        session,
        notifier,
        agreed: Agreement::read(&said.init, &said.answer),
        takeovers,
    })
}

/// Starts the process that tells the kernel what to drop. Errors: none can be started.
fn notifier(mounted: &Arc<Mounted>, device: OwnedFd) -> anyhow::Result<Arc<Notifier>> {
    let connection = Connection::of_session(mounted.device().unwrap_or_default(), device.as_fd());
    let abort_after = if fd_store::is_present() {
        abort_after_for_tests().unwrap_or(SUCCESSOR_WITHIN)
    } else {
        Duration::ZERO
    };
    let notifier = Notifier::start(device, connection, mounted.clone(), abort_after);
    Ok(Arc::new(notifier.context("cannot start the notifier")?))
}

fn abort_after_for_tests() -> Option<Duration> {
    let given = std::env::var("_MEDIAFS_ABORT_AFTER_MS").ok()?;
    given.parse().ok().map(Duration::from_millis)
}

/// The session is over for good.
pub fn forget(config: &Config) {
    if !fd_store::is_present() {
        return;
    }
    fd_store::forget(KeptDescriptor::Device);
    fd_store::forget(KeptDescriptor::OldDirectory);
    if let Err(error) = session_state::forget(&session_state::path_in(&config.spool_dir)) {
        tracing::warn!(%error, "cannot remove the session file");
    }
}

fn fuse_config(config: &Config) -> fuser::Config {
    let mut fuse_config = fuser::Config::default();
    fuse_config.n_threads = Some(config.fuse_threads);
    fuse_config
}

fn give_back(mounted: &Mounted) {
    if let Err(error) = mounted.unmount(UnmountMode::Lazy) {
        tracing::warn!(%error, "cannot unmount the mountpoint");
    }
}
