//! Names against a store in memory: what is asked, how often, and what it leads to.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::advance;

use super::marker::Stored;
use super::*;
use crate::store::faulty::{Fault, Faulty};
use crate::store::memory::Memory;
use crate::store::{
    DeleteRequest, HeadRequest, ObjectHeaders, PutRequest, StoreError, StoreErrorKind, StoreOp,
    WriteCondition,
};
use crate::vocabulary::Overrides;

const TTL: Duration = Duration::from_secs(60);
const NEGATIVE_TTL: Duration = Duration::from_secs(1);
const STALE_TTL: Duration = Duration::from_secs(3600);

struct World {
    store: Arc<Faulty>,
    names: Namespace,
    health: StoreHealth,
    _kernel: tokio::sync::mpsc::Receiver<Invalidation>,
}

impl World {
    fn new(markers: DirMarkers) -> Self {
        Self::with_cache(markers, None)
    }

    /// Attributes are stored where they are cached.
    fn with_cache(markers: DirMarkers, cache: Option<AttributeCache>) -> Self {
        let store = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let (invalidations, kernel) = Invalidations::channel();
        let coherence = Coherence {
            ttl: TTL,
            negative_ttl: NEGATIVE_TTL,
            stale_ttl: STALE_TTL,
        };
        let keys = KeySpace::new("p/");
        let health = StoreHealth::default();
        let origin = Origin {
            store: store.clone(),
            health: health.clone(),
        };
        let names = Namespace::new(
            origin,
            keys,
            coherence,
            markers,
            invalidations,
            (cache, Arc::default()),
            Arc::default(),
        );
        Self {
            store,
            names,
            health,
            _kernel: kernel,
        }
    }

    async fn put(&self, key: &str, bytes: &'static str) {
        let request = PutRequest {
            key: Key::new(key),
            body: Bytes::from_static(bytes.as_bytes()),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::Always,
        };
        self.store.put(request).await.unwrap();
    }

    async fn lookup(&self, parent: &Pin, text: &str) -> Result<Pin, FsError> {
        self.names.lookup(parent, &name(text)).await
    }

    fn root(&self) -> Pin {
        self.names.inode(ROOT).unwrap()
    }

    /// From now on the store has no answer to any question.
    fn cut_off(&self) {
        for op in [StoreOp::List, StoreOp::Head] {
            for nth in self.store.seen(op) + 1..self.store.seen(op) + 100 {
                let silent = Fault::Before(StoreErrorKind::Unreachable);
                self.store.plan(op, nth, silent);
            }
        }
    }

    async fn listed(&self) -> Result<Vec<String>, FsError> {
        let mut stream = DirStream::new(self.root());
        let mut names = Vec::new();
        while let Some(entries) = self.names.next_entries(&mut stream).await? {
            names.extend(entries.iter().map(|entry| entry.name.as_str().to_owned()));
        }
        Ok(names)
    }

    async fn listed_in(&self, dir: Pin) -> Vec<String> {
        let mut stream = DirStream::new(dir);
        let mut names = Vec::new();
        while let Some(entries) = self.names.next_entries(&mut stream).await.unwrap() {
            names.extend(entries.iter().map(|entry| entry.name.as_str().to_owned()));
        }
        names
    }

    fn lists(&self) -> u64 {
        self.store.seen(StoreOp::List)
    }
}

