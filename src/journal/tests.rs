mod late;

use std::fs;

use super::*;
use crate::record_log::small_disk::SmallDisk;
use crate::record_log::{COMPACT_FROM_BYTES, Header, is_full, replay, spare_of, write_frames};
use crate::store::{
    Change, ChangeLog, CopyHeaders, LATE_LIMIT, LeftByPredecessor, LeftUnanswered, ObjectHeaders,
    StoreLog, WriteCondition,
};

fn begun(id: u64) -> Record {
    Record::Begun {
        stage: StageId(id),
        key: Key::new(format!("k{id}").as_str()),
    }
}

fn sealed(id: u64, key: &str) -> Record {
    Record::Sealed(Box::new(SealRecord {
        stage: StageId(id),
        key: Key::new(key),
        headers: ObjectHeaders::default(),
        condition: WriteCondition::IfAbsent,
        known: WriteCondition::Always,
        len: 10,
        base_len: 0,
        written: vec![0..4, 6..10],
        sums: vec![(0, 10, 7).try_into().unwrap()],
        completing: None,
        attempted: Vec::new(),
        base: SealedBase::Empty,
    }))
}

/// The first stage has ten bytes more, of the second.
fn absorbed(stage: u64, from: u64) -> Record {
    Record::Absorbed(Box::new(Absorbed {
        stage: StageId(stage),
        from: StageId(from),
        headers: ObjectHeaders::default(),
        condition: WriteCondition::Always,
        known: WriteCondition::Always,
        cut_at: 8,
        len: 18,
        written: vec![2..3, 8..18],
        sums: [(0, 2, 1), (2, 3, 2), (3, 8, 3), (8, 18, 4)]
            .map(|sum| sum.try_into().unwrap())
            .to_vec(),
    }))
}

fn done(id: u64) -> Record {
    Record::Done { stage: StageId(id) }
}

fn keys(journal: &Journal) -> Vec<String> {
    let known = journal.known().into_iter();
    known
        .map(|(_, known)| known.key.as_str().to_owned())
        .collect()
}

#[test]
fn what_is_not_done_is_known_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = Journal::open(&path).unwrap();
    for record in [begun(1), begun(2), begun(3), sealed(2, "k2"), done(1)] {
        journal.append(record, Durable::No).unwrap();
    }
    journal.append(sealed(2, "new name"), Durable::Yes).unwrap();
    drop(journal);
    let journal = Journal::open(&path).unwrap();
    assert_eq!(keys(&journal), ["k3", "new name"]);
    let (_, two) = journal.known().remove(1);
    assert_eq!(two.sealed.unwrap().written, [0..4, 6..10]);
}

#[test]
fn an_object_to_be_deleted_is_known_until_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = Journal::open(&path).unwrap();
    for key in ["a", "b"] {
        let (key, etag) = (Key::new(key), Some(ETag::new("e")));
        StoreLog::delete_pending(&journal, &DeletePending::of_version(key, etag)).unwrap();
    }
    journal.settled(&[Key::new("a")]);
    let is_left = |keys: [&str; 2]| journal.has_pending_of(&keys.map(Key::new));
    assert!(is_left(["a", "b"]) && !is_left(["a", "c"]));
    drop(journal);
    for _ in 0..2 {
        let left = Journal::open(&path).unwrap().pending_deletes();
        assert_eq!(left.len(), 1);
        assert_eq!(
            (left[0].key.as_str(), &left[0].etag),
            ("b", &Some(ETag::new("e")))
        );
    }
}

#[test]
fn a_multipart_upload_is_known_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = Journal::open(&path).unwrap();
    let upload = |id: &str| (Key::new("k"), UploadId(id.to_owned()));
    for id in ["1", "2"] {
        let (key, upload) = upload(id);
        journal.upload_begun(key, upload);
    }
    let (key, first) = upload("1");
    journal.upload_ended(key, first);
    drop(journal);
    for _ in 0..2 {
        assert_eq!(Journal::open(&path).unwrap().uploads(), [upload("2")]);
    }
}

