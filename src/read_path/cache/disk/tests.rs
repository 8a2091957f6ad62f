//! The tier over a real folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::read_path::block::BlockSize;
use crate::store::{ETag, Key};
use crate::vocabulary::ObjectId;

const BLOCK: usize = 4096;
const QUEUE_LIMIT_BYTES: u64 = 32 << 20;
const WITHIN: Duration = Duration::from_secs(20);

fn size() -> BlockSize {
    BlockSize::new(BLOCK).unwrap()
}

fn id(etag: &str, index: u64) -> BlockId {
    let object = ObjectId {
        key: Key::new("secret/name"),
        etag: ETag::new(etag),
        size_bytes: 1000 * BLOCK as u64,
    };
    let object = Arc::new(object);
    BlockId { object, index }
}

fn block(seed: u64) -> CachedBlock {
    CachedBlock::new(vec![seed as u8; BLOCK].into())
}

fn settings(dir: &Path, limit_bytes: u64) -> DiskSettings {
    DiskSettings {
        dir: dir.join("cache"),
        limit_bytes,
        queue_limit_bytes: QUEUE_LIMIT_BYTES,
        index_limit_bytes: 1 << 20,
        place: "bucket/ at http://s3".to_owned(),
        block_size: size(),
    }
}

fn happens(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(POLL_EVERY);
    }
}

fn start(dir: &Path) -> DiskTier {
    let tier = DiskTier::start(settings(dir, 1 << 30));
    happens("a tier in use", || tier.usage().off.is_none());
    tier
}

fn flush(tier: &DiskTier) {
    happens("an empty queue", || {
        tier.shared.queued_bytes.load(Ordering::Relaxed) == 0
    });
}

fn filled(dir: &Path, blocks: u64) -> DiskTier {
    let tier = start(dir);
    for index in 0..blocks {
        tier.store(id("e", index), block(index));
    }
    flush(&tier);
    tier
}

