//! The supervisor's watchdog: as systemd's, for a daemon that it started.
//!
//! Time counts only while the supervisor itself runs: a machine that was suspended,
//! a frozen container or a stopped process group is no reason to kill the daemon,
//! which could say nothing meanwhile either.

use std::time::Duration;

use rustix::process::Signal;

/// Between two looks; each counts for twice as much at most.
const TICK_LIMIT: Duration = Duration::from_secs(1);
/// What SIGABRT has not ended by then, because it is stopped, SIGKILL does.
const ABORTS_WITHIN: Duration = Duration::from_secs(2);

/// What the daemon has said since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It is not ready yet: what it waits for may take its time.
    Starting,
    Alive,
    Silent,
}

#[derive(Debug)]
pub struct Watchdog {
    limit: Duration,
    silent_for: Duration,
    aborted: bool,
}

impl Watchdog {
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            silent_for: Duration::ZERO,
            aborted: false,
        }
    }

    /// How long to wait until the next look.
    pub fn tick(&self) -> Duration {
        (self.limit / 4).clamp(Duration::from_millis(10), TICK_LIMIT)
    }

    /// Returns what to end the daemon with, when it has been silent for too long.
    pub fn look(&mut self, sign: Sign, since_last: Duration) -> Option<Signal> {
        let counted = since_last.min(self.tick() * 2);
        self.silent_for = match sign {
            Sign::Starting | Sign::Alive if !self.aborted => Duration::ZERO,
            _ => self.silent_for + counted,
        };
        if self.silent_for < self.limit {
            return None;
        }
        if !self.aborted {
            self.aborted = true;
            return Some(Signal::ABORT);
        }
        (self.silent_for >= self.limit + ABORTS_WITHIN).then_some(Signal::KILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_daemon_is_aborted_and_then_killed() {
        let mut watchdog = Watchdog::new(10 * SECOND);
        assert_eq!(watchdog.look(Sign::Alive, SECOND), None);
        for _ in 0..9 {
            assert_eq!(watchdog.look(Sign::Silent, SECOND), None);
        }
        assert_eq!(watchdog.look(Sign::Silent, SECOND), Some(Signal::ABORT));
        assert_eq!(watchdog.look(Sign::Silent, SECOND), None);
        assert_eq!(watchdog.look(Sign::Silent, SECOND), Some(Signal::KILL));
    }

    #[test]
    fn one_that_speaks_in_time_or_still_starts_is_left_alone() {
        let mut watchdog = Watchdog::new(4 * SECOND);
        for _ in 0..20 {
            assert_eq!(watchdog.look(Sign::Starting, SECOND), None);
        }
        for _ in 0..20 {
            assert_eq!(watchdog.look(Sign::Silent, SECOND), None);
            assert_eq!(watchdog.look(Sign::Silent, SECOND), None);
            assert_eq!(watchdog.look(Sign::Alive, SECOND), None);
        }
    }

    #[test]
    fn an_hour_in_which_the_supervisor_slept_too_counts_for_a_moment() {
        let mut watchdog = Watchdog::new(10 * SECOND);
        assert_eq!(watchdog.look(Sign::Silent, 3600 * SECOND), None);
        assert_eq!(watchdog.look(Sign::Alive, SECOND), None);
        assert_eq!(watchdog.look(Sign::Silent, 3600 * SECOND), None);
    }
}