#[test]
fn a_rename_is_known_until_it_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = Journal::open(&path).unwrap();
    let intent = |from: &str| RenameIntent {
        from: Key::new(from),
        to: Key::new("to"),
        version: Some(ETag::new("e")),
        headers: CopyHeaders::ContentType("text/plain".to_owned()),
        over: WriteCondition::IfAbsent,
        copy: None,
        originals: None,
    };
    for from in ["a", "d/"] {
        let record = Record::Renaming(Box::new(intent(from)));
        journal.append(record, Durable::No).unwrap();
    }
    let from = Key::new("d/");
    journal
        .append(Record::Renamed { from }, Durable::No)
        .unwrap();
    drop(journal);
    for _ in 0..2 {
        assert_eq!(Journal::open(&path).unwrap().renames(), [intent("a")]);
    }
}

#[test]
fn a_journal_cut_at_any_byte_tells_of_every_whole_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = Journal::open(&path).unwrap();
    for id in 1..=4 {
        journal.append(begun(id), Durable::No).unwrap();
    }
    let mut ends = vec![journal.log.file_bytes()];
    for id in 1..=4 {
        journal.append(sealed(id, "k"), Durable::No).unwrap();
        ends.push(journal.log.file_bytes());
    }
    let whole = fs::read(&path).unwrap();
    drop(journal);
    for cut in ends[0]..=ends[4] {
        fs::write(&path, &whole[..cut as usize]).unwrap();
        let known = Journal::peek(&path).unwrap().stages.into_iter();
        let known = known.filter(|(_, known)| known.sealed.is_some()).count();
        let want = ends.iter().filter(|end| **end <= cut).count() - 1;
        assert_eq!(known, want, "cut at {cut}");
    }
}

#[test]
fn what_a_stage_takes_over_counts_from_then_on_and_is_known_until_the_other_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = Journal::open(&path).unwrap();
    for record in [begun(2), sealed(2, "k2"), begun(5), absorbed(2, 5)] {
        journal.append(record, Durable::No).unwrap();
    }
    drop(journal);
    for _ in 0..2 {
        let journal = Journal::open(&path).unwrap();
        let (_, known) = journal.known().pop().unwrap();
        let sealed = known.sealed.unwrap();
        assert_eq!(sealed.written, [0..4, 6..18]);
        let sums = sealed.sums.iter().map(|sum| (sum.start, sum.end));
        assert_eq!(sums.collect::<Vec<_>>(), [(0, 2), (2, 3), (3, 8), (8, 18)]);
        assert_eq!((sealed.len, sealed.condition), (18, WriteCondition::Always));
        assert_eq!(journal.absorbing().len(), 1);
    }
    let journal = Journal::open(&path).unwrap();
    journal.append(done(5), Durable::No).unwrap();
    drop(journal);
    let journal = Journal::open(&path).unwrap();
    assert_eq!(journal.absorbing(), []);
    assert_eq!(journal.known().pop().unwrap().1.sealed.unwrap().len, 18);
}

#[test]
fn what_is_done_stays_done_whoever_was_about_to_tell_more_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("journal")).unwrap();
    for record in [begun(1), sealed(1, "k"), done(1), sealed(1, "k")] {
        journal.append(record, Durable::No).unwrap();
    }
    assert!(journal.known().is_empty());
}

fn doubtful(journal: &Journal) -> Vec<u64> {
    let known = journal.known().into_iter();
    let doubtful = known.filter(|(_, known)| known.doubtful);
    doubtful.map(|(id, _)| id.0).collect()
}

/// A journal in which something of every kind is known, all of it on disk.
fn of_every_kind(path: &Path) -> Vec<u8> {
    let journal = Journal::open(path).unwrap();
    let pending = |key: &str, etag: Option<&str>| Record::DeletePending {
        key: Key::new(key),
        etag: etag.map(ETag::new),
        removed_at: None,
    };
    let renaming = RenameIntent {
        from: Key::new("from/"),
        to: Key::new("to/"),
        version: None,
        headers: CopyHeaders::ContentType("text/plain".to_owned()),
        over: WriteCondition::IfAbsent,
        copy: None,
        originals: None,
    };
    for record in [
        begun(1),
        sealed(1, "old name"),
        begun(2),
        pending("with", Some("e")),
        pending("without", None),
        sealed(1, "new name"),
        Record::Renaming(Box::new(renaming)),
        begun(3),
        sealed(3, "k3"),
        done(3),
        Record::Renamed {
            from: Key::new("from/"),
        },
        Record::Deleted {
            key: Key::new("without"),
        },
        sealed(2, "k2"),
        begun(5),
        absorbed(2, 5),
        done(5),
    ] {
        journal.append(record, Durable::No).unwrap();
    }
    journal.append(begun(4), Durable::Yes).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(journal.log.file_bytes() as usize);
    bytes
}

