use super::*;
use crate::journal::BlockSum;
use crate::record_log::small_disk::SmallDisk;
use crate::store::ETag;
use crate::vocabulary::{
    Intent, Kind, NameState, ObjectVersion, OpenMode, Overrides, StageId, Timestamp,
};

/// What the records come to.
pub fn apply(state: &mut SessionState, records: impl Iterator<Item = Record>) {
    records.for_each(|record| state.apply(record));
}

pub fn session() -> SavedSession {
    SavedSession {
        endpoint: None,
        bucket: "b".to_owned(),
        prefix: String::new(),
        mountpoint: "/m".into(),
        asked: "/m".into(),
        device: "0:50".to_owned(),
        init: vec![1, 2],
        init_answer: vec![3],
        mounted_at: std::time::SystemTime::UNIX_EPOCH,
        takeovers: 0,
        abilities: crate::store::StoreAbilities::default(),
        access: Some(SavedAccess::ReadOnly),
    }
}

fn file() -> SavedFile {
    SavedFile {
        base: SavedLayer::Sealed(StageId(8), Box::new(SavedLayer::Empty)),
        stage: Some(StageId(9)),
        intent: Intent::Edit,
        dirty: true,
        failed: false,
        name: NameState::Own,
        remote: Some(ObjectVersion {
            etag: crate::store::ETag::new("e"),
            size_bytes: 7,
            last_modified: std::time::SystemTime::UNIX_EPOCH,
        }),
        stored: Some(Box::new(crate::store::ObjectHeaders {
            content_type: Some("text/plain".to_owned()),
            ..Default::default()
        })),
    }
}

fn sum(start: u64, end: u64) -> BlockSum {
    (start, end, (start * 100 + end) as u32).try_into().unwrap()
}

fn handle() -> SavedHandle {
    SavedHandle {
        ino: 3,
        mode: OpenMode::ReadWrite,
        uploads_on_close: true,
        request: 40,
        writers: Some(SavedWriters::default()),
    }
}

fn story() -> Vec<Record> {
    let (directory, regular) = (Kind::Directory, Kind::File);
    let set = Overrides {
        mode: Some(0o600),
        mtime: Some(std::time::UNIX_EPOCH - std::time::Duration::from_nanos(5)),
        ..Overrides::default()
    };
    let placed = |ino, kind, parent, name: &str| Record::Placed {
        ino,
        kind,
        place: (parent, name.into()),
    };
    let stage = StageId(9);
    let saved = handle();
    let mut story = vec![
        placed(2, directory, 1, "d"),
        Record::Lookup { ino: 2, count: 2 },
        placed(3, regular, 2, "old"),
        placed(3, regular, 2, "f"),
        Record::Lookup { ino: 3, count: 1 },
        Record::Set { ino: 3, set },
        placed(5, regular, 2, "gone"),
        Record::Gone { ino: 5 },
        Record::Forget { ino: 2, count: 1 },
    ];
    story.extend(of_a_stage(stage));
    story.extend([
        Record::File {
            ino: 3,
            file: file(),
        },
        Record::Opened {
            handle: 4,
            saved: saved.clone(),
        },
        Record::Changed {
            handle: 4,
            process: Some(7),
        },
        Record::Opened { handle: 6, saved },
        Record::Released { handle: 6 },
        Record::DirOpened {
            handle: 5,
            ino: 2,
            request: 42,
        },
        Record::Listed {
            handle: 5,
            names: vec!["f".to_owned()],
        },
        Record::Changes {
            request: 41,
            basis: Basis::default(),
        },
        Record::Done { request: 41 },
        Record::Changes {
            request: 43,
            basis: Basis::new(
                Some(ETag::new("e")),
                Some(std::time::SystemTime::UNIX_EPOCH),
            ),
        },
    ]);
    story
}

fn of_a_stage(stage: StageId) -> Vec<Record> {
    let (len, base_len) = (20, 10);
    vec![
        Record::Staged {
            stage,
            len: base_len,
            base_len,
        },
        Record::Wrote {
            stage,
            range: 8..12,
            len: 12,
            sums: Some(vec![sum(8, 12)]),
        },
        Record::Wrote {
            stage,
            range: 15..20,
            len,
            sums: Some(vec![sum(15, 20)]),
        },
        Record::Truncated {
            stage,
            len: 16,
            base_len: 9,
            cut: Some(sum(15, 16)),
        },
        Record::Overwriting {
            stage,
            range: 10..12,
            rest: vec![sum(8, 10)],
        },
    ]
}

