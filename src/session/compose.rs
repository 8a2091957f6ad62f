//! From configuration to parts, and what to say when the bucket cannot be used.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, anyhow};

use crate::config::{
    AttributesMode, Config, DirMarkersConfig, DurabilityConfig, ExclusiveCreateConfig,
};
use crate::files::{ContentTypes, Durability, FixedAttributes};
use crate::journal::Journal;
use crate::namespace::{
    AttributeCache, Coherence, DirMarkers, Invalidations, KeySpace, NameStore, Namespace, Origin,
    Session,
};
use crate::ops::{self, Access, ExclusiveCreate, Ops, OpsSettings, Parts};
use crate::overlay::{OldDirectory, Overlay};
use crate::read_path::Reader;
use crate::session::overlay::{self, Before};
use crate::session::probe::Probed;
use crate::session::takeover::access;
use crate::session::takeover::inherited::{InheritedSession, StartupCheck};
use crate::session::{app_folder, explain, probe, reading};
use crate::session_state::{SavedAccess, SessionLog, SessionState};
use crate::store::s3::S3Store;
use crate::store::{
    ChangeLog, Conditional, DeleteQueue, FoldDirectories, Key, KnownAbilities, LateChanges,
    LateObject, ListRequest, Metered, ObjectStore, RecoveredWork, RequestCounters, Retry,
    StoreHealth, StoreLog, UploadId,
};
use crate::task::kept_up;
use crate::write_path::{
    Copier, CopyPartSize, PartSize, Place, Recovered, Scratch, Spool, Stage, Uploader,
};

/// A bucket that answers, as far as it was asked.
#[derive(Debug)]
pub struct Connected {
    pub store: Arc<dyn ObjectStore>,
    /// The same, with conditions as they are.
    asked: Arc<dyn ObjectStore>,
    /// What the store's requests tell of S3.
    pub health: StoreHealth,
    /// Reads its credentials again when told to.
    pub s3: Arc<S3Store>,
    /// What changes can rely on.
    pub late: LateChanges,
    /// Objects that requests without an answer may make, and nobody wants.
    unwanted: Vec<Key>,
}

/// Where the mount's objects are.
pub fn place(config: &Config, s3: &S3Store) -> Place {
    Place {
        bucket: config.bucket.clone(),
        prefix: config.prefix.clone(),
        endpoint: Some(s3.endpoint().clone()),
    }
}

/// A store for the configured bucket.
pub async fn connect(
    config: &Config,
    s3: Arc<S3Store>,
    counters: Arc<RequestCounters>,
    asking: StartupCheck,
) -> anyhow::Result<Connected> {
    let health = StoreHealth::default();
    let metered = Arc::new(Metered::new(s3.clone(), counters.clone()));
    let retry = || {
        let retry = Retry::new(metered.clone(), config.s3.request_timeout, health.clone());
        retry.counted_by(counters.clone())
    };
    let store = Arc::new(retry());
    let unanswered = store.unanswered().clone();
    let connected = |probed: Probed| {
        let abilities = Arc::new(KnownAbilities::new(probed.abilities));
        let late = LateChanges::new(unanswered.clone(), abilities);
        Connected {
            store: Arc::new(Conditional::new(store.clone(), late.clone())),
            asked: store.clone(),
            health: health.clone(),
            s3: s3.clone(),
            late,
            unwanted: probed.unanswered,
        }
    };
    if let StartupCheck::Nothing(abilities) = asking {
        return Ok(connected(Probed {
            abilities,
            ..Probed::default()
        }));
    }
    let listing = ListRequest {
        prefix: config.prefix.clone(),
        fold_directories: FoldDirectories::Yes,
        token: None,
        max_keys: 1,
    };
    store
        .list(listing)
        .await
        .map_err(|error| explain::of_listing(&error, config, s3.endpoint()))?;
    if access::configured(config) == Access::ReadOnly {
        return Ok(connected(Probed::default()));
    }
    // A mount does not wait for a store that takes no objects: it is asked again later.
    let probed = probe::abilities(&retry().with_few_attempts(), &config.prefix).await;
    app_folder::provide(&*store, config, &probed).await;
    probe::warn_of_missing(&probed.abilities);
    probe::warn_of_refused_writes(&probed);
    Ok(connected(probed))
}

