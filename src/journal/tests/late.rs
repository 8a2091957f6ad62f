//! Changes that were sent and may still be carried out, and objects that may come late.

use super::*;

fn change(key: &str) -> Change {
    Change::new(Key::new(key), WriteCondition::IfAbsent)
}

#[test]
fn what_was_sent_and_not_answered_is_known_for_as_long_as_it_may_come() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = Journal::open(&path).unwrap();
    let sent = |key: &str| ChangeLog::sent(&journal, &[change(key)]).unwrap();
    let answered = sent("answered");
    let given_up = sent("given up");
    sent("under way");
    let number = sent("long ago");
    journal.answered(answered);
    journal.given_up(given_up);
    let at_ms = sent::now_ms().saturating_sub(60_000);
    let long_ago = Record::HeardSince { number, at_ms };
    journal.append(long_ago, Durable::No).unwrap();
    let number = sent("of a version that did not wait for an answer");
    let not_heard = Record::GivenUp { number, at_ms };
    journal.append(not_heard, Durable::No).unwrap();
    drop(journal);
    for _ in 0..2 {
        let journal = Journal::open(&path).unwrap();
        let LeftByPredecessor {
            unanswered: left,
            may_lack_some,
        } = journal.sent();
        assert!(!may_lack_some);
        let of = |it: &LeftUnanswered| (it.changes[0].key.as_str().to_owned(), it.left);
        let left: Vec<_> = left.iter().map(of).collect();
        let [(heard, Some(time)), (unheard, None), (_, None)] = left.as_slice() else {
            panic!("{left:?}");
        };
        assert_eq!(
            [heard.as_str(), unheard.as_str()],
            ["given up", "under way"]
        );
        assert!(!time.is_zero() && *time <= LATE_LIMIT);
        let next = ChangeLog::sent(&journal, &[change("next")]).unwrap();
        assert!(next > number || next > given_up, "{next}");
        journal.answered(next);
    }
}

#[test]
fn a_journal_of_another_start_of_the_machine_may_lack_what_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let may_lack_some = || Journal::open(&path).unwrap().sent().may_lack_some;
    assert!(!may_lack_some(), "a new one");
    assert!(!may_lack_some(), "of the same start");
    let journal = Journal::open(&path).unwrap();
    let id = "another".to_owned();
    journal.append(Record::Boot { id }, Durable::No).unwrap();
    drop(journal);
    assert!(may_lack_some(), "of another one");
    is_lacking_until_its_time_is_over(&path);
}

/// Also for successors of a daemon that was killed before it had waited.
fn is_lacking_until_its_time_is_over(path: &Path) {
    for _ in 0..2 {
        let journal = Journal::open(path).unwrap();
        assert!(journal.sent().may_lack_some, "nobody has waited");
    }
    let journal = Journal::open(path).unwrap();
    journal.unknown_over();
    drop(journal);
    for _ in 0..2 {
        let journal = Journal::open(path).unwrap();
        assert!(!journal.sent().may_lack_some, "it is over");
    }
}

#[test]
fn a_damaged_journal_may_lack_what_was_sent_until_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    with_a_flipped_bit(&path);
    assert!(Journal::open(&path).unwrap().sent().may_lack_some);
    is_lacking_until_its_time_is_over(&path);
}

/// Needs root, for a small disk.
#[test]
fn a_change_that_a_full_disk_has_no_room_to_note_is_one_that_may_be_lacking() {
    let Some(disk) = SmallDisk::new(4 << 20) else {
        return;
    };
    let path = disk.path("journal");
    drop(Journal::open(&path).unwrap());
    let journal = Journal::open(&path).unwrap();
    assert!(!journal.sent().may_lack_some);
    disk.fill();
    let keys = (0..100_000).map(|number| format!("{number:01000}"));
    let mut noted = keys.map(|key| ChangeLog::sent(&journal, &[change(&key)]));
    assert!(noted.any(|number| number.is_none()));
    disk.free();
    // Of its own it does not know when it is over.
    journal.unknown_over();
    drop(journal);
    is_lacking_until_its_time_is_over(&path);
}

#[test]
fn late_objects_are_known_until_they_are_wanted_or_their_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = Journal::open(&path).unwrap();
    let objects = [LateObject::of_bytes(b"a"), LateObject::any()];
    for key in ["late", "over", "wanted"].map(Key::new) {
        journal.expect_late(&key, &objects).unwrap();
    }
    journal.forget_late(&Key::new("over"));
    journal.keep_late(&Key::new("wanted")).unwrap();
    drop(journal);
    for _ in 0..2 {
        let left = Journal::open(&path).unwrap().late_objects();
        let [one, two] = objects.clone().map(|object| (Key::new("late"), object));
        assert_eq!(left, [one, two]);
    }
}
