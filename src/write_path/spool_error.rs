//! Why a spool cannot be used, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::pending_work::PendingWork;
use super::place::Place;
use crate::private::NotPrivate;
use crate::record_log::LogError;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error(
        "spool {path} is in use by another mediafs (pid {pid}): unmount that one first, or choose another --spool"
    )]
    InUse { path: PathBuf, pid: String },
    #[error("stage {by} was written on top of stage {id}: discard {by} first")]
    Needed { id: String, by: String },
    #[error("{0}")]
    OtherPlace(Box<OtherPlace>),
    #[error(
        "{record} is damaged, so that nobody knows which bucket the spool belongs to, and {pending} wait in it: look at them with 'mediafs spool list'; if all of it is for what you mount now, remove that file and mount again"
    )]
    PlaceUnknown {
        record: PathBuf,
        pending: PendingWork,
    },
    #[error("{0} is not a spool of mediafs")]
    NotASpool(PathBuf),
    #[error("spool {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("spool: {0}")]
    NotPrivate(#[from] NotPrivate),
    #[error(transparent)]
    Journal(#[from] LogError),
}

/// Why a spool is not used for a place.
#[derive(Debug)]
pub struct OtherPlace {
    pub(super) spool: PathBuf,
    pub(super) recorded: Place,
    pub(super) asked: Place,
    pub(super) pending: PendingWork,
}

impl fmt::Display for OtherPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            recorded,
            asked,
            pending,
            ..
        } = self;
        let spool = self.spool.display();
        write!(
            f,
            "spool {spool} belongs to {recorded}, not to {asked}, and {pending} wait in it. Nothing was sent or changed.\n\
             To send what waits: 'mediafs mount {} --spool {spool}', until 'mediafs spool list --spool {spool}' shows nothing that waits.\n\
             To mount {asked} now: name another directory with --spool; what waits stays in this one.",
            recorded.arguments()
        )?;
        match &recorded.endpoint {
            Some(endpoint) if recorded.has_keys_of(asked) => write!(
                f,
                "\nIf the bucket itself has moved with all that is in it: confirm that with '--spool-moved-from {endpoint}'."
            ),
            _ => Ok(()),
        }
    }
}
