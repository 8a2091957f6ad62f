//! Calls whose caller does not wait any more, since it is being killed.
//!
//! Such a call is answered at once. What it has begun to change goes on to its
//! end; what has changed nothing yet is not begun, or it would undo what another
//! program, which did not wait for it, has changed meanwhile.

use std::fmt;
use std::sync::Arc;

use crate::error::FsError;

/// Of a call that is under way.
pub trait PendingCall: fmt::Debug + Send + Sync {
    /// Whether somebody still waits for the answer.
    fn is_awaited(&self) -> bool;
}

tokio::task_local! {
    static CALL: Arc<dyn PendingCall>;
}

/// Runs the operation that a call asks for.
pub fn run_for<T>(
    call: Arc<dyn PendingCall>,
    operation: impl Future<Output = T>,
) -> impl Future<Output = T> {
    CALL.scope(call, operation)
}

/// The call that is under way, if one is.
pub fn current_call() -> Option<Arc<dyn PendingCall>> {
    CALL.try_with(Clone::clone).ok()
}

/// Runs steps of which none may be left out once the first is taken.
pub async fn to_the_end<T>(steps: impl Future<Output = T>) -> T {
    CALL.scope(Arc::new(Begun), steps).await
}

#[derive(Debug)]
struct Begun;

impl PendingCall for Begun {
    fn is_awaited(&self) -> bool {
        true
    }
}

/// To be asked after the last wait that precedes an operation's first change.
///
/// Errors: `Interrupted` where nobody waits for the call under way any more.
pub fn check_awaited() -> Result<(), FsError> {
    match CALL.try_with(|call| call.is_awaited()) {
        Ok(false) => Err(FsError::Interrupted),
        // Outside of a call it is the daemon's own doing.
        Ok(true) | Err(_) => Ok(()),
    }
}
