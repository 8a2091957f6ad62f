//! What the parsers of foreign bytes must hold for every input.
//!
//! Each function takes one input and panics where a promise is broken. Called by
//! libFuzzer (`scripts/fuzz`) and, on the corpus and seeded changes of it, by
//! `tests/torture/fuzz_corpus.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mediafs::config::{ConfigSource, Options, Target};
use mediafs::journal::{JournalState, Record};
use mediafs::namespace::{Attributes, DirPath, KeySpace, NAME_LIMIT_BYTES, Name, Page};
use mediafs::record_log::{Header, LogState, replay};
use mediafs::session_state::{SavedFile, SessionState};
use mediafs::store::s3::encoding;
use mediafs::store::{ETag, Key, ListAnswer, ListToken, ListedObject, ObjectHeaders};
use mediafs::vocabulary::{Kind, StageId};
use mediafs::write_path::{Spool, SpoolLock, Stage};

/// Takes one input.
pub type Parser = fn(&[u8]);

/// Every target with its name, which is also its corpus's.
pub const TARGETS: [(&str, Parser); 5] = [
    ("config", config),
    ("journal", journal),
    ("keys", keys),
    ("metadata", metadata),
    ("state", state),
];

/// Lines are the keys of a listing's page, those that end in `/` folded ones; the first is its prefix.
pub fn keys(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let prefix = lines.next().unwrap_or_default();
    let decoded: Vec<String> = lines.filter_map(encoding::decode).collect();
    let (folded, plain): (Vec<String>, Vec<String>) =
        decoded.into_iter().partition(|key| key.ends_with('/'));
    let objects = plain.iter().map(|key| ListedObject {
        key: Key::new(key.as_str()),
        etag: ETag::parse(key).unwrap_or_else(|| ETag::new("e")),
        size_bytes: key.len() as u64,
        last_modified: SystemTime::UNIX_EPOCH,
    });
    let answer = ListAnswer {
        objects: objects.collect(),
        prefixes: folded.clone(),
        unusable: Vec::new(),
        next: data
            .len()
            .is_multiple_of(2)
            .then(|| ListToken("t".to_owned())),
    };
    let mut page = Page::new(prefix, answer);
    for name in page.entries.keys() {
        is_name(name);
        let key = format!("{prefix}{}", name.as_str());
        assert!(plain.contains(&key) || folded.contains(&format!("{key}/")));
    }
    let before = page.entries.len();
    let waiting = page.take_unsettled(prefix).len();
    assert_eq!(page.entries.len() + waiting, before);
    let space = KeySpace::new(prefix);
    for key in plain.iter().chain(&folded) {
        leads_back(&space, key);
    }
}

fn is_name(name: &Name) {
    let text = name.as_str();
    assert!(!["", ".", ".."].contains(&text) && text.len() <= NAME_LIMIT_BYTES);
    assert!(!text.contains(['/', '\0']), "{text:?}");
}

/// The path of a key is the key's own, and of no other.
fn leads_back(space: &KeySpace, key: &str) {
    let Some(names) = space.path_of(&Key::new(key)) else {
        return;
    };
    names.iter().for_each(is_name);
    let Some((file, dirs)) = names.split_last() else {
        return;
    };
    let dir = dirs
        .iter()
        .fold(DirPath::root(), |dir, name| dir.join(name));
    if let Ok(made) = space.file_key(&dir, file) {
        assert_eq!(made.as_str(), key);
    }
}

/// Lines are `name: value`, as a store sends them.
pub fn metadata(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let pairs = text.lines().filter_map(|line| line.split_once(": "));
    let user_metadata = pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let read = Attributes::decode(ObjectHeaders {
        user_metadata: user_metadata.collect(),
        ..ObjectHeaders::default()
    });
    assert!(read.mode.is_none_or(|mode| mode <= 0o7777));
    assert!(![read.uid, read.gid].contains(&Some(u32::MAX)));
    for kind in [Kind::File, Kind::Directory] {
        let Ok(headers) = read.encode(kind) else {
            continue;
        };
        let again = Attributes::decode(headers.clone());
        let kept = (again.mode, again.uid, again.gid, again.mtime, again.atime);
        assert_eq!(
            kept,
            (read.mode, read.uid, read.gid, read.mtime, read.atime)
        );
        assert_eq!(again.xattrs, read.xattrs);
        assert_eq!(again.encode(kind).map_err(drop), Ok(headers));
    }
}

/// The bytes of a journal's file; or, with every line as a record whose checksum is right.
pub fn journal(data: &[u8]) {
    record_file::<JournalState>(data);
    opens_as_spool(data);
    let summed = with_checksums::<JournalState>(data);
    record_file::<JournalState>(&summed);
    opens_as_spool(&summed);
    let framed = with_frames::<JournalState>(data);
    record_file::<JournalState>(&framed);
    opens_as_spool(&framed);
}

