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

mod listings;
mod stored;

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
            late: LateChanges::default(),
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
        while let Some(entries) = next_entries(&self.names, &mut stream).await? {
            names.extend(entries.iter().map(|entry| entry.name.as_str().to_owned()));
        }
        Ok(names)
    }

    async fn listed_in(&self, dir: Pin) -> Vec<String> {
        let mut stream = DirStream::new(dir);
        let mut names = Vec::new();
        while let Some(entries) = next_entries(&self.names, &mut stream).await.unwrap() {
            names.extend(entries.iter().map(|entry| entry.name.as_str().to_owned()));
        }
        names
    }

    fn lists(&self) -> u64 {
        self.store.seen(StoreOp::List)
    }

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

fn name(text: &str) -> Name {
    Name::from_segment(text).unwrap()
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
    let listed = next_entries(&world.names, &mut stream)
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
    persist_directory(&world.names, &root, &dir).await.unwrap();
    let marker = || {
        world.store.head(crate::store::HeadRequest {
            key: Key::new("p/d/"),
        })
    };
    assert!(marker().await.is_ok());
    world.put("p/d/f", "x").await;
    entry_added(&world.names, &dir).await;
    assert!(marker().await.is_err());
    before_entry_removed(&world.names, &dir, &name("f"))
        .await
        .unwrap();
    assert!(marker().await.is_ok(), "before the last key goes");
    assert!(matches!(
        check_empty(&world.names, &dir).await,
        Err(FsError::NotEmpty)
    ));
    world
        .store
        .delete(DeleteRequest::any(Key::new("p/d/f")))
        .await
        .unwrap();
    check_empty(&world.names, &dir).await.unwrap();
    remove_marker(&world.names, &dir).await.unwrap();
    assert!(marker().await.is_err());
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