fn check(saved: &SessionState) {
    assert_eq!(saved.session, Some(session()));
    assert_eq!((saved.last_ino, saved.last_handle), (5, 6));
    assert_eq!(saved.inodes.len(), 2);
    assert_eq!(saved.inodes.get(2).unwrap().lookups, 1);
    let third = saved.inodes.get(3).unwrap();
    assert_eq!(third.place, Some((2, "f")));
    assert_eq!(third.set.unwrap().mode, Some(0o600));
    let stage = &saved.stages[&StageId(9)];
    assert_eq!((stage.len, stage.base_len), (16, 9));
    assert_eq!(
        stage.written.iter().cloned().collect::<Vec<_>>(),
        [8..12, 15..16]
    );
    assert_eq!(stage.sums.list(), [sum(8, 10), sum(15, 16)]);
    assert_eq!(stage.in_flux, Some(10..12));
    assert_eq!(saved.files[&3], file());
    assert_eq!(saved.handles.keys().collect::<Vec<_>>(), [&4]);
    let writers = saved.handles[&4].writers.as_ref().unwrap();
    assert!(writers.changed && writers.processes.contains(&7) && !writers.unknown);
    assert_eq!(saved.dirs[&5].names().unwrap(), ["f"]);
    assert_eq!(saved.done.iter().collect::<Vec<_>>(), [41]);
}

#[test]
fn what_was_recorded_is_known_to_a_successor_and_to_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(dir.path());
    assert!(saved(&path).unwrap().is_none());
    let session_log = SessionLog::awaiting(&path);
    let mut before = story();
    let after = before.split_off(7);
    for record in before {
        session_log.record(|| record);
    }
    assert!(
        saved(&path).unwrap().is_none(),
        "the session is not there yet"
    );
    session_log.begin(session()).unwrap();
    for record in after {
        session_log.record(|| record);
    }
    drop(session_log);
    let next = saved(&path).unwrap().unwrap();
    check(&next);
    // Resumed, and rewritten, it comes to the same.
    let session_log = SessionLog::resume(&path, &next).unwrap();
    session_log.record(|| Record::Began { request: 9 });
    drop(session_log);
    let next = saved(&path).unwrap().unwrap();
    check(&next);
    assert_eq!(next.under_way.iter().collect::<Vec<_>>(), [&9]);
    crate::record_log::rewrite(&path, &next).unwrap();
    check(&saved(&path).unwrap().unwrap());
    forget(&path).unwrap();
    assert!(saved(&path).unwrap().is_none());
}

/// The file of a session in which something of every kind was told.
fn recorded(path: &Path) -> Vec<u8> {
    let session_log = SessionLog::awaiting(path);
    session_log.begin(session()).unwrap();
    for record in story() {
        session_log.record(|| record);
    }
    let (_, end, _) = saved(path).unwrap().unwrap().append_at.unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(end as usize);
    bytes
}

/// What is known of a changed file is what was told, or in doubt, or nothing.
fn is_true_or_in_doubt(path: &Path, whole: &SessionState, what: &str) {
    let Ok(Some(saved)) = saved(path) else { return };
    assert_eq!(saved.session, whole.session, "{what}");
    assert_eq!(saved.last_handle, whole.last_handle, "{what}");
    assert_eq!(saved.files, whole.files, "{what}");
    for (handle, is) in &whole.handles {
        let kept = |it: &SavedHandle| (it.ino, it.mode, it.uploads_on_close, it.request);
        let found = &saved.handles[handle];
        assert_eq!(kept(found), kept(is), "{what}");
        let writers = found.writers.as_ref().unwrap();
        assert!(writers.unknown || found == is, "{what}");
    }
    for (ino, was) in whole.inodes.iter() {
        let is = saved.inodes.get(ino).unwrap();
        assert!(is.lookups >= was.lookups, "{what}: forgotten too early");
        let lookups = was.lookups;
        assert_eq!(SavedInode { lookups, ..is }, was, "{what}");
    }
    for (handle, is) in &saved.dirs {
        assert_eq!(is, &whole.dirs[handle], "{what}");
    }
    for (id, was) in &whole.stages {
        let is = saved.stages.get(id).map(|it| format!("{it:?}"));
        let same = is == Some(format!("{was:?}"));
        assert!(same || saved.damaged_stages.contains(id), "{what}: {is:?}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_costs_what_it_was_about() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(dir.path());
    let bytes = recorded(&path);
    let whole = saved(&path).unwrap().unwrap();
    let (mut refused, mut doubted) = (0, 0);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&path, changed).unwrap();
        is_true_or_in_doubt(&path, &whole, &format!("byte {at}"));
        match saved(&path) {
            Err(_) => refused += 1,
            Ok(found) => doubted += usize::from(!found.unwrap().damaged_stages.is_empty()),
        }
    }
    assert!(refused > 0 && doubted > 100, "{refused} {doubted}");
}