/// The file system over a checked store, and the uploads that it has in the background.
pub async fn compose(
    config: &Config,
    connected: &Connected,
    invalidations: Invalidations,
    (inherited, old): (InheritedSession, Option<OldDirectory>),
) -> anyhow::Result<(Arc<Ops>, Option<Arc<Overlay>>)> {
    let InheritedSession {
        placed,
        session_log,
        saved,
    } = inherited;
    let part_size = PartSize::new(config.part_size_bytes);
    let part_size = part_size.context("--part-size must be from 5MiB to 512MiB")?;
    let copy_part_size = CopyPartSize::new(config.copy_part_size_bytes);
    let copy_part_size = copy_part_size.context("--copy-part-size must be from 5MiB to 5GiB")?;
    let limit = config.spool_limit_bytes;
    let (place, place_before) = placed.names();
    let of_another_place = placed.is_new_to_place();
    let (spool, left) = Spool::resume(placed, limit, session_log.clone(), &saved)?;
    let journal = spool.journal().clone();
    let undone = RecoveredWork {
        pending: journal.pending_deletes(),
        late: late_objects(&journal, of_another_place),
    };
    let orphans = orphans(&journal, of_another_place, &left);
    record_changes(connected, &journal, of_another_place);
    let before = Before::new(&saved, of_another_place);
    let types = content_types(config, before.is_resumed)?;
    let bucket = (&connected.store, &connected.late);
    let stacked = overlay::stack(config, bucket, &journal, old, (before, types.clone()))?;
    let store = DeleteQueue::new(
        stacked.store,
        stacked.log,
        config.s3.request_timeout,
        undone,
        connected.late.clone(),
    );
    let store = Arc::new(store.with_clock(connected.s3.clock().clone()));
    for key in &connected.unwanted {
        store.late().watch_for(key.clone(), LateObject::any());
    }
    ask_again(config, connected, &store);
    let origin = Origin {
        store: store.clone(),
        health: connected.health.clone(),
        late: connected.late.clone(),
    };
    let kept = KeptOfPlace::open(config, (&place, place_before.as_deref()), &saved)?;
    let namespace = names(config, origin, invalidations, kept, session_log.clone());
    let reading = reading::settings(config, &place)?;
    let scratch = Scratch::new(store.clone(), &config.prefix);
    let uploader = uploader(config, &scratch, &store, (part_size, copy_part_size));
    abort(&uploader, orphans, stacked.overlay.as_deref());
    let parts = Parts {
        namespace,
        reader: Arc::new(Reader::new(store.clone(), reading)),
        spool,
        copier: Copier::new(store.clone(), copy_part_size, uploader.written_headers()),
        scratch,
        uploader,
        store,
        session_log,
        mounted_at: mounted_at(&saved),
    };
    tokio::spawn(parts.store.clone().run());
    let ops = Ops::new(parts, ops_settings(config, place, types, &saved));
    ops.namespace().table().keep_numbers(&saved);
    ops::take_over(&ops, saved, left);
    Ok((Arc::new(ops), stacked.overlay))
}

/// Has the store asked for what is not known of it.
fn ask_again(config: &Config, connected: &Connected, delete_queue: &Arc<DeleteQueue>) {
    if access::configured(config) == Access::ReadOnly {
        return;
    }
    let asker = probe::Asker {
        store: connected.asked.clone(),
        prefix: config.prefix.clone(),
        health: connected.health.clone(),
        late: connected.late.clone(),
        delete_queue: delete_queue.clone(),
    };
    tokio::spawn(kept_up("ask the store", move || asker.clone().run()));
    let late = connected.late.clone();
    let (store, health) = (connected.asked.clone(), connected.health.clone());
    tokio::spawn(kept_up("ask for what was given up", move || {
        late.clone().ask_for_unheard(store.clone(), health.clone())
    }));
}

fn uploader(
    config: &Config,
    scratch: &Scratch,
    store: &Arc<DeleteQueue>,
    (part_size, copy_part_size): (PartSize, CopyPartSize),
) -> Uploader {
    let concurrency = config.memory.upload_concurrency;
    Uploader::new(store.clone(), part_size, copy_part_size, concurrency)
        .with_scratch(scratch.clone())
        .with_known_headers(config.ttl)
}

/// When the kernel's session began.
fn mounted_at(saved: &SessionState) -> SystemTime {
    let session = saved.session.as_ref();
    session.map_or_else(SystemTime::now, |session| session.mounted_at)
}

/// Has the journal told of changes, and waits for those that a predecessor sent.
fn record_changes(connected: &Connected, journal: &Arc<Journal>, of_another_place: bool) {
    let mut left = journal.sent();
    if of_another_place {
        for request in std::mem::take(&mut left).unanswered {
            journal.answered(request.number);
        }
        journal.unknown_over();
    }
    connected.late.recorded_by(journal.clone(), left);
}

/// What requests of a predecessor may still make, and nobody wants.
fn late_objects(journal: &Journal, of_another_place: bool) -> Vec<(Key, LateObject)> {
    let mut late = journal.late_objects();
    if of_another_place {
        for (key, _) in late.drain(..) {
            journal.forget_late(&key);
        }
    }
    late
}