/// The same, with one of them damaged.
fn with_a_flipped_bit(path: &Path) -> Vec<u8> {
    let mut bytes = of_every_kind(path);
    let at = bytes.windows(8).position(|it| it == b"new name").unwrap();
    bytes[at] ^= 1;
    fs::write(path, &bytes).unwrap();
    bytes
}

/// What is known of a changed journal is true, in doubt, or gone; never old.
fn is_true_or_in_doubt(path: &Path, bytes: &[u8], what: &str) {
    let live = match replay::<JournalState>(path, bytes) {
        Ok(live) => live,
        Err(LogError::Newer { .. } | LogError::Foreign { .. }) => return,
        Err(error) => panic!("{what}: {error}"),
    };
    for (id, known) in live.known() {
        let key = known.key.as_str();
        let len = known.sealed.as_ref().map(|sealed| sealed.len);
        let is_last_word = match id.0 {
            1 => key == "new name",
            2 => key == "k2" && len == Some(18),
            4 => key == "k4",
            _ => false,
        };
        let is_true = is_last_word && known.sealed.is_some() == (id.0 < 4);
        assert!(is_true || known.doubtful, "{what}: {id} is {known:?}");
    }
    assert!(live.renames.is_empty(), "{what}");
    let only_with = live.pending.keys().all(|key| key.as_str() == "with");
    assert!(only_with, "{what}: {:?}", live.pending);
    // Whoever comes next sees the same.
    let mut file = tempfile::tempfile().unwrap();
    write_frames(&file, &live, 0).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    let again = replay::<JournalState>(path, &bytes).unwrap();
    assert_eq!(again.records(), live.records(), "{what}");
}

#[test]
fn a_flipped_bit_anywhere_leaves_what_is_true_and_puts_the_rest_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let whole = of_every_kind(&path);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        is_true_or_in_doubt(&path, &bytes, &format!("byte {at}"));
    }
}

#[test]
fn a_flipped_bit_costs_what_the_record_was_about_and_a_copy_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let bytes = with_a_flipped_bit(&path);
    let journal = Journal::open(&path).unwrap();
    assert_eq!(doubtful(&journal), [1]);
    assert_eq!(journal.known().len(), 3);
    assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), bytes);
}

#[test]
fn a_journal_that_was_cut_doubled_or_mixed_with_another_does_not_bring_back_what_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let whole = of_every_kind(&path);
    let other = of_every_kind(&dir.path().join("other"));
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..400 {
        let from = random.usize(80..whole.len());
        let to = random.usize(from..whole.len());
        let changed = match round % 4 {
            0 => whole[..from].to_vec(),
            1 => [&whole[..from], &whole[to..]].concat(),
            2 => [&whole[..to], &whole[from..]].concat(),
            _ => [&whole[..from], &other[from..to], &whole[to..]].concat(),
        };
        is_true_or_in_doubt(&path, &changed, &format!("round {round}: {from} to {to}"));
    }
}

#[test]
fn a_newer_version_and_a_foreign_file_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    for (text, says) in [
        ("mediafs-journal 99\nwhatever\n", "version 99"),
        ("#!/bin/sh\n", "no journal"),
    ] {
        fs::write(&path, text).unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_journal_of_the_version_before_goes_on_as_one_of_this_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (header, mut bytes) = Header::new(JournalState::NAME, JournalState::VERSION - 1, 0);
    let (_, mut chain) = header.start();
    for record in [begun(1), begun(2), sealed(2, "k2"), done(1)] {
        let payload = JournalState::encode(&record).unwrap();
        chain.push(&mut bytes, JournalState::subject(&record), &payload);
    }
    let end = bytes.len() as u64;
    header.set_end(&mut bytes, end);
    fs::write(&path, bytes).unwrap();
    let journal = Journal::open(&path).unwrap();
    journal.append(begun(3), Durable::No).unwrap();
    assert_eq!(keys(&journal), ["k3", "k2"]);
    drop(journal);
    let begins = format!("mediafs-journal {} ", JournalState::VERSION);
    assert!(fs::read(&path).unwrap().starts_with(begins.as_bytes()));
    assert_eq!(keys(&Journal::open(&path).unwrap()), ["k3", "k2"]);
}

