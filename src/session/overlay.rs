//! The overlay of a mount: its old directory, and the store that shows it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::config::{AttributesMode, Config, DirMarkersConfig};
use crate::files::ContentTypes;
use crate::journal::Journal;
use crate::namespace::{Attributes, Name};
use crate::overlay::{Describe, Markers, OldDirectory, OldStat, Overlay, Parts};
use crate::session::mount::FS_TYPE;
use crate::session::mount::bare::BareDirectory;
use crate::session::mount::mountinfo::mount_at;
use crate::session::mount::still_seen::CoveredDirectory;
use crate::session::takeover::fd_store::{self, KeptDescriptor};
use crate::session_state::SessionState;
use crate::store::{LateChanges, ObjectHeaders, ObjectStore, StoreLog};
use crate::vocabulary::Kind;

/// The log of what counts of the old directory, beside the journal.
fn marks(config: &Config) -> PathBuf {
    config.spool_dir.join("overlay")
}

/// Opens the old directory, which may be the one that is mounted over next, and has its
/// descriptor kept for a successor. To be called while there is one thread.
///
/// Errors: the directory's, unless its overlay has ended.
pub fn open(config: &Config) -> anyhow::Result<Option<OldDirectory>> {
    let Some(path) = &config.overlay else {
        return Ok(None);
    };
    if let Some(kept) = fd_store::inherited(KeptDescriptor::OldDirectory) {
        return Ok(Some(OldDirectory::new(path, kept)));
    }
    let opened = open_directory(path);
    let is_needed = || Ok::<_, anyhow::Error>(Overlay::has_ended(&marks(config))?.is_none());
    let root = match opened {
        Err(_) if !is_needed()? => return Ok(None),
        opened => opened.with_context(|| format!("--overlay {}", path.display()))?,
    };
    if fd_store::is_present() {
        fd_store::keep(KeptDescriptor::OldDirectory, &root)
            .context("the descriptor store does not answer")?;
    }
    Ok(Some(OldDirectory::new(path, root)))
}

/// Below a mount of ours that covers it, where there is one.
fn open_directory(path: &Path) -> std::io::Result<std::os::fd::OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let covered = mount_at(path)?.is_some_and(|entry| entry.fs_type == FS_TYPE);
    if covered {
        return Ok(BareDirectory::open(path)?.into_fd());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Whether the mountpoint itself is the old directory.
pub fn is_of(config: &Config, mountpoint: &Path) -> bool {
    let old = config.overlay.as_ref();
    old.is_some_and(|old| {
        old == mountpoint || std::fs::canonicalize(old).is_ok_and(|it| it == mountpoint)
    })
}

/// Where the old directory can still be seen once the mount covers it; none where it is
/// another directory.
pub fn still_seen(config: &Config, overlay: &Overlay) -> Option<CoveredDirectory> {
    if !is_of(config, &config.mountpoint) {
        return None;
    }
    let covered = CoveredDirectory::of(overlay.old_directory().root());
    let error = match covered {
        Ok(covered) => return Some(covered),
        Err(error) => error,
    };
    tracing::debug!(%error, "it is not known who still sees the old directory");
    None
}

/// What counted of an old directory counted below another bucket. Errors: the disk's.
fn forget(config: &Config) -> anyhow::Result<()> {
    match std::fs::remove_file(marks(config)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.context("the log of an overlay cannot be removed"),
    }
}

/// What the mount's store and its log are.
pub struct Stacked {
    pub store: Arc<dyn ObjectStore>,
    pub log: Arc<dyn StoreLog>,
    pub overlay: Option<Arc<Overlay>>,
}

/// What is known of a predecessor.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    pub is_resumed: bool,
    /// Its bucket or prefix was another.
    of_another_place: bool,
}

impl Before {
    pub fn new(saved: &SessionState, of_another_place: bool) -> Self {
        Self {
            is_resumed: saved.session.is_some(),
            of_another_place,
        }
    }
}

/// What a predecessor has left that may know old versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Nothing,
    Something,
}

fn waits(journal: &Journal, before: Before) -> Waits {
    let is_idle = journal.known().is_empty()
        && journal.pending_deletes().is_empty()
        && journal.renames().is_empty();
    match is_idle && !before.is_resumed {
        true => Waits::Nothing,
        false => Waits::Something,
    }
}

/// Puts the overlay over the bucket, where there is one that has not ended, or that what
/// waits refers to.
///
/// Errors: an overlay was begun and is not asked for; its log.
pub fn stack(
    config: &Config,
    (store, late): (&Arc<dyn ObjectStore>, &LateChanges),
    journal: &Arc<Journal>,
    old: Option<OldDirectory>,
    (before, types): (Before, ContentTypes),
) -> anyhow::Result<Stacked> {
    if before.of_another_place {
        forget(config)?;
    }
    let waits = waits(journal, before);
    let path = marks(config);
    let ended = Overlay::has_ended(&path)?;
    let plain = || Stacked {
        store: store.clone(),
        log: journal.clone(),
        overlay: None,
    };
    let Some(old) = old else {
        if let Some(began) = Overlay::unfinished(&path)? {
            bail!(
                "the overlay of {began} has not ended, and what is there alone would not be seen: mount with --overlay {began}"
            );
        }
        if let (Some(began), Waits::Something) = (&ended, waits) {
            bail!(
                "the overlay of {began} has ended, and uploads or renames that began before wait in the spool: mount with --overlay {began} once more"
            );
        }
        return Ok(plain());
    };
    if ended.is_some() && waits == Waits::Nothing {
        let dir = old.path().display();
        tracing::info!(%dir, "the overlay has ended: the old directory is not used any more, and --overlay not needed");
        return Ok(plain());
    }
    let parts = Parts {
        store: store.clone(),
        late: late.clone(),
        uploads: journal.clone(),
        prefix: config.prefix.clone(),
        describe: describe(config.attributes.mode, types),
        part_bytes: config.part_size_bytes,
        markers: match config.dir_markers {
            DirMarkersConfig::Never => Markers::Unwanted,
            DirMarkersConfig::Auto | DirMarkersConfig::Always => Markers::Wanted,
        },
    };
    let overlay = Arc::new(Overlay::open(parts, old, &path)?);
    Ok(Stacked {
        store: overlay.store(),
        log: overlay.log(journal.clone()),
        overlay: Some(overlay),
    })
}

/// What an import stores with an object.
fn describe(mode: AttributesMode, types: ContentTypes) -> Describe {
    Arc::new(move |path, stat| {
        let name = path.rsplit('/').next().and_then(Name::from_segment);
        let headers = ObjectHeaders {
            content_type: name.and_then(|name| types.of(&name)),
            ..ObjectHeaders::default()
        };
        match mode {
            AttributesMode::Fixed => headers,
            AttributesMode::Stored => stored(stat, headers),
        }
    })
}

fn stored(stat: &OldStat, headers: ObjectHeaders) -> ObjectHeaders {
    let attributes = Attributes {
        mode: Some((stat.mode & 0o7777) as u16),
        uid: Some(stat.uid),
        gid: Some(stat.gid),
        mtime: Some(stat.modified()),
        headers: headers.clone(),
        ..Attributes::default()
    };
    // They fit: there are no extended attributes.
    attributes.encode(Kind::File).unwrap_or(headers)
}