/// Multipart uploads that no stage resumes.
fn orphans(journal: &Journal, of_another_place: bool, left: &Recovered) -> Vec<(Key, UploadId)> {
    let mut uploads = journal.uploads();
    if of_another_place {
        // Aborted here they would be others' with the same name.
        for (key, upload) in uploads.drain(..) {
            tracing::warn!(%key, "an unfinished multipart upload is left in the place that the spool belonged to");
            journal.upload_ended(key, upload);
        }
    }
    let goes_on = |upload: &UploadId| {
        let mut sending = left.sealed.iter().filter_map(|it| it.sending.as_ref());
        let of_open = left.open.values().map(Stage::file);
        let mut files = left.sealed.iter().map(|it| &it.file).chain(of_open);
        sending.any(|sending| sending.upload == *upload)
            || files.any(|file| {
                file.offloaded()
                    .get()
                    .is_some_and(|it| it.upload == *upload)
            })
    };
    uploads.retain(|(_, upload)| !goes_on(upload));
    uploads
}

/// But for those that the import of an old directory resumes.
fn abort(uploader: &Uploader, orphans: Vec<(Key, UploadId)>, overlay: Option<&Overlay>) {
    for (key, upload) in orphans {
        if overlay.is_some_and(|overlay| overlay.takes_over(&key, &upload)) {
            continue;
        }
        tracing::info!(%key, "aborting an unfinished multipart upload of the predecessor");
        uploader.abort_later(key, upload);
    }
}

/// What is kept of a place on the local disk.
struct KeptOfPlace {
    attributes: Option<AttributeCache>,
    names: Arc<NameStore>,
}

impl KeptOfPlace {
    /// `place` as it is called now, and before it moved.
    fn open(
        config: &Config,
        place: (&str, Option<&str>),
        saved: &SessionState,
    ) -> anyhow::Result<Self> {
        let (place, before) = place;
        let attributes = match config.attributes.mode {
            AttributesMode::Fixed => None,
            // The spool's lock keeps others away from here too: each mount has one of both.
            AttributesMode::Stored => {
                let path = config.cache_dir.join("attributes");
                Some(AttributeCache::open(&path, place)?)
            }
        };
        let session = match saved.session {
            Some(_) => Session::Resumed,
            None => Session::New,
        };
        let path = config.spool_dir.join("names");
        let names = Arc::new(NameStore::open(&path, place, before, session));
        Ok(Self { attributes, names })
    }
}

fn names(
    config: &Config,
    origin: Origin,
    invalidations: Invalidations,
    kept: KeptOfPlace,
    session_log: Arc<SessionLog>,
) -> Namespace {
    let written = Arc::downgrade(&kept.names);
    tokio::spawn(kept_up("write names", move || {
        NameStore::run(written.clone())
    }));
    Namespace::new(
        origin,
        KeySpace::new(config.prefix.clone()),
        Coherence {
            ttl: config.ttl,
            negative_ttl: config.negative_ttl,
            stale_ttl: config.stale_ttl,
        },
        match config.dir_markers {
            DirMarkersConfig::Auto => DirMarkers::Auto,
            DirMarkersConfig::Always => DirMarkers::Always,
            DirMarkersConfig::Never => DirMarkers::Never,
        },
        invalidations,
        (kept.attributes, kept.names),
        session_log,
    )
}

/// Errors: the file of content types; not where programs have files open, which need a daemon more.
fn content_types(config: &Config, is_resumed: bool) -> anyhow::Result<ContentTypes> {
    let Some(path) = &config.mime else {
        return Ok(ContentTypes::default());
    };
    let types = ContentTypes::read(path).map_err(|why| anyhow!("--mime {}: {why}", path.display()));
    match types {
        Err(error) if is_resumed => {
            tracing::error!("{error:#}: the built-in content types are used");
            Ok(ContentTypes::default())
        }
        types => types,
    }
}

fn ops_settings(
    config: &Config,
    place: String,
    content_types: ContentTypes,
    saved: &SessionState,
) -> OpsSettings {
    OpsSettings {
        place,
        content_types,
        attributes: FixedAttributes {
            uid: config.attributes.uid,
            gid: config.attributes.gid,
            file_mode: config.attributes.file_mode,
            dir_mode: config.attributes.dir_mode,
        },
        // The kernel takes no change of what was mounted read-only, until somebody
        // remounts it.
        access: match access::of(config, saved.session.as_ref()) {
            SavedAccess::Writable | SavedAccess::ReadOnly => Access::ReadWrite,
            SavedAccess::Refused => Access::ReadOnly,
        },
        durability: match config.durability {
            DurabilityConfig::S3 => Durability::S3,
            DurabilityConfig::Disk => Durability::Disk,
        },
        max_wait: config.s3.request_timeout,
        max_rename_objects: config.max_rename_objects,
        exclusive_create: match config.exclusive_create {
            ExclusiveCreateConfig::Lazy => ExclusiveCreate::Lazy,
            ExclusiveCreateConfig::Strict => ExclusiveCreate::Strict,
        },
    }
}
