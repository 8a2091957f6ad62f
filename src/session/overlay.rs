//! The overlay of a mount: its old directory, and the store that shows it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::config::{AttributesMode, Config, DirMarkersConfig};
use crate::files::ContentTypes;
use crate::journal::Journal;
use crate::namespace::{Attributes, Name};
use crate::overlay::{
    Describe, Marked, Markers, OldDirectory, OldStat, Overlay, Parts, Phase, ResumeUploads,
};
use crate::session::lease;
use crate::session::mount::FS_TYPE;
use crate::session::mount::bare::BareDirectory;
use crate::session::mount::mountinfo::mount_at;
use crate::session::mount::still_seen::CoveredDirectory;
use crate::session::takeover::fd_store::{self, KeptDescriptor};
use crate::session_state::SessionState;
use crate::store::{LateChanges, MarkerKeys, ObjectHeaders, ObjectStore, StoreLog};
use crate::vocabulary::Kind;

/// The log of what counts of the old directory, beside the journal.
fn marks(config: &Config) -> PathBuf {
    config.spool_dir.join("overlay")
}

/// Opens the old directory, which may be the one that is mounted over next, and has its
/// descriptor kept for a successor. To be called while there is one thread.
///
/// None where no overlay is asked for and none was begun, and where one has ended whose
/// directory cannot be opened.
/// Errors: the directory's, unless its overlay has ended; the log's.
pub fn open(config: &Config) -> anyhow::Result<Option<OldDirectory>> {
    let phase = Overlay::phase(&marks(config))?;
    let path = match (&config.overlay, &phase) {
        (Some(asked), _) => asked,
        (None, Phase::Begun(began) | Phase::Ended(began)) => began,
        (None, Phase::NotBegun | Phase::Over) => return Ok(None),
    };
    if let Some(kept) = fd_store::inherited(KeptDescriptor::OldDirectory) {
        // Programs wait: what is asked for now does not keep a successor from what it was.
        let path = match &phase {
            Phase::Begun(began) => began,
            Phase::NotBegun | Phase::Ended(_) | Phase::Over => path,
        };
        return Ok(Some(OldDirectory::new(path, kept)));
    }
    let is_needed = match phase {
        // It is asked for by its user, or not at all.
        Phase::Begun(_) if config.overlay.is_none() => return Ok(None),
        Phase::NotBegun | Phase::Begun(_) => true,
        Phase::Ended(_) | Phase::Over => false,
    };
    let root = match opened(path) {
        Err(_) if !is_needed => return Ok(None),
        root => root?,
    };
    if fd_store::is_present() {
        fd_store::keep(KeptDescriptor::OldDirectory, &root)
            .context("the descriptor store does not answer")?;
    }
    Ok(Some(OldDirectory::new(path, root)))
}

/// What keeps an overlay that is asked for from being opened. Errors: as `open`.
pub fn check(config: &Config) -> anyhow::Result<()> {
    let Some(path) = &config.overlay else {
        return Ok(());
    };
    match Overlay::phase(&marks(config))? {
        Phase::Ended(_) | Phase::Over => Ok(()),
        Phase::NotBegun | Phase::Begun(_) => opened(path).map(drop),
    }
}

fn opened(path: &Path) -> anyhow::Result<std::os::fd::OwnedFd> {
    let shown = || {
        let path = path.display();
        format!("--overlay {path}: name a directory that can be read")
    };
    open_directory(path).with_context(shown)
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
    old.is_some_and(|old| is_at(old, mountpoint))
}

fn is_at(old: &Path, mountpoint: &Path) -> bool {
    old == mountpoint || std::fs::canonicalize(old).is_ok_and(|it| it == mountpoint)
}

