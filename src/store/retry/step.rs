//! What comes before an attempt at a request.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    First,
    /// What was sent before may have been carried out, and time has passed.
    Again,
}

/// What a look leads to.
#[derive(Debug)]
pub(super) enum Step<S, T> {
    Send(S),
    /// What is wanted is there.
    Done(T),
}

impl Turn {
    pub(super) fn of(attempts: u32) -> Self {
        match attempts {
            1 => Self::First,
            _ => Self::Again,
        }
    }
}