#[test]
fn a_journal_of_what_is_done_stays_short() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = Journal::open(&path).unwrap();
    journal.append(begun(0), Durable::No).unwrap();
    let mut longest = 0;
    for id in 1..20_000 {
        journal.append(sealed(id, "k"), Durable::No).unwrap();
        journal.append(done(id), Durable::No).unwrap();
        longest = longest.max(journal.log.file_bytes());
    }
    assert!(longest < COMPACT_FROM_BYTES + 1000, "{longest}");
    let lens = [&path, &spare_of(&path)].map(|path| fs::metadata(path).unwrap().len());
    assert!(lens.iter().all(|len| *len < 2 << 20), "{lens:?}");
    drop(journal);
    assert_eq!(keys(&Journal::open(&path).unwrap()), ["k0"]);
}

#[test]
fn an_upload_with_an_empty_part_is_none() {
    let read = |ends: serde_json::Value| {
        serde_json::from_value::<UploadStart>(serde_json::json!({
            "key": "k", "headers": ObjectHeaders::default(), "upload": "1", "part_ends": ends,
        }))
    };
    assert!(read(serde_json::json!([1, 2])).is_ok());
    for ends in [vec![], vec![0, 2], vec![2, 2], vec![3, 2]] {
        assert!(read(ends.into()).is_err());
    }
}

#[test]
fn how_a_stage_is_being_sent_is_known_until_it_is_done_wherever_it_moves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = Journal::open(&path).unwrap();
    let sending = UploadStart {
        key: Key::new("k2"),
        headers: ObjectHeaders::default(),
        upload: UploadId("1".to_owned()),
        part_ends: vec![8, 10],
    };
    let record = Record::UploadStarted {
        stage: StageId(2),
        sending: sending.clone(),
    };
    for record in [begun(2), sealed(2, "k2"), record, sealed(2, "new name")] {
        journal.append(record, Durable::No).unwrap();
    }
    drop(journal);
    for _ in 0..2 {
        let journal = Journal::open(&path).unwrap();
        let (_, known) = journal.known().remove(0);
        assert_eq!(known.sending, Some(sending.clone()));
    }
    let journal = Journal::open(&path).unwrap();
    journal.append(done(2), Durable::No).unwrap();
    assert!(journal.known().is_empty());
}

#[test]
fn what_is_to_be_stored_with_a_sealed_stage_is_what_was_set_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let typed = |content_type: &str| ObjectHeaders {
        content_type: Some(content_type.to_owned()),
        ..ObjectHeaders::default()
    };
    let set = |content_type: &str| {
        let (headers, attempted) = (typed(content_type), vec![typed("e/f")]);
        Record::HeadersSet {
            stage: StageId(2),
            headers: Box::new(SealedHeaders { headers, attempted }),
        }
    };
    let journal = Journal::open(&path).unwrap();
    for record in [
        set("early"),
        begun(2),
        sealed(2, "k"),
        set("a/b"),
        set("c/d"),
    ] {
        journal.append(record, Durable::No).unwrap();
    }
    drop(journal);
    for _ in 0..2 {
        let journal = Journal::open(&path).unwrap();
        let (_, known) = journal.known().remove(0);
        let known = known.sealed.unwrap();
        assert_eq!(known.headers.content_type.as_deref(), Some("c/d"));
        assert_eq!(known.attempted, [typed("e/f")]);
    }
}

#[test]
fn what_version_4_says_of_attributes_is_read() {
    let mut record = serde_json::to_value(sealed(1, "k")).unwrap();
    for (said, attempted) in [(false, vec![]), (true, vec![ObjectHeaders::default()])] {
        record["attributes_set"] = said.into();
        let Record::Sealed(read) = serde_json::from_value(record.clone()).unwrap() else {
            panic!("{record}");
        };
        assert_eq!(read.attempted, attempted);
    }
}

