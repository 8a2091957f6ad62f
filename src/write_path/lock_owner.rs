//! Whether a process that was killed can still do anything.

use std::fs;
use std::path::Path;

/// Bit of SIGKILL in a mask of signals. Source: proc_pid_status(5), signal(7).
const KILLED: u64 = 1 << 8;

/// Whether every thread of a process that is not dead is killed, and waits in the
/// kernel for something that no signal ends. None of them ever runs the program again.
pub fn is_beyond_return(pid: &str) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let mut threads = threads.into_iter().flatten().flatten().peekable();
    threads.peek().is_some() && threads.all(|thread| is_killed(&thread.path()))
}

/// Also one that is gone by now.
fn is_killed(thread: &Path) -> bool {
    let Ok(status) = fs::read_to_string(thread.join("status")) else {
        return true;
    };
    let value = |name: &str| {
        let mut lines = status.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let is_dead = value("State:").is_some_and(|state| state.starts_with(['Z', 'X']));
    let pending = value("SigPnd:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    is_dead || pending.is_some_and(|mask| mask & KILLED != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_is_not_beyond_return_nor_one_that_does_not_exist() {
        assert!(!is_beyond_return(&std::process::id().to_string()));
        assert!(!is_beyond_return("0"));
        assert!(!is_beyond_return(""));
    }

    #[test]
    fn one_that_is_dead_and_not_waited_for_is() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().to_string();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !is_beyond_return(&pid) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!is_beyond_return(&pid));
    }
}