#[test]
fn a_file_that_was_cut_doubled_mixed_or_copied_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(dir.path());
    let other = recorded(&dir.path().join("other"));
    let bytes = recorded(&path);
    let whole = saved(&path).unwrap().unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    for round in 0..400 {
        let from = random.usize(70..bytes.len());
        let to = random.usize(from..bytes.len());
        let changed = match round % 4 {
            0 => bytes[..from].to_vec(),
            1 => [&bytes[..from], &bytes[to..]].concat(),
            2 => [&bytes[..to], &bytes[from..]].concat(),
            _ => [&bytes[..from], &other[from..to], &bytes[to..]].concat(),
        };
        fs::write(&path, changed).unwrap();
        is_true_or_in_doubt(&path, &whole, &format!("round {round}: {from} to {to}"));
    }
    for cut in 0..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        assert!(saved(&path).is_err(), "cut at {cut}");
    }
    fs::write(&path, &bytes).unwrap();
    assert!(saved(&path).is_ok());
    let copy = dir.path().join("copy");
    fs::copy(&path, &copy).unwrap();
    let error = saved(&copy).unwrap_err().to_string();
    assert!(error.contains("copy"), "{error}");
}

#[test]
fn what_is_in_doubt_stays_so_for_the_daemon_after_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(dir.path());
    let mut bytes = recorded(&path);
    let found = |bit: usize, bytes: &mut [u8]| {
        bytes[bit] ^= 1;
        fs::write(&path, &*bytes).unwrap();
        let found = saved(&path).is_ok_and(|it| !it.unwrap().damaged_stages.is_empty());
        bytes[bit] ^= u8::from(!found);
        found
    };
    assert!((70..bytes.len()).any(|bit| found(bit, &mut bytes)));
    let next = saved(&path).unwrap().unwrap();
    drop(SessionLog::resume(&path, &next).unwrap());
    let after = saved(&path).unwrap().unwrap();
    assert_eq!(after.damaged_stages, next.damaged_stages);
}

#[test]
fn whose_a_name_is_stands_in_the_file_as_two_flags() {
    let saved = |orphan: bool, covers: bool| {
        let mut json = serde_json::to_value(file()).unwrap();
        assert_eq!(json["orphan"], serde_json::Value::Bool(false));
        (json["orphan"], json["covers"]) = (orphan.into(), covers.into());
        let saved: SavedFile = serde_json::from_value(json.clone()).unwrap();
        (saved.name, serde_json::to_value(&saved).unwrap() == json)
    };
    assert_eq!(saved(false, false), (NameState::Own, true));
    assert_eq!(saved(false, true), (NameState::TakenOver, true));
    assert_eq!(saved(true, false), (NameState::Gone, true));
    // Of a file that had taken a name and lost it.
    assert_eq!(saved(true, true), (NameState::Gone, false));
}

#[test]
fn a_session_told_in_lines_of_text_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(dir.path());
    let mut text = "mediafs-session 1\n".to_owned();
    let line = |record: &serde_json::Value| {
        let json = record.to_string();
        format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
    };
    let mut records = vec![Record::Session(session())];
    records.extend(story());
    let mut lines: Vec<serde_json::Value> = records
        .iter()
        .filter(|it| !matches!(it, Record::Overwriting { .. }))
        .map(|it| serde_json::to_value(it).unwrap())
        .collect();
    for it in &mut lines {
        it.as_object_mut().unwrap().remove("sums");
        it.as_object_mut().unwrap().remove("cut");
    }
    lines.iter().for_each(|it| text.push_str(&line(it)));
    fs::write(&path, &text).unwrap();
    let next = saved(&path).unwrap().unwrap();
    assert_eq!(next.inodes.len(), 2);
    assert!(
        next.stages[&StageId(9)].unsummed,
        "its bytes are taken as they are"
    );
    drop(SessionLog::resume(&path, &next).unwrap());
    let after = saved(&path).unwrap().unwrap();
    assert!(after.stages[&StageId(9)].unsummed && after.append_at.is_some());
    // The last line may be torn, no other one.
    fs::write(&path, &text[..text.len() - 3]).unwrap();
    assert!(saved(&path).is_ok());
    fs::write(&path, text.replacen("\"old\"", "\"odd\"", 1)).unwrap();
    assert!(matches!(saved(&path), Err(LogError::Damaged { .. })));
}

const THREADS: u64 = 4;

/// Has each thread make so many inodes, of which one in a hundred stays.
fn write_from_threads(session_log: &SessionLog, each: u64) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for number in 0..each {
                    let ino = 2 + thread + THREADS * number;
                    session_log.queue(|| placed(ino));
                    session_log.record(|| Record::Lookup { ino, count: 1 });
                    if number % 100 > 0 {
                        session_log.record(|| Record::Gone { ino });
                    }
                }
            });
        }
    });
}

