//! Which processes changed a file through a handle.
//!
//! Every process that closes its copy of a descriptor sends a flush, also one
//! that was forked while another process was writing and has no part in it.
//! Its flush must not publish half a file; the writer's own flush comes later,
//! and at the latest the release.

use std::collections::BTreeSet;
use std::fs;

/// Most processes remembered for one handle; beyond it any flush uploads.
const PROCESSES_LIMIT: usize = 64;

/// The thread that a request comes from, as the kernel names it; 0 where the
/// kernel itself sends it, or where the mount does not see the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    last: Option<Thread>,
    processes: BTreeSet<u32>,
    /// Some change came from a process that could not be told.
    unknown: bool,
}

impl Writers {
    pub fn opened_by(thread: Thread) -> Self {
        Self {
            opener: thread.process(),
            last: None,
            processes: BTreeSet::new(),
            unknown: false,
        }
    }

    /// Of a handle that an earlier daemon gave out: it may have been anybody.
    pub fn unknown() -> Self {
        Self {
            opener: None,
            last: None,
            processes: BTreeSet::new(),
            unknown: true,
        }
    }

    pub fn note(&mut self, thread: Thread) {
        if self.last == Some(thread) {
            return;
        }
        self.last = Some(thread);
        match thread.process() {
            Some(process) if self.processes.len() < PROCESSES_LIMIT => {
                self.processes.insert(process);
            }
            _ => self.unknown = true,
        }
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
        let mut writers = Writers::opened_by(INIT);
        writers.note(this_thread());
        assert!(writers.may_include(this_thread()));
        assert!(writers.may_include(Thread(std::process::id())));
        assert!(!writers.may_include(INIT), "opened it, and wrote nothing");
    }

    #[test]
    fn a_file_that_nobody_has_written_is_its_openers() {
        let writers = Writers::opened_by(this_thread());
        assert!(writers.may_include(this_thread()));
        assert!(!writers.may_include(INIT));
    }

    #[test]
    fn who_cannot_be_told_is_taken_for_a_writer() {
        let mut writers = Writers::opened_by(this_thread());
        assert!(writers.may_include(KERNEL));
        writers.note(KERNEL);
        assert!(writers.may_include(INIT), "the writer is unknown");
        assert!(Writers::opened_by(KERNEL).may_include(INIT));
    }
}
