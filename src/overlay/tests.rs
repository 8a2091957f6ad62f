use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::marks::{Made, Record, hash_of};
use super::*;
use crate::record_log::Durable;
use crate::store::faulty::{Fault, Faulty};
use crate::store::memory::Memory;
use crate::store::{
    CopyRequest, DeletePending, DeleteRequest, ETag, FoldDirectories, GetRequest, HeadRequest,
    ListRequest, MemoryLog, Placement, PutRequest, StoreOp, WriteCondition,
};
use crate::store::{Key, LateChanges, ObjectHeaders, StoreErrorKind};

/// Later than all that a test does meanwhile; the clock stands.
const LATE: Duration = Duration::from_secs(3600);

struct Both {
    dir: tempfile::TempDir,
    bucket: Arc<Memory>,
    /// The way to it.
    way: Arc<Faulty>,
    shown: Arc<OverlayStore>,
}

impl Both {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("old")).unwrap();
        let bucket = Arc::new(Memory::default());
        let way = Arc::new(Faulty::new(bucket.clone()));
        let shown = opened(dir.path(), &way);
        Self {
            dir,
            bucket,
            way,
            shown,
        }
    }

    /// As a successor finds it.
    fn again(self) -> Self {
        let Self { shown, .. } = self;
        drop(shown);
        let shown = opened(self.dir.path(), &self.way);
        Self { shown, ..self }
    }

    fn old(&self, path: &str, body: &str) {
        let path = self.dir.path().join("old").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, body).unwrap();
    }

    async fn put(
        &self,
        key: &str,
        body: &str,
        condition: WriteCondition,
    ) -> Result<ETag, StoreErrorKind> {
        put(&*self.shown, key, body, condition).await
    }

    async fn etag(&self, key: &str) -> Option<ETag> {
        let key = Key::new(key);
        let head = self.shown.head(HeadRequest { key }).await;
        head.ok().map(|meta| meta.etag)
    }

    async fn text(&self, key: &str) -> Option<String> {
        text(&*self.shown, key).await
    }

    async fn copy(&self, source: &str, version: &ETag, target: &str) -> ETag {
        let request = CopyRequest {
            source: Key::new(source),
            source_if_match: Some(version.clone()),
            size_bytes: 3,
            target: Key::new(target),
            condition: WriteCondition::IfAbsent,
            replace_headers: None,
            placement: Placement::default(),
        };
        self.shown.copy(request).await.unwrap().etag
    }

    async fn delete(&self, key: &str, etag: Option<ETag>) -> Result<(), StoreErrorKind> {
        let request = DeleteRequest {
            key: Key::new(key),
            if_match: etag,
        };
        self.shown.delete(request).await.map_err(|error| error.kind)
    }

    /// Answers of the next request of a kind come when all else stands still.
    fn late(&self, op: StoreOp) {
        self.plan(op, Fault::Late(LATE));
    }

    fn plan(&self, op: StoreOp, fault: Fault) {
        self.way.plan(op, self.way.seen(op) + 1, fault);
    }

    async fn import(&self) {
        let watch = watch::Watch::none();
        while !Import::new(&self.shown)
            .pass(&watch)
            .await
            .unwrap()
            .is_proof()
        {}
    }
}

fn opened(dir: &Path, way: &Arc<Faulty>) -> Arc<OverlayStore> {
    let path = dir.join("old");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let root = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
    let parts = Parts {
        is_being_written: |_| false,
        store: way.clone(),
        late: LateChanges::default(),
        uploads: Arc::new(MemoryLog::default()),
        prefix: "p/".to_owned(),
        describe: Arc::new(|_, _| ObjectHeaders::default()),
        part_bytes: 5 << 20,
        markers: Markers::Wanted,
        cut_off_uploads: ResumeUploads::Yes,
    };
    let old = OldDirectory::new(&path, root);
    let overlay = Overlay::open(parts, old, &dir.join("marks")).unwrap();
    overlay.store.clone()
}

