use super::*;
use crate::journal::StageId;

pub fn session() -> SessionTold {
    SessionTold {
        bucket: "b".to_owned(),
        prefix: String::new(),
        mountpoint: "/m".into(),
        asked: "/m".into(),
        device: "0:50".to_owned(),
        init: vec![1, 2],
        init_answer: vec![3],
        mounted_at: std::time::SystemTime::UNIX_EPOCH,
    }
}

fn file() -> FileTold {
    FileTold {
        base: BaseTold::Sealed(StageId(8), Box::new(BaseTold::Empty)),
        stage: Some(StageId(9)),
        intent: IntentTold::Edit,
        dirty: true,
        failed: false,
        orphan: false,
        covers: false,
        remote: Some(RemoteTold {
            etag: crate::store::ETag::new("e"),
            size_bytes: 7,
            last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
        }),
    }
}

fn handle() -> HandleTold {
    HandleTold {
        ino: 3,
        mode: ModeTold::ReadWrite,
        publishes: true,
        request: 40,
        writers: Some(WritersTold::default()),
    }
}

fn story() -> Vec<Record> {
    let (directory, regular) = (NodeKind::Directory, NodeKind::File);
    let set = SetTold {
        mode: Some(0o600),
        mtime: Some((std::time::UNIX_EPOCH - std::time::Duration::from_nanos(5)).into()),
        ..SetTold::default()
    };
    let placed = |ino, kind, parent, name: &str| Record::Placed {
        ino,
        kind,
        place: (parent, name.to_owned()),
    };
    let stage = StageId(9);
    let told = handle();
    let (len, base_len) = (20, 10);
    vec![
        placed(2, directory, 1, "d"),
        Record::Lookup { ino: 2, count: 2 },
        placed(3, regular, 2, "old"),
        placed(3, regular, 2, "f"),
        Record::Lookup { ino: 3, count: 1 },
        Record::Set { ino: 3, set },
        placed(5, regular, 2, "gone"),
        Record::Gone { ino: 5 },
        Record::Forget { ino: 2, count: 1 },
        Record::Staged {
            stage,
            len: base_len,
            base_len,
        },
        Record::Wrote {
            stage,
            range: 8..12,
            len: 12,
        },
        Record::Wrote {
            stage,
            range: 15..20,
            len,
        },
        Record::Truncated {
            stage,
            len: 16,
            base_len: 9,
        },
        Record::File {
            ino: 3,
            file: file(),
        },
        Record::Opened {
            handle: 4,
            told: told.clone(),
        },
        Record::Changed {
            handle: 4,
            process: Some(7),
        },
        Record::Opened { handle: 6, told },
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
    ]
}

fn check(told: &Told) {
    assert_eq!(told.session, Some(session()));
    assert_eq!((told.last_ino, told.last_handle), (5, 6));
    assert_eq!(told.inodes.len(), 2);
    assert_eq!(told.inodes[&2].lookups, 1);
    assert_eq!(told.inodes[&3].place, Some((2, "f".to_owned())));
    assert_eq!(told.inodes[&3].set.mode, Some(0o600));
    let stage = &told.stages[&StageId(9)];
    assert_eq!((stage.len, stage.base_len), (16, 9));
    assert_eq!(
        stage.written.iter().cloned().collect::<Vec<_>>(),
        [8..12, 15..16]
    );
    assert_eq!(told.files[&3], file());
    assert_eq!(told.handles.keys().collect::<Vec<_>>(), [&4]);
    let writers = told.handles[&4].writers.as_ref().unwrap();
    assert!(writers.changed && writers.processes.contains(&7) && !writers.unknown);
    assert_eq!(told.dirs[&5].names, ["f"]);
}

#[test]
fn what_was_told_is_known_to_the_next_daemon_and_to_the_one_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(dir.path());
    assert!(told(&path).unwrap().is_none());
    let ledger = Ledger::awaiting(&path);
    let mut before = story();
    let after = before.split_off(7);
    for record in before {
        ledger.tell(|| record);
    }
    assert!(
        told(&path).unwrap().is_none(),
        "the session is not there yet"
    );
    ledger.begin(session()).unwrap();
    for record in after {
        ledger.tell(|| record);
    }
    drop(ledger);
    let next = told(&path).unwrap().unwrap();
    check(&next);
    // Written anew, it comes to the same.
    drop(Ledger::go_on(&path, next).unwrap());
    check(&told(&path).unwrap().unwrap());
    forget(&path).unwrap();
    assert!(told(&path).unwrap().is_none());
}

#[test]
fn a_session_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(dir.path());
    fs::write(&path, "mediafs-session 99\n").unwrap();
    let error = told(&path).unwrap_err();
    assert!(matches!(error, LogError::Newer { found: 99, .. }));
}

#[test]
fn times_before_1970_are_kept() {
    let before = std::time::UNIX_EPOCH - std::time::Duration::new(3, 5);
    let told: TimeTold = before.into();
    assert_eq!(std::time::SystemTime::from(told), before);
}
