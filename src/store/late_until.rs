//! Until when a request that nobody waits for any more may be carried out.
//!
//! A store that answers executes it within `LATE_LIMIT` of the end of its connection,
//! or never. One that is silent has stopped, or cannot be reached: what it had received by
//! then it carries out when it goes on, minutes later. So the time counts from its first
//! answer to a request that was sent since, and starts anew where it falls silent again.
//!
//! A store has many servers, and one may have stopped while others answer. Which of them
//! has a request, nobody tells; but what they divide among them is keys. So only an answer
//! about the same key counts. Whoever waits asks for it, and nobody else does. What is left:
//! several servers that take requests of the same key, as behind a load balancer, of which
//! one stops for longer with a request that it has.

use std::time::Duration;

use tokio::time::Instant;

/// Longest time after the end of its connection in which a store that answers still
/// carries a request out.
pub const LATE_LIMIT: Duration = Duration::from_secs(5);

/// The order is that of what lasts longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LateUntil {
    Time(Instant),
    /// For `LATE_LIMIT` from the first answer to a request that was sent after this.
    Answer {
        after: Instant,
    },
}

impl LateUntil {
    /// Its connection has just ended.
    pub fn given_up() -> Self {
        Self::Answer {
            after: Instant::now(),
        }
    }

    /// What a predecessor sent, and the store has answered since: so much time is left.
    pub fn in_time(left: Duration) -> Self {
        Self::Time(Instant::now() + left)
    }

    pub fn is_over(self) -> bool {
        matches!(self, Self::Time(until) if until <= Instant::now())
    }

    pub fn awaits_answer(self) -> bool {
        matches!(self, Self::Answer { .. })
    }

    /// The store has just answered a request that was sent then.
    pub fn heard(&mut self, sent: Instant) {
        if matches!(self, Self::Answer { after } if *after <= sent) {
            *self = Self::Time(Instant::now() + LATE_LIMIT);
        }
    }

    /// The store has answered nothing that was sent since then.
    pub fn silent(&mut self, since: Instant) {
        if matches!(self, Self::Time(until) if *until > since) {
            *self = Self::Answer { after: since };
        }
    }
}
