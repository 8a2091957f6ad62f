//! Which processes changed a file through a handle, and which change was the last.
//!
//! A flush uploads what came through its handle: who wrote nothing uploads
//! nothing, least of all half of what another handle is writing.
//!
//! Every process that closes its copy of a descriptor sends a flush, also one
//! that was forked while another process was writing and has no part in it.
//! Its flush must not publish half a file; the writer's own flush comes later,
//! and at the latest the release.

use std::collections::BTreeSet;
use std::fs;

use super::changes::ChangeNumber;
use crate::session_state::SavedWriters;

/// Most processes remembered for one handle; beyond it any flush uploads.
const PROCESSES_LIMIT: usize = 64;

/// The thread that a request comes from, as the kernel names it; 0 where the
/// kernel itself sends it, or where the mount does not see the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thread(pub u32);

impl Thread {
    /// The process of the thread. None when it is gone or not visible.
    ///
    /// Source: proc_pid_status(5), `Tgid`.
    fn process(self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
        line.trim().parse().ok()
    }
}

/// The processes that changed a file through one handle.
#[derive(Debug)]
pub struct Writers {
    /// Made the file or emptied it, perhaps; None where it could not be told.
    opener: Option<u32>,
    opening_thread: Option<Thread>,
    last: Option<Thread>,
    processes: BTreeSet<u32>,
    /// Some change came from a process that could not be told.
    unknown: bool,
    last_change: ChangeNumber,
}

/// What a change told of a handle that was not known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// A process that changed nothing through it before; None where it cannot be told.
    Process(Option<u32>),
    Nothing,
}

impl Writers {
    /// `change` is that of the open itself, where it made or emptied the file.
    pub fn opened_by(thread: Thread, change: Option<ChangeNumber>) -> Self {
        Self {
            opener: thread.process(),
            opening_thread: Some(thread),
            last: None,
            processes: BTreeSet::new(),
            unknown: false,
            last_change: change.unwrap_or_default(),
        }
    }

    /// Of a handle that a predecessor gave out; who wrote through it is not known
    /// of one that did not record it. What it changed last is `change`.
    pub fn restored(saved: Option<&SavedWriters>, change: ChangeNumber) -> Self {
        let Some(saved) = saved else {
            return Self {
                opener: None,
                opening_thread: None,
                last: None,
                processes: BTreeSet::new(),
                unknown: true,
                last_change: change,
            };
        };
        Self {
            opener: saved.opener,
            opening_thread: None,
            last: None,
            processes: saved.processes.clone(),
            unknown: saved.unknown,
            last_change: if saved.changed {
                change
            } else {
                ChangeNumber::default()
            },
        }
    }

    /// As the successor needs to know it.
    pub fn to_saved(&self) -> SavedWriters {
        SavedWriters {
            opener: self.opener,
            changed: self.last_change.is_some(),
            processes: self.processes.clone(),
            unknown: self.unknown,
        }
    }

    pub fn note(&mut self, thread: Thread, change: ChangeNumber) -> Noted {
        let first = !self.last_change.is_some();
        self.last_change = self.last_change.max(change);
        if self.last == Some(thread) {
            return Noted::Nothing;
        }
        self.last = Some(thread);
        match thread.process() {
            Some(process) if self.processes.contains(&process) && !first => Noted::Nothing,
            Some(process) if self.processes.len() < PROCESSES_LIMIT => {
                self.processes.insert(process);
                Noted::Process(Some(process))
            }
            _ if self.unknown && !first => Noted::Nothing,
            _ => {
                self.unknown = true;
                Noted::Process(None)
            }
        }
    }

    /// The last change that came through the handle.
    pub fn last_change(&self) -> ChangeNumber {
        self.last_change
    }

    /// Who opened the handle or changed the file through it, as far as that could be told.
    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.opener.into_iter().chain(self.processes.clone())
    }

    /// Whether this thread opened the handle, or was the last to change the file through it.
    pub fn has_used(&self, thread: Thread) -> bool {
        [self.opening_thread, self.last].contains(&Some(thread))
    }

    /// Whether changes through the handle may be the thread's.
    pub fn may_include(&self, thread: Thread) -> bool {
        let Some(process) = thread.process() else {
            return true;
        };
        if self.processes.is_empty() {
            return self.unknown || self.opener.is_none_or(|opener| opener == process);
        }
        self.unknown || self.processes.contains(&process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: Thread = Thread(1);
    const KERNEL: Thread = Thread(0);

    fn this_thread() -> Thread {
        Thread(rustix::thread::gettid().as_raw_nonzero().get() as u32)
    }

    #[test]
    fn threads_of_the_writing_process_are_writers_and_other_processes_are_not() {
        let mut writers = Writers::opened_by(INIT, None);
        writers.note(this_thread(), ChangeNumber::of_test(1));
        assert!(writers.may_include(this_thread()));
        assert!(writers.may_include(Thread(std::process::id())));
        assert!(!writers.may_include(INIT), "opened it, and wrote nothing");
    }

    #[test]
    fn a_file_that_nobody_has_written_is_its_openers() {
        let writers = Writers::opened_by(this_thread(), None);
        assert!(writers.may_include(this_thread()));
        assert!(!writers.may_include(INIT));
    }

    #[test]
    fn who_cannot_be_told_is_taken_for_a_writer() {
        let mut writers = Writers::opened_by(this_thread(), None);
        assert!(writers.may_include(KERNEL));
        writers.note(KERNEL, ChangeNumber::of_test(1));
        assert!(writers.may_include(INIT), "the writer is unknown");
        assert!(Writers::opened_by(KERNEL, None).may_include(INIT));
    }

    #[test]
    fn a_restored_handle_knows_its_writers_where_they_were_recorded() {
        let mut writers = Writers::opened_by(INIT, None);
        let me = std::process::id();
        let noted = writers.note(this_thread(), ChangeNumber::of_test(3));
        assert_eq!(noted, Noted::Process(Some(me)));
        assert_eq!(
            writers.note(this_thread(), ChangeNumber::of_test(4)),
            Noted::Nothing
        );
        let change = ChangeNumber::of_test(1);
        let restored = Writers::restored(Some(&writers.to_saved()), change);
        assert!(restored.may_include(this_thread()) && !restored.may_include(INIT));
        assert_eq!(restored.last_change(), change);
        let idle = Writers::opened_by(INIT, None).to_saved();
        let idle = Writers::restored(Some(&idle), change);
        assert_eq!(
            idle.last_change(),
            ChangeNumber::default(),
            "it changed nothing"
        );
        let unknown = Writers::restored(None, change);
        assert!(unknown.may_include(INIT) && unknown.last_change() == change);
    }
}
