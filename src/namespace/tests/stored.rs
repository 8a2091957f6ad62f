//! What is stored with objects and markers, beside what another client stores.

use super::*;

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
        let marker = put_marker_object(&world.names, Key::new("p/d/"), headers);
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
    let asked = learn_attributes(&world.names, &dir).await.unwrap();
    dir.state().overrides.mode = Some(0o700);
    let stored = store_directory_attributes(&world.names, &dir, &|_| (), asked).await;
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
                record_attributes(&world.names, &file, stored);
            };
            let (asked, ()) = tokio::join!(ask_attributes(&world.names, &file), upload);
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
        put_marker(&world.names, &dir).await.unwrap_err();
    };
    let (asked, ()) = tokio::join!(relearn_attributes(&world.names, &dir), change);
    asked.unwrap();
    assert_eq!(dir.state().dir.marker(), Marker::Unknown);
}