#[test]
fn a_record_with_a_range_that_is_none_does_not_count() {
    let whole = serde_json::to_value(sealed(1, "k")).unwrap();
    let read = |record: &serde_json::Value| serde_json::from_value::<Record>(record.clone());
    assert_eq!(read(&whole).unwrap(), sealed(1, "k"));
    for (field, value) in [
        ("written", serde_json::json!([{"start": 4, "end": 4}])),
        ("written", serde_json::json!([{"start": 4, "end": 0}])),
        ("sums", serde_json::json!([[4, 4, 7]])),
        ("sums", serde_json::json!([[0, u64::MAX, 7]])),
    ] {
        let mut record = whole.clone();
        record[field] = value;
        assert!(read(&record).is_err(), "{record}");
    }
}

#[test]
fn room_behind_the_records_is_kept_from_start_to_start_and_is_none_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut len = 0;
    for id in 1..5 {
        let journal = Journal::open(&path).unwrap();
        assert_eq!(keys(&journal).len() as u64, id - 1);
        journal.append(begun(id), Durable::Yes).unwrap();
        let now = fs::metadata(&path).unwrap().len();
        assert!(now > journal.log.file_bytes() + (1 << 20));
        assert!(len == 0 || now == len, "it is gone on with");
        len = now;
        // What a kill leaves of a record.
        drop(journal);
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end + 9..end + 30].fill(7);
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn a_copy_of_a_journal_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("journal"), dir.path().join("copy"));
    let journal = Journal::open(&path).unwrap();
    journal.append(begun(1), Durable::Yes).unwrap();
    fs::copy(&path, &copy).unwrap();
    let of_copy = Journal::open(&copy).unwrap();
    of_copy.append(begun(2), Durable::Yes).unwrap();
    journal.append(begun(3), Durable::Yes).unwrap();
    drop((journal, of_copy));
    assert_eq!(keys(&Journal::open(&path).unwrap()), ["k1", "k3"]);
    assert_eq!(keys(&Journal::open(&copy).unwrap()), ["k1", "k2"]);
}

#[test]
fn on_a_full_disk_records_go_on_and_the_journal_stays_short() {
    let Some(disk) = SmallDisk::new(8 << 20) else {
        return;
    };
    let path = disk.path("journal");
    let journal = Journal::open(&path).unwrap();
    journal.append(begun(0), Durable::Yes).unwrap();
    disk.fill();
    for id in 1..20_000 {
        journal.append(sealed(id, "k"), Durable::No).unwrap();
        journal.append(done(id), Durable::No).unwrap();
    }
    drop(journal);
    // The start of a successor too.
    let journal = Journal::open(&path).unwrap();
    assert_eq!(keys(&journal), ["k0"]);
    journal.append(begun(1), Durable::Yes).unwrap();
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    let what = "the journal, its spare and its word on what was sent, and the filler";
    assert_eq!(names.count(), 4, "{what}");
}

#[test]
fn a_journal_that_fills_the_rest_of_a_disk_refuses_records_and_takes_them_once_there_is_room() {
    let Some(disk) = SmallDisk::new(8 << 20) else {
        return;
    };
    let path = disk.path("journal");
    let journal = Journal::open(&path).unwrap();
    disk.fill();
    let mut taken = 0;
    let began = std::time::Instant::now();
    let refused = loop {
        match journal.append(begun_with_a_long_key(taken), Durable::No) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(is_full(&refused), "{refused}");
    for _ in 0..10_000 {
        assert!(
            journal
                .append(begun_with_a_long_key(taken), Durable::No)
                .is_err()
        );
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(60));
    assert_eq!(journal.known().len() as u64, taken);
    disk.free();
    journal
        .append(begun_with_a_long_key(taken), Durable::Yes)
        .unwrap();
    drop(journal);
    let journal = Journal::open(&path).unwrap();
    assert_eq!(journal.known().len() as u64, taken + 1);
}

/// A record of a stage that is not known yet.
fn begun_with_a_long_key(id: u64) -> Record {
    Record::Begun {
        stage: StageId(id),
        key: Key::new(format!("{id:0400}").as_str()),
    }
}