/// The files of blocks.
fn files(dir: &Path) -> Vec<PathBuf> {
    fn below(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    below(&dir.join("cache"), &mut found);
    found.retain(|path| path.file_name().unwrap() != "place");
    found
}

fn tempdir() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn blocks_are_found_again_by_a_successor_and_by_no_other_version() {
    let dir = tempdir();
    drop(filled(dir.path(), 20));
    fs::write(files(dir.path())[0].with_file_name("new"), b"torn").unwrap();
    let tier = start(dir.path());
    for index in 0..20 {
        assert!(tier.has(&id("e", index)));
        let found = tier.load(&id("e", index)).unwrap();
        assert_eq!(found.slice(0..BLOCK), block(index).slice(0..BLOCK));
        assert!(tier.load(&id("f", index)).is_none());
    }
    let usage = tier.usage();
    assert_eq!((usage.blocks, usage.hits, usage.damaged), (20, 20, 0));
}

#[test]
fn a_damaged_or_torn_file_is_a_miss_and_is_removed() {
    let dir = tempdir();
    let tier = filled(dir.path(), 12);
    for (at, path) in files(dir.path()).iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        match at % 3 {
            0 => bytes.truncate(at * 300),
            1 => bytes.push(0),
            _ => {
                let last = bytes.len() - 1 - at * 300;
                bytes[last] ^= 1 << (at % 8);
            }
        }
        fs::write(path, bytes).unwrap();
    }
    assert!((0..12).all(|index| tier.load(&id("e", index)).is_none()));
    let usage = tier.usage();
    assert_eq!((usage.blocks, usage.damaged, usage.off), (0, 12, None));
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_folder_is_of_one_daemon_at_a_time_and_of_one_place() {
    let dir = tempdir();
    let first = filled(dir.path(), 1);
    let second = DiskTier::start(settings(dir.path(), 1 << 30));
    let refused = || {
        second
            .usage()
            .off
            .is_some_and(|why| why.contains("another"))
    };
    happens("a refusal", refused);
    assert!(!second.has(&id("e", 0)) && second.load(&id("e", 0)).is_none());
    second.store(id("e", 1), block(1));
    let mut elsewhere = settings(dir.path(), 1 << 30);
    elsewhere.place = "other/ at http://s3".to_owned();
    let other = DiskTier::start(elsewhere);
    happens("another place's", || other.usage().off.is_none());
    assert!(!other.has(&id("e", 0)));
    drop(first);
    happens("the next owner", || second.usage().off.is_none());
    assert!(second.load(&id("e", 0)).is_some() && !second.has(&id("e", 1)));
}

#[test]
fn only_the_user_can_read_it_and_names_tell_nothing() {
    let dir = tempdir();
    let _tier = filled(dir.path(), 3);
    for path in files(dir.path()) {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        for above in path.ancestors().skip(1).take(3) {
            assert_eq!(mode(above), 0o700, "{}", above.display());
        }
        assert!(!path.display().to_string().contains("secret"));
    }
}

#[test]
fn the_limit_holds_on_disk_too() {
    let dir = tempdir();
    let limit = 20 * 2 * BLOCK as u64;
    let tier = DiskTier::start(settings(dir.path(), limit));
    happens("a tier in use", || tier.usage().off.is_none());
    for index in 0..200 {
        tier.store(id("e", index), block(index));
    }
    flush(&tier);
    let usage = tier.usage();
    assert!(usage.used_bytes <= limit && usage.blocks > 10, "{usage:?}");
    assert_eq!(files(dir.path()).len(), usage.blocks);
    drop(tier);
    // The next one has less room.
    let tier = DiskTier::start(settings(dir.path(), limit / 2));
    happens("a smaller tier", || tier.usage().off.is_none());
    let usage = tier.usage();
    assert!(
        usage.used_bytes <= limit / 2 && usage.blocks > 5,
        "{usage:?}"
    );
    assert_eq!(files(dir.path()).len(), usage.blocks);
}

#[test]
fn a_folder_that_is_deleted_turns_the_tier_off_until_it_is_made_anew() {
    let dir = tempdir();
    let tier = filled(dir.path(), 3);
    fs::remove_dir_all(dir.path().join("cache")).unwrap();
    assert!(tier.load(&id("e", 0)).is_none());
    tier.store(id("e", 9), block(9));
    happens("off", || tier.usage().off.is_some());
    assert!(tier.load(&id("e", 1)).is_none());
    happens("a new folder", || tier.usage().off.is_none());
    tier.store(id("e", 9), block(9));
    flush(&tier);
    assert!(tier.load(&id("e", 9)).is_some());
}

#[test]
fn what_does_not_fit_into_the_queue_is_dropped_at_once() {
    let dir = tempdir();
    let tier = start(dir.path());
    let long = |index| (id("e", index), CachedBlock::new(vec![0; 16 << 20].into()));
    let began = Instant::now();
    for index in 0..50 {
        let (id, block) = long(index);
        tier.store(id, block);
        let queued = tier.shared.queued_bytes.load(Ordering::Relaxed);
        assert!(queued <= QUEUE_LIMIT_BYTES);
    }
    let usage = tier.usage();
    assert!(usage.dropped > 0 && began.elapsed() < WITHIN, "{usage:?}");
}

/// The folder of a place.
fn folder_of(dir: &Path, place: &str) -> PathBuf {
    dir.join("cache").join(folder::name_of(place))
}

/// Has blocks stored for a place, and ends.
fn leave(dir: &Path, place: &str, blocks: u64) {
    let mut settings = settings(dir, 1 << 30);
    settings.place = place.to_owned();
    let tier = DiskTier::start(settings);
    happens("a tier in use", || tier.usage().off.is_none());
    (0..blocks).for_each(|index| tier.store(id("e", index), block(index)));
    flush(&tier);
    drop(tier);
    happens("a folder that nobody uses", || {
        Folder::unused(&folder_of(dir, place)).unwrap().is_some()
    });
}

#[test]
fn what_is_left_of_other_places_shares_the_size_and_the_oldest_goes_first() {
    let dir = tempdir();
    let [old, young, used] = ["old", "young", "used"].map(|place| folder_of(dir.path(), place));
    leave(dir.path(), "old", 20);
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for file in files(dir.path()) {
        fs::File::open(file)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    leave(dir.path(), "young", 20);
    let mut in_use = settings(dir.path(), 1 << 30);
    in_use.place = "used".to_owned();
    let in_use = DiskTier::start(in_use);
    happens("a tier in use", || in_use.usage().off.is_none());
    in_use.store(id("e", 0), block(0));
    flush(&in_use);
    // Not ours: another name, no word of a place, another word, and a way to elsewhere.
    let root = dir.path().join("cache");
    let elsewhere = dir.path().join("elsewhere");
    let kept = [
        root.join("blocks/ab/0123"),
        folder_of(dir.path(), "wordless").join("ab/cd"),
        folder_of(dir.path(), "misnamed").join("place"),
        elsewhere.join("place"),
    ];
    for path in &kept {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "linked\n").unwrap();
    }
    std::os::unix::fs::symlink(&elsewhere, folder_of(dir.path(), "linked")).unwrap();
    fs::write(young.join("mine"), b"somebody's").unwrap();

    // A block with its head takes two units: room for 50 of them.
    let tier = DiskTier::start(settings(dir.path(), 50 * 2 * BLOCK as u64));
    happens("a tier in use", || tier.usage().off.is_none());
    assert!(old.exists() && young.exists(), "there is room");
    (0..15).for_each(|index| tier.store(id("e", index), block(index)));
    flush(&tier);
    assert!(!old.exists() && young.join("place").exists());
    (15..45).for_each(|index| tier.store(id("e", index), block(index)));
    flush(&tier);
    let left: Vec<_> = fs::read_dir(&young).unwrap().collect();
    assert_eq!(left.len(), 1, "what somebody put there");
    assert_eq!(tier.usage().blocks, 45);
    assert!(used.exists() && in_use.load(&id("e", 0)).is_some());
    assert!(kept.iter().all(|path| path.exists()));
    drop(in_use);
}

#[test]
fn a_place_that_is_mounted_again_has_its_blocks_where_they_fit() {
    let dir = tempdir();
    leave(dir.path(), "first", 20);
    leave(dir.path(), "second", 20);
    leave(dir.path(), "first", 0);
    let mut settings = settings(dir.path(), 1 << 30);
    settings.place = "first".to_owned();
    let tier = DiskTier::start(settings);
    happens("a tier in use", || tier.usage().off.is_none());
    assert_eq!(tier.usage().blocks, 20);
    assert!(folder_of(dir.path(), "second").exists());
}

#[test]
fn more_blocks_than_the_index_has_memory_for_go_by_age_as_they_are_found() {
    let dir = tempdir();
    drop(filled(dir.path(), 30));
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let found = files(dir.path());
    for file in &found[..12] {
        fs::File::open(file)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    let mut few = settings(dir.path(), 1 << 30);
    few.index_limit_bytes = 18 * index::BLOCK_COST_BYTES;
    let tier = DiskTier::start(few);
    happens("a tier in use", || tier.usage().off.is_none());
    let left = files(dir.path());
    assert_eq!(left.len(), tier.usage().blocks);
    assert!((16..=18).contains(&left.len()), "{}", left.len());
    assert!(left.iter().all(|file| !found[..12].contains(file)));
}