async fn put(
    store: &dyn ObjectStore,
    key: &str,
    body: &str,
    condition: WriteCondition,
) -> Result<ETag, StoreErrorKind> {
    let request = PutRequest {
        key: Key::new(key),
        body: body.to_owned().into(),
        headers: ObjectHeaders::default(),
        condition,
    };
    let answer = store.put(request).await;
    answer.map(|answer| answer.etag).map_err(|error| error.kind)
}

async fn text(store: &dyn ObjectStore, key: &str) -> Option<String> {
    let request = GetRequest {
        key: Key::new(key),
        range: None,
        if_match: None,
        sink: None,
    };
    let answer = store.get(request).await.ok()?;
    Some(String::from_utf8(answer.body.to_vec()).unwrap())
}

/// All pages, in their order.
async fn listed(
    store: &dyn ObjectStore,
    prefix: &str,
    fold: FoldDirectories,
    max_keys: u16,
) -> Vec<String> {
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let request = ListRequest {
            prefix: prefix.to_owned(),
            fold_directories: fold,
            token,
            max_keys,
        };
        let answer = store.list(request).await.unwrap();
        let keys = answer
            .objects
            .iter()
            .map(|object| object.key.as_str().to_owned());
        let mut page: Vec<String> = keys.chain(answer.prefixes).collect();
        page.sort();
        found.extend(page);
        token = answer.next;
        if token.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn pages_of_whatever_length_have_every_key_of_both_once_and_in_order() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20 {
        let both = Both::new();
        let mut all = Memory::default();
        let mut below = BTreeSet::new();
        for _ in 0..random.usize(0..12) {
            let names = ["a", "a.b", "b", "c-"];
            let depth = random.usize(0..3);
            let above: String = (0..depth)
                .map(|_| format!("{}/", random.choice(["x", "x-", "y"]).unwrap()))
                .collect();
            let path = format!("{above}{}", random.choice(names).unwrap());
            if random.bool() {
                both.old(&path, "old");
                below.insert(path.clone());
            } else {
                put(
                    &*both.bucket,
                    &format!("p/{path}"),
                    "new",
                    WriteCondition::Always,
                )
                .await
                .unwrap();
            }
            put(&all, &format!("p/{path}"), "x", WriteCondition::Always)
                .await
                .unwrap();
        }
        for path in below.iter().filter(|_| random.u8(0..4) == 0) {
            both.delete(&format!("p/{path}"), None).await.unwrap();
            all.delete(DeleteRequest::any(Key::new(format!("p/{path}"))))
                .await
                .unwrap();
        }
        let all = std::mem::take(&mut all);
        for prefix in ["p/", "p/x", "p/x/", "p/x/y/", "p/b", "q"] {
            for fold in [FoldDirectories::Yes, FoldDirectories::No] {
                let want = listed(&all, prefix, fold, 1000).await;
                for max_keys in [1, 2, 3, 1000] {
                    let found = listed(&*both.shown, prefix, fold, max_keys).await;
                    assert_eq!(found, want, "{prefix} {fold:?} {max_keys}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_empty_directory_is_a_marker_and_one_whose_files_are_removed_is_not_there() {
    let both = Both::new();
    fs::create_dir_all(both.dir.path().join("old/empty/in")).unwrap();
    both.old("d/f", "f");
    let all = |prefix| listed(&*both.shown, prefix, FoldDirectories::No, 10);
    assert_eq!(all("p/").await, ["p/d/f", "p/empty/in/"]);
    assert_eq!(all("p/empty/in/").await, ["p/empty/in/"]);
    both.delete("p/d/f", both.etag("p/d/f").await)
        .await
        .unwrap();
    both.delete("p/empty/in/", None).await.unwrap();
    let folded = listed(&*both.shown, "p/", FoldDirectories::Yes, 10).await;
    assert!(folded.is_empty(), "{folded:?}");
}

#[tokio::test]
async fn conditions_on_an_old_version_hold_before_and_after_its_import() {
    for imported in [false, true] {
        let both = Both::new();
        both.old("f", "old");
        both.old("g", "old too");
        let (old, other) = (both.etag("p/f").await.unwrap(), ETag::new("other"));
        if imported {
            both.import().await;
            assert_eq!(text(&*both.bucket, "p/f").await.unwrap(), "old");
        }
        assert_eq!(
            both.etag("p/f").await.unwrap(),
            old,
            "an import is not seen"
        );
        let refused = Err(StoreErrorKind::PreconditionFailed);
        assert_eq!(
            both.put("p/f", "x", WriteCondition::IfAbsent).await,
            refused
        );
        assert_eq!(
            both.put("p/f", "x", WriteCondition::IfMatch(other.clone()))
                .await,
            refused
        );
        assert_eq!(
            both.delete("p/g", Some(ETag::new("old.1.2"))).await,
            Err(StoreErrorKind::PreconditionFailed)
        );
        let new = both
            .put("p/f", "new", WriteCondition::IfMatch(old.clone()))
            .await
            .unwrap();
        assert_eq!(both.etag("p/f").await.unwrap(), new);
        assert_eq!(
            both.put("p/f", "x", WriteCondition::IfMatch(old.clone()))
                .await,
            refused
        );
        assert_eq!(both.delete("p/f", Some(new)).await, Ok(()));
        let both = both.again();
        assert_eq!(both.text("p/f").await, None, "hidden, imported: {imported}");
        assert_eq!(both.text("p/g").await.unwrap(), "old too");
        both.put("p/f", "again", WriteCondition::IfAbsent)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_copy_of_an_old_version_is_known_for_it() {
    for imported in [false, true] {
        let both = Both::new();
        both.old("f", "old");
        let old = both.etag("p/f").await.unwrap();
        if imported {
            both.import().await;
        }
        assert_eq!(both.copy("p/f", &old, "p/g").await, old);
        both.delete("p/f", Some(old.clone())).await.unwrap();
        let both = both.again();
        assert_eq!(both.etag("p/g").await.unwrap(), old);
        assert_eq!(both.text("p/f").await, None);
        both.put("p/g", "new", WriteCondition::IfMatch(old))
            .await
            .unwrap();
        assert_eq!(text(&*both.bucket, "p/g").await.unwrap(), "new");
    }
}

#[tokio::test]
async fn what_another_client_removes_after_the_import_does_not_come_back() {
    let both = Both::new();
    both.old("f", "old");
    both.import().await;
    both.bucket
        .delete(DeleteRequest::any(Key::new("p/f")))
        .await
        .unwrap();
    assert_eq!(both.text("p/f").await, None);
    assert!(
        listed(&*both.shown, "p/", FoldDirectories::No, 10)
            .await
            .is_empty()
    );
    both.import().await;
    assert_eq!(text(&*both.bucket, "p/f").await, None);
}

#[tokio::test]
async fn a_removal_waits_for_the_turn_of_the_import_and_leaves_nothing() {
    let both = Both::new();
    both.old("f", "old");
    let old = both.etag("p/f").await.unwrap();
    let turn = both.shown.core.turns.take(hash_of("f")).await;
    let removal = both.delete("p/f", Some(old));
    let mut removal = std::pin::pin!(removal);
    assert!(futures::poll!(removal.as_mut()).is_pending());
    put(&*both.bucket, "p/f", "old", WriteCondition::IfAbsent)
        .await
        .unwrap();
    let there = both
        .shown
        .versions
        .head_above(&Key::new("p/f"))
        .await
        .unwrap()
        .unwrap();
    let (made, of) = (
        hash_of(there.as_str()),
        hash_of(
            both.shown
                .core
                .old
                .stat("f")
                .unwrap()
                .unwrap()
                .etag()
                .as_str(),
        ),
    );
    let key = hash_of("f");
    both.shown
        .core
        .marks
        .append(Record::Stored(Made { key, made, of }), Durable::No)
        .unwrap();
    drop(turn);
    removal.await.unwrap();
    assert_eq!(text(&*both.bucket, "p/f").await, None);
}

#[tokio::test]
async fn removals_come_to_the_bucket_in_the_order_in_which_they_were_asked_for() {
    let both = Both::new();
    both.old("d/1", "one");
    both.old("d/2", "two");
    both.import().await;
    let core = &both.shown.core;
    let mut requests = Vec::new();
    for key in ["p/d/1", "p/d/2"] {
        let if_match = both.etag(key).await;
        let key = Key::new(key);
        requests.push(DeleteRequest { key, if_match });
    }
    let asked: Vec<Key> = requests.iter().map(|it| it.key.clone()).collect();
    let turn = core.turns.take(hash_of("d/1")).await;
    let second_is_hidden = async {
        while !core.marks.with(|marks| marks.is_hidden(hash_of("d/2"))) {
            tokio::task::yield_now().await;
        }
        drop(turn);
    };
    let removals = both.shown.removals.left_above(requests);
    let ((above, failed), ()) = tokio::join!(removals, second_is_hidden);
    assert!(failed.is_empty(), "{failed:?}");
    let found: Vec<Key> = above.into_iter().map(|it| it.key).collect();
    assert_eq!(found, asked);
}

/// Runs `ask`, whose question to the bucket gets its answer after the import.
async fn across_an_import<T>(
    both: &Both,
    op: StoreOp,
    ends: bool,
    ask: impl Future<Output = T>,
) -> T {
    both.late(op);
    let asked = both.way.seen(op);
    let mut ask = std::pin::pin!(ask);
    while both.way.seen(op) == asked {
        assert!(futures::poll!(ask.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    match ends {
        true => drop(Import::new(&both.shown).run().await),
        false => both.import().await,
    }
    ask.await
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_an_import_overtakes_shows_what_was_sent_meanwhile() {
    for ends in [false, true] {
        for fold in [FoldDirectories::No, FoldDirectories::Yes] {
            let both = Both::new();
            both.old("d/f", "f");
            both.old("g", "g");
            fs::create_dir(both.dir.path().join("old/empty")).unwrap();
            let all = || listed(&*both.shown, "p/", fold, 10);
            let before = all().await;
            assert_eq!(before.len(), 3);
            assert_eq!(
                across_an_import(&both, StoreOp::List, ends, all()).await,
                before
            );
            assert_eq!(all().await, before, "and later, {ends} {fold:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_a_later_listing_found_dead_is_shown_by_an_earlier_one() {
    let both = Both::new();
    both.old("d/f", "f");
    both.old("d/g", "g");
    both.delete("p/d/g", None).await.unwrap();
    let all = || listed(&*both.shown, "p/", FoldDirectories::Yes, 10);
    both.late(StoreOp::List);
    let mut early = std::pin::pin!(all());
    assert!(futures::poll!(early.as_mut()).is_pending());
    both.import().await;
    assert_eq!(all().await, ["p/d/"]);
    assert!(!both.shown.core.dead.lock().is_empty());
    assert_eq!(early.await, ["p/d/"]);
    both.delete("p/d/f", both.etag("p/d/f").await)
        .await
        .unwrap();
    assert!(all().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_look_that_an_import_overtakes_finds_the_file() {
    for ends in [false, true] {
        let both = Both::new();
        both.old("f", "old");
        let old = both.etag("p/f").await;
        let head = across_an_import(&both, StoreOp::Head, ends, both.etag("p/f")).await;
        assert_eq!(head, old, "{ends}");
        let both = Both::new();
        both.old("f", "old");
        let get = across_an_import(&both, StoreOp::Get, ends, both.text("p/f")).await;
        assert_eq!(get.as_deref(), Some("old"), "{ends}");
        let both = Both::new();
        both.old("f", "old");
        let tags = both.shown.tags(Key::new("p/f"));
        let tags = across_an_import(&both, StoreOp::Tags, ends, tags).await;
        assert_eq!(tags.unwrap(), None, "{ends}");
        let both = Both::new();
        both.old("f", "old");
        let sums = both.shown.checksums(Key::new("p/f"));
        let sums = across_an_import(&both, StoreOp::Head, ends, sums).await;
        assert_eq!(sums.unwrap().size_bytes, 3, "{ends}");
    }
}

/// An import whose object is there, and its answer is not; or whose request waits.
async fn importing(both: &Both, fault: Fault) -> impl Future<Output = ()> {
    both.plan(StoreOp::Put, fault);
    let import = Import::new(&both.shown);
    let running = tokio::spawn(async move {
        let watch = watch::Watch::none();
        while !import.pass(&watch).await.unwrap().is_proof() {}
    });
    while both.way.seen(StoreOp::Put) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    async { running.await.unwrap() }
}

#[tokio::test(start_paused = true)]
async fn an_object_is_known_for_its_old_file_before_the_import_has_its_answer() {
    for copies in [false, true] {
        let both = Both::new();
        both.old("f", "old");
        let old = both.etag("p/f").await.unwrap();
        // Not the MD5 of its bytes: what the object is called, the answer says.
        let importing = importing(&both, Fault::Late(LATE)).await;
        assert!(text(&*both.bucket, "p/f").await.is_some());
        if copies {
            assert_eq!(both.copy("p/f", &old, "p/g").await, old);
        } else {
            assert_eq!(both.etag("p/f").await.unwrap(), old);
        }
        importing.await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_was_answered_before_its_turn_leaves_nothing_of_an_import_under_way() {
    for fault in [Fault::Slow(LATE), Fault::Late(LATE)] {
        let both = Both::new();
        both.old("f", "old");
        let old = both.etag("p/f").await;
        let importing = importing(&both, fault).await;
        let log = OverlayLog::new(Arc::new(MemoryLog::default()), both.shown.core.clone());
        let pending = DeletePending::of_version(Key::new("p/f"), old.clone());
        log.delete_pending(&pending).unwrap();
        both.delete("p/f", old).await.unwrap();
        importing.await;
        assert_eq!(text(&*both.bucket, "p/f").await, None, "{fault:?}");
        assert_eq!(both.text("p/f").await, None);
    }
}

#[tokio::test]
async fn a_change_of_all_but_the_bytes_after_a_file_was_sent_is_told_and_no_reason_to_go_on() {
    let both = Both::new();
    let old = both.dir.path().join("old");
    let long = "long".repeat(2 << 20);
    for (path, text) in [
        ("mode", "m"),
        ("linked", "l"),
        ("time", "t"),
        ("long", &long),
    ] {
        both.old(path, text);
    }
    fs::create_dir(old.join("empty")).unwrap();
    let known = both.etag("p/mode").await.unwrap();
    both.import().await;
    let own = || fs::Permissions::from_mode(0o700);
    for path in ["mode", "long", "empty"] {
        fs::set_permissions(old.join(path), own()).unwrap();
    }
    fs::hard_link(old.join("linked"), both.dir.path().join("link")).unwrap();
    let time = fs::File::options().write(true).open(old.join("time"));
    time.unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let import = Import::new(&both.shown);
    let pass = async || import.pass(&watch::Watch::none()).await.unwrap();
    assert!(pass().await.is_proof());
    let told = both.shown.core.progress.now();
    assert_eq!((told.changed, told.failed), (0, 0), "{told:?}");
    let mut names = told.outside_names;
    names.sort_unstable();
    assert_eq!(names, ["empty/", "linked", "long", "mode", "time"]);
    // Once.
    assert!(pass().await.is_proof());
    assert_eq!(both.shown.core.progress.now().outside_changes, 5);
    // Who knows the version of before has it still.
    let replaced = WriteCondition::IfMatch(known);
    both.put("p/mode", "new", replaced).await.unwrap();
    // As long, and other bytes.
    both.old("linked", "L");
    both.old("long", &"gnol".repeat(2 << 20));
    assert!(!pass().await.is_proof());
    let mut names = both.shown.core.progress.now().changed_names;
    names.sort_unstable();
    assert_eq!(names, ["linked", "long"]);
}
