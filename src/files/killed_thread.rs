//! Whether a thread is being killed, by what proc(5) shows of it.
//!
//! Source: Linux 6.18, kernel/signal.c, `complete_signal` and `get_signal`.

use std::fs;

use super::writers::Thread;

/// Signals that do not end a program by default. Source: signal(7).
const HARMLESS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];

impl Thread {
    /// Whether it ends as soon as the call that it is in returns.
    ///
    /// Not where it cannot be seen: in another PID namespace, or with hidepid.
    pub fn is_being_killed(self) -> bool {
        if self.0 == 0 {
            return false;
        }
        let status = fs::read(format!("/proc/{}/status", self.0));
        status.is_ok_and(|status| ends_by_a_signal(&String::from_utf8_lossy(&status)))
    }
}

/// From what proc_pid_status(5) tells of a thread.
///
/// A signal that ends all threads of a program stays pending for the program, also
/// while it ends.
fn ends_by_a_signal(status: &str) -> bool {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.strip_prefix(':')?.trim())
    };
    let mask = |name| u64::from_str_radix(field(name)?, 16).ok();
    let masks = ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"].map(mask);
    let [
        Some(own),
        Some(shared),
        Some(blocked),
        Some(ignored),
        Some(caught),
    ] = masks
    else {
        return false;
    };
    let pending = own | shared;
    if pending & bit(libc::SIGKILL) != 0 {
        return true;
    }
    // A debugger may take it away.
    let is_traced = field("TracerPid").is_none_or(|pid| pid != "0");
    let harmless = HARMLESS
        .into_iter()
        .fold(0, |mask, signal| mask | bit(signal));
    !is_traced && pending & !(blocked | ignored | caught | harmless) != 0
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: [u64; 2], [blocked, ignored, caught]: [u64; 3], tracer: u32) -> String {
        format!(
            "Name:\tx\nTracerPid:\t{tracer}\nSigQ:\t0/1\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\n\
             SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n",
            pending[0], pending[1]
        )
    }

    #[test]
    fn a_pending_signal_ends_a_thread_that_has_no_other_use_for_it() {
        let none = [0; 3];
        let seen = |pending, masks| ends_by_a_signal(&status(pending, masks, 0));
        assert!(!seen([0, 0], none));
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGQUIT, 64] {
            assert!(seen([bit(signal), 0], none), "{signal}");
            assert!(seen([0, bit(signal)], none), "{signal}");
        }
        let term = bit(libc::SIGTERM);
        for masks in [[term, 0, 0], [0, term, 0], [0, 0, term]] {
            assert!(!seen([term, term], masks));
            assert!(seen([term | bit(libc::SIGKILL), 0], masks));
        }
        for signal in HARMLESS {
            assert!(!seen([0, bit(signal)], none), "{signal}");
        }
    }

    #[test]
    fn of_a_traced_thread_only_a_kill_counts() {
        let seen = |signal| ends_by_a_signal(&status([0, bit(signal)], [0; 3], 7));
        assert!(!seen(libc::SIGTERM) && seen(libc::SIGKILL));
        assert!(!ends_by_a_signal("no such lines"));
    }

    #[test]
    fn this_thread_is_not_killed_and_one_that_cannot_be_seen_neither() {
        let own = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        assert!(!Thread(own).is_being_killed());
        assert!(!Thread(0).is_being_killed() && !Thread(u32::MAX).is_being_killed());
    }
}