/// The old directory where the mount covers it; none where it is another directory.
pub fn covered(config: &Config, overlay: &Overlay) -> Option<CoveredDirectory> {
    if !is_at(overlay.old_directory().path(), &config.mountpoint) {
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

/// The old directory, if there is something that may know its versions. An overlay that
/// nothing needs any more is over from now on.
///
/// Errors: an overlay has not ended and is not asked for; its log.
fn needed(
    config: &Config,
    old: Option<OldDirectory>,
    waits: Waits,
) -> anyhow::Result<Option<OldDirectory>> {
    let path = marks(config);
    match (Overlay::phase(&path)?, old) {
        (Phase::NotBegun, old) => Ok(old.filter(|_| config.overlay.is_some())),
        (Phase::Begun(began), Some(old)) => {
            if config.overlay.is_none() {
                let dir = began.display();
                tracing::warn!(%dir, "the overlay has not ended, and the mount goes on with it although --overlay was left out: the next mount needs it");
            }
            Ok(Some(old))
        }
        (Phase::Begun(began), None) => {
            let began = began.display();
            bail!(
                "the overlay of {began} has not ended: files that only it has would be missing; mount with --overlay {began}"
            );
        }
        (Phase::Ended(began), old) if waits == Waits::Something => {
            let dir = began.display();
            tracing::info!(%dir, "the overlay has ended: uploads and renames that began before are finished with it");
            let removed = || OldDirectory::removed(&began, &config.spool_dir);
            let old = old.map_or_else(removed, Ok);
            Ok(Some(old.context("an overlay that has ended")?))
        }
        (phase @ (Phase::Ended(_) | Phase::Over), _) => {
            if let Phase::Ended(_) = phase
                && let Err(error) = Overlay::set_over(&path)
            {
                // The next mount that finds nothing writes it.
                tracing::warn!(%error, "cannot write the log of the overlay");
            }
            if let Some(dir) = config.overlay.as_ref().map(|dir| dir.display()) {
                tracing::info!(%dir, "the overlay has ended: the old directory is not used any more, and --overlay not needed");
            }
            Ok(None)
        }
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
    lease::ignore_breaks();
    let Some(old) = needed(config, old, waits(journal, before))? else {
        if fd_store::is_present() {
            fd_store::forget(KeptDescriptor::OldDirectory);
        }
        return Ok(Stacked {
            store: store.clone(),
            log: journal.clone(),
            overlay: None,
        });
    };
    let has_markers = config.dir_markers != DirMarkersConfig::Never
        && late.abilities().get().marker_keys != MarkerKeys::Refused;
    let stores_all = config.attributes.mode == AttributesMode::Stored && has_markers;
    let old = old.with_markers(match stores_all {
        true => Marked::All,
        false => Marked::Empty,
    });
    let parts = Parts {
        store: store.clone(),
        late: late.clone(),
        uploads: journal.clone(),
        prefix: config.prefix.clone(),
        describe: describe(config.attributes.mode, types),
        is_being_written: lease::is_being_written,
        part_bytes: config.part_size_bytes,
        markers: match has_markers {
            true => Markers::Wanted,
            false => Markers::Unwanted,
        },
        cut_off_uploads: match config.attributes.mode {
            AttributesMode::Fixed => ResumeUploads::Yes,
            AttributesMode::Stored => ResumeUploads::No,
        },
    };
    let overlay = Arc::new(Overlay::open(parts, old, &marks(config))?);
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
            AttributesMode::Stored => stored(kind_of(path), stat, headers),
        }
    })
}

/// Keys of directories end in `/`.
fn kind_of(path: &str) -> Kind {
    match path.ends_with('/') {
        true => Kind::Directory,
        false => Kind::File,
    }
}

fn stored(kind: Kind, stat: &OldStat, headers: ObjectHeaders) -> ObjectHeaders {
    let attributes = Attributes {
        mode: Some((stat.mode & 0o7777) as u16),
        uid: Some(stat.uid),
        gid: Some(stat.gid),
        mtime: Some(stat.modified()),
        headers: headers.clone(),
        ..Attributes::default()
    };
    // They fit: there are no extended attributes.
    attributes.encode(kind).unwrap_or(headers)
}
