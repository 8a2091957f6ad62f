//! Requests that land late, and how late they may: what a mount waits for is bounded.

use std::time::{Duration, Instant};

use super::rule::Gate;

/// A mount counts on it that a request is carried out within five seconds of the end of
/// its connection, or never. A round in which one landed later tells nothing.
pub const LANDS_WITHIN: Duration = Duration::from_secs(5);
const ROUNDS: usize = 6;

/// Whether all that the gates hold, which are opened, has landed early enough: no
/// connection of it had ended before `began`.
#[must_use]
pub fn lands_in_time(gates: &[Gate], began: Instant) -> bool {
    gates.iter().for_each(Gate::open);
    gates.iter().for_each(Gate::let_land);
    began.elapsed() < LANDS_WITHIN
}

/// Tries, each time with a mount of its own, until one was fast enough for what it assumes.
#[track_caller]
pub fn in_rounds(what: &str, mut round: impl FnMut() -> bool) {
    let done = (0..ROUNDS).any(|_| round());
    assert!(done, "{what}: the machine is too slow");
}