/// The bytes of what a daemon leaves to its successor; or, with every line as a
/// record whose checksum is right.
pub fn state(data: &[u8]) {
    record_file::<SessionState>(data);
    goes_on(data);
    let summed = with_checksums::<SessionState>(data);
    record_file::<SessionState>(&summed);
    goes_on(&summed);
    let framed = with_frames::<SessionState>(data);
    record_file::<SessionState>(&framed);
    goes_on(&framed);
}

/// A daemon that resumes this opens the spool, or is refused it.
fn goes_on(data: &[u8]) {
    let Ok(told) = replay::<SessionState>("fuzzed".as_ref(), data) else {
        return;
    };
    let dir = scratch();
    make_stages(&dir, told.files.values().flat_map(SavedFile::stages));
    if let Ok(lock) = SpoolLock::take(&dir) {
        drop(Spool::resume(
            lock.as_recorded(),
            u64::MAX,
            Arc::default(),
            &told,
        ));
    }
    std::fs::remove_dir_all(dir).expect("the folder goes");
}

/// Lines as records of a file of this kind, with the checksums that belong to them.
fn with_checksums<S: LogState>(data: &[u8]) -> Vec<u8> {
    let mut file = format!("mediafs-{} {}\n", S::NAME, S::VERSION);
    for json in String::from_utf8_lossy(data).lines() {
        file.push_str(&format!(
            "{:08x} {json}\n",
            crc32fast::hash(json.as_bytes())
        ));
    }
    file.into_bytes()
}

/// The same as today's files have them, one byte of them changed for some inputs.
fn with_frames<S: LogState>(data: &[u8]) -> Vec<u8> {
    let (header, mut file) = Header::new(S::NAME, S::VERSION, 0);
    let (_, mut chain) = header.start();
    for json in String::from_utf8_lossy(data).lines() {
        if let Ok(record) = serde_json::from_str::<S::Record>(json)
            && let Ok(payload) = S::encode(&record)
        {
            chain.push(&mut file, S::subject(&record), &payload);
        }
    }
    let end = file.len();
    header.set_end(&mut file, end as u64);
    let at = data.iter().fold(0, |sum, byte| sum + usize::from(*byte));
    if let Some(byte) = file.get_mut(at % (2 * end)) {
        *byte ^= 1;
    }
    file
}

/// What a file of records comes to is what its own records come to.
fn record_file<S: LogState>(data: &[u8]) {
    let Ok(state) = replay::<S>("fuzzed".as_ref(), data) else {
        return;
    };
    let text = |state: &S| serde_json::to_string(&state.records()).ok();
    let mut again = S::default();
    for record in state.records() {
        again.apply(record);
    }
    assert_eq!(text(&again), text(&state));
}

/// A spool with this journal opens or is refused, and what it recovers can be read.
fn opens_as_spool(data: &[u8]) {
    let Ok(live) = replay::<JournalState>("fuzzed".as_ref(), data) else {
        return;
    };
    let dir = scratch();
    let sealed = live
        .records()
        .into_iter()
        .filter_map(|record| match record {
            Record::Sealed(sealed) => Some(sealed.stage),
            _ => None,
        });
    make_stages(&dir, sealed);
    std::fs::write(dir.join("journal"), data).expect("a journal");
    if let Ok((spool, recovered)) = Spool::open(&dir, u64::MAX) {
        for it in &recovered {
            let stage = Stage::recovered(it.file.clone(), &it.sealed);
            let shown = 0..stage.len().min(64 << 10);
            stage.segments(shown.clone());
            stage.depends_on_base();
            // Errors are right: the bytes are not those of the checksums.
            drop(stage.file().read(shown));
        }
        drop((recovered, spool));
    }
    std::fs::remove_dir_all(dir).expect("the folder goes");
}

fn make_stages(spool: &Path, stages: impl Iterator<Item = StageId>) {
    const STAGES: usize = 4;
    let dir = spool.join("stage");
    std::fs::create_dir_all(&dir).expect("a folder for stages");
    for stage in stages.take(STAGES) {
        std::fs::write(dir.join(stage.to_string()), b"bytes of a stage").expect("a stage");
    }
}

/// In memory where that is possible: each input syncs its journal.
fn scratch() -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let shared = PathBuf::from("/dev/shm");
    let base = if shared.is_dir() {
        shared
    } else {
        std::env::temp_dir()
    };
    base.join(format!("mediafs-fuzz-{}-{number}", std::process::id()))
}

/// The text of a configuration file.
pub fn config(data: &[u8]) {
    let file = scratch();
    std::fs::write(&file, data).expect("a file");
    let source = ConfigSource::new(
        Target::FromFile,
        Some(&file),
        Options::default(),
        "/".into(),
    );
    let loaded = source.and_then(|source| source.load());
    std::fs::remove_file(&file).expect("the file goes");
    match loaded {
        Ok(config) => {
            assert!(config.mountpoint.is_absolute() && config.spool_dir.is_absolute());
            assert!(config.prefix.is_empty() || config.prefix.ends_with('/'));
            assert!(
                !config
                    .prefix
                    .split('/')
                    .any(|segment| [".", ".."].contains(&segment))
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
