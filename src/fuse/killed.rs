//! Finds callers that are being killed while they wait for an answer.
//!
//! The kernel has FUSE_INTERRUPT for that, which fuser answers by itself, and which
//! would not do: it comes for every signal, also one that a program handles, which
//! must not see EINTR from close(2); it comes once for a request, at the first
//! signal, not at the one that kills; and none comes for the files that a killed
//! program has open, which the kernel closes while it ends. What does tell is what
//! proc(5) shows of the thread that waits. Only requests that have waited for a
//! while are looked at, so nothing is added to those that are answered at once.
//!
//! Source: Linux 6.18, fs/fuse/dev.c, `request_wait_answer`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::in_flight::InFlight;
use crate::files::Thread;

/// How long a request waits before its caller is looked at, and how often then.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The pause after a look is at least so many times as long as the look, up to a limit.
const PAUSE_PER_LOOK: u32 = 20;
const PAUSE_LIMIT: Duration = Duration::from_secs(1);

/// Answers requests whose callers are being killed, as long as the run time lasts.
pub async fn interrupt_killed(in_flight: Arc<InFlight>) {
    let mut pause = LOOK_EVERY;
    loop {
        in_flight.some_wait().await;
        let threads = tokio::select! {
            () = tokio::time::sleep(pause) => in_flight.threads_waiting(LOOK_EVERY),
            () = in_flight.some_killed_waits() => in_flight.killed_waiting(),
        };
        let began = Instant::now();
        if !threads.is_empty() {
            interrupt_those_killed(&in_flight, threads).await;
        }
        pause = LOOK_EVERY.max((began.elapsed() * PAUSE_PER_LOOK).min(PAUSE_LIMIT));
    }
}

/// What proc(5) shows is made from memory: it keeps a thread of the run time for
/// some microseconds each.
async fn interrupt_those_killed(in_flight: &InFlight, threads: Vec<Thread>) {
    for thread in threads {
        if thread.is_being_killed() {
            in_flight.interrupt(thread);
        }
        tokio::task::yield_now().await;
    }
}