fn name(text: &str) -> Name {
    Name::from_segment(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_listing_answers_for_every_name_of_a_directory_until_the_ttl() {
    let world = World::new(DirMarkers::Auto);
    for key in ["p/a", "p/b", "p/d/x"] {
        world.put(key, "x").await;
    }
    let root = world.root();
    for text in ["a", "b", "d", "a"] {
        world.lookup(&root, text).await.unwrap();
    }
    assert_eq!(world.lists(), 1);
    assert_eq!(world.store.seen(StoreOp::Head), 0);
    advance(TTL).await;
    world.lookup(&root, "a").await.unwrap();
    world.lookup(&root, "b").await.unwrap();
    assert_eq!(world.lists(), 2, "one page refreshes them all");
}

#[tokio::test(start_paused = true)]
async fn an_absent_name_is_asked_for_again_after_the_negative_ttl() {
    let world = World::new(DirMarkers::Auto);
    let root = world.root();
    assert!(matches!(
        world.lookup(&root, "a").await,
        Err(FsError::NotFound(_))
    ));
    world.put("p/a", "x").await;
    assert!(matches!(
        world.lookup(&root, "a").await,
        Err(FsError::NotFound(_))
    ));
    advance(NEGATIVE_TTL).await;
    assert_eq!(world.lookup(&root, "a").await.unwrap().kind, Kind::File);
}

#[tokio::test(start_paused = true)]
async fn a_listing_is_remembered_for_the_ttl_and_has_what_was_found_by_name_since() {
    let world = World::new(DirMarkers::Auto);
    world.put("p/a", "x").await;
    assert_eq!(world.listed().await.unwrap(), ["a"]);
    advance(NEGATIVE_TTL * 2).await;
    world.put("p/b", "x").await;
    assert_eq!(world.listed().await.unwrap(), ["a"]);
    assert_eq!(world.lists(), 1);
    world.lookup(&world.root(), "b").await.unwrap();
    assert_eq!(world.listed().await.unwrap(), ["a", "b"]);
    assert_eq!(world.lists(), 2, "the lookup's own");
    advance(TTL).await;
    assert_eq!(world.listed().await.unwrap(), ["a", "b"]);
    assert_eq!(world.lists(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_long_listing_has_what_was_found_by_name_since() {
    let world = World::new(DirMarkers::Auto);
    for i in 0..1500 {
        world.put(&format!("p/f{i:04}"), "x").await;
    }
    assert_eq!(world.listed().await.unwrap().len(), 1500);
    let asked = world.lists();
    advance(NEGATIVE_TTL * 2).await;
    world.put("p/new", "x").await;
    world.lookup(&world.root(), "new").await.unwrap();
    let looked = world.lists();
    let listed = world.listed().await.unwrap();
    assert!(listed.contains(&"new".to_owned()) && listed.len() == 1501);
    assert_eq!(
        world.lists(),
        looked,
        "no page is asked for again after {asked}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_in_use_keeps_its_version_when_another_client_replaces_it() {
    let world = World::new(DirMarkers::Auto);
    world.put("p/a", "first").await;
    let root = world.root();
    let in_use = world.lookup(&root, "a").await.unwrap();
    world.put("p/a", "second!").await;
    advance(TTL).await;
    let found = world.lookup(&root, "a").await.unwrap();
    assert_ne!(found.ino, in_use.ino);
    assert_eq!(in_use.state().size_bytes(), 5);
    assert_eq!(found.state().size_bytes(), 7);
    assert!(world.names.table().place(in_use.ino).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_nobody_uses_takes_the_new_version_over() {
    let world = World::new(DirMarkers::Auto);
    world.put("p/a", "first").await;
    let root = world.root();
    let known = world.lookup(&root, "a").await.unwrap();
    let (ino, generation) = (known.ino, known.state().content_generation);
    world.names.table().add_lookup(ino);
    drop(known);
    world.put("p/a", "second!").await;
    advance(TTL).await;
    let found = world.lookup(&root, "a").await.unwrap();
    assert_eq!(found.ino, ino);
    assert_eq!(found.state().size_bytes(), 7);
    assert_ne!(
        found.state().content_generation,
        generation,
        "cached pages are of another version"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_staged_here_stays_whatever_the_store_says() {
    let world = World::new(DirMarkers::Auto);
    let root = world.root();
    let staged = world
        .names
        .create_local(&root, &name("new"), Kind::File)
        .unwrap();
    advance(TTL).await;
    assert_eq!(world.lookup(&root, "new").await.unwrap().ino, staged.ino);
    assert_eq!(world.lists(), 0);
    let mut stream = DirStream::new(world.root());
    let listed = world
        .names
        .next_entries(&mut stream)
        .await
        .unwrap()
        .unwrap();
    let listed: Vec<_> = listed.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(listed, ["new"]);
}

#[tokio::test(start_paused = true)]
async fn a_marker_stands_exactly_while_the_directory_is_empty() {
    let world = World::new(DirMarkers::Auto);
    let root = world.root();
    let dir = world
        .names
        .create_local(&root, &name("d"), Kind::Directory)
        .unwrap();
    world.names.persist_directory(&root, &dir).await.unwrap();
    let marker = || {
        world.store.head(crate::store::HeadRequest {
            key: Key::new("p/d/"),
        })
    };
    assert!(marker().await.is_ok());
    world.put("p/d/f", "x").await;
    world.names.entry_added(&dir).await;
    assert!(marker().await.is_err());
    world
        .names
        .before_entry_removed(&dir, &name("f"))
        .await
        .unwrap();
    assert!(marker().await.is_ok(), "before the last key goes");
    assert!(matches!(
        world.names.check_empty(&dir).await,
        Err(FsError::NotEmpty)
    ));
    world
        .store
        .delete(DeleteRequest::any(Key::new("p/d/f")))
        .await
        .unwrap();
    world.names.check_empty(&dir).await.unwrap();
    world.names.remove_marker(&dir).await.unwrap();
    assert!(marker().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_large_directory_is_listed_whole_and_once_and_then_asked_name_by_name() {
    let world = World::new(DirMarkers::Auto);
    for i in 0..2500 {
        world.put(&format!("p/f{i:04}"), "x").await;
    }
    world.put("p/f0999/twin", "x").await;
    let mut stream = DirStream::new(world.root());
    let mut listed = Vec::new();
    while let Some(entries) = world.names.next_entries(&mut stream).await.unwrap() {
        listed.extend(entries.into_iter().map(|entry| (entry.name, entry.kind)));
    }
    assert_eq!(listed.len(), 2500);
    assert_eq!(world.lists(), 3);
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    listed.dedup_by(|a, b| a.0 == b.0);
    assert_eq!(listed.len(), 2500);
    assert_eq!(
        listed[999].1,
        Kind::Directory,
        "the directory wins over the file of its name"
    );
    world.lookup(&world.root(), "f2000").await.unwrap();
    assert_eq!(world.store.seen(StoreOp::Head), 0, "the listing tells");
    tokio::time::advance(TTL).await;
    world.lookup(&world.root(), "f2000").await.unwrap();
    assert_eq!(world.store.seen(StoreOp::Head), 1);
}

#[tokio::test(start_paused = true)]
async fn names_of_a_directory_that_is_too_large_to_be_remembered_are_known_once_listed() {
    const FILES: usize = 20_500;
    let world = World::new(DirMarkers::Auto);
    for number in 0..FILES {
        world.put(&format!("p/f{number:05}"), "x").await;
    }
    let root = world.root();
    assert_eq!(world.listed().await.unwrap().len(), FILES);
    let lists = world.lists();
    let asked = || (world.store.seen(StoreOp::Head), world.lists() - lists);
    // Not those at the end of a page, whose directory could follow.
    for number in (0..FILES).step_by(100) {
        world.lookup(&root, &format!("f{number:05}")).await.unwrap();
    }
    assert_eq!(asked(), (0, 0));
    let gone = DeleteRequest::any(Key::new("p/f00100"));
    world.store.delete(gone).await.unwrap();
    world.names.record(ROOT, &name("f00100"), None);
    let looked = world.lookup(&root, "f00100").await;
    assert!(matches!(looked, Err(FsError::NotFound(_))), "{looked:?}");
    advance(TTL).await;
    let before = asked();
    world.lookup(&root, "f00200").await.unwrap();
    assert_eq!(asked().0, before.0 + 1, "after the ttl");
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_what_was_known_goes_on_until_the_stale_ttl() {
    let world = World::new(DirMarkers::Auto);
    for key in ["p/a", "p/d/x"] {
        world.put(key, "x").await;
    }
    let root = world.root();
    let a = world.lookup(&root, "a").await.unwrap();
    world.cut_off();
    advance(TTL).await;
    assert_eq!(world.lookup(&root, "a").await.unwrap().ino, a.ino);
    assert!(world.names.revalidate(&a).await.unwrap());
    // Listed, but never looked at; and not there when it was listed.
    let d = world.lookup(&root, "d").await.unwrap();
    assert_eq!(d.kind, Kind::Directory);
    let absent = world.lookup(&root, "b").await;
    assert!(matches!(absent, Err(FsError::NotFound(_))), "{absent:?}");
    assert_eq!(world.listed().await.unwrap(), ["a", "d"]);
    // What nobody has asked for yet is not known to be absent.
    let inside = world.lookup(&d, "x").await;
    assert!(matches!(inside, Err(FsError::TimedOut(_))), "{inside:?}");
    advance(STALE_TTL).await;
    let late = world.lookup(&root, "a").await;
    assert!(matches!(late, Err(FsError::TimedOut(_))), "{late:?}");
    let late = world.lookup(&root, "b").await;
    assert!(matches!(late, Err(FsError::TimedOut(_))), "{late:?}");
    assert!(world.listed().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_what_is_known_is_answered_without_asking() {
    let world = World::new(DirMarkers::Auto);
    world.put("p/a", "x").await;
    let root = world.root();
    world.lookup(&root, "a").await.unwrap();
    advance(TTL).await;
    let asked = world.lists();
    let silent = StoreError::new(StoreErrorKind::TimedOut, StoreOp::List, Key::new(""), "");
    for _ in 0..3 {
        world.health.note::<()>(StoreOp::List, &Err(silent.clone()));
    }
    world.lookup(&root, "a").await.unwrap();
    assert_eq!(world.listed().await.unwrap(), ["a"]);
    assert_eq!(world.lists(), asked);
    assert!(matches!(
        world.lookup(&root, "b").await,
        Err(FsError::NotFound(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_failed_is_no_empty_one_when_it_is_read_on() {
    let world = World::new(DirMarkers::Auto);
    world.put("p/a", "x").await;
    let unreachable = Fault::Before(StoreErrorKind::Unreachable);
    world.store.plan(StoreOp::List, 1, unreachable);
    let root = world.root();
    let _in_use = world.names.create_local(&root, &name("b"), Kind::File);
    let mut stream = DirStream::new(root);
    assert!(world.names.next_entries(&mut stream).await.is_err());
    let entries = world.names.next_entries(&mut stream).await.unwrap();
    assert_eq!(entries.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_uploaded_and_forgotten_while_it_is_listed_stays_in_the_listing() {
    let world = World::new(DirMarkers::Auto);
    let root = world.root();
    let file = world.names.create_local(&root, &name("a"), Kind::File);
    let file = file.unwrap();
    let mut stream = DirStream::new(world.root());
    let listed = world
        .names
        .next_entries(&mut stream)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(listed.len(), 1);
    let version = ObjectVersion {
        etag: crate::store::ETag::new("e"),
        size_bytes: 5,
        last_modified: SystemTime::now(),
    };
    file.state().local = None;
    world.names.record_uploaded(&file, version);
    drop(file);
    let admitted = world.names.admit(&root, &listed[0]).unwrap();
    assert_eq!(admitted.state().size_bytes(), 5);
    drop(admitted);
    world.names.record(ROOT, &name("a"), None);
    assert!(world.names.admit(&root, &listed[0]).is_none(), "removed");
}

#[tokio::test(start_paused = true)]
async fn a_tree_that_is_walked_is_listed_ahead_and_a_change_here_shows_in_it() {
    let world = World::new(DirMarkers::Auto);
    for number in 0..2000 {
        let key = format!("p/d{:03}/f{number:04}", number % 200);
        world.put(&key, "x").await;
    }
    let root = world.root();
    let dirs = world.listed_in(world.root()).await;
    assert_eq!((dirs.len(), world.lists()), (200, 1));
    let mut found = 0;
    for (number, dir) in dirs.iter().enumerate() {
        let pin = world.lookup(&root, dir).await.unwrap();
        if number == 50 {
            world.put(&format!("p/{dir}/new"), "x").await;
            let version = world.names.stored_version(&pin, &name("new")).await;
            let entry = Entry::File(version.unwrap().unwrap());
            world.names.record(pin.ino, &name("new"), Some(entry));
        }
        found += world.listed_in(pin).await.len();
    }
    assert_eq!(found, 2001);
    assert!(world.lists() <= 8, "{}", world.lists());
}

#[tokio::test(start_paused = true)]
async fn files_after_a_name_are_of_the_sizes_asked_for_and_looked_for_within_a_bound() {
    let world = World::new(DirMarkers::Auto);
    for key in ["p/a", "p/c1", "p/c2", "p/c3", "p/z"] {
        world.put(key, "x").await;
    }
    for number in 0..20 {
        world.put(&format!("p/b{number:02}"), "long").await;
    }
    for number in 0..LOOKED_AT_LIMIT {
        world.put(&format!("p/d{number:03}/f"), "x").await;
    }
    world.listed().await.unwrap();
    let after = |text: &str, limit| -> Vec<String> {
        let found = world
            .names
            .files_after((ROOT, &name(text)), &(1..=2), limit);
        found.iter().map(|it| it.key.to_string()).collect()
    };
    assert_eq!(
        after("a", 2),
        ["p/c1", "p/c2"],
        "past those that are longer"
    );
    assert_eq!(after("c1", 16), ["p/c2", "p/c3"], "and not without end");
    assert_eq!(after("d000", 16), ["p/z"]);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_was_asked_for_before_a_doubt_counts_no_more() {
    for files in [2, 2500] {
        let world = World::new(DirMarkers::Auto);
        for number in 0..files {
            world.put(&format!("p/f{number:04}"), "x").await;
        }
        let root = world.root();
        let late = Fault::Late(Duration::from_secs(2));
        world.store.plan(StoreOp::List, 1, late);
        let mut stream = DirStream::new(world.root());
        let listed = world.names.next_entries(&mut stream);
        let forgotten = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            root.state().dir.forget_listing();
        };
        let (listed, ()) = tokio::join!(listed, forgotten);
        assert!(!listed.unwrap().unwrap().is_empty());
        let asked = || world.lists() + world.store.seen(StoreOp::Head);
        let before = asked();
        world.lookup(&root, "f0000").await.unwrap();
        assert!(asked() > before, "{files}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_is_under_way_when_there_is_no_room_for_the_last_one_counts() {
    for files in [2, 2500] {
        let world = World::new(DirMarkers::Auto);
        for number in 0..files {
            world.put(&format!("p/f{number:04}"), "x").await;
        }
        let root = world.root();
        let late = Fault::Late(Duration::from_secs(2));
        world.store.plan(StoreOp::List, 1, late);
        let mut stream = DirStream::new(world.root());
        let listed = world.names.next_entries(&mut stream);
        let evicted = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.names.listing_remembered(ROOT, 1);
            world.names.listing_remembered(Ino(7), 200_000);
        };
        let (listed, ()) = tokio::join!(listed, evicted);
        assert!(!listed.unwrap().unwrap().is_empty());
        let asked = || world.lists() + world.store.seen(StoreOp::Head);
        let before = asked();
        world.lookup(&root, "f0000").await.unwrap();
        assert_eq!(asked(), before, "{files}");
    }
}

#[tokio::test]
async fn what_another_client_stored_with_a_directory_since_a_takeover_stays() {
    let kept = tempfile::tempdir().unwrap();
    let cache = AttributeCache::open(&kept.path().join("attributes"), "here").unwrap();
    let world = World::with_cache(DirMarkers::Auto, Some(cache));
    let attributes = |uid: u32| Attributes {
        mode: Some(0o755),
        uid: Some(uid),
        gid: Some(5),
        ..Attributes::default()
    };
    let store = async |uid: u32| {
        let headers = attributes(uid).encode(Kind::Directory).unwrap();
        let marker = world.names.put_marker_object(Key::new("p/d/"), headers);
        marker.await.unwrap();
    };
    store(7).await;
    // As a successor has it.
    let name = name("d");
    let dir = world
        .names
        .table()
        .child_or_new(ROOT, &name, Kind::Directory);
    let dir = dir.unwrap();
    dir.state().overrides = Overrides {
        mode: Some(0o755),
        uid: Some(7),
        gid: Some(5),
        ..Overrides::default()
    }
    .into();
    store(9).await;
    let asked = world.names.learn_attributes(&dir).await.unwrap();
    dir.state().overrides.mode = Some(0o700);
    let stored = world
        .names
        .store_directory_attributes(&dir, &|_| (), asked)
        .await;
    assert_eq!(stored.unwrap(), Stored::Marker);
    let key = Key::new("p/d/");
    let found = world.store.head(HeadRequest { key }).await.unwrap();
    let found = Attributes::decode(found.headers);
    assert_eq!(
        (found.mode, found.uid, found.gid),
        (Some(0o700), Some(9), Some(5))
    );
}

fn with_mode(mode: u16) -> Attributes {
    Attributes {
        mode: Some(mode),
        uid: Some(7),
        gid: Some(5),
        ..Attributes::default()
    }
}

/// By an upload of other bytes, or by a copy that changes the mode alone.
#[tokio::test(start_paused = true)]
async fn an_answer_undoes_nothing_that_was_stored_here_after_the_question() {
    for bytes in ["other", "bytes"] {
        for is_known in [true, false] {
            let kept = tempfile::tempdir().unwrap();
            let cache = AttributeCache::open(&kept.path().join("attributes"), "here").unwrap();
            let world = World::with_cache(DirMarkers::Auto, Some(cache));
            let store = async |bytes: &'static str, mode: u16| {
                let request = PutRequest {
                    key: Key::new("p/f"),
                    body: Bytes::from_static(bytes.as_bytes()),
                    headers: with_mode(mode).encode(Kind::File).unwrap(),
                    condition: WriteCondition::Always,
                };
                world.store.put(request).await.unwrap().etag
            };
            store("bytes", 0o600).await;
            let file = world.lookup(&world.root(), "f").await.unwrap();
            if !is_known {
                file.state().attributes = None;
            }
            let late = Fault::Late(Duration::from_millis(500));
            world
                .store
                .plan(StoreOp::Head, world.store.seen(StoreOp::Head) + 1, late);
            let upload = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let remote = file.state().remote.clone().unwrap();
                let version = ObjectVersion {
                    etag: store(bytes, 0o640).await,
                    ..remote
                };
                world.names.record_uploaded(&file, version);
                let headers = with_mode(0o640).encode(Kind::File).unwrap();
                let stored = Arc::new(Attributes::decode(headers));
                world.names.record_attributes(&file, stored);
            };
            let (asked, ()) = tokio::join!(world.names.ask_attributes(&file), upload);
            let mode = file.state().attributes.as_ref().and_then(|it| it.mode);
            assert_eq!(mode, Some(0o640), "{bytes} {is_known}");
            // Where it asked once more, that answer may count.
            let counts = asked.unwrap().counts(&file);
            assert!(!is_known || !counts, "{bytes}");
        }
    }
}

/// Meanwhile it was put and deleted: what is known of it is again that nothing is.
#[tokio::test(start_paused = true)]
async fn an_answer_tells_nothing_of_a_marker_that_was_changed_after_the_question() {
    let kept = tempfile::tempdir().unwrap();
    let cache = AttributeCache::open(&kept.path().join("attributes"), "here").unwrap();
    let world = World::with_cache(DirMarkers::Auto, Some(cache));
    let dir = world
        .names
        .table()
        .child_or_new(ROOT, &name("d"), Kind::Directory)
        .unwrap();
    let nth = world.store.seen(StoreOp::Head) + 1;
    let late = Fault::Late(Duration::from_millis(500));
    world.store.plan(StoreOp::Head, nth, late);
    let change = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let nth = world.store.seen(StoreOp::Put) + 1;
        let silent = Fault::Before(StoreErrorKind::Unreachable);
        world.store.plan(StoreOp::Put, nth, silent);
        world.names.put_marker(&dir).await.unwrap_err();
    };
    let (asked, ()) = tokio::join!(world.names.relearn_attributes(&dir), change);
    asked.unwrap();
    assert_eq!(dir.state().dir.marker(), Marker::Unknown);
}

impl World {
    /// Files of `p/d` get their keys of `p/e`, and the directory its name, as a rename has it.
    async fn move_files(&self, dir: &Pin, files: usize) {
        for number in 0..files {
            self.put(&format!("p/e/f{number:04}"), "x").await;
            let original = Key::new(format!("p/d/f{number:04}"));
            let original = DeleteRequest::any(original);
            self.store.delete(original).await.unwrap();
        }
        dir.state().dir.forget_listing();
        let table = self.names.table();
        table.rename(dir.ino, ROOT, &name("e")).unwrap();
    }

    async fn with_files(files: usize, ttl: Duration) -> (Self, Pin) {
        let world = Self::new(DirMarkers::Auto);
        world.names.set_coherence(Coherence {
            ttl,
            negative_ttl: ttl,
            stale_ttl: STALE_TTL,
        });
        for number in 0..files {
            world.put(&format!("p/d/f{number:04}"), "x").await;
        }
        let dir = world.lookup(&world.root(), "d").await.unwrap();
        (world, dir)
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_former_place_of_a_directory_is_asked_for_again() {
    let slow = Fault::Slow(Duration::from_secs(2));
    for (ttl, op) in [(TTL, StoreOp::List), (Duration::ZERO, StoreOp::Head)] {
        let (world, dir) = World::with_files(1, ttl).await;
        let pin = world.names.inode(dir.ino).unwrap();
        world.store.plan(op, world.store.seen(op) + 1, slow);
        let moves = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.move_files(&dir, 1).await;
        };
        if op == StoreOp::List {
            let (listed, ()) = tokio::join!(world.listed_in(pin), moves);
            assert_eq!(listed, ["f0000"]);
            let pin = world.names.inode(dir.ino).unwrap();
            assert_eq!(world.listed_in(pin).await, ["f0000"]);
        } else {
            let (found, ()) = tokio::join!(world.lookup(&pin, "f0000"), moves);
            found.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_directory_that_moves_between_two_pages_is_listed_whole_and_each_name_once() {
    const FILES: usize = 1001;
    for is_under_way in [false, true] {
        let (world, dir) = World::with_files(FILES, TTL).await;
        let mut stream = DirStream::new(world.names.inode(dir.ino).unwrap());
        let first = world.names.next_entries(&mut stream).await.unwrap();
        let mut listed = first.unwrap();
        if is_under_way {
            let slow = Fault::Slow(Duration::from_secs(2));
            world
                .store
                .plan(StoreOp::List, world.store.seen(StoreOp::List) + 1, slow);
            let moves = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                world.move_files(&dir, FILES).await;
            };
            let next = world.names.next_entries(&mut stream);
            let (next, ()) = tokio::join!(next, moves);
            listed.extend(next.unwrap().unwrap());
        } else {
            world.move_files(&dir, FILES).await;
        }
        while let Some(entries) = world.names.next_entries(&mut stream).await.unwrap() {
            listed.extend(entries);
        }
        let listed: Vec<&str> = listed.iter().map(|entry| entry.name.as_str()).collect();
        let expected: Vec<String> = (0..FILES).map(|number| format!("f{number:04}")).collect();
        assert_eq!(listed, expected, "{is_under_way}");
    }
}
