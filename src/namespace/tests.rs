//! Names against a store in memory: what is asked, how often, and what it leads to.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::advance;

use super::*;
use crate::store::faulty::Faulty;
use crate::store::memory::Memory;
use crate::store::{ObjectHeaders, PutRequest, StoreOp, WriteCondition};

const TTL: Duration = Duration::from_secs(60);
const NEGATIVE_TTL: Duration = Duration::from_secs(1);

struct World {
    store: Arc<Faulty>,
    names: Namespace,
    _kernel: tokio::sync::mpsc::Receiver<Invalidation>,
}

impl World {
    fn new(markers: DirMarkers) -> Self {
        let store = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let (invalidations, kernel) = Invalidations::channel();
        let coherence = Coherence {
            ttl: TTL,
            negative_ttl: NEGATIVE_TTL,
        };
        let keys = KeySpace::new("p/");
        let names = Namespace::new(
            store.clone(),
            keys,
            coherence,
            markers,
            invalidations,
            None,
            Arc::default(),
        );
        Self {
            store,
            names,
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
        Err(FsError::NotFound)
    ));
    world.put("p/a", "x").await;
    assert!(matches!(
        world.lookup(&root, "a").await,
        Err(FsError::NotFound)
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
    world
        .names
        .persist_directory(&root, &name("d"), &dir)
        .await
        .unwrap();
    let marker = || {
        world.store.head(crate::store::HeadRequest {
            key: Key::new("p/d/"),
        })
    };
    assert!(marker().await.is_ok());
    world.put("p/d/f", "x").await;
    world.names.child_arrived(&dir).await.unwrap();
    assert!(marker().await.is_err());
    world.names.child_leaves(&dir, &name("f")).await.unwrap();
    assert!(marker().await.is_ok(), "before the last key goes");
    assert!(matches!(
        world.names.check_empty(&dir).await,
        Err(FsError::NotEmpty)
    ));
    world.store.delete(Key::new("p/d/f")).await.unwrap();
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