#[test]
fn a_file_written_anew_beside_those_who_write_has_what_they_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(dir.path());
    let session_log = SessionLog::awaiting(&path);
    session_log.begin(session()).unwrap();
    const EACH: u64 = 8_000;
    write_from_threads(&session_log, EACH);
    session_log.end();
    let saved = saved(&path).unwrap().unwrap();
    assert_eq!(saved.inodes.len() as u64, THREADS * EACH / 100);
    assert!(saved.inodes.iter().all(|(_, it)| it.lookups == 1));
    let len = fs::metadata(&path).unwrap().len();
    assert!(len < 6 << 20, "{len} bytes");
}

fn placed(ino: u64) -> Record {
    Record::Placed {
        ino,
        kind: Kind::File,
        place: (1, format!("f{ino}").into()),
    }
}

#[test]
fn on_a_full_disk_a_session_goes_on_whoever_writes_and_is_known_to_each_successor() {
    const EACH: u64 = 12_000;
    let Some(disk) = SmallDisk::new(8 << 20) else {
        return;
    };
    let path = path_in(&disk.path(""));
    let session_log = SessionLog::awaiting(&path);
    session_log.begin(session()).unwrap();
    disk.fill();
    write_from_threads(&session_log, EACH);
    session_log.end();
    let next = saved(&path).unwrap().unwrap();
    assert_eq!(next.inodes.len() as u64, THREADS * EACH / 100);
    assert!(next.inodes.iter().all(|(_, it)| it.lookups == 1));
    let session_log = SessionLog::resume(&path, &next).unwrap();
    session_log.record(|| Record::Gone { ino: 2 });
    drop(session_log);
    let after = saved(&path).unwrap().unwrap();
    assert_eq!(after.inodes.len(), next.inodes.len() - 1);
}

#[test]
fn a_session_that_does_not_fit_on_a_full_disk_has_no_file_until_there_is_room() {
    let Some(disk) = SmallDisk::new(6 << 20) else {
        return;
    };
    let path = path_in(&disk.path(""));
    let session_log = SessionLog::awaiting(&path);
    session_log.begin(session()).unwrap();
    disk.fill();
    let mut ino = 2;
    while path.exists() {
        session_log.record(|| placed(ino));
        disk.fill();
        ino += 1;
    }
    session_log.record(|| placed(ino));
    assert!(
        saved(&path).unwrap().is_none(),
        "rather none than one that lacks something"
    );
    disk.free();
    // Without another record.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(40);
    while !path.exists() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let next = saved(&path).unwrap().unwrap();
    assert_eq!(next.inodes.len() as u64, ino - 1);
}

#[test]
fn a_session_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(dir.path());
    fs::write(&path, "mediafs-session 99\n").unwrap();
    let error = saved(&path).unwrap_err();
    assert!(matches!(error, LogError::Newer { found: 99, .. }));
}

/// `session` is what a daemon of the version before left at a kill, with four files and
/// a directory open, one of them unlinked.
#[test]
fn a_session_of_the_previous_version_is_gone_on_with() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mount/previous_version/session");
    let saved: SessionState = crate::record_log::replay(&path, &fs::read(&path).unwrap()).unwrap();
    assert_eq!((saved.unusable, saved.refused), (None, None));
    assert!(saved.damaged_stages.is_empty());
    assert_eq!(saved.session.unwrap().bucket, "fixture");
    let modes = saved.handles.values().map(|it| it.mode);
    let writing = modes.filter(|mode| mode.writes()).count();
    assert_eq!((saved.handles.len(), writing), (4, 3));
    assert_eq!((saved.files.len(), saved.stages.len()), (4, 3));
    assert_eq!(saved.dirs.len(), 1);
}

/// It recorded none for a copy, whatever was there.
#[test]
fn a_daemon_of_the_previous_version_does_not_tell_which_version_a_copy_replaces() {
    let before: Basis = serde_json::from_str(r#"{"etag":null,"at_ms":null}"#).unwrap();
    assert!(!before.etag_is_known);
    let now = serde_json::to_vec(&Basis::new(None, None)).unwrap();
    let now: Basis = serde_json::from_slice(&now).unwrap();
    assert!(now.etag_is_known);
}

#[test]
fn times_before_1970_are_kept() {
    let before = std::time::UNIX_EPOCH - std::time::Duration::new(3, 5);
    let saved: Timestamp = before.into();
    assert_eq!(std::time::SystemTime::from(saved), before);
}
