//! Changes that were sent to the store and may still be carried out.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use super::record::Record;
use super::{Journal, JournalState};
use crate::private;
use crate::record_log::Durable;
use crate::store::{
    Change, ChangeLog, Key, LATE_LIMIT, LateObject, LeftByPredecessor, LeftUnanswered,
};

#[derive(Debug, Default)]
pub(super) struct SentChanges {
    by_number: BTreeMap<u64, Sent>,
    /// The start of the machine that the last records are of.
    boot: Option<String>,
    /// Requests of predecessors may be missing.
    may_lack_some: bool,
}

#[derive(Debug)]
struct Sent {
    changes: Vec<Change>,
    /// When the store had answered others after the end of its connection.
    given_up: Option<u64>,
}

/// Names requests, each by a number of its own.
#[derive(Debug)]
pub(super) struct Numbers(AtomicU64);

impl Numbers {
    /// Numbers above all known ones.
    pub fn after(known: &SentChanges) -> Self {
        let last = known
            .by_number
            .last_key_value()
            .map_or(0, |(last, _)| *last);
        Self(AtomicU64::new(last))
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A file beside the journal that is there as long as every change that may still be
/// carried out is in it. On a full disk a file can be taken away, where no record can be
/// added.
#[derive(Debug)]
pub(super) struct CompleteFlag {
    path: PathBuf,
    /// This daemon has sent a change that the journal does not have.
    lacks_own: Mutex<bool>,
}

impl CompleteFlag {
    pub fn beside(journal: &Path) -> Self {
        Self {
            path: journal.with_extension("all-sent"),
            lacks_own: Mutex::new(false),
        }
    }

    fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// What no journal has is over, unless this daemon has sent such a change itself.
    fn make(&self) {
        let lacks_own = self.lacks_own.lock();
        if *lacks_own {
            return;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        if let Err(error) = private::open(&self.path, &options) {
            tracing::debug!(%error, "a successor will wait for requests that it does not know");
        }
    }

    /// A change is sent that the journal lacks.
    fn end(&self) {
        let mut lacks_own = self.lacks_own.lock();
        *lacks_own = true;
        self.remove();
    }

    fn remove(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "a successor will not know that it has to wait for requests");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl SentChanges {
    /// A daemon begins. What it is to append, if anything: records that are not synced
    /// outlive a daemon, and not a power loss.
    ///
    /// Its successor sees a journal that is whole, and of this start of the machine: what
    /// this one may lack, only the file that is missing shows.
    pub fn begin(
        &mut self,
        is_new: bool,
        is_undamaged: bool,
        all_noted: &CompleteFlag,
    ) -> Option<Record> {
        let is_whole = all_noted.is_there() && is_undamaged;
        self.forget_over(now_ms());
        let boot = boot();
        let is_of_boot = boot.is_some() && boot == self.boot;
        let has_all = is_new || is_whole && is_of_boot;
        self.may_lack_some = !has_all;
        match has_all {
            true => all_noted.make(),
            false => all_noted.remove(),
        }
        let id = boot.filter(|_| !is_of_boot)?;
        self.boot(id.clone());
        Some(Record::Boot { id })
    }

    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    pub fn boot(&mut self, id: String) {
        self.boot = Some(id);
    }

    pub fn sent(&mut self, number: u64, changes: Vec<Change>) {
        let given_up = None;
        self.by_number.insert(number, Sent { changes, given_up });
    }

    pub fn answered(&mut self, number: u64) {
        self.by_number.remove(&number);
    }

    pub fn give_up(&mut self, number: u64, at_ms: u64) {
        if let Some(sent) = self.by_number.get_mut(&number) {
            sent.given_up = Some(at_ms);
        }
        self.forget_over(at_ms);
    }

    pub fn forget_over(&mut self, now_ms: u64) {
        let counts = |at_ms| !time_left(at_ms, now_ms).is_zero();
        self.by_number
            .retain(|_, sent| sent.given_up.is_none_or(counts));
    }

    /// What may still come.
    fn left(&self, now_ms: u64) -> Vec<LeftUnanswered> {
        let of = |(number, sent): (&u64, &Sent)| LeftUnanswered {
            number: *number,
            changes: sent.changes.clone(),
            left: sent.given_up.map(|at_ms| time_left(at_ms, now_ms)),
        };
        self.by_number.iter().map(of).collect()
    }

    pub fn for_each(&self, give: &mut dyn FnMut(Record)) {
        for (number, sent) in &self.by_number {
            let (number, changes) = (*number, sent.changes.clone());
            give(Record::Sent { number, changes });
            if let Some(at_ms) = sent.given_up {
                give(Record::HeardSince { number, at_ms });
            }
        }
        if let Some(id) = self.boot.clone() {
            give(Record::Boot { id });
        }
    }
}

/// How much longer a request may be carried out whose connection ended then. A time
/// that is still to come is of the machine before its restart.
fn time_left(at_ms: u64, now_ms: u64) -> Duration {
    let age = now_ms.checked_sub(at_ms).map(Duration::from_millis);
    LATE_LIMIT.saturating_sub(age.unwrap_or_default())
}

/// Of a clock that nobody sets, and that all processes of the machine share.
pub(super) fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1000) + nanoseconds / 1_000_000
}

/// Which start of the machine this is, where the kernel tells.
fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

impl Journal {
    /// What predecessors sent that may still be carried out.
    pub fn sent(&self) -> LeftByPredecessor {
        self.log.with(|live: &JournalState| LeftByPredecessor {
            unanswered: live.sent.left(now_ms()),
            may_lack_some: live.sent.may_lack_some,
        })
    }

    /// Objects that may still come to be, and are to be deleted then.
    pub fn late_objects(&self) -> Vec<(Key, LateObject)> {
        let of = |(key, objects): (&Key, &Vec<LateObject>)| {
            let of_key = objects.iter().map(|object| (key.clone(), object.clone()));
            of_key.collect::<Vec<_>>()
        };
        self.log
            .with(|live| live.late.iter().flat_map(of).collect())
    }

    fn append_change(&self, record: Record) -> bool {
        let appended = self.append(record, Durable::No);
        if let Err(error) = &appended {
            tracing::warn!(%error, "journal write failed: a successor may not know which requests S3 can still carry out");
        }
        appended.is_ok()
    }
}

impl ChangeLog for Journal {
    fn sent(&self, changes: &[Change]) -> Option<u64> {
        let (number, changes) = (self.numbers.next(), changes.to_vec());
        let noted = self.append_change(Record::Sent { number, changes });
        if !noted {
            self.all_noted.end();
        }
        noted.then_some(number)
    }

    fn answered(&self, number: u64) {
        self.append_change(Record::Answered { number });
    }

    fn given_up(&self, number: u64) {
        let at_ms = now_ms();
        self.append_change(Record::HeardSince { number, at_ms });
    }

    fn unknown_over(&self) {
        self.all_noted.make();
    }
}
