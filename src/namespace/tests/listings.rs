//! Listings: what is asked for, and what is known afterwards.

use super::*;
use crate::namespace::listing::LOOKED_AT_LIMIT;

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
async fn a_large_directory_is_listed_whole_and_once_and_then_asked_name_by_name() {
    let world = World::new(DirMarkers::Auto);
    for i in 0..2500 {
        world.put(&format!("p/f{i:04}"), "x").await;
    }
    world.put("p/f0999/twin", "x").await;
    let mut stream = DirStream::new(world.root());
    let mut listed = Vec::new();
    while let Some(entries) = next_entries(&world.names, &mut stream).await.unwrap() {
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
async fn a_listing_that_failed_is_no_empty_one_when_it_is_read_on() {
    let world = World::new(DirMarkers::Auto);
    world.put("p/a", "x").await;
    let unreachable = Fault::Before(StoreErrorKind::Unreachable);
    world.store.plan(StoreOp::List, 1, unreachable);
    let root = world.root();
    let _in_use = world.names.create_local(&root, &name("b"), Kind::File);
    let mut stream = DirStream::new(root);
    assert!(next_entries(&world.names, &mut stream).await.is_err());
    let entries = next_entries(&world.names, &mut stream).await.unwrap();
    assert_eq!(entries.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_uploaded_and_forgotten_while_it_is_listed_stays_in_the_listing() {
    let world = World::new(DirMarkers::Auto);
    let root = world.root();
    let file = world.names.create_local(&root, &name("a"), Kind::File);
    let file = file.unwrap();
    let mut stream = DirStream::new(world.root());
    let listed = next_entries(&world.names, &mut stream)
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
    let admitted = admit_listed(&world.names, &root, &listed[0]).unwrap();
    assert_eq!(admitted.state().size_bytes(), 5);
    drop(admitted);
    world.names.record(ROOT, &name("a"), None);
    assert!(
        admit_listed(&world.names, &root, &listed[0]).is_none(),
        "removed"
    );
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
            let version = stored_version(&world.names, &pin, &name("new")).await;
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
        let found = files_after(&world.names, (ROOT, &name(text)), &(1..=2), limit);
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

/// What a lookup asks for after a listing during which this happens.
async fn asked_after_a_listing(files: usize, meanwhile: impl Fn(&World)) -> u64 {
    let world = World::new(DirMarkers::Auto);
    for number in 0..files {
        world.put(&format!("p/f{number:04}"), "x").await;
    }
    let late = Fault::Late(Duration::from_secs(2));
    world.store.plan(StoreOp::List, 1, late);
    let mut stream = DirStream::new(world.root());
    let listed = next_entries(&world.names, &mut stream);
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        meanwhile(&world);
    };
    let (listed, ()) = tokio::join!(listed, meanwhile);
    assert!(!listed.unwrap().unwrap().is_empty());
    let asked = || world.lists() + world.store.seen(StoreOp::Head);
    let before = asked();
    world.lookup(&world.root(), "f0000").await.unwrap();
    asked() - before
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_was_asked_for_before_a_doubt_counts_no_more() {
    for files in [2, 2500] {
        let forgotten = |world: &World| world.root().state().dir.forget_listing();
        assert!(asked_after_a_listing(files, forgotten).await > 0, "{files}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_is_under_way_when_there_is_no_room_for_the_last_one_counts() {
    for files in [2, 2500] {
        let evicted = |world: &World| {
            world.names.listing_remembered(ROOT, 1);
            world.names.listing_remembered(Ino(7), 200_000);
        };
        assert_eq!(asked_after_a_listing(files, evicted).await, 0, "{files}");
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
        let first = next_entries(&world.names, &mut stream).await.unwrap();
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
            let next = next_entries(&world.names, &mut stream);
            let (next, ()) = tokio::join!(next, moves);
            listed.extend(next.unwrap().unwrap());
        } else {
            world.move_files(&dir, FILES).await;
        }
        while let Some(entries) = next_entries(&world.names, &mut stream).await.unwrap() {
            listed.extend(entries);
        }
        let listed: Vec<&str> = listed.iter().map(|entry| entry.name.as_str()).collect();
        let expected: Vec<String> = (0..FILES).map(|number| format!("f{number:04}")).collect();
        assert_eq!(listed, expected, "{is_under_way}");
    }
}
